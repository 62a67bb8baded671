use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::testing::{Buffer, Driver, INDIRECT, Machine, NEXT, PATIENCE, RAM, SharedAbove, VERSION_1, WRITE};
use crate::virtio::{Chain, EventHandler, QueueError, ThreadKind, WorkerSpec};

const EVENT_IDX: u64 = 1 << 29;
const INDIRECT_DESC: u64 = 1 << 28;

/// Copies what the guest gives into the room that it offers.
#[derive(Default)]
struct Echo {
    activated: Arc<AtomicUsize>,
}

impl VirtioDevice for Echo {
    fn device_id(&self) -> u16 {
        63
    }
    fn class(&self) -> u32 {
        0xff_00_00
    }
    fn thread_kind(&self) -> ThreadKind {
        ThreadKind::Rng
    }
    fn queue_sizes(&self) -> &[u16] {
        &[16, 4]
    }
    fn features(&self) -> u64 {
        0b101
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        crate::virtio::read_config_bytes(b"echo config", offset, data);
    }
    fn activate(&self, activation: Activation) -> Result<Vec<WorkerSpec>, ActivateError> {
        self.activated.fetch_add(1, Ordering::SeqCst);
        let queues: [DeviceQueue; 2] = activation.all_queues()?;
        Ok(WorkerSpec::only(2, EchoHandler(queues)))
    }
}

struct EchoHandler([DeviceQueue; 2]);

impl EchoHandler {
    fn copy(chain: &Chain) -> Result<usize, QueueError> {
        let (reader, mut writer) = (chain.reader()?, chain.writer()?);
        let mut data = Vec::new();
        reader.take(0x1_0000).read_to_end(&mut data).unwrap();
        data.truncate(writer.available_bytes());
        writer.write_all(&data).unwrap();
        Ok(data.len())
    }
}

impl EventHandler for EchoHandler {
    fn queue_event(&mut self, queue: usize) -> Result<(), QueueError> {
        let queue = &mut self.0[queue];
        while let Some(chain) = queue.pop()? {
            let written = Self::copy(&chain)?;
            queue.complete(chain.head(), u32::try_from(written).unwrap())?;
            queue.notify()?;
        }
        Ok(())
    }
}

fn assert_echoes(driver: &mut Driver, queue: usize, text: &[u8]) {
    let (given, room) = (driver.buffer(text), driver.room(text.len()));
    assert_eq!(driver.request(queue, &[given, room]) as usize, text.len());
    assert_eq!(driver.content(room), text);
}

#[test]
fn guest_sees_a_modern_virtio_function_without_wired_interrupt() {
    let machine = Machine::plain();
    let driver = machine.plug(Echo::default());
    assert_eq!(driver.read(driver.config, 4), (0x1040 + 63) << 16 | 0x1af4);
    assert_eq!(driver.read(driver.config + 8, 4), 0xff_00_00_01);
    assert_eq!(driver.read(driver.config + 0x3d, 1), 0, "interrupt pin");
    let ids: Vec<u64> = driver.capabilities().iter().map(|&at| driver.read(at, 1)).collect();
    assert_eq!(ids, [0x11, 9, 9, 9, 9, 9]);
    let msix = driver.capabilities()[0];
    assert_eq!(driver.read(msix + 2, 2), 0x8002, "three vectors, enabled");
    assert_eq!(driver.common(0x12, 2), 2);
    assert_eq!(driver.device_config(0, 4), u64::from(u32::from_le_bytes(*b"echo")));
    assert_eq!(driver.device_config(9, 8), u64::from(u16::from_le_bytes(*b"ig")));
}

#[test]
fn buffers_travel_with_every_ring_feature() {
    for features in [0, EVENT_IDX, INDIRECT_DESC, EVENT_IDX | INDIRECT_DESC] {
        let machine = Machine::plain();
        let mut driver = machine.start(Echo::default(), features);
        for round in 0..40_u8 {
            assert_echoes(&mut driver, usize::from(round % 2), &[round; 100]);
        }
        assert_eq!(driver.status(), 0x0f);
    }
}

