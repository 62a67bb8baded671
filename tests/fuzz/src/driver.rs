//! A guest's hand on one virtio function: memory, configuration space, registers, and a driver that behaves.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use devices::bus::Bus;
use devices::dma::{DmaFault, DmaPolicy};
use devices::doorbell::NoIoEvents;
use devices::interrupt::{MsiMessage, MsiSink};
use devices::pci::PciBus;
use devices::virtio::{NoDeviceHost, VirtioDevice, VirtioPci, VirtioPciConfig};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap, Permissions};

/// Where RAM begins.
pub const RAM: u64 = 0x4000_0000;
/// Bytes of RAM.
pub const RAM_SIZE: u64 = 0x4_8000;
const ECAM: u64 = 0x3f00_0000;
/// Configuration space of the function.
pub const FUNCTION: u64 = ECAM + (1 << 15);
/// Registers of the function, once [`Guest::place_bar`] has put them there.
pub const BAR: u64 = 0x1000_0000;
/// Bytes that they take.
pub const BAR_SIZE: u16 = 0x8000;
/// Doorbells of the queues, 4 bytes apart.
pub const NOTIFY: u64 = BAR + 0x3000;

/// Queues that have room for their rings.
pub const QUEUES: u64 = 6;
/// The rings of queue `n` start here + 0x4000 * n; data lies behind them.
const RINGS: u64 = RAM;
/// Where buffers lie.
pub const DATA: u64 = RINGS + QUEUES * 0x4000;
/// The pages from here on are those that a Realm may keep to itself.
const PRIVATE: u64 = DATA + 0x8000;

const STATUS: u64 = BAR + 0x14;

/// A machine with one virtio function in its first slot.
pub struct Guest {
    memory: Arc<GuestMemoryMmap>,
    /// RAM as the guest wrote it.
    shadow: RefCell<Vec<u8>>,
    private: Range<u64>,
    bus: Bus,
    realm: bool,
}

impl Guest {
    /// A machine with the device that `device` makes of its memory. With `private_pages` it is a Realm that keeps so
    /// many pages, at most 40, to itself.
    ///
    /// # Panics
    /// The host has no memory, descriptor or thread left.
    pub fn new(
        private_pages: Option<u8>,
        device: impl FnOnce(&Arc<GuestMemoryMmap>) -> Arc<dyn VirtioDevice>,
    ) -> Self {
        let size = usize::try_from(RAM_SIZE).unwrap();
        // Servers of devices map it, too.
        let file = tempfile::tempfile().unwrap();
        file.set_len(RAM_SIZE).unwrap();
        let range = (GuestAddress(RAM), size, Some(FileOffset::new(file, 0)));
        let memory = Arc::new(GuestMemoryMmap::from_ranges_with_files([range]).unwrap());
        let private = PRIVATE..PRIVATE + u64::from(private_pages.unwrap_or(0).min(40)) * 0x1000;
        let pci = PciBus::new(std::iter::once(BAR..BAR + 0x10_0000).collect());
        let mut bus = Bus::new();
        bus.insert(ECAM..ECAM + 0x10_0000, pci.ecam()).unwrap();
        for (range, window) in pci.windows() {
            bus.insert(range, window).unwrap();
        }
        let address = pci.free_address().unwrap();
        let config = VirtioPciConfig {
            id: "_fuzz0".into(),
            device: device(&memory),
            requester: address.requester(),
            memory: memory.clone(),
            dma: Arc::new(Policy(private.clone())),
            msi: Arc::new(NoInterrupts),
            io_events: Arc::new(NoIoEvents),
            access_platform: private_pages.is_some(),
            host: Arc::new(NoDeviceHost),
        };
        pci.insert(address, VirtioPci::new(config).unwrap()).unwrap();
        let shadow = RefCell::new(vec![0; size]);
        Self { memory, shadow, private, bus, realm: private_pages.is_some() }
    }

    /// Feature bits without which the device of a Realm does not start.
    pub fn needed_features(&self) -> u64 {
        1 << 32 | u64::from(self.realm) << 33
    }

