use std::os::unix::fs::FileExt;
use std::sync::Arc;

use io_uring::types::{Fd, Fixed};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::*;
use crate::Transfer;

const RAM: u64 = 0x4000_0000;
const PAGE: u64 = 0x1000;

struct Bench {
    memory: Arc<GuestMemoryMmap>,
    file: File,
    ring: Ring,
}

impl Bench {
    fn new(content: &[u8]) -> Self {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(content, 0).unwrap();
        // Two regions that follow each other.
        let ranges = [(GuestAddress(RAM), 0x10_0000), (GuestAddress(RAM + 0x10_0000), 0x10_0000)];
        let memory = Arc::new(GuestMemoryMmap::from_ranges(&ranges).unwrap());
        let ring = Ring::new(&file, 8).unwrap();
        Self { memory, file, ring }
    }

    fn transfer(&self, ranges: &[(u64, usize)], offset: u64) -> Transfer {
        let ranges = ranges.iter().map(|&(address, len)| (GuestAddress(address), len));
        Transfer::new(&self.memory, ranges, offset).unwrap()
    }

    /// How one operation ends.
    fn run(&mut self, operation: Operation) -> io::Result<()> {
        self.ring.push(7, operation).unwrap();
        let (token, result) = self.ring.drain().unwrap().pop().unwrap();
        assert_eq!(token, 7);
        result
    }

    fn bytes(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    fn file(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.file.metadata().unwrap().len()).unwrap()];
        self.file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[test]
fn several_operations_are_under_way_and_each_ends_once() {
    let mut bench = Bench::new(&pattern(0x8000));
    for token in 0..8 {
        assert!(bench.ring.has_room());
        let read = bench.transfer(&[(RAM + token * PAGE, 0x1000)], token * PAGE);
        bench.ring.push(token, Operation::Read(read)).unwrap();
    }
    assert!(!bench.ring.has_room());
    assert!(bench.ring.push(9, Operation::Flush).is_err());
    let mut ended: Vec<u64> = bench.ring.drain().unwrap().into_iter().map(|(token, _)| token).collect();
    ended.sort_unstable();
    assert_eq!(ended, (0..8).collect::<Vec<_>>());
    assert!(bench.ring.is_idle());
    assert_eq!(bench.bytes(RAM, 0x8000), pattern(0x8000));
}

#[test]
fn memory_in_many_parts_and_two_regions_is_moved_whole() {
    let len = 3000;
    let mut bench = Bench::new(&pattern(len));
    // One byte in each part: more parts than a call takes, and the middle is where one region ends.
    let parts: Vec<_> = (0..len as u64).map(|at| (RAM + 0x10_0000 - 1500 + at, 1)).collect();
    let read = bench.transfer(&parts, 0);
    bench.run(Operation::Read(read)).unwrap();
    assert_eq!(bench.bytes(RAM + 0x10_0000 - 1500, len), pattern(len));
    let write = bench.transfer(&[(RAM + 0x10_0000 - 1500, len)], 512);
    bench.run(Operation::Write { transfer: write, durable: true }).unwrap();
    bench.run(Operation::Flush).unwrap();
    assert_eq!(bench.file()[512..], pattern(len));
}

#[test]
fn transfer_goes_on_where_the_kernel_stopped() {
    let bench = Bench::new(&[]);
    let mut transfer = bench.transfer(&[(RAM, 100), (RAM + PAGE, 50), (RAM + 2 * PAGE, 1)], 1000);
    for bytes in [99, 1, 0, 30, 20] {
        transfer.advance(bytes);
        assert!(!transfer.is_done());
    }
    transfer.advance(1);
    assert!(transfer.is_done());
}

#[test]
fn end_of_the_file_is_an_error_and_nothing_else_is_harmed() {
    let mut bench = Bench::new(&pattern(0x1800));
    let read = bench.transfer(&[(RAM, 0x1000)], 0x1000);
    assert_eq!(bench.run(Operation::Read(read)).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(bench.bytes(RAM, 0x800), pattern(0x1800)[0x1000..], "what there was has been read");
    let read = bench.transfer(&[(RAM, 0x1000)], 0);
    bench.run(Operation::Read(read)).unwrap();
}

#[test]
fn ranges_are_zeroed_and_given_back_without_a_change_of_length() {
    let mut bench = Bench::new(&[0xaa; 0x4000]);
    bench.run(Operation::PunchHole { offset: PAGE, len: PAGE }).unwrap();
    match bench.run(Operation::ZeroRange { offset: 3 * PAGE, len: 2 * PAGE }) {
        Ok(()) => assert_eq!(bench.file()[0x3000..], [0; 0x1000]),
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP), "{error}"),
    }
    let file = bench.file();
    assert_eq!((file.len(), &file[0x1000..0x2000]), (0x4000, &[0; 0x1000][..]));
    assert_eq!(file[..0x1000], [0xaa; 0x1000]);
}

#[test]
fn memory_outside_of_the_guest_is_refused_before_the_kernel_hears_of_it() {
    let bench = Bench::new(&[]);
    for (address, len) in [(RAM - 1, 2), (RAM + 0x1f_ffff, 2), (u64::MAX, 2)] {
        assert!(Transfer::new(&bench.memory, [(GuestAddress(address), len)], 0).is_err());
    }
}

#[test]
fn memory_stays_until_the_ring_is_done() {
    let Bench { memory, ring, file } = Bench::new(&pattern(0x1000));
    let weak = Arc::downgrade(&memory);
    let mut ring = ring;
    let transfer = Transfer::new(&memory, [(GuestAddress(RAM), 0x1000)], 0).unwrap();
    drop((memory, file));
    ring.push(0, Operation::Read(transfer)).unwrap();
    ring.submit().unwrap();
    assert!(weak.upgrade().is_some());
    drop(ring);
    assert!(weak.upgrade().is_none());
}

/// The answer to an entry that is not one of ours.
fn answer(ring: &mut Ring, entry: &io_uring::squeue::Entry) -> i32 {
    // SAFETY: the entries of these tests refer to no memory of the process.
    unsafe { ring.ring.submission().push(entry).unwrap() };
    ring.ring.submit_and_wait(1).unwrap();
    ring.ring.completion().next().unwrap().result()
}

#[test]
fn ring_does_nothing_but_a_disks_work_on_its_own_file() {
    let mut bench = Bench::new(&pattern(0x1000));
    let other = tempfile::tempfile().unwrap();
    for entry in [
        opcode::Nop::new().build(),
        opcode::Socket::new(libc::AF_UNIX, libc::SOCK_STREAM, 0).build(),
        opcode::Fadvise::new(Fixed(0), 0, libc::POSIX_FADV_NORMAL).build(),
        opcode::Fsync::new(Fd(other.as_raw_fd())).build(),
    ] {
        assert_eq!(answer(&mut bench.ring, &entry), -libc::EACCES, "{entry:?}");
    }
    assert!(bench.ring.ring.submitter().unregister_files().is_err());
    assert_eq!(answer(&mut bench.ring, &opcode::Fsync::new(Fixed(0)).build()), 0);
}
