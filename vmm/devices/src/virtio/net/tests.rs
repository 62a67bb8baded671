use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::time::Duration;

use vm_memory::Permissions;

use super::*;
use crate::dma::{DmaFault, DmaPolicy};
use crate::rate_limit::BucketConfig;
use crate::testing::{Buffer, Driver, Machine, PATIENCE};

const MERGEABLE: u64 = 1 << VIRTIO_NET_F_MRG_RXBUF;
const CONTROL: u64 = 1 << VIRTIO_NET_F_CTRL_VQ;
const MULTIQUEUE: u64 = 1 << VIRTIO_NET_F_MQ;

/// A network of datagram sockets that keep frames apart as a tap device does.
#[derive(Debug)]
struct Wire {
    inside: Vec<UnixDatagram>,
    outside: Vec<UnixDatagram>,
    offloads: Mutex<GuestOffloads>,
    pairs: Mutex<usize>,
}

impl Wire {
    fn new(pairs: usize) -> Arc<Self> {
        let (inside, outside) = (0..pairs).map(|_| UnixDatagram::pair().unwrap()).unzip();
        let wire = Self { inside, outside, offloads: Mutex::default(), pairs: Mutex::default() };
        for socket in &wire.inside {
            socket.set_nonblocking(true).unwrap();
        }
        for socket in &wire.outside {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        Arc::new(wire)
    }

    fn arrive(&self, pair: usize, payload: &[u8]) {
        self.outside[pair].send(&frame(payload)).unwrap();
    }

    fn leave(&self, pair: usize) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 17];
        let len = self.outside[pair].recv(&mut bytes).unwrap();
        bytes[HEADER_LEN..len].to_vec()
    }
}

impl NetBackend for Wire {
    fn queue(&self, pair: usize) -> Option<BorrowedFd<'_>> {
        self.inside.get(pair).map(AsFd::as_fd)
    }
    fn set_offloads(&self, offloads: GuestOffloads) -> io::Result<()> {
        *self.offloads.lock().unwrap() = offloads;
        Ok(())
    }
    fn use_pairs(&self, count: usize) -> io::Result<()> {
        *self.pairs.lock().unwrap() = count;
        Ok(())
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    [&[0; HEADER_LEN], payload].concat()
}

fn config(pairs: usize) -> NetConfig {
    NetConfig {
        mac: [2, 0, 0, 0, 0, 9],
        mtu: Some(1400),
        pairs,
        queue_size: 8,
        checksum: true,
        tso: true,
        ufo: false,
        limits: LimitConfig::default(),
    }
}

fn delivered(driver: &mut Driver, queue: usize, room: Buffer) -> Vec<u8> {
    let (_, len) = driver.wait_used(queue);
    driver.content(room)[..len as usize].to_vec()
}

#[test]
fn configuration_space_tells_address_link_pairs_and_mtu() {
    let driver = Machine::plain().plug(Net::new(Wire::new(2), &config(2)));
    assert_eq!(driver.device_config(0, 4) | driver.device_config(4, 2) << 32, 0x0900_0000_0002);
    assert_eq!((driver.device_config(6, 2), driver.device_config(8, 2)), (1, 2));
    assert_eq!(driver.device_config(10, 2), 1400);
    assert_ne!(driver.offered() & MULTIQUEUE, 0);
    assert_eq!(driver.offered() & 1 << VIRTIO_NET_F_HOST_UFO, 0);
    assert_eq!(Net::new(Wire::new(1), &config(1)).features() & MULTIQUEUE, 0);
}

#[test]
fn frames_go_both_ways() {
    let wire = Wire::new(1);
    let mut driver = Machine::plain().start(Net::new(wire.clone(), &config(1)), 0);
    let room = driver.room(2048);
    driver.submit(0, &[room]);
    wire.arrive(0, &[7; 100]);
    let got = delivered(&mut driver, 0, room);
    assert_eq!(got.len(), HEADER_LEN + 100);
    assert_eq!(got[10..12], [1, 0], "num_buffers");
    assert_eq!(got[HEADER_LEN..], [7; 100]);

    let sent = driver.buffer(&frame(&[8; 60]));
    driver.request(1, &[sent]);
    assert_eq!(wire.leave(0), [8; 60]);
}