#[test]
fn indirect_descriptors_are_followed() {
    let machine = Machine::plain();
    let mut driver = machine.start(Echo::default(), INDIRECT_DESC);
    let (given, room) = (driver.buffer(b"through a table"), driver.room(15));
    let table = driver.table(&[(given, 0, 1), (room, 0, 0)]);
    assert_eq!(driver.request(0, &[table]), 15);
    assert_eq!(driver.content(room), b"through a table");
}

#[test]
fn driver_without_version_1_or_with_unknown_features_is_refused() {
    let machine = Machine::plain();
    let driver = machine.plug(Echo::default());
    assert_eq!(driver.negotiate(0b101), 3, "VERSION_1 is mandatory");
    assert_eq!(driver.negotiate(VERSION_1 | 0b10), 3, "bit 1 was not offered");
    assert_eq!(driver.negotiate(VERSION_1 | 1 << 40), 3, "ring reset was not offered");
    assert_eq!(driver.negotiate(VERSION_1 | 0b100), 0x0b);
}

#[test]
fn realm_refuses_a_driver_that_would_use_private_addresses() {
    let machine = Machine::realm(SharedAbove(0));
    let driver = machine.plug(Echo::default());
    assert_ne!(driver.offered() & 1 << 33, 0);
    assert_eq!(driver.negotiate(VERSION_1), 3);
    assert_eq!(driver.negotiate(VERSION_1 | 1 << 33), 0x0b);
    assert_eq!(Machine::plain().plug(Echo::default()).offered() & 1 << 33, 0);
}

#[test]
fn device_starts_only_after_features_are_settled() {
    let machine = Machine::plain();
    let echo = Echo::default();
    let activated = echo.activated.clone();
    let driver = machine.plug(echo);
    assert_eq!(driver.set_status(0x04), 0, "DRIVER_OK alone");
    assert_eq!(driver.set_status(0x07), 3, "DRIVER_OK without FEATURES_OK");
    assert_eq!(driver.set_status(0x08), 3, "bits cannot be taken back");
    assert_eq!(driver.set_status(0x0f), 3, "FEATURES_OK without VERSION_1");
    assert_eq!(activated.load(Ordering::SeqCst), 0);
}

#[test]
fn features_are_frozen_once_settled() {
    let machine = Machine::plain();
    let driver = machine.plug(Echo::default());
    driver.negotiate(VERSION_1);
    driver.set_common(0x08, &0_u32.to_le_bytes());
    driver.set_common(0x0c, &0xff_u32.to_le_bytes());
    assert_eq!(driver.common(0x0c, 4), 0);
}

#[test]
fn queue_registers_take_only_legal_values() {
    let machine = Machine::plain();
    let driver = machine.plug(Echo::default());
    driver.set_common(0x16, &1_u16.to_le_bytes());
    for (size, kept) in [(0_u16, 4), (3, 4), (8, 4), (0xffff, 4), (2, 2), (1, 1)] {
        driver.set_common(0x18, &size.to_le_bytes());
        assert_eq!(driver.common(0x18, 2), kept, "size {size}");
    }
    for (vector, kept) in [(2_u16, 2), (3, 0xffff), (0xffff, 0xffff)] {
        driver.set_common(0x1a, &vector.to_le_bytes());
        assert_eq!(driver.common(0x1a, 2), kept);
        driver.set_common(0x10, &vector.to_le_bytes());
        assert_eq!(driver.common(0x10, 2), kept);
    }
    driver.set_common(0x1c, &2_u16.to_le_bytes());
    assert_eq!(driver.common(0x1c, 2), 0);
    driver.set_common(0x1c, &1_u16.to_le_bytes());
    driver.set_common(0x18, &4_u16.to_le_bytes());
    driver.set_common(0x20, &0x1000_u32.to_le_bytes());
    assert_eq!((driver.common(0x18, 2), driver.common(0x20, 4)), (1, 0), "frozen once enabled");

    driver.set_common(0x16, &2_u16.to_le_bytes());
    driver.set_common(0x18, &2_u16.to_le_bytes());
    assert_eq!((driver.common(0x18, 2), driver.common(0x1a, 2)), (0, 0xffff), "a queue that does not exist");
}

