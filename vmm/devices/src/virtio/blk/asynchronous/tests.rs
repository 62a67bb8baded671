use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use vm_memory::Permissions;

use super::super::PlainFile;
use super::super::testing::*;
use super::super::{Block, BlockOptions, ImageFormat, ImageOptions, open_image};
use super::Parts;
use crate::dma::{DmaFault, DmaMemory, DmaPolicy};
use crate::testing::{Buffer, Machine, RAM};

/// A request that is offered but not waited for: its head, its data and its status byte.
struct Offered {
    head: u16,
    data: Buffer,
    status: Buffer,
}

impl Guest {
    fn offer(&mut self, kind: u32, sector: u64, data: Buffer) -> Offered {
        let (header, status) = (self.header(kind, sector), self.driver.room(1));
        let head = self.driver.offer(0, &[header, data, status]);
        Offered { head, data, status }
    }

    fn wait_for(&mut self, offered: &[Offered]) {
        let mut heads: Vec<u16> = offered.iter().map(|_| self.driver.wait_used(0).0).collect();
        heads.sort_unstable();
        let mut expected: Vec<u16> = offered.iter().map(|request| request.head).collect();
        expected.sort_unstable();
        assert_eq!(heads, expected);
        assert!(offered.iter().all(|request| self.driver.content(request.status) == [OK]));
    }
}

#[test]
fn requests_are_under_way_together_and_each_is_answered_once() {
    let mut guest = Guest::asynchronous(Machine::plain(), 256);
    let reads: Vec<_> = (0..60)
        .map(|sector| {
            let room = guest.driver.room(512);
            guest.offer(IN, sector, room)
        })
        .collect();
    guest.driver.ring(0);
    guest.wait_for(&reads);
    for (sector, read) in (0..).zip(&reads) {
        assert_eq!(guest.driver.content(read.data), [sector; 512]);
    }
}

/// More reads than a ring takes, each behind one descriptor of the queue.
fn offer_many(guest: &mut Guest) -> Vec<Offered> {
    let offer = |sector: u64| {
        let (header, data) = (guest.header(IN, sector % SECTORS as u64), guest.driver.room(512));
        let status = guest.driver.room(1);
        let table = guest.driver.table(&[(header, 0, 1), (data, 0, 2), (status, 0, 0)]);
        Offered { head: guest.driver.offer(0, &[table]), data, status }
    };
    (0..200).map(offer).collect()
}

#[test]
fn more_requests_than_the_ring_takes_wait_their_turn() {
    let mut guest = Guest::asynchronous(Machine::plain(), 256);
    let reads = offer_many(&mut guest);
    guest.driver.ring(0);
    guest.wait_for(&reads);
    for (number, read) in reads.iter().enumerate() {
        assert_eq!(guest.driver.content(read.data), [u8::try_from(number % SECTORS).unwrap(); 512]);
    }
}

#[test]
fn every_kind_of_request_does_what_the_synchronous_path_does() {
    let mut guest = Guest::asynchronous(Machine::plain(), 256);
    let rooms = [guest.driver.room(512), guest.driver.room(100), guest.driver.room(924)];
    assert_eq!(guest.request(IN, 3, &rooms), (OK, 1537));
    let content: Vec<u8> = rooms.iter().flat_map(|&room| guest.driver.content(room)).collect();
    assert_eq!(content, [[3; 512], [4; 512], [5; 512]].concat());
    let given = [guest.driver.buffer(&[0xaa; 700]), guest.driver.buffer(&[0xbb; 324])];
    assert_eq!(guest.request(OUT, 62, &given), (OK, 1));
    assert_eq!(guest.request(FLUSH, 0, &[]), (OK, 1));
    for (kind, sector, flags) in [(WRITE_ZEROES, 8, 0), (WRITE_ZEROES, 16, 1), (DISCARD, 32, 0)] {
        let range = guest.range(sector, 8, flags);
        assert_eq!(guest.request(kind, 0, &[range]), (OK, 1), "{kind}");
    }
    let image = guest.image();
    assert_eq!(&image[62 * 512..], [&[0xaa; 700][..], &[0xbb; 324]].concat());
    assert!(image[8 * 512..24 * 512].iter().all(|&byte| byte == 0));
    assert_eq!((image[8 * 512 - 1], image[24 * 512], image.len()), (7, 24, SECTORS * 512));
    let room = guest.driver.room(20);
    assert_eq!(guest.request(GET_ID, 0, &[room]), (OK, 21), "what is not for the kernel is answered, too");
}

