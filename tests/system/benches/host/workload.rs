//! What runs in a Linux guest: it uses a disk or the network for a while and prints how much it got.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

/// First argument of a program that is to work.
pub const ARGUMENT: &str = "workload";

/// Size of the disk.
pub const DISK_SIZE: u64 = 64 << 20;

/// Names of what [`disk`] prints, in its order.
pub const DISK_FIGURES: [&str; 4] =
    ["disk-write-1M", "disk-read-1M", "disk-random-4K", "disk-random-4K-by-8"];

/// How long each thing is done.
const TIME: Duration = Duration::from_millis(1500);

const SMALL: usize = 4096;
const LARGE: usize = 1 << 20;

/// Does one thing after the other: `disk DEVICE`, `send ADDRESS`, `receive ADDRESS`.
pub fn run(mut work: &[&str]) {
    while let [verb, object, rest @ ..] = work {
        match *verb {
            "disk" => disk(object),
            "send" => send(object),
            "receive" => receive(object),
            _ => panic!("{verb}: no such work"),
        }
        work = rest;
    }
}

/// MiB a second.
#[expect(clippy::cast_precision_loss, reason = "a benchmark moves less than 2^52 bytes")]
pub fn rate(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / f64::from(1 << 20) / time.as_secs_f64()
}

/// Past the guest's page cache.
fn disk(path: &str) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::DIRECT.bits().cast_signed())
        .open(path)
        .unwrap();
    let write = |buffer: &mut [u8], offset| file.write_all_at(buffer, offset).unwrap();
    let read = |buffer: &mut [u8], offset| file.read_exact_at(buffer, offset).unwrap();
    let figures = [
        repeat(LARGE, &mut ascending(), write),
        repeat(LARGE, &mut ascending(), read),
        repeat(SMALL, &mut scattered(1), read),
        several(8, &file),
    ];
    for (name, figure) in DISK_FIGURES.iter().zip(figures) {
        println!("{name} {figure:.3}");
    }
}

/// Moves blocks of `size` bytes whose numbers `blocks` gives, until the time is over.
fn repeat(size: usize, blocks: &mut dyn Iterator<Item = u64>, mut work: impl FnMut(&mut [u8], u64)) -> f64 {
    // Direct I/O needs an aligned buffer.
    let mut room = vec![0x5a; size + SMALL];
    let start = room.as_ptr().align_offset(SMALL);
    let buffer = &mut room[start..start + size];
    let (started, mut bytes) = (Instant::now(), 0);
    while started.elapsed() < TIME {
        let block = blocks.next().unwrap();
        work(buffer, block * size as u64 % DISK_SIZE);
        bytes += size;
    }
    rate(bytes, started.elapsed())
}

/// Small reads by so many threads at once.
fn several(threads: u64, file: &File) -> f64 {
    let read = |buffer: &mut [u8], offset| file.read_exact_at(buffer, offset).unwrap();
    thread::scope(|scope| {
        let one = |seed| scope.spawn(move || repeat(SMALL, &mut scattered(seed), read));
        let threads: Vec<_> = (1..=threads).map(one).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

fn ascending() -> impl Iterator<Item = u64> {
    0..
}

/// The same numbers in each run (xorshift64).
fn scattered(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 24
    })
}

/// The other side measures.
fn send(address: &str) {
    let mut socket = TcpStream::connect(address).unwrap();
    let buffer = vec![0x5a; 256 * 1024];
    let started = Instant::now();
    while started.elapsed() < TIME {
        socket.write_all(&buffer).unwrap();
    }
}

fn receive(address: &str) {
    let mut socket = TcpStream::connect(address).unwrap();
    let mut buffer = vec![0; 256 * 1024];
    let (started, mut bytes) = (Instant::now(), 0);
    while started.elapsed() < TIME {
        bytes += socket.read(&mut buffer).unwrap();
    }
    println!("net-receive {:.3}", rate(bytes, started.elapsed()));
}
