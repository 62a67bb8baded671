//! A guest driver that knows devices through configuration space, BARs, rings and interrupts only.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap, Permissions};

use super::WaitingMsi;
use crate::bus::{Bus, value};
use crate::dma::{DmaFault, DmaPolicy, IdentityDma};
use crate::doorbell::{IoEvents, NoIoEvents};
use crate::pci::{PciAddress, PciBus};
use crate::virtio::{DeviceHost, NoDeviceHost, VirtioDevice, VirtioPci, VirtioPciConfig};

pub(crate) const RAM: u64 = 0x4000_0000;
const RAM_SIZE: usize = 16 << 20;
const ECAM: u64 = 0x3f00_0000;
const WINDOW: Range<u64> = 0x1000_0000..0x2000_0000;
/// Each queue's rings are in a block of their own from the start of RAM; buffers follow.
const QUEUE_BLOCK: u64 = 0x1_0000;
const BUFFERS: u64 = RAM + 0x10_0000;

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

pub(crate) const VERSION_1: u64 = 1 << 32;
pub(crate) const ACCESS_PLATFORM: u64 = 1 << 33;

/// A Realm in which only addresses from here on are shared.
pub(crate) struct SharedAbove(pub(crate) u64);

impl DmaPolicy for SharedAbove {
    fn translate(&self, iova: u64, _len: u64, _access: Permissions) -> Result<u64, DmaFault> {
        let gpa = iova & !(1 << 39);
        if gpa < self.0 { Err(DmaFault::Private { gpa }) } else { Ok(gpa) }
    }
}

pub(crate) struct Machine {
    pub(crate) memory: Arc<GuestMemoryMmap>,
    pub(crate) bus: Arc<Bus>,
    pub(crate) msi: Arc<WaitingMsi>,
    pci: Arc<PciBus>,
    dma: Arc<dyn DmaPolicy>,
    io_events: Arc<dyn IoEvents>,
    access_platform: bool,
    pub(crate) host: Arc<dyn DeviceHost>,
}

impl Machine {
    pub(crate) fn plain() -> Self {
        Self::new(Arc::new(IdentityDma), Arc::new(NoIoEvents), false)
    }

    pub(crate) fn realm(shared: SharedAbove) -> Self {
        Self::new(Arc::new(shared), Arc::new(NoIoEvents), true)
    }

    pub(crate) fn with_dma(dma: Arc<dyn DmaPolicy>) -> Self {
        Self::new(dma, Arc::new(NoIoEvents), false)
    }

    pub(crate) fn with_io_events(io_events: Arc<dyn IoEvents>) -> Self {
        Self::new(Arc::new(IdentityDma), io_events, false)
    }

    /// Memory that another process could map.
    pub(crate) fn shared() -> Self {
        let file = tempfile::tempfile().unwrap();
        file.set_len(RAM_SIZE as u64).unwrap();
        let region = (GuestAddress(RAM), RAM_SIZE, Some(FileOffset::new(file, 0)));
        let memory = Arc::new(GuestMemoryMmap::from_ranges_with_files([region]).unwrap());
        Self { memory, ..Self::plain() }
    }

    fn new(dma: Arc<dyn DmaPolicy>, io_events: Arc<dyn IoEvents>, access_platform: bool) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(RAM), RAM_SIZE)]).unwrap();
        let pci = PciBus::new(vec![WINDOW]);
        let mut bus = Bus::new();
        bus.insert(ECAM..ECAM + 0x100_0000, pci.ecam()).unwrap();
        for (range, window) in pci.windows() {
            bus.insert(range, window).unwrap();
        }
        let (memory, bus, msi) = (Arc::new(memory), Arc::new(bus), Arc::default());
        Self { memory, bus, msi, pci, dma, io_events, access_platform, host: Arc::new(NoDeviceHost) }
    }

    /// Plugs `device` in and places its BAR; the driver has not touched it yet.
    pub(crate) fn plug(&self, device: impl VirtioDevice + 'static) -> Driver {
        self.plug_and_keep(device).0
    }

    /// Plugs in a device that the test keeps a hold of.
    pub(crate) fn plug_shared(&self, device: Arc<dyn VirtioDevice>) -> (Driver, Arc<VirtioPci>) {
        let address = self.pci.free_address().unwrap();
        let device = VirtioPci::new(VirtioPciConfig {
            id: "_test0".into(),
            device,
            requester: address.requester(),
            memory: self.memory.clone(),
            dma: self.dma.clone(),
            msi: self.msi.clone(),
            io_events: self.io_events.clone(),
            access_platform: self.access_platform,
            host: self.host.clone(),
        })
        .unwrap();
        self.pci.insert(address, device.clone()).unwrap();
        (Driver::find(self, address), device)
    }

    /// Plugs `device` in as [`Machine::plug`] does, and shows the VMM's side of it as well.
    pub(crate) fn plug_and_keep(&self, device: impl VirtioDevice + 'static) -> (Driver, Arc<VirtioPci>) {
        self.plug_shared(Arc::new(device))
    }

    /// Plugs `device` in and starts it with every feature in `features` that it offers.
    pub(crate) fn start(&self, device: impl VirtioDevice + 'static, features: u64) -> Driver {
        let mut driver = self.plug(device);
        driver.start(features);
        driver
    }
}