#[test]
fn reset_returns_every_register_to_its_start() {
    let machine = Machine::plain();
    let fresh = machine.plug(Echo::default());
    let snapshot = |driver: &Driver| {
        let mut registers = vec![driver.common(0x10, 2)];
        for queue in 0..2_u16 {
            driver.set_common(0x16, &queue.to_le_bytes());
            registers.extend((0x14..0x38).map(|register| driver.common(register, 4)));
        }
        driver.set_common(0x16, &0_u16.to_le_bytes());
        registers
    };
    let start = snapshot(&fresh);
    let mut driver = fresh;
    driver.start(EVENT_IDX);
    assert_echoes(&mut driver, 0, b"before");
    assert_ne!(snapshot(&driver), start);
    assert_eq!(driver.set_status(0), 0);
    assert_eq!(snapshot(&driver), start);
    driver.start(EVENT_IDX);
    assert_echoes(&mut driver, 0, b"after");
}

#[test]
fn resets_in_flight_leave_a_working_device() {
    let machine = Machine::plain();
    let mut driver = machine.plug(Echo::default());
    for round in 0..50 {
        driver.start(EVENT_IDX);
        let (given, room) = (driver.buffer(&[1; 64]), driver.room(64));
        for _ in 0..=(round % 7) {
            driver.submit(0, &[given, room]);
        }
        assert_eq!(driver.set_status(0), 0);
        driver.forget_buffers(0);
    }
    driver.msi.drain();
    driver.start(0);
    assert_echoes(&mut driver, 0, b"still here");
}

#[test]
fn private_ring_is_refused_when_the_device_starts() {
    let machine = Machine::realm(SharedAbove(RAM + 0x100_0000));
    let mut driver = machine.plug(Echo::default());
    driver.start(0);
    assert_eq!(driver.status(), 0x4f);
    assert_eq!(driver.msi.wait(), 0, "configuration interrupt");
    assert_eq!(driver.set_status(0), 0);
}

#[test]
fn private_buffer_stops_the_device_until_it_is_reset() {
    // Rings lie below, buffers of this device from 0x20_0000 on.
    let private = RAM + 0x20_0000..RAM + 0x20_1000;
    let machine = Machine::with_dma(Arc::new(PrivateRange(private.clone())));
    let mut driver = machine.start(Echo::default(), 0);
    let secret = driver.buffer(b"secret of the Realm");
    assert!(private.contains(&secret.addr));
    let room = Buffer { addr: private.end, len: 19, flags: WRITE };
    driver.submit(0, &[secret, room]);
    driver.wait_needs_reset();
    assert_ne!(driver.content(room), b"secret of the Realm", "nothing leaked to shared memory");
    assert_eq!(driver.take_used(0), None);

    // Stores to a private page are refused as well.
    driver.start(0);
    let given = driver.buffer_at(private.end, b"overwrite");
    driver.submit(0, &[given, Buffer { flags: WRITE, ..secret }]);
    driver.wait_needs_reset();
    assert_eq!(driver.content(secret), b"secret of the Realm");

    driver.start(0);
    let given = driver.buffer_at(private.end, b"shared");
    let room = Buffer { addr: private.end + 0x100, len: 6, flags: WRITE };
    assert_eq!(driver.request(0, &[given, room]), 6);
}

struct PrivateRange(Range<u64>);

impl DmaPolicy for PrivateRange {
    fn translate(
        &self,
        iova: u64,
        len: u64,
        _access: vm_memory::Permissions,
    ) -> Result<u64, crate::dma::DmaFault> {
        if iova < self.0.end && iova.saturating_add(len) > self.0.start {
            return Err(crate::dma::DmaFault::Private { gpa: iova });
        }
        Ok(iova)
    }
}