#[test]
fn header_and_data_may_share_a_descriptor() {
    let mut guest = Guest::asynchronous(Machine::plain(), 256);
    let mut bytes = OUT.to_le_bytes().to_vec();
    bytes.extend([0; 4]);
    bytes.extend(5_u64.to_le_bytes());
    bytes.extend([0xcc; 512]);
    let (buffer, status) = (guest.driver.buffer(&bytes), guest.driver.room(1));
    guest.driver.request(0, &[buffer, status]);
    assert_eq!(guest.driver.content(status), [OK]);
    let (header, room) = (guest.header(IN, 5), guest.driver.room(513));
    assert_eq!(guest.driver.request(0, &[header, room]), 513);
    assert_eq!(guest.driver.content(room), [&[0xcc; 512][..], &[OK]].concat());
}

#[test]
fn driver_that_cannot_flush_or_wants_no_cache_gets_durable_writes() {
    for write_through in [false, true] {
        let mut guest = Guest::asynchronous(Machine::plain(), 256);
        if write_through {
            guest.driver.write(guest.driver.bar + 0x2020, &[0]);
        }
        let data = guest.driver.buffer(&[0xdd; 512]);
        assert_eq!(guest.request(OUT, 1, &[data]), (OK, 1));
        let range = guest.range(8, 8, 1);
        assert_eq!(guest.request(WRITE_ZEROES, 0, &[range]), (OK, 1));
        let image = guest.image();
        assert_eq!((image[512], image[8 * 512], image[16 * 512]), (0xdd, 0, 16));
    }
}

#[test]
fn bad_requests_fail_as_they_do_without_a_ring() {
    let mut guest = Guest::asynchronous(Machine::plain(), 256);
    let before = guest.image();
    for (sector, len) in [(64, 512), (63, 1024), (u64::MAX, 512), (1 << 55, 512), (0, 100)] {
        for kind in [IN, OUT] {
            let data =
                if kind == IN { guest.driver.room(len) } else { guest.driver.buffer(&vec![0xff; len]) };
            assert_eq!(guest.request(kind, sector, &[data]).0, IOERR, "{kind} {sector} {len}");
        }
    }
    for (kind, sectors, flags, status) in
        [(DISCARD, u32::MAX, 0, IOERR), (DISCARD, 8, 1, UNSUPP), (WRITE_ZEROES, 8, 2, UNSUPP)]
    {
        let range = guest.range(0, sectors, flags);
        assert_eq!(guest.request(kind, 0, &[range]).0, status);
    }
    assert_eq!(guest.request(99, 0, &[]), (UNSUPP, 1));
    assert_eq!(guest.image(), before);
}

#[test]
fn failing_host_is_reported_to_the_guest() {
    let mut guest = Guest::asynchronous(Machine::plain(), 256);
    File::options().write(true).open(&guest.image).unwrap().set_len(512).unwrap();
    let room = guest.driver.room(512);
    assert_eq!(guest.request(IN, 5, &[room]).0, IOERR);
    assert_eq!(guest.request(IN, 0, &[room]).0, OK);
}

#[test]
fn reset_with_requests_under_way_gives_back_a_device_that_works() {
    let mut guest = Guest::asynchronous(Machine::plain(), 256);
    for _ in 0..10 {
        for sector in 0..20 {
            let data = guest.driver.buffer(&[0x77; 512]);
            guest.offer(OUT, sector, data);
        }
        guest.driver.ring(0);
        guest.driver.set_status(0);
        // Nothing of before the reset reaches memory that the guest uses for something else now.
        guest.driver.forget_buffers(0);
        guest.driver.start(ALL);
    }
    let room = guest.driver.room(512);
    assert_eq!(guest.request(IN, 40, &[room]), (OK, 513));
    assert_eq!(guest.driver.content(room), [40; 512]);
}

#[test]
fn device_that_stands_still_has_nothing_under_way_and_goes_on_afterwards() {
    let mut guest = Guest::asynchronous(Machine::plain(), 256);
    let reads = offer_many(&mut guest);
    guest.driver.ring(0);
    guest.transport.pause();
    let answered: Vec<_> = std::iter::from_fn(|| guest.driver.take_used(0)).collect();
    let filled =
        |guest: &Guest| reads.iter().filter(|read| guest.driver.content(read.data) != [0xee; 512]).count();
    assert_eq!(filled(&guest), answered.len(), "what was begun is answered");
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(filled(&guest), answered.len(), "and nothing else is begun");
    guest.transport.resume();
    for _ in answered.len()..reads.len() {
        guest.driver.wait_used(0);
    }
    assert_eq!(filled(&guest), reads.len());
}

/// A page that a Realm keeps, or shares until it changes its mind.
#[derive(Default)]
struct Private(AtomicBool);

const PRIVATE: u64 = RAM + 0x80_0000;

impl DmaPolicy for Private {
    fn translate(&self, iova: u64, len: u64, _access: Permissions) -> Result<u64, DmaFault> {
        let inside = iova < PRIVATE + 0x1000 && iova.saturating_add(len) > PRIVATE;
        if inside && self.0.load(SeqCst) { Err(DmaFault::Private { gpa: PRIVATE }) } else { Ok(iova) }
    }
}