/// A piece of a request.
#[derive(Clone, Copy)]
pub(crate) struct Buffer {
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) flags: u16,
}

#[derive(Clone, Copy, Default)]
struct DriverQueue {
    size: u16,
    next_descriptor: u16,
    avail: u16,
    used: u16,
}

pub(crate) struct Driver {
    pub(crate) memory: Arc<GuestMemoryMmap>,
    pub(crate) msi: Arc<WaitingMsi>,
    pub(crate) bus: Arc<Bus>,
    pub(crate) config: u64,
    pub(crate) bar: u64,
    common: u64,
    notify: u64,
    device: u64,
    queues: Vec<DriverQueue>,
    free: u64,
}

impl Driver {
    fn find(machine: &Machine, address: PciAddress) -> Self {
        let config = ECAM + (u64::from(address.slot()) << 15);
        let bar = WINDOW.start + u64::from(address.slot()) * 0x1_0000;
        let mut driver = Self {
            memory: machine.memory.clone(),
            msi: machine.msi.clone(),
            bus: machine.bus.clone(),
            config,
            bar,
            common: 0,
            notify: 0,
            device: 0,
            queues: Vec::new(),
            free: BUFFERS + u64::from(address.slot()) * 0x10_0000,
        };
        driver.write(config + 0x10, &bar.to_le_bytes());
        driver.write(config + 0x04, &6_u16.to_le_bytes());
        for capability in driver.capabilities() {
            match driver.read(capability, 4) & 0xff {
                0x11 => driver.write(capability + 2, &0x8000_u16.to_le_bytes()),
                _ => {
                    let place = bar + driver.read(capability + 8, 4);
                    match driver.read(capability + 3, 1) {
                        1 => driver.common = place,
                        2 => driver.notify = place,
                        4 => driver.device = place,
                        _ => {}
                    }
                }
            }
        }
        driver
    }

    /// Addresses of all capabilities.
    pub(crate) fn capabilities(&self) -> Vec<u64> {
        let mut found = Vec::new();
        let mut next = self.read(self.config + 0x34, 1);
        while next != 0 {
            found.push(self.config + next);
            next = self.read(self.config + next + 1, 1);
        }
        found
    }

    pub(crate) fn read(&self, addr: u64, len: usize) -> u64 {
        let mut data = vec![0; len];
        self.bus.read(addr, &mut data);
        value(&data)
    }

    pub(crate) fn write(&self, addr: u64, data: &[u8]) {
        self.bus.write(addr, data);
    }

    pub(crate) fn common(&self, register: u64, len: usize) -> u64 {
        self.read(self.common + register, len)
    }

    pub(crate) fn set_common(&self, register: u64, data: &[u8]) {
        self.write(self.common + register, data);
    }

    pub(crate) fn device_config(&self, offset: u64, len: usize) -> u64 {
        self.read(self.device + offset, len)
    }

    pub(crate) fn status(&self) -> u8 {
        u8::try_from(self.common(0x14, 1)).unwrap()
    }

    pub(crate) fn set_status(&self, status: u8) -> u8 {
        self.set_common(0x14, &[status]);
        self.status()
    }

    pub(crate) fn offered(&self) -> u64 {
        let half = |select: u32| {
            self.set_common(0x00, &select.to_le_bytes());
            self.common(0x04, 4)
        };
        half(0) | half(1) << 32
    }

