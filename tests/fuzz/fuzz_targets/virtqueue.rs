//! Any driver against any device: registers, rings, descriptors and buffers as it likes, in a plain VM or a Realm.
//! Nothing panics, private memory stays as the guest left it, and a reset always gives back a device that starts.

#![no_main]

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use devices::bus::Bus;
use devices::dma::{DmaFault, DmaPolicy};
use devices::doorbell::NoIoEvents;
use devices::interrupt::{MsiMessage, MsiSink};
use devices::pci::PciBus;
use devices::virtio::blk::{Block, BlockBackend};
use devices::virtio::console::Console;
use devices::virtio::pmem::{Discarded, Pmem};
use devices::virtio::rng::Rng;
use devices::virtio::vsock::Vsock;
use devices::virtio::{NoDeviceHost, VirtioDevice, VirtioPci, VirtioPciConfig};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, Permissions};

const RAM: u64 = 0x4000_0000;
const RAM_SIZE: u64 = 0x4_0000;
const ECAM: u64 = 0x3f00_0000;
const FUNCTION: u64 = ECAM + (1 << 15);
const BAR: u64 = 0x1000_0000;
const BAR_SIZE: u16 = 0x8000;
const NOTIFY: u64 = BAR + 0x3000;

/// The rings of queue `n` start here + 0x4000 * n; data lies behind them.
const RINGS: u64 = RAM;
const DATA: u64 = RAM + 0x1_0000;
const PRIVATE: u64 = DATA + 0x8000;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    device: Device,
    realm: bool,
    /// Pages of the data that the Realm keeps to itself.
    private_pages: u8,
    features: u64,
    queues: [Queue; 3],
    data: &'a [u8],
    steps: Vec<Step>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Device {
    Block,
    ReadOnlyBlock,
    Rng,
    Console,
    Vsock,
    Pmem,
}

#[derive(Arbitrary, Debug)]
struct Queue {
    size_shift: u8,
    /// Elsewhere than where they are written, if given: descriptors, driver and device area.
    elsewhere: Option<[u64; 3]>,
    descriptors: Vec<Descriptor>,
    heads: Vec<u8>,
    available: Option<u16>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Descriptor {
    place: Place,
    len: u16,
    huge: bool,
    flags: u8,
    next: u8,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Place {
    Data(u16),
    Anywhere(u64),
}

#[derive(Arbitrary, Debug)]
enum Step {
    Start,
    Reset,
    Ring(u8),
    Memory { at: u16, value: u32 },
    ReadBar { at: u16, len: u8 },
    WriteBar { at: u16, len: u8, value: u64 },
    ReadConfig { at: u16, len: u8 },
    WriteConfig { at: u16, len: u8, value: u64 },
}

fuzz_target!(|input: Input<'_>| {
    let guest = Guest::new(&input);
    guest.store(DATA, &input.data[..input.data.len().min(0x2_0000)]);
    guest.place_bar();
    guest.start(&input);
    for step in input.steps.iter().take(64) {
        guest.take(step, &input);
    }
    guest.place_bar();
    guest.write(BAR + 0x14, 1, 0);
    assert_eq!(guest.read(BAR + 0x14, 1), 0, "reset");
    guest.check_private();
    guest.calm_start();
});

struct Guest {
    memory: Arc<GuestMemoryMmap>,
    /// RAM as the guest wrote it.
    shadow: RefCell<Vec<u8>>,
    private: Range<u64>,
    bus: Bus,
    realm: bool,
    _socket: Option<tempfile::TempDir>,
}

impl Guest {
    fn new(input: &Input<'_>) -> Self {
        let size = usize::try_from(RAM_SIZE).unwrap();
        let memory = Arc::new(GuestMemoryMmap::from_ranges(&[(GuestAddress(RAM), size)]).unwrap());
        let private_pages = if input.realm { u64::from(input.private_pages % 40) } else { 0 };
        let private = PRIVATE..PRIVATE + private_pages * 0x1000;
        let pci = PciBus::new(std::iter::once(BAR..BAR + 0x10_0000).collect());
        let mut bus = Bus::new();
        bus.insert(ECAM..ECAM + 0x10_0000, pci.ecam()).unwrap();
        for (range, window) in pci.windows() {
            bus.insert(range, window).unwrap();
        }
        let mut socket = None;
        let device: Arc<dyn VirtioDevice> = match input.device {
            Device::Block => Arc::new(Block::new(Box::new(Zeroes { read_only: false }), "fuzz")),
            Device::ReadOnlyBlock => Arc::new(Block::new(Box::new(Zeroes { read_only: true }), "fuzz")),
            Device::Rng => Arc::new(Rng::new(File::open("/dev/zero").unwrap())),
            Device::Console => {
                let input = File::open("/dev/zero").unwrap().into();
                let output = File::options().write(true).open("/dev/null").unwrap().into();
                Arc::new(Console::new(Some(input), output))
            }
            Device::Pmem => Arc::new(Pmem::new(0x80_0000_0000, 0x20_0000, Box::new(Discarded), Box::new(()))),
            Device::Vsock => {
                let directory = socket.insert(tempfile::tempdir().unwrap());
                Arc::new(Vsock::new(3, &directory.path().join("vsock")).unwrap())
            }
        };
        let address = pci.free_address().unwrap();
        let config = VirtioPciConfig {
            id: "_fuzz0".into(),
            device,
            requester: address.requester(),
            memory: memory.clone(),
            dma: Arc::new(Policy(private.clone())),
            msi: Arc::new(NoInterrupts),
            io_events: Arc::new(NoIoEvents),
            access_platform: input.realm,
            host: Arc::new(NoDeviceHost),
        };
        pci.insert(address, VirtioPci::new(config).unwrap()).unwrap();
        let shadow = RefCell::new(vec![0; size]);
        Self { memory, shadow, private, bus, realm: input.realm, _socket: socket }
    }

