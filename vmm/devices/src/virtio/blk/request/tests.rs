use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::testing::*;
use super::super::{Block, BlockBackend, MAX_RANGE_SECTORS, RawFile};
use crate::testing::{Buffer, Machine, WRITE};

#[test]
fn driver_learns_the_shape_of_the_disk() {
    let guest = Guest::with_disk(false);
    assert_eq!(guest.driver.device_config(0, 8), SECTORS as u64);
    assert_eq!(guest.driver.device_config(12, 4), 254, "segments");
    assert_eq!(guest.driver.device_config(20, 4), 512);
    assert_eq!(guest.driver.offered() & (1 << 5 | 1 << 9 | 1 << 13 | 1 << 14), 1 << 9 | 1 << 13 | 1 << 14);
    let read_only = Guest::with_disk(true);
    assert_eq!(read_only.driver.offered() & (1 << 5 | 1 << 13 | 1 << 14), 1 << 5);
}

#[test]
fn sectors_are_read_into_several_segments() {
    let mut guest = Guest::with_disk(false);
    let rooms = [guest.driver.room(512), guest.driver.room(100), guest.driver.room(924)];
    assert_eq!(guest.request(IN, 3, &rooms), (OK, 1537));
    let content: Vec<u8> = rooms.iter().flat_map(|&room| guest.driver.content(room)).collect();
    assert_eq!(content, [[3; 512], [4; 512], [5; 512]].concat());
}

#[test]
fn written_sectors_reach_the_file_and_survive_a_flush() {
    let mut guest = Guest::with_disk(false);
    let given = [guest.driver.buffer(&[0xaa; 700]), guest.driver.buffer(&[0xbb; 324])];
    assert_eq!(guest.request(OUT, 62, &given), (OK, 1));
    assert_eq!(guest.request(FLUSH, 0, &[]), (OK, 1));
    let image = guest.image();
    assert_eq!(&image[62 * 512..], [&[0xaa; 700][..], &[0xbb; 324]].concat());
    assert!(image[61 * 512..62 * 512].iter().all(|&byte| byte == 61));
    assert_eq!(image.len(), SECTORS * 512);
}

#[test]
fn request_larger_than_one_chunk_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("disk.raw");
    let content: Vec<u8> = (0..300 * 1024).map(|at| u8::try_from(at % 251).unwrap()).collect();
    std::fs::write(&image, &content).unwrap();
    let disk = RawFile::open(&image, true).unwrap();
    let block = Block::new(Box::new(disk), "");
    let mut guest = Guest::with_image(Machine::plain(), block, image, directory);
    let room = guest.driver.room(300 * 1024);
    assert_eq!(guest.request(IN, 0, &[room]), (OK, 300 * 1024 + 1));
    assert_eq!(guest.driver.content(room), content);
}

#[test]
fn request_beyond_the_disk_or_of_half_a_sector_fails() {
    let mut guest = Guest::with_disk(false);
    let before = guest.image();
    for (sector, len) in
        [(64, 512), (63, 1024), (u64::MAX, 512), (u64::MAX / 512, 512), (1 << 55, 512), (0, 100)]
    {
        for kind in [IN, OUT] {
            let data =
                if kind == IN { guest.driver.room(len) } else { guest.driver.buffer(&vec![0xff; len]) };
            assert_eq!(guest.request(kind, sector, &[data]).0, IOERR, "{kind} {sector} {len}");
        }
    }
    assert_eq!(guest.image(), before);
}

#[test]
fn read_only_disk_refuses_every_change() {
    let mut guest = Guest::with_disk(true);
    let before = guest.image();
    let data = guest.driver.buffer(&[0xff; 512]);
    assert_eq!(guest.request(OUT, 0, &[data]).0, IOERR);
    for kind in [DISCARD, WRITE_ZEROES] {
        let range = guest.range(0, 8, 0);
        assert_eq!(guest.request(kind, 0, &[range]).0, IOERR);
    }
    assert_eq!(guest.image(), before);
    let room = guest.driver.room(512);
    assert_eq!(guest.request(IN, 0, &[room]).0, OK);
}

#[test]
fn id_is_cut_to_what_fits() {
    let mut guest = Guest::with_disk(false);
    let (whole, short) = (guest.driver.room(20), guest.driver.room(7));
    assert_eq!(guest.request(GET_ID, 0, &[whole]), (OK, 21));
    assert_eq!(guest.driver.content(whole), b"redoubt-root-disk-00");
    assert_eq!(guest.request(GET_ID, 0, &[short]), (OK, 8));
    assert_eq!(guest.driver.content(short), b"redoubt");
}

#[test]
fn zeroed_and_discarded_ranges() {
    let mut guest = Guest::with_disk(false);
    for (sector, flags) in [(8, 0), (16, 1)] {
        let range = guest.range(sector, 8, flags);
        assert_eq!(guest.request(WRITE_ZEROES, 0, &[range]).0, OK);
    }
    let range = guest.range(32, 8, 0);
    assert_eq!(guest.request(DISCARD, 0, &[range]).0, OK);
    let image = guest.image();
    assert!(image[8 * 512..24 * 512].iter().all(|&byte| byte == 0));
    assert_eq!((image[8 * 512 - 1], image[24 * 512]), (7, 24));
    assert_eq!(image.len(), SECTORS * 512);
}