    /// Negotiates up to FEATURES_OK; the status that the device answers with.
    pub(crate) fn negotiate(&self, features: u64) -> u8 {
        assert_eq!(self.set_status(0), 0);
        self.set_status(1);
        self.set_status(3);
        for (select, half) in [(0_u32, features & 0xffff_ffff), (1, features >> 32)] {
            self.set_common(0x08, &select.to_le_bytes());
            self.set_common(0x0c, &half.to_le_bytes()[..4]);
        }
        self.set_status(0x0b)
    }

    /// The whole bring-up, as Linux does it. Vector 0 is for configuration changes, vector `n + 1` for queue `n`.
    pub(crate) fn start(&mut self, features: u64) {
        let accepted = self.offered() & (features | VERSION_1 | ACCESS_PLATFORM);
        assert_eq!(self.negotiate(accepted), 0x0b, "FEATURES_OK refused");
        self.set_up_queues();
        self.set_status(0x0f);
    }

    pub(crate) fn set_up_queues(&mut self) {
        let count = u16::try_from(self.common(0x12, 2)).unwrap();
        for vector in 0..=u64::from(count) {
            let entry = self.bar + 0x4000 + vector * 16;
            self.write(entry, &0x0808_0040_u64.to_le_bytes());
            self.write(entry + 8, &vector.to_le_bytes()); // data, and unmasked
        }
        self.set_common(0x10, &0_u16.to_le_bytes());
        self.queues.clear();
        for queue in 0..count {
            self.set_common(0x16, &queue.to_le_bytes());
            let size = u16::try_from(self.common(0x18, 2)).unwrap();
            self.set_common(0x1a, &(queue + 1).to_le_bytes());
            let rings = self.rings(queue.into());
            self.memory.write_slice(&[0; 0x5000], GuestAddress(rings.descriptors)).unwrap();
            for (register, addr) in [(0x20, rings.descriptors), (0x28, rings.avail), (0x30, rings.used)] {
                self.set_common(register, &addr.to_le_bytes()[..4]);
                self.set_common(register + 4, &addr.to_le_bytes()[4..]);
            }
            self.set_common(0x1c, &1_u16.to_le_bytes());
            assert_eq!(self.common(0x1c, 2), 1);
            self.queues.push(DriverQueue { size, ..DriverQueue::default() });
        }
    }

    pub(crate) fn rings(&self, queue: usize) -> Rings {
        let slot = (self.config - ECAM) >> 15;
        let base = RAM + (slot * 4 + queue as u64) * QUEUE_BLOCK;
        Rings { descriptors: base, avail: base + 0x2000, used: base + 0x3000 }
    }

    /// Memory for a buffer, filled with `content`.
    pub(crate) fn buffer(&mut self, content: &[u8]) -> Buffer {
        let addr = self.free;
        self.free += (content.len() as u64).next_multiple_of(64).max(64);
        self.memory.write_slice(content, GuestAddress(addr)).unwrap();
        Buffer { addr, len: u32::try_from(content.len()).unwrap(), flags: 0 }
    }

    /// A buffer at a chosen place.
    pub(crate) fn buffer_at(&self, addr: u64, content: &[u8]) -> Buffer {
        self.memory.write_slice(content, GuestAddress(addr)).unwrap();
        Buffer { addr, len: u32::try_from(content.len()).unwrap(), flags: 0 }
    }

    /// An indirect table of descriptors, each a buffer, further flags and the next index; chained if the index is not 0.
    pub(crate) fn table(&mut self, descriptors: &[(Buffer, u16, u16)]) -> Buffer {
        let mut bytes = Vec::new();
        for (buffer, flags, next) in descriptors {
            let chained = if *next == 0 { 0 } else { NEXT };
            bytes.extend_from_slice(&buffer.addr.to_le_bytes());
            bytes.extend_from_slice(&buffer.len.to_le_bytes());
            bytes.extend_from_slice(&(buffer.flags | flags | chained).to_le_bytes());
            bytes.extend_from_slice(&next.to_le_bytes());
        }
        Buffer { flags: INDIRECT, ..self.buffer(&bytes) }
    }

    /// Uses the memory of buffers behind the first `keep` bytes again; the device must not know them any more.
    pub(crate) fn forget_buffers(&mut self, keep: u64) {
        self.free = BUFFERS + ((self.config - ECAM) >> 15) * 0x10_0000 + keep;
    }