    fn read(&self, addr: u64, len: u8) -> u64 {
        let mut data = vec![0; usize::from(len)];
        self.bus.read(addr, &mut data);
        data.iter().take(8).rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
    }

    fn write(&self, addr: u64, len: u8, value: u64) {
        let data: Vec<u8> = value.to_le_bytes().into_iter().cycle().take(len.into()).collect();
        self.bus.write(addr, &data);
    }

    /// A store by the guest itself.
    fn store(&self, addr: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(addr)).unwrap();
        let at = usize::try_from(addr - RAM).unwrap();
        self.shadow.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn check_private(&self) {
        let range = self.private.start - RAM..self.private.end - RAM;
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        let mut now = vec![0; range.len()];
        self.memory.read_slice(&mut now, GuestAddress(self.private.start)).unwrap();
        assert!(now == self.shadow.borrow()[range], "the device wrote to private memory");
    }

    fn place_bar(&self) {
        self.write(FUNCTION + 0x10, 8, BAR);
        self.write(FUNCTION + 0x04, 2, 6);
    }

    fn negotiate(&self, features: u64) {
        for status in [0, 1, 3] {
            self.write(BAR + 0x14, 1, status);
        }
        for (select, half) in [(0, features), (1, features >> 32)] {
            self.write(BAR + 0x08, 4, select);
            self.write(BAR + 0x0c, 4, half);
        }
        self.write(BAR + 0x14, 1, 0xb);
    }

    fn queues(&self) -> u64 {
        self.read(BAR + 0x12, 2)
    }