#[test]
fn hostile_rings_and_chains_never_hurt_more_than_the_device() {
    type Attack = fn(&mut Driver);
    let attacks: [(&str, bool, Attack); 12] = [
        ("buffer outside RAM", true, |driver| {
            driver.submit(0, &[Buffer { addr: 0, len: 16, flags: 0 }]);
        }),
        ("buffer that wraps", true, |driver| {
            driver.submit(0, &[Buffer { addr: u64::MAX - 3, len: 16, flags: WRITE }]);
        }),
        ("huge buffer", true, |driver| {
            driver.submit(0, &[Buffer { addr: RAM, len: u32::MAX, flags: 0 }]);
        }),
        ("chain that loops", false, |driver| {
            let buffer = driver.buffer(&[0; 16]);
            let head = driver.offer(0, &[buffer, buffer]);
            driver.descriptor(0, head + 1, &Buffer { flags: NEXT, ..buffer }, head);
            driver.ring(0);
        }),
        ("chain that leaves the table", false, |driver| {
            let buffer = driver.buffer(&[0; 16]);
            let head = driver.offer(0, &[buffer]);
            driver.descriptor(0, head, &Buffer { flags: NEXT, ..buffer }, 0xffff);
            driver.ring(0);
        }),
        ("head outside of the table", true, |driver| {
            let buffer = driver.buffer(&[0; 16]);
            driver.offer(0, &[buffer]);
            let avail = driver.rings(0).avail;
            driver.memory.write_obj(999_u16, GuestAddress(avail + 4)).unwrap();
            driver.ring(0);
        }),
        ("available index that jumps", true, |driver| {
            let avail = driver.rings(0).avail;
            driver.memory.write_obj(17_u16, GuestAddress(avail + 2)).unwrap();
            driver.ring(0);
        }),
        ("indirect table outside RAM", true, |driver| {
            driver.submit(0, &[Buffer { addr: 0x1000, len: 32, flags: INDIRECT }]);
        }),
        ("indirect table of odd length", false, |driver| {
            driver.submit(0, &[Buffer { addr: RAM, len: 17, flags: INDIRECT }]);
        }),
        ("indirect table in an indirect table", false, |driver| {
            let inner = driver.buffer(&[0; 16]);
            let table = driver.table(&[(Buffer { flags: INDIRECT, ..inner }, 0, 0)]);
            driver.submit(0, &[table]);
        }),
        ("room before content", false, |driver| {
            let (room, given) = (driver.room(8), driver.buffer(b"backward"));
            driver.submit(0, &[room, given]);
        }),
        ("empty buffers", false, |driver| {
            let nothing = Buffer { addr: 0, len: 0, flags: 0 };
            driver.submit(0, &[nothing, Buffer { flags: WRITE, ..nothing }]);
        }),
    ];
    for (name, fatal, attack) in attacks {
        let machine = Machine::plain();
        let mut driver = machine.start(Echo::default(), INDIRECT_DESC);
        attack(&mut driver);
        if fatal {
            driver.wait_needs_reset();
        } else {
            driver.wait_used(0);
            assert_eq!(driver.status(), 0x0f, "{name}");
        }
        driver.start(0);
        assert_echoes(&mut driver, 0, name.as_bytes());
    }
}

#[test]
fn rings_outside_ram_or_misaligned_keep_the_device_from_starting() {
    for (register, address) in [(0x20, 0_u64), (0x20, RAM + 8), (0x28, RAM + 1), (0x30, RAM + 2), (0x30, !3)]
    {
        let machine = Machine::plain();
        let driver = machine.plug(Echo::default());
        driver.negotiate(VERSION_1);
        for queue in 0..2_u16 {
            driver.set_common(0x16, &queue.to_le_bytes());
            for good in [0x20, 0x28, 0x30] {
                driver.set_common(good, &(RAM + 0x1000 * good).to_le_bytes());
            }
            driver.set_common(register, &address.to_le_bytes());
            driver.set_common(0x1c, &1_u16.to_le_bytes());
        }
        assert_eq!(driver.set_status(0x0f), 0x4f, "{register:#x} = {address:#x}");
        assert_eq!(driver.set_status(0), 0);
    }
}

#[test]
fn driver_that_leaves_a_queue_disabled_is_told_to_reset() {
    let machine = Machine::plain();
    let driver = machine.plug(Echo::default());
    driver.negotiate(VERSION_1);
    assert_eq!(driver.set_status(0x0f), 0x4f);
}