    /// Memory that the device shall write.
    pub(crate) fn room(&mut self, len: usize) -> Buffer {
        Buffer { flags: WRITE, ..self.buffer(&vec![0xee; len]) }
    }

    pub(crate) fn content(&self, buffer: Buffer) -> Vec<u8> {
        let mut content = vec![0; buffer.len as usize];
        self.memory.read_slice(&mut content, GuestAddress(buffer.addr)).unwrap();
        content
    }

    /// Offers a chain without ringing; its head.
    pub(crate) fn offer(&mut self, queue: usize, chain: &[Buffer]) -> u16 {
        let rings = self.rings(queue);
        let DriverQueue { size, next_descriptor: head, .. } = self.queues[queue];
        for (index, buffer) in (0..).zip(chain) {
            let last = usize::from(index) + 1 == chain.len();
            let flags = if last { buffer.flags } else { buffer.flags | NEXT };
            self.descriptor(
                queue,
                (head + index) % size,
                &Buffer { flags, ..*buffer },
                (head + index + 1) % size,
            );
        }
        let state = &mut self.queues[queue];
        state.next_descriptor = (head + u16::try_from(chain.len()).unwrap()) % size;
        let slot = rings.avail + 4 + 2 * u64::from(state.avail % size);
        state.avail = state.avail.wrapping_add(1);
        let avail = state.avail;
        self.memory.write_obj(head, GuestAddress(slot)).unwrap();
        self.memory.write_obj(avail, GuestAddress(rings.avail + 2)).unwrap();
        head
    }

    pub(crate) fn descriptor(&self, queue: usize, index: u16, buffer: &Buffer, next: u16) {
        let at = self.rings(queue).descriptors + 16 * u64::from(index);
        self.memory.write_obj(buffer.addr, GuestAddress(at)).unwrap();
        self.memory.write_obj(buffer.len, GuestAddress(at + 8)).unwrap();
        self.memory.write_obj(buffer.flags, GuestAddress(at + 12)).unwrap();
        self.memory.write_obj(next, GuestAddress(at + 14)).unwrap();
    }

    pub(crate) fn ring(&self, queue: usize) {
        self.write(self.notify + 4 * queue as u64, &u16::try_from(queue).unwrap().to_le_bytes());
    }

    /// Offers a chain and rings.
    pub(crate) fn submit(&mut self, queue: usize, chain: &[Buffer]) -> u16 {
        let head = self.offer(queue, chain);
        self.ring(queue);
        head
    }

    /// The next returned chain of `queue`, if there is one: head and length.
    pub(crate) fn take_used(&mut self, queue: usize) -> Option<(u16, u32)> {
        let Rings { used, avail, .. } = self.rings(queue);
        let state = &mut self.queues[queue];
        let published: u16 = self.memory.load(GuestAddress(used + 2), Ordering::Acquire).unwrap();
        if published == state.used {
            return None;
        }
        let element = GuestAddress(used + 4 + 8 * u64::from(state.used % state.size));
        state.used = state.used.wrapping_add(1);
        // used_event: interrupt at the next one (read by the device with EVENT_IDX only).
        self.memory.write_obj(state.used, GuestAddress(avail + 4 + 2 * u64::from(state.size))).unwrap();
        let [head, len]: [u32; 2] = self.memory.read_obj(element).unwrap();
        Some((u16::try_from(head).unwrap(), len))
    }

    /// Waits for the next returned chain of `queue`.
    pub(crate) fn wait_used(&mut self, queue: usize) -> (u16, u32) {
        loop {
            if let Some(used) = self.take_used(queue) {
                return used;
            }
            assert_ne!(self.msi.wait(), 0, "the device asked for a reset instead");
        }
    }

    /// Submits a chain and waits for its return; the bytes that the device says it wrote.
    pub(crate) fn request(&mut self, queue: usize, chain: &[Buffer]) -> u32 {
        let head = self.submit(queue, chain);
        let (returned, len) = self.wait_used(queue);
        assert_eq!(returned, head);
        len
    }

    /// Waits until the device reports that it needs a reset.
    pub(crate) fn wait_needs_reset(&self) {
        while self.msi.wait() != 0 {}
        assert_ne!(self.status() & 0x40, 0);
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Rings {
    pub(crate) descriptors: u64,
    pub(crate) avail: u64,
    pub(crate) used: u64,
}