#[test]
fn bad_ranges_change_nothing() {
    let mut guest = Guest::with_disk(false);
    let before = guest.image();
    let cases = [
        (DISCARD, 60, 8, 0, IOERR),
        (DISCARD, u64::MAX, 1, 0, IOERR),
        (DISCARD, 0, u32::MAX, 0, IOERR),
        (DISCARD, 0, 8, 1, UNSUPP),
        (WRITE_ZEROES, 60, 8, 0, IOERR),
        (WRITE_ZEROES, 0, 8, 2, UNSUPP),
    ];
    for (kind, sector, sectors, flags, status) in cases {
        let range = guest.range(sector, sectors, flags);
        assert_eq!(guest.request(kind, 0, &[range]).0, status, "{kind} {sector} {sectors} {flags}");
    }
    let (good, second) = (guest.range(0, 8, 0), guest.range(8, 8, 0));
    assert_eq!(guest.request(WRITE_ZEROES, 0, &[good, second]).0, IOERR, "more ranges than announced");
    let short = guest.driver.buffer(&[0; 15]);
    assert_eq!(guest.request(WRITE_ZEROES, 0, &[short]).0, IOERR);
    assert_eq!(guest.request(WRITE_ZEROES, 0, &[]).0, IOERR);
    assert_eq!(guest.image(), before);
}

#[test]
fn unknown_request_is_answered_as_unsupported() {
    let mut guest = Guest::with_disk(false);
    for kind in [2, 3, 7, 14, 15, u32::MAX] {
        assert_eq!(guest.request(kind, 0, &[]), (UNSUPP, 1));
    }
}

#[test]
fn request_without_header_or_status_is_returned_empty_and_the_disk_goes_on() {
    let mut guest = Guest::with_disk(false);
    let (short, room) = (guest.driver.buffer(&[0; 15]), guest.driver.room(513));
    assert_eq!(guest.driver.request(0, &[short, room]), 0);
    let header = guest.header(IN, 0);
    assert_eq!(guest.driver.request(0, &[header]), 0, "no room for a status");
    assert_eq!(
        guest.driver.request(0, &[Buffer { flags: WRITE, ..header }]),
        0,
        "a header that cannot be read"
    );
    let room = guest.driver.room(512);
    assert_eq!(guest.request(IN, 9, &[room]).0, OK);
}

#[test]
fn failing_host_is_reported_to_the_guest() {
    let mut guest = Guest::with_disk(false);
    std::fs::OpenOptions::new().write(true).open(&guest.image).unwrap().set_len(512).unwrap();
    let room = guest.driver.room(512);
    assert_eq!(guest.request(IN, 5, &[room]).0, IOERR);
    assert_eq!(guest.request(IN, 0, &[room]).0, OK);
}

/// A large disk without content that counts the changes it is asked for.
struct Counting {
    read_only: bool,
    changes: Arc<AtomicUsize>,
}

impl Counting {
    fn change(&self) -> io::Result<()> {
        self.changes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

impl BlockBackend for Counting {
    fn size(&self) -> u64 {
        1 << 30
    }
    fn read_only(&self) -> bool {
        self.read_only
    }
    fn read_at(&self, _offset: u64, _data: &mut [u8]) -> io::Result<()> {
        Ok(())
    }
    fn write_at(&self, _offset: u64, _data: &[u8]) -> io::Result<()> {
        self.change()
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
        self.change()
    }
    fn write_zeroes(&self, _offset: u64, _len: u64, _unmap: bool) -> io::Result<()> {
        self.change()
    }
    fn grow(&self, _size: u64) -> io::Result<()> {
        Ok(())
    }
}

/// Status of an attempt, and how often the disk was changed by it.
fn attempt(read_only: bool, kind: u32, data: &[u8]) -> (u8, usize) {
    let changes = Arc::new(AtomicUsize::new(0));
    let block = Block::new(Box::new(Counting { read_only, changes: changes.clone() }), "");
    let directory = tempfile::tempdir().unwrap();
    let mut guest = Guest::with_image(Machine::plain(), block, PathBuf::new(), directory);
    let data = guest.driver.buffer(data);
    let (status, _) = guest.request(kind, 0, &[data]);
    (status, changes.load(Ordering::SeqCst))
}

fn range_of(sectors: u32) -> Vec<u8> {
    [&0_u64.to_le_bytes()[..], &sectors.to_le_bytes(), &0_u32.to_le_bytes()].concat()
}

#[test]
fn read_only_backend_is_never_asked_to_change() {
    for (kind, data) in [(OUT, vec![0; 512]), (DISCARD, range_of(8)), (WRITE_ZEROES, range_of(8))] {
        assert_eq!(attempt(true, kind, &data), (IOERR, 0));
        assert_eq!(attempt(false, kind, &data), (OK, 1));
    }
}

#[test]
fn range_longer_than_announced_is_refused() {
    for kind in [DISCARD, WRITE_ZEROES] {
        assert_eq!(attempt(false, kind, &range_of(MAX_RANGE_SECTORS)), (OK, 1));
        assert_eq!(attempt(false, kind, &range_of(MAX_RANGE_SECTORS + 1)), (IOERR, 0));
    }
}