#[test]
fn frame_waits_for_a_buffer() {
    let wire = Wire::new(1);
    let mut driver = Machine::plain().start(Net::new(wire.clone(), &config(1)), 0);
    wire.arrive(0, &[1; 50]);
    wire.arrive(0, &[2; 50]);
    std::thread::sleep(Duration::from_millis(20));
    for value in [1, 2] {
        let room = driver.room(2048);
        driver.submit(0, &[room]);
        assert_eq!(delivered(&mut driver, 0, room)[HEADER_LEN..], [value; 50]);
    }
}

#[test]
fn large_frame_is_spread_over_buffers_only_if_the_driver_agreed() {
    let wire = Wire::new(1);
    let mut driver = Machine::plain().start(Net::new(wire.clone(), &config(1)), MERGEABLE);
    let rooms: Vec<Buffer> = (0..3).map(|_| driver.room(64)).collect();
    for room in &rooms[..2] {
        driver.submit(0, &[*room]);
    }
    let payload: Vec<u8> = (0..150).collect();
    wire.arrive(0, &payload);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(driver.take_used(0), None, "two buffers are not enough");
    driver.submit(0, &[rooms[2]]);
    let got: Vec<u8> = rooms.iter().flat_map(|room| delivered(&mut driver, 0, *room)).collect();
    assert_eq!(got[10..12], [3, 0], "num_buffers");
    assert_eq!(got[HEADER_LEN..], payload);

    let wire = Wire::new(1);
    let mut driver = Machine::plain().start(Net::new(wire.clone(), &config(1)), 0);
    let room = driver.room(64);
    driver.submit(0, &[room]);
    wire.arrive(0, &payload);
    wire.arrive(0, &[3; 20]);
    assert_eq!(delivered(&mut driver, 0, room)[HEADER_LEN..], [3; 20], "the large one is dropped");
}

#[test]
fn frame_for_which_the_whole_ring_has_no_room_is_dropped() {
    let wire = Wire::new(1);
    let mut driver = Machine::plain().start(Net::new(wire.clone(), &config(1)), MERGEABLE);
    let rooms: Vec<Buffer> = (0..config(1).queue_size).map(|_| driver.room(20)).collect();
    for room in &rooms {
        driver.submit(0, &[*room]);
    }
    wire.arrive(0, &[1; 200]);
    wire.arrive(0, &[2; 30]);
    let got: Vec<u8> = rooms[..3].iter().flat_map(|room| delivered(&mut driver, 0, *room)).collect();
    assert_eq!((got[10..12].as_ref(), &got[HEADER_LEN..]), (&[3, 0][..], &[2; 30][..]));
}

/// Counts how often a device writes to one place.
#[derive(Default)]
struct Writes {
    place: AtomicU64,
    count: AtomicU64,
}

impl DmaPolicy for Writes {
    fn translate(&self, iova: u64, _len: u64, access: Permissions) -> Result<u64, DmaFault> {
        let counts = access.has_write() && iova == self.place.load(Ordering::Relaxed);
        self.count.fetch_add(counts.into(), Ordering::Relaxed);
        Ok(iova)
    }
}

#[test]
fn driver_sees_all_buffers_of_a_frame_at_once() {
    let (wire, writes) = (Wire::new(1), Arc::<Writes>::default());
    let mut driver = Machine::with_dma(writes.clone()).start(Net::new(wire.clone(), &config(1)), MERGEABLE);
    writes.place.store(driver.rings(0).used + 2, Ordering::Relaxed);
    for _ in 0..3 {
        let room = driver.room(64);
        driver.submit(0, &[room]);
    }
    wire.arrive(0, &[7; 150]);
    for _ in 0..3 {
        driver.wait_used(0);
    }
    assert_eq!(writes.count.load(Ordering::Relaxed), 1);
}

#[test]
fn frames_of_impossible_length_are_returned_and_counted() {
    let wire = Wire::new(1);
    let net = Arc::new(Net::new(wire.clone(), &config(1)));
    let machine = Machine::plain();
    let (mut driver, _transport) = machine.plug_shared(net.clone());
    driver.start(0);
    let short = driver.buffer(&frame(&[0; 13]));
    driver.request(1, &[short]);
    let long = driver.buffer(&vec![0; 1 << 17]);
    driver.request(1, &[long]);
    let nothing = driver.room(100);
    driver.request(1, &[nothing]);
    let good = driver.buffer(&frame(&[5; 14]));
    driver.request(1, &[good]);
    assert_eq!(wire.leave(0), [5; 14]);
    let counters = net.counters();
    assert!(counters.contains(&("tx_dropped", 3)) && counters.contains(&("tx_frames", 1)), "{counters:?}");
}