#[test]
fn private_page_is_neither_filled_nor_given_a_status() {
    let policy = Arc::new(Private::default());
    for part in 0..3 {
        let mut guest = Guest::asynchronous(Machine::with_dma(policy.clone()), 256);
        policy.0.store(true, SeqCst);
        let mut chain = [guest.header(IN, 1), guest.driver.room(512), guest.driver.room(1)];
        chain[part] = Buffer { flags: chain[part].flags, ..guest.driver.buffer_at(PRIVATE, &[0x11; 512]) };
        chain[part].len = [16, 512, 1][part];
        guest.driver.submit(0, &chain);
        guest.driver.wait_needs_reset();
        policy.0.store(false, SeqCst);
        assert_eq!(guest.driver.content(chain[part])[..1], [0x11], "part {part}");
        guest.driver.set_status(0);
        guest.driver.start(ALL);
        let room = guest.driver.room(512);
        assert_eq!(guest.request(IN, 2, &[room]), (OK, 513));
    }
}

#[test]
fn transfer_with_a_private_part_is_not_made_whatever_was_checked_before() {
    let policy = Arc::new(Private::default());
    let memory = DmaMemory::new(Machine::plain().memory, policy.clone(), "test".into(), Arc::default());
    let file = tempfile::tempfile().unwrap();
    let plain = PlainFile { file: &file, alignment: 1, guards_start: false };
    let transfer = |at| Parts(vec![(RAM, 512), (at, 512)]).transfer(&memory, &plain, 0, Permissions::Write);
    assert!(transfer(PRIVATE).is_some());
    policy.0.store(true, SeqCst);
    assert!(transfer(RAM + 0x1000).is_some());
    assert!(transfer(PRIVATE).is_none() && memory.faulted());
}

#[test]
fn image_whose_format_was_guessed_stays_guarded() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("disk.raw");
    std::fs::write(&image, vec![1; 1 << 16]).unwrap();
    let disk = open_image(&image, &ImageOptions::default()).unwrap();
    let options = BlockOptions { io_uring: true, ..BlockOptions::default() };
    let block = Block::with_options(disk, options);
    assert!(block.is_asynchronous());
    let mut guest = Guest::with_image(Machine::plain(), block, image, directory);
    let mut sector = [0; 512];
    sector[..4].copy_from_slice(b"QFI\xfb");
    let data = guest.driver.buffer(&sector);
    assert_eq!(guest.request(OUT, 0, &[data]).0, IOERR);
    assert_eq!(guest.request(OUT, 1, &[data]).0, OK);
    assert_eq!(guest.image()[0], 1);
}

#[test]
fn disk_past_the_page_cache_takes_what_is_not_aligned_too() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("disk.raw");
    std::fs::write(&image, vec![9; 1 << 16]).unwrap();
    let format = ImageOptions { format: ImageFormat::Raw, direct: true, ..ImageOptions::default() };
    let options = BlockOptions { io_uring: true, ..BlockOptions::default() };
    let block = Block::with_options(open_image(&image, &format).unwrap(), options);
    let mut guest = Guest::with_image(Machine::plain(), block, image, directory);
    let aligned = guest.driver.buffer_at(RAM + 0x80_0000, &[3; 8192]);
    assert_eq!(guest.request(OUT, 8, &[aligned]).0, OK);
    let odd = guest.driver.buffer_at(RAM + 0x90_0003, &[4; 512]);
    assert_eq!(guest.request(OUT, 1, &[odd]).0, OK);
    let image = guest.image();
    assert_eq!((image[511], image[512], image[1024], image[4096], image[12287]), (9, 4, 9, 3, 3));
}

#[test]
fn kernel_that_forbids_rings_leaves_a_disk_that_works() {
    use seccompiler::{SeccompAction, SeccompFilter, TargetArch, apply_filter};
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let rules = [(io_uring_setup(), Vec::new())].into_iter().collect();
    let refused = SeccompAction::Errno(1);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    let confined = std::thread::spawn(move || {
        apply_filter(&program).unwrap();
        let mut guest = Guest::on(Machine::plain(), false, |disk| {
            let options = BlockOptions { io_uring: true, ..BlockOptions::default() };
            let block = Block::with_options(Box::new(disk), options);
            assert!(!block.is_asynchronous());
            block
        });
        let room = guest.driver.room(512);
        assert_eq!(guest.request(IN, 7, &[room]), (OK, 513));
    });
    confined.join().unwrap();
}

/// Number of `io_uring_setup`, the same on every architecture (asm-generic/unistd.h).
const fn io_uring_setup() -> i64 {
    425
}