    fn enable(&self, queue: u64, size: Option<u16>, [descriptors, driver, device]: [u64; 3]) {
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

    /// The driver of the input comes up; the worker serves what lies in the rings before it looks at anything else.
    fn start(&self, input: &Input<'_>) {
        let access = u64::from(self.realm) << 33;
        self.negotiate(input.features & 0x3000_ffff | 1 << 32 | access);
        for (index, queue) in (0..self.queues()).zip(&input.queues) {
            let place = rings(index);
            self.fill(queue, place);
            let size = 1 << (queue.size_shift % 9);
            self.enable(index, Some(size), queue.elsewhere.unwrap_or(place));
        }
        self.write(BAR + 0x14, 1, 0xf);
    }

    fn fill(&self, queue: &Queue, [descriptors, driver, _]: [u64; 3]) {
        for (at, descriptor) in (descriptors..).step_by(16).zip(queue.descriptors.iter().take(256)) {
            let address = match descriptor.place {
                Place::Data(at) => DATA + u64::from(at),
                Place::Anywhere(address) => address,
            };
            let len = u32::from(descriptor.len) << if descriptor.huge { 16 } else { 0 };
            self.store(at, &address.to_le_bytes());
            self.store(at + 8, &len.to_le_bytes());
            self.store(at + 12, &u16::from(descriptor.flags & 7).to_le_bytes());
            self.store(at + 14, &u16::from(descriptor.next).to_le_bytes());
        }
        for (at, &head) in (driver + 4..).step_by(2).zip(queue.heads.iter().take(256)) {
            self.store(at, &u16::from(head).to_le_bytes());
        }
        let available = queue.available.unwrap_or(queue.heads.len().min(256) as u16);
        self.store(driver + 2, &available.to_le_bytes());
    }

    fn take(&self, step: &Step, input: &Input<'_>) {
        match *step {
            Step::Start => self.start(input),
            Step::Reset => self.write(BAR + 0x14, 1, 0),
            Step::Ring(queue) => self.write(NOTIFY + 4 * u64::from(queue % 4), 2, queue.into()),
            Step::Memory { at, value } => {
                let at = RAM + u64::from(at) * 4;
                self.store(at, &value.to_le_bytes());
            }
            Step::ReadBar { at, len } => drop(self.read(BAR + u64::from(at % BAR_SIZE), len % 17)),
            Step::WriteBar { at, len, value } => self.write(BAR + u64::from(at % BAR_SIZE), len % 17, value),
            Step::ReadConfig { at, len } => drop(self.read(FUNCTION + u64::from(at % 4096), len % 17)),
            Step::WriteConfig { at, len, value } => {
                self.write(FUNCTION + u64::from(at % 4096), len % 17, value)
            }
        }
    }

    /// A well-behaved driver with empty rings in shared memory finds a device that works.
    fn calm_start(&self) {
        self.store(RINGS, &[0; 0x1_0000]);
        self.negotiate(1 << 32 | u64::from(self.realm) << 33);
        for queue in 0..self.queues() {
            self.enable(queue, None, rings(queue));
        }
        self.write(BAR + 0x14, 1, 0xf);
        assert_eq!(self.read(BAR + 0x14, 1), 0xf);
    }
}

fn rings(queue: u64) -> [u64; 3] {
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

/// A disk that needs no file.
struct Zeroes {
    read_only: bool,
}

impl Zeroes {
    const SIZE: u64 = 1 << 20;

    fn check(&self, offset: u64, len: u64) -> io::Result<()> {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= Self::SIZE),
            "{offset}+{len} is outside the disk"
        );
        Ok(())
    }

    fn check_change(&self, offset: u64, len: u64) -> io::Result<()> {
        assert!(!self.read_only, "a read-only disk was changed");
        self.check(offset, len)
    }
}

impl BlockBackend for Zeroes {
    fn size(&self) -> u64 {
        Self::SIZE
    }
    fn read_only(&self) -> bool {
        self.read_only
    }
    fn read_at(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.check(offset, data.len() as u64)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check_change(offset, data.len() as u64)
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check_change(offset, len)
    }
    fn write_zeroes(&self, offset: u64, len: u64, _unmap: bool) -> io::Result<()> {
        self.check_change(offset, len)
    }
    fn grow(&self, _size: u64) -> io::Result<()> {
        Ok(())
    }
}
