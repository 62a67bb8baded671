//! A virtio device that is set up just well enough to work, and then given garbage.

use super::function::Virtio;
use super::pit::Pit;
use crate::arch;
use crate::random::Random;
use crate::registers::{self, WIDTHS};

/// Common configuration (virtio 1.2, 4.1.4.3): offset and width.
const DEVICE_FEATURE_SELECT: (u64, u64) = (0x00, 4);
const DEVICE_FEATURE: (u64, u64) = (0x04, 4);
const DRIVER_FEATURE_SELECT: (u64, u64) = (0x08, 4);
const DRIVER_FEATURE: (u64, u64) = (0x0c, 4);
const NUM_QUEUES: (u64, u64) = (0x12, 2);
const STATUS: (u64, u64) = (0x14, 1);
const QUEUE_SELECT: (u64, u64) = (0x16, 2);
const QUEUE_SIZE: (u64, u64) = (0x18, 2);
const QUEUE_ENABLE: (u64, u64) = (0x1c, 2);
const QUEUE_DESCRIPTORS: (u64, u64) = (0x20, 8);
const QUEUE_DRIVER: (u64, u64) = (0x28, 8);
const QUEUE_DEVICE: (u64, u64) = (0x30, 8);
const COMMON_SIZE: u64 = 0x38;

/// ACKNOWLEDGE, DRIVER, FEATURES_OK and DRIVER_OK, each with those before (2.1).
const ACKNOWLEDGED: u64 = 3;
const FEATURES_OK: u64 = 11;
const DRIVER_OK: u64 = 15;

/// VIRTIO_F_VERSION_1 and VIRTIO_F_ACCESS_PLATFORM, in the second word of features.
const FEATURES_NEEDED: u64 = 3;

/// A descriptor's fields (2.7.5), and flags NEXT, WRITE and INDIRECT.
const DESCRIPTOR: u64 = 16;
const FLAGS: u64 = 7;

const MOST_QUEUES: u64 = 8;
const LARGEST_QUEUE: u64 = 256;
/// Ring writes and notifications of a device that runs.
const STROKES: u64 = 16;
const SECONDS: u64 = 20;

/// A queue as this guest has placed it.
#[derive(Clone, Copy, Default)]
struct Queue {
    size: u64,
    descriptors: u64,
    available: u64,
    /// Heads made available so far.
    index: u64,
}

/// Sets the device up, upsets it, and resets it: whether it says that it has been reset.
pub fn upset(device: &Virtio, pit: &Pit, random: &mut Random) -> bool {
    device.write(STATUS, 0);
    device.write(STATUS, ACKNOWLEDGED);
    for word in 0..2 {
        device.write(DEVICE_FEATURE_SELECT, word);
        device.write(DRIVER_FEATURE_SELECT, word);
        let offered = device.read(DEVICE_FEATURE);
        let needed = if word == 1 { FEATURES_NEEDED } else { 0 };
        let accepted = if random.once_in(2) { offered } else { offered & random.next() };
        device.write(DRIVER_FEATURE, accepted | offered & needed);
    }
    device.write(STATUS, FEATURES_OK);
    let mut queues = [Queue::default(); MOST_QUEUES as usize];
    let count = device.read(NUM_QUEUES).clamp(1, MOST_QUEUES);
    for (index, queue) in (0..count).zip(&mut queues) {
        *queue = place(device, index, pit, random);
    }
    device.write(STATUS, DRIVER_OK);
    for _ in 0..STROKES {
        let index = random.below(count);
        stroke(&mut queues[index as usize], pit, random);
        device.notify(index);
        if random.once_in(4) {
            device.access(pit, random);
        }
    }
    device.write(STATUS, 0);
    arch::wait_until(SECONDS, || device.read(STATUS) == 0)
}

/// Places a queue in the pit, and some of it elsewhere now and then.
fn place(device: &Virtio, index: u64, pit: &Pit, random: &mut Random) -> Queue {
    device.write(QUEUE_SELECT, index);
    let most = device.read(QUEUE_SIZE).clamp(1, LARGEST_QUEUE);
    let size = if random.once_in(8) { random.next() & 0xffff } else { most };
    let area = |random: &mut Random| match random.below(16) {
        0 => pit.address(random),
        _ => pit.piece(LARGEST_QUEUE * DESCRIPTOR, 16, random),
    };
    let queue = Queue { size: most, descriptors: area(random), available: area(random), index: 0 };
    let used = area(random);
    // Both rings begin empty; what follows is garbage enough.
    pit.write(queue.available, 4, 0);
    pit.write(used, 4, 0);
    device.write(QUEUE_SIZE, size);
    device.write(QUEUE_DESCRIPTORS, queue.descriptors);
    device.write(QUEUE_DRIVER, queue.available);
    device.write(QUEUE_DEVICE, used);
    device.write(QUEUE_ENABLE, 1);
    queue
}

/// Writes a few descriptors and makes heads available, while the device may be reading them.
fn stroke(queue: &mut Queue, pit: &Pit, random: &mut Random) {
    for _ in 0..8 {
        let at = queue.descriptors.wrapping_add(random.below(queue.size) * DESCRIPTOR);
        let length = match random.below(8) {
            0 => 0,
            1 => random.next() & 0xffff_ffff,
            2 => u64::from(u32::MAX),
            3 => 16,
            _ => random.below(8192),
        };
        let flags = if random.once_in(8) { random.next() & 0xffff } else { random.next() & FLAGS & !4 };
        let next = if random.once_in(8) { random.next() & 0xffff } else { random.below(queue.size) };
        pit.write(at, 8, pit.address(random));
        pit.write(at.wrapping_add(8), 4, length);
        pit.write(at.wrapping_add(12), 2, flags);
        pit.write(at.wrapping_add(14), 2, next);
        let slot = queue.available.wrapping_add(4 + random.below(queue.size) * 2);
        pit.write(slot, 2, if random.once_in(8) { random.next() } else { random.below(queue.size) });
    }
    // Mostly a few more, now and then more than there can be.
    queue.index += random.below(4);
    let index = if random.once_in(16) { random.next() } else { queue.index };
    pit.write(queue.available.wrapping_add(2), 2, index);
}

impl Virtio {
    fn read(&self, (offset, width): (u64, u64)) -> u64 {
        // SAFETY: a register of the device, mapped as device memory.
        unsafe { registers::read(self.common + offset, width) }
    }

    fn write(&self, (offset, width): (u64, u64), value: u64) {
        // SAFETY: as above; devices are told of no memory but the pit, and of places where there is none of ours.
        unsafe {
            if width == 8 {
                registers::write(self.common + offset, 4, value);
                registers::write(self.common + offset + 4, 4, value >> 32);
            } else {
                registers::write(self.common + offset, width, value);
            }
        }
    }

    fn notify(&self, queue: u64) {
        // SAFETY: as above.
        unsafe { registers::write(self.notify + queue * self.notify_step, 2, queue) };
    }

    /// One write of garbage to the registers of a device that runs.
    fn access(&self, pit: &Pit, random: &mut Random) {
        let width = random.of(&WIDTHS);
        let (base, size) = match (random.once_in(2), self.specific) {
            (true, Some(specific)) => (specific, 64),
            _ => (self.common, COMMON_SIZE),
        };
        let address = base + random.below(size / width) * width;
        // SAFETY: as above.
        unsafe { registers::write(address, width, pit.harmless(random.next())) };
    }
}