    /// A load of `len` bytes, of which up to eight are told.
    pub fn read(&self, addr: u64, len: u8) -> u64 {
        let mut data = vec![0; usize::from(len)];
        self.bus.read(addr, &mut data);
        data.iter().take(8).rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
    }

    /// A store of `len` bytes that repeat `value`.
    pub fn write(&self, addr: u64, len: u8, value: u64) {
        let data: Vec<u8> = value.to_le_bytes().into_iter().cycle().take(len.into()).collect();
        self.bus.write(addr, &data);
    }

    /// A store by the guest to its own memory.
    ///
    /// # Panics
    /// It is not all RAM.
    pub fn store(&self, addr: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(addr)).unwrap();
        let at = usize::try_from(addr - RAM).unwrap();
        self.shadow.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Demands that the private pages are what the guest made them.
    ///
    /// # Panics
    /// They are not.
    pub fn check_private(&self) {
        let range = self.private.start - RAM..self.private.end - RAM;
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        let mut now = vec![0; range.len()];
        self.memory.read_slice(&mut now, GuestAddress(self.private.start)).unwrap();
        assert!(now == self.shadow.borrow()[range], "the device wrote to private memory");
    }

    /// Puts the registers at [`BAR`] and lets the function decode and master the bus.
    pub fn place_bar(&self) {
        self.write(FUNCTION + 0x10, 8, BAR);
        self.write(FUNCTION + 0x04, 2, 6);
    }

    /// Resets the device and agrees on `features`.
    pub fn negotiate(&self, features: u64) {
        for status in [0, 1, 3] {
            self.write(STATUS, 1, status);
        }
        for (select, half) in [(0, features), (1, features >> 32)] {
            self.write(BAR + 0x08, 4, select);
            self.write(BAR + 0x0c, 4, half);
        }
        self.write(STATUS, 1, 0xb);
    }

    /// How many queues the device says that it has.
    pub fn queues(&self) -> u64 {
        self.read(BAR + 0x12, 2)
    }

    /// Enables a queue whose descriptors, driver and device area are there.
    pub fn enable(&self, queue: u64, size: Option<u16>, [descriptors, driver, device]: [u64; 3]) {
        self.write(BAR + 0x16, 2, queue);
        if let Some(size) = size {
            self.write(BAR + 0x18, 2, size.into());
        }
        for (register, address) in [(0x20, descriptors), (0x28, driver), (0x30, device)] {
            self.write(BAR + register, 4, address);
            self.write(BAR + register + 4, 4, address >> 32);
        }
        self.write(BAR + 0x1c, 2, 1);
    }

    /// Sets DRIVER_OK.
    pub fn driver_ok(&self) {
        self.write(STATUS, 1, 0xf);
    }

    /// Resets the device.
    ///
    /// # Panics
    /// It is not reset by that.
    pub fn reset(&self) {
        self.place_bar();
        self.write(STATUS, 1, 0);
        assert_eq!(self.read(STATUS, 1), 0, "reset");
    }

    /// A well-behaved driver with empty rings in shared memory starts the device. Returns the status.
    pub fn start_calmly(&self) -> u64 {
        self.store(RINGS, &[0; 0x1_8000]);
        self.negotiate(self.needed_features());
        for queue in 0..self.queues() {
            self.enable(queue, None, rings(queue));
        }
        self.driver_ok();
        self.read(STATUS, 1)
    }
}

/// Where descriptors, driver and device area of a queue lie; there are [`QUEUES`].
pub fn rings(queue: u64) -> [u64; 3] {
    let base = RINGS + queue * 0x4000;
    [base, base + 0x2000, base + 0x3000]
}

/// A range that devices may not touch, under either alias.
struct Policy(Range<u64>);

impl DmaPolicy for Policy {
    fn translate(&self, iova: u64, len: u64, _access: Permissions) -> Result<u64, DmaFault> {
        let gpa = iova & !(1 << 39);
        if gpa < self.0.end && gpa.saturating_add(len) > self.0.start {
            return Err(DmaFault::Private { gpa });
        }
        Ok(gpa)
    }
}

struct NoInterrupts;

impl MsiSink for NoInterrupts {
    fn signal(&self, _message: MsiMessage) -> io::Result<()> {
        Ok(())
    }
}
