//! Any driver against any device: registers, rings, descriptors and buffers as it likes, in a plain VM or a Realm.
//! Nothing panics, private memory stays as the guest left it, and a reset always gives back a device that starts.

#![no_main]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;

use devices::rate_limit::LimitConfig;
use devices::virtio::VirtioDevice;
use devices::virtio::balloon::{Balloon, BalloonOptions, PAGE, Reclaim};
use devices::virtio::blk::{Block, BlockBackend};
use devices::virtio::console::Console;
use devices::virtio::net::{GuestOffloads, MAX_PAIRS, Net, NetBackend, NetConfig};
use devices::virtio::pmem::{Discarded, Pmem};
use devices::virtio::rng::Rng;
use devices::virtio::vsock::Vsock;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use redoubt_fuzz::driver::{BAR, BAR_SIZE, DATA, FUNCTION, Guest, NOTIFY, QUEUES, RAM, RAM_SIZE, rings};
use tempfile::TempDir;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    device: Device,
    realm: bool,
    /// Pages of the data that the Realm keeps to itself.
    private_pages: u8,
    features: u64,
    /// Taken in turn.
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
    Net,
    Balloon,
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
    Memory {
        at: u16,
        value: u32,
    },
    ReadBar {
        at: u16,
        len: u8,
    },
    WriteBar {
        at: u16,
        len: u8,
        value: u64,
    },
    ReadConfig {
        at: u16,
        len: u8,
    },
    WriteConfig {
        at: u16,
        len: u8,
        value: u64,
    },
    /// Something comes from the host's side.
    Host(u32),
}

fuzz_target!(|input: Input<'_>| {
    let host = Host::new(input.device);
    let guest = Guest::new(input.realm.then_some(input.private_pages % 40), |_| host.device());
    guest.store(DATA, &input.data[..input.data.len().min(0x2_0000)]);
    guest.place_bar();
    start(&guest, &input);
    for step in input.steps.iter().take(64) {
        take(&guest, &host, step, &input);
    }
    guest.reset();
    guest.check_private();
    host.check();
    assert_eq!(guest.start_calmly(), 0xf);
});

/// The driver of the input comes up, wherever the registers are by now; the worker serves what lies in the rings before it looks at anything else.
fn start(guest: &Guest, input: &Input<'_>) {
    guest.negotiate(input.features & 0x30c3_ffff | guest.needed_features());
    for (index, queue) in (0..guest.queues().min(QUEUES)).zip(input.queues.iter().cycle()) {
        let place = rings(index);
        fill(guest, queue, place);
        let size = 1 << (queue.size_shift % 9);
        guest.enable(index, Some(size), queue.elsewhere.unwrap_or(place));
    }
    guest.driver_ok();
}

fn fill(guest: &Guest, queue: &Queue, [descriptors, driver, _]: [u64; 3]) {
    for (at, descriptor) in (descriptors..).step_by(16).zip(queue.descriptors.iter().take(256)) {
        let address = match descriptor.place {
            Place::Data(at) => DATA + u64::from(at),
            Place::Anywhere(address) => address,
        };
        let len = u32::from(descriptor.len) << if descriptor.huge { 16 } else { 0 };
        guest.store(at, &address.to_le_bytes());
        guest.store(at + 8, &len.to_le_bytes());
        guest.store(at + 12, &u16::from(descriptor.flags & 7).to_le_bytes());
        guest.store(at + 14, &u16::from(descriptor.next).to_le_bytes());
    }
    for (at, &head) in (driver + 4..).step_by(2).zip(queue.heads.iter().take(256)) {
        guest.store(at, &u16::from(head).to_le_bytes());
    }
    let available = queue.available.unwrap_or(queue.heads.len().min(256) as u16);
    guest.store(driver + 2, &available.to_le_bytes());
}

fn take(guest: &Guest, host: &Host, step: &Step, input: &Input<'_>) {
    match *step {
        Step::Start => start(guest, input),
        Step::Reset => guest.reset(),
        Step::Ring(queue) => guest.write(NOTIFY + 4 * u64::from(queue % 6), 2, queue.into()),
        Step::Memory { at, value } => {
            let at = RAM + u64::from(at) * 4 % RAM_SIZE;
            guest.store(at, &value.to_le_bytes());
        }
        Step::ReadBar { at, len } => drop(guest.read(BAR + u64::from(at % BAR_SIZE), len % 17)),
        Step::WriteBar { at, len, value } => guest.write(BAR + u64::from(at % BAR_SIZE), len % 17, value),
        Step::ReadConfig { at, len } => drop(guest.read(FUNCTION + u64::from(at % 4096), len % 17)),
        Step::WriteConfig { at, len, value } => guest.write(FUNCTION + u64::from(at % 4096), len % 17, value),
        Step::Host(value) => host.act(value, input.data),
    }
}

/// What is on the host's side of the device.
enum Host {
    Nothing(Arc<dyn VirtioDevice>),
    Disk(Arc<Block>),
    Network(Arc<Net>, Arc<Wire>),
    Balloon(Arc<Balloon>),
    Sockets(Arc<Vsock>, TempDir),
}

