//! A device may touch shared memory only: a queue in private memory stops the device, one in shared memory works.

use bitflags::bitflags;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::pci::bus::{
    BarInfo, Cam, Command, DeviceFunction, MemoryBarType, MmioCam, PciRoot,
};
use virtio_drivers::transport::pci::{PciTransport, virtio_device_type};
use virtio_drivers::transport::{DeviceStatus, DeviceType, Transport};
use virtio_drivers::{BufferDirection, Hal};

use crate::board::{Board, Pci};
use crate::console::Hex;
use crate::dma::{self, Memory};
use crate::report::{check, check_that};
use crate::rsi::Realm;
use crate::{arch, say};

const QUEUE: u16 = 0;
const QUEUE_SIZE: usize = 4;
const ENTROPY_BYTES: usize = 32;
const SECONDS: u64 = 10;

bitflags! {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Features: u64 {
        const VERSION_1 = 1 << 32;
        const ACCESS_PLATFORM = 1 << 33;
    }
}

pub fn run(board: &Board, realm: Option<&Realm>) {
    let shared_bit = realm.map_or(0, Realm::shared_bit);
    dma::reach_devices_with(shared_bit);
    let Some(pci) = board.pci else {
        say!("FAIL pci: none expected a host bridge");
        return;
    };
    let mut root = host_bridge(pci, shared_bit);
    let Some(function) = find_entropy_source(&root) else {
        say!("FAIL virtio-rng: none expected one on bus 0");
        return;
    };
    place_bars(&mut root, function, pci);
    if realm.is_some() {
        private_queue_stops_the_device(&mut root, function);
        dma::share_with(shared_bit);
    }
    shared_queue_works(&mut root, function, realm.is_some());
}

/// Configuration space of all functions.
pub fn host_bridge(pci: Pci, shared_bit: u64) -> PciRoot<MmioCam<'static>> {
    // SAFETY: the device tree says that the configuration space is there; it is mapped, and changed by one vCPU only.
    PciRoot::new(unsafe { MmioCam::new((pci.ecam | shared_bit) as *mut u8, Cam::Ecam) })
}

/// The entropy source gives random bytes to whoever asks as one should.
pub fn entropy_source_works(root: &mut PciRoot<MmioCam<'_>>, pci: Pci, realm: Option<&Realm>) {
    let Some(function) = find_entropy_source(root) else {
        say!("FAIL virtio-rng: none expected one on bus 0");
        return;
    };
    place_bars(root, function, pci);
    shared_queue_works(root, function, realm.is_some());
}

fn find_entropy_source(root: &PciRoot<MmioCam<'_>>) -> Option<DeviceFunction> {
    let mut found = root.enumerate_bus(0);
    found
        .find(|(_, info)| virtio_device_type(info) == Some(DeviceType::EntropySource))
        .map(|(function, _)| function)
}

/// Gives every memory BAR of the device an address, as firmware or an operating system would.
pub fn place_bars(root: &mut PciRoot<MmioCam<'_>>, function: DeviceFunction, pci: Pci) {
    let mut next = pci.mmio32;
    let bars = root.bars(function).unwrap_or_default();
    for (index, bar) in (0..).zip(bars) {
        let Some(BarInfo::Memory { address_type, size, .. }) = bar else { continue };
        next = next.next_multiple_of(size);
        match address_type {
            MemoryBarType::Width64 => root.set_bar_64(function, index, next),
            _ => root.set_bar_32(function, index, next as u32),
        }
        next += size;
    }
    root.set_command(function, Command::MEMORY_SPACE | Command::BUS_MASTER);
}

/// One driver's life with the device, up to the point where the device has been told of a buffer.
struct Entropy {
    transport: PciTransport,
    queue: VirtQueue<Memory, QUEUE_SIZE>,
    features: Features,
    buffer: &'static mut [u8],
    token: u16,
}

fn ask(root: &mut PciRoot<MmioCam<'_>>, function: DeviceFunction) -> Option<Entropy> {
    let mut transport = match PciTransport::new::<Memory, _>(root, function) {
        Ok(transport) => transport,
        Err(error) => {
            say!("FAIL virtio-rng: {error} expected a virtio device");
            return None;
        }
    };
    let features = transport.begin_init(Features::all());
    let mut queue = match VirtQueue::<Memory, QUEUE_SIZE>::new(&mut transport, QUEUE, false, false) {
        Ok(queue) => queue,
        Err(error) => {
            say!("FAIL queue: {error} expected a queue of {QUEUE_SIZE}");
            return None;
        }
    };
    transport.finish_init();
    let (_, page) = Memory::dma_alloc(1, BufferDirection::DeviceToDriver);
    // SAFETY: the page was given out just now, to us alone, and lives for ever.
    let buffer = unsafe { core::slice::from_raw_parts_mut(page.as_ptr(), ENTROPY_BYTES) };
    // SAFETY: the buffer lives for ever and is read only after the device has given it back.
    let token = match unsafe { queue.add(&[], &mut [&mut *buffer]) } {
        Ok(token) => token,
        Err(error) => {
            say!("FAIL buffer: {error} expected room for it");
            return None;
        }
    };
    transport.notify(QUEUE);
    Some(Entropy { transport, queue, features, buffer, token })
}

fn private_queue_stops_the_device(root: &mut PciRoot<MmioCam<'_>>, function: DeviceFunction) {
    let Some(entropy) = ask(root, function) else { return };
    let needs_reset = || entropy.transport.get_status().contains(DeviceStatus::DEVICE_NEEDS_RESET);
    let stopped = arch::wait_until(SECONDS, needs_reset);
    check_that("private-queue-needs-reset", stopped, entropy.transport.get_status(), "NEEDS_RESET");
    check_that("private-queue-is-unused", !entropy.queue.can_pop(), "a used buffer", "none");
    check_that(
        "private-buffer-is-untouched",
        entropy.buffer.iter().all(|&b| b == 0),
        &entropy.buffer[..8],
        "zeros",
    );
    // Dropping the transport resets the device.
}

fn shared_queue_works(root: &mut PciRoot<MmioCam<'_>>, function: DeviceFunction, realm: bool) {
    let Some(mut entropy) = ask(root, function) else { return };
    if realm {
        let offered = entropy.features.contains(Features::ACCESS_PLATFORM);
        check_that("access-platform-is-offered", offered, entropy.features, "VIRTIO_F_ACCESS_PLATFORM");
    }
    let used = arch::wait_until(SECONDS, || entropy.queue.can_pop());
    check_that("shared-queue-is-used", used, entropy.transport.get_status(), "a used buffer");
    if !used {
        return;
    }
    // SAFETY: these are the buffers that were added under this token.
    let length = unsafe { entropy.queue.pop_used(entropy.token, &[], &mut [&mut *entropy.buffer]) };
    check("entropy-length", length.unwrap_or(0).into(), ENTROPY_BYTES as u64);
    check_that("entropy-is-not-zero", entropy.buffer.iter().any(|&b| b != 0), "zeros", "random bytes");
    say!("entropy {}", Hex(entropy.buffer));
}