#[test]
fn congestion_of_the_network_delays_and_loses_nothing() {
    let wire = Wire::new(1);
    let mut driver = Machine::plain().start(Net::new(wire.clone(), &config(1)), 0);
    // More than the socket holds.
    let (mut sent, mut seen) = (0_u64, 0);
    while seen < 64 {
        while sent < seen + 7 && sent < 64 {
            let buffer = driver.buffer(&frame(&[u8::try_from(sent).unwrap(); 40_000]));
            driver.submit(1, &[buffer]);
            sent += 1;
        }
        driver.forget_buffers((sent % 8) * 50_000);
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(wire.leave(0), [u8::try_from(seen).unwrap(); 40_000]);
        seen += 1;
        while driver.take_used(1).is_some() {}
    }
}

#[test]
fn limit_holds_frames_back() {
    let wire = Wire::new(1);
    let ops = Some(BucketConfig { size: 2, burst: 0, refill: Duration::from_millis(200) });
    let limits = LimitConfig { bandwidth: None, ops };
    let mut driver = Machine::plain().start(Net::new(wire.clone(), &NetConfig { limits, ..config(1) }), 0);
    let start = std::time::Instant::now();
    for _ in 0..6 {
        let sent = driver.buffer(&frame(&[8; 60]));
        driver.request(1, &[sent]);
    }
    assert!(start.elapsed() >= Duration::from_millis(390), "{:?}", start.elapsed());
}

fn command(driver: &mut Driver, queue: usize, bytes: &[u8]) -> u8 {
    let (command, answer) = (driver.buffer(bytes), driver.room(1));
    assert_eq!(driver.request(queue, &[command, answer]), 1);
    driver.content(answer)[0]
}

#[test]
fn driver_chooses_pairs_and_offloads_within_what_it_negotiated() {
    let wire = Wire::new(2);
    let features = MULTIQUEUE
        | CONTROL
        | 1 << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS
        | 1 << VIRTIO_NET_F_GUEST_CSUM
        | 1 << VIRTIO_NET_F_GUEST_TSO4;
    let mut driver = Machine::plain().start(Net::new(wire.clone(), &config(2)), features);
    let both = GuestOffloads { checksum: true, tso4: true, ..GuestOffloads::default() };
    assert_eq!((*wire.pairs.lock().unwrap(), *wire.offloads.lock().unwrap()), (1, both));

    assert_eq!(command(&mut driver, 4, &[4, 0, 2, 0]), 0);
    assert_eq!(*wire.pairs.lock().unwrap(), 2);
    let sent = driver.buffer(&frame(&[8; 60]));
    driver.request(3, &[sent]);
    assert_eq!(wire.leave(1), [8; 60], "the second pair has a queue of its own");

    assert_eq!(command(&mut driver, 4, &[5, 0, 2, 0, 0, 0, 0, 0, 0, 0]), 0);
    assert_eq!(*wire.offloads.lock().unwrap(), GuestOffloads { checksum: true, ..GuestOffloads::default() });

    let ipv6 = 1_u64 << VIRTIO_NET_F_GUEST_TSO6;
    for wrong in [
        &[4, 0, 3, 0][..],
        &[4, 0, 0, 0],
        &[4, 0, 1],
        &[4],
        &[],
        &[9, 9, 1, 0],
        &[&[5, 0], &ipv6.to_le_bytes()[..]].concat(),
    ] {
        assert_eq!(command(&mut driver, 4, &[wrong, &[]].concat()), 1, "{wrong:?}");
    }
    assert_eq!(*wire.pairs.lock().unwrap(), 2);

    driver.set_status(0);
    assert_eq!((*wire.pairs.lock().unwrap(), *wire.offloads.lock().unwrap()), (1, GuestOffloads::default()));
}

#[test]
fn control_queue_follows_the_pairs_that_were_negotiated() {
    let wire = Wire::new(2);
    let mut driver = Machine::plain().start(Net::new(wire, &config(2)), CONTROL);
    assert_eq!(command(&mut driver, 2, &[4, 0, 1, 0]), 1, "no multiqueue, but an answer");
}