impl Host {
    fn new(device: Device) -> Self {
        let disk = |read_only| Arc::new(Block::new(Box::new(Zeroes { read_only }), "fuzz"));
        match device {
            Device::Block => Self::Disk(disk(false)),
            Device::ReadOnlyBlock => Self::Disk(disk(true)),
            Device::Rng => Self::Nothing(Arc::new(Rng::new(File::open("/dev/zero").unwrap()))),
            Device::Console => {
                let input = File::open("/dev/zero").unwrap().into();
                let output = File::options().write(true).open("/dev/null").unwrap().into();
                Self::Nothing(Arc::new(Console::new(Some(input), output)))
            }
            Device::Pmem => {
                let file = Pmem::new(0x80_0000_0000, 0x20_0000, Box::new(Discarded), Box::new(()));
                Self::Nothing(Arc::new(file))
            }
            Device::Vsock => {
                let directory = tempfile::tempdir().unwrap();
                Self::Sockets(Arc::new(Vsock::new(3, &directory.path().join("vsock")).unwrap()), directory)
            }
            Device::Net => {
                let wire = Arc::new(Wire::new());
                let config = NetConfig {
                    mac: [2, 0, 0, 0, 0, 9],
                    mtu: Some(1400),
                    pairs: Wire::PAIRS,
                    queue_size: 256,
                    checksum: true,
                    tso: true,
                    ufo: true,
                    limits: LimitConfig::default(),
                };
                Self::Network(Arc::new(Net::new(wire.clone(), &config)), wire)
            }
            Device::Balloon => {
                let options = BalloonOptions { target: 0, deflate_on_oom: true, reporting: true };
                Self::Balloon(Arc::new(Balloon::new(Box::new(Ram), options).unwrap()))
            }
        }
    }

    fn device(&self) -> Arc<dyn VirtioDevice> {
        match self {
            Self::Nothing(device) => Arc::clone(device),
            Self::Disk(device) => device.clone(),
            Self::Network(device, _) => device.clone(),
            Self::Balloon(device) => device.clone(),
            Self::Sockets(device, _) => device.clone(),
        }
    }

    fn act(&self, value: u32, data: &[u8]) {
        match self {
            Self::Nothing(device) => drop(device.counters()),
            Self::Disk(disk) => drop(disk.grow(value.into())),
            Self::Network(_, wire) => wire.arrive(value, data),
            Self::Balloon(balloon) => {
                balloon.set_target(u64::from(value) * PAGE);
                drop(balloon.counters());
            }
            Self::Sockets(_, directory) => {
                // Nobody listens while the device is reset.
                let Ok(mut stream) = UnixStream::connect(directory.path().join("vsock")) else { return };
                let _ = writeln!(stream, "CONNECT {}", value % 4);
                let _ = stream.write(&data[..data.len().min(1024)]);
            }
        }
    }

    /// The device is reset.
    fn check(&self) {
        match self {
            Self::Balloon(balloon) => assert_eq!(balloon.actual(), 0),
            Self::Network(_, wire) => wire.check(),
            Self::Nothing(_) | Self::Disk(_) | Self::Sockets(..) => {}
        }
    }
}

/// A network of datagram sockets, which keep frames apart as a tap device does.
#[derive(Debug)]
struct Wire {
    inside: Vec<UnixDatagram>,
    outside: Vec<UnixDatagram>,
}

impl Wire {
    const PAIRS: usize = 2;
    /// `struct virtio_net_hdr_v1`, and the largest IP packet in an Ethernet frame with a VLAN tag.
    const FRAME: usize = 12 + 18 + 65_535;

    fn new() -> Self {
        let (inside, outside) = (0..Self::PAIRS).map(|_| UnixDatagram::pair().unwrap()).unzip();
        let wire = Self { inside, outside };
        for socket in wire.inside.iter().chain(&wire.outside) {
            socket.set_nonblocking(true).unwrap();
        }
        wire
    }

    /// A frame from outside, behind its header; it is lost while the socket is full, as on any network.
    fn arrive(&self, value: u32, data: &[u8]) {
        let pair = value as usize % Self::PAIRS;
        let len = value as usize / Self::PAIRS % Self::FRAME;
        let frame: Vec<u8> = data.iter().copied().chain(std::iter::repeat(0)).take(len).collect();
        let _ = self.outside[pair].send(&frame);
    }

    /// What went out are frames.
    fn check(&self) {
        let mut frame = vec![0; Self::FRAME + 1];
        for socket in &self.outside {
            while let Ok(len) = socket.recv(&mut frame) {
                assert!((12 + 14..=Self::FRAME).contains(&len), "{len} bytes went out");
            }
        }
    }
}

impl NetBackend for Wire {
    fn queue(&self, pair: usize) -> Option<BorrowedFd<'_>> {
        self.inside.get(pair).map(AsFd::as_fd)
    }
    fn set_offloads(&self, _offloads: GuestOffloads) -> io::Result<()> {
        Ok(())
    }
    fn use_pairs(&self, count: usize) -> io::Result<()> {
        assert!((1..=Self::PAIRS.min(MAX_PAIRS)).contains(&count), "{count} pairs");
        Ok(())
    }
}

/// Whole pages of RAM can be given back.
struct Ram;

impl Reclaim for Ram {
    fn reclaim(&self, gpa: u64, len: u64) -> io::Result<()> {
        let is_ram = gpa >= RAM && gpa.checked_add(len).is_some_and(|end| end <= RAM + RAM_SIZE);
        let whole = len > 0 && (gpa | len).is_multiple_of(PAGE);
        if is_ram && whole { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
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