#[test]
fn used_buffer_waits_behind_a_masked_vector() {
    let machine = Machine::plain();
    let mut driver = machine.start(Echo::default(), 0);
    let vector = driver.bar + 0x4000 + 16;
    driver.write(vector + 12, &1_u32.to_le_bytes());
    let given = driver.buffer(b"x");
    driver.submit(0, &[given]);
    let started = Instant::now();
    while driver.read(driver.bar + 0x5000, 8) != 0b10 {
        assert!(started.elapsed() < PATIENCE, "the vector never became pending");
        std::thread::yield_now();
    }
    assert!(driver.msi.drain().is_empty());
    driver.write(vector + 12, &0_u32.to_le_bytes());
    assert_eq!(driver.msi.wait(), 1);
}

#[test]
fn isr_tells_a_polling_driver_once() {
    let machine = Machine::plain();
    let mut driver = machine.start(Echo::default(), 0);
    assert_eq!(driver.read(driver.bar + 0x1000, 1), 0);
    assert_echoes(&mut driver, 0, b"x");
    assert_eq!(driver.read(driver.bar + 0x1000, 1), 1);
    assert_eq!(driver.read(driver.bar + 0x1000, 1), 0);
}

#[test]
fn configuration_space_window_reaches_the_same_registers() {
    let machine = Machine::plain();
    let driver = machine.plug(Echo::default());
    let window = driver.capabilities()[5];
    let access = |bar: u8, offset: u32, len: u32| {
        driver.write(window + 4, &[bar]);
        driver.write(window + 8, &offset.to_le_bytes());
        driver.write(window + 12, &len.to_le_bytes());
    };
    access(0, 0x2000, 4);
    assert_eq!(driver.read(window + 16, 4), u64::from(u32::from_le_bytes(*b"echo")));
    access(0, 0x14, 1);
    driver.write(window + 16, &[1]);
    assert_eq!(driver.status(), 1);
    for (bar, offset, len) in
        [(1, 0x14, 1), (0, 0x8000, 4), (0, 0xffff_fffc, 4), (0, 0x16, 4), (0, 0x14, 3), (0, 0x14, 0)]
    {
        access(bar, offset, len);
        driver.write(window + 16, &[0; 4]);
        driver.read(window + 16, 4);
    }
    assert_eq!(driver.status(), 1, "no illegal access went through");
}

#[derive(Default)]
struct Doorbells(Mutex<Vec<(u64, bool)>>);

impl IoEvents for Doorbells {
    fn register(&self, addr: u64, _event: &EventFd) -> io::Result<()> {
        self.0.lock().unwrap().push((addr, true));
        Ok(())
    }
    fn unregister(&self, addr: u64, _event: &EventFd) -> io::Result<()> {
        self.0.lock().unwrap().push((addr, false));
        Ok(())
    }
}

#[test]
fn doorbells_follow_the_bar_and_go_with_the_device() {
    let doorbells = Arc::new(Doorbells::default());
    let machine = Machine::with_io_events(doorbells.clone());
    let driver = machine.plug(Echo::default());
    let take = || std::mem::take(&mut *doorbells.0.lock().unwrap());
    let first = driver.bar + 0x3000;
    assert_eq!(take(), [(first, true), (first + 4, true)]);

    let second = 0x1800_0000;
    driver.write(driver.config + 0x10, &u32::try_from(second).unwrap().to_le_bytes());
    let moved = [(first, false), (first + 4, false), (second + 0x3000, true), (second + 0x3004, true)];
    assert_eq!(take(), moved);

    drop((driver, machine));
    assert_eq!(take(), [(second + 0x3000, false), (second + 0x3004, false)]);
}

#[test]
fn every_access_of_every_width_is_survived() {
    let machine = Machine::plain();
    let driver = machine.start(Echo::default(), 0);
    for offset in 0..0x8010 {
        for len in [1, 2, 3, 4, 8, 16] {
            let data = [0xa5; 16];
            driver.write(driver.bar + offset, &data[..len]);
            driver.bus.read(driver.bar + offset, &mut vec![0; len]);
        }
    }
    for offset in 0..0x1010 {
        for len in [1, 2, 4, 8] {
            // Registers that would move the BAR away are left out.
            if !(0x00..0x28).contains(&offset) {
                driver.write(driver.config + offset, &[0x5a; 8][..len]);
            }
            driver.bus.read(driver.config + offset, &mut vec![0; len]);
        }
    }
    assert_eq!(driver.set_status(0), 0);
}
