mod forgetful;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tempfile::TempDir;
use vhost::vhost_user::{Listener, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{ShutdownHandle, VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT};
use virtio_bindings::virtio_net::{
    VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_F_CSUM, VIRTIO_NET_F_MRG_RXBUF,
};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::{QueueOwnedT, Reader, Writer};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};

use super::*;
use crate::rate_limit::LimitConfig;
use crate::testing::{Driver, Machine, VERSION_1};
use crate::virtio::{DeviceHost, NoDeviceHost};

/// Answers each request with its text in capitals.
struct Echo {
    queues: usize,
    features: u64,
    protocol: VhostUserProtocolFeatures,
    memory: Option<GuestMemoryAtomic<GuestMemoryMmap>>,
    acked: Arc<AtomicU64>,
    stuck: Arc<Mutex<()>>,
}

impl VhostUserBackendMut for Echo {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        self.queues
    }
    fn max_queue_size(&self) -> usize {
        256
    }
    fn features(&self) -> u64 {
        self.features
    }
    fn acked_features(&mut self, features: u64) {
        self.acked.store(features, Ordering::Relaxed);
        drop(self.stuck.lock());
    }
    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        self.protocol
    }
    fn set_event_idx(&mut self, _enabled: bool) {}
    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        assert_eq!(offset, 0);
        (0..size).map(|byte| u8::try_from(byte).unwrap()).collect()
    }
    fn update_memory(&mut self, memory: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        self.memory = Some(memory);
        Ok(())
    }
    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::empty()).ok()
    }
    fn handle_event(
        &mut self,
        queue: u16,
        _events: EventSet,
        vrings: &[VringRwLock],
        _thread: usize,
    ) -> io::Result<()> {
        let memory = self.memory.as_ref().unwrap().memory();
        let vring = &vrings[usize::from(queue)];
        {
            let _held = vring.get_mut();
            drop(self.stuck.lock());
        }
        loop {
            // A kick may be older than the reset that has stopped the queue.
            let next = vring
                .get_mut()
                .get_queue_mut()
                .iter(memory.clone())
                .ok()
                .and_then(|mut chains| chains.next());
            let Some(chain) = next else { break };
            let mut text = Vec::new();
            Reader::new(&*memory, chain.clone()).unwrap().read_to_end(&mut text).unwrap();
            text.make_ascii_uppercase();
            let written = Writer::new(&*memory, chain.clone()).unwrap().write(&text).unwrap();
            vring.add_used(chain.head_index(), u32::try_from(written).unwrap()).unwrap();
        }
        vring.signal_used_queue()
    }
}

/// A server on a socket, which serves one connection.
struct Running {
    thread: Option<JoinHandle<()>>,
    shutdown: Arc<Mutex<Option<ShutdownHandle>>>,
    acked: Arc<AtomicU64>,
    /// While it is locked, the server does not get on.
    stuck: Arc<Mutex<()>>,
}

impl Running {
    fn kill(&mut self) {
        if let Some(handle) = self.shutdown.lock().unwrap().take() {
            handle.shutdown();
        }
        self.thread.take().unwrap().join().unwrap();
    }
}

const RING: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
const NET: u64 = 1 << VIRTIO_NET_F_CSUM | 1 << VIRTIO_NET_F_MRG_RXBUF;

fn protocol() -> VhostUserProtocolFeatures {
    VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK | VhostUserProtocolFeatures::CONFIG
}

fn serve(socket: &Path, queues: usize, protocol: VhostUserProtocolFeatures) -> Running {
    serve_features(socket, queues, protocol, BLOCK_FEATURES)
}

fn serve_features(socket: &Path, queues: usize, protocol: VhostUserProtocolFeatures, own: u64) -> Running {
    let acked = Arc::<AtomicU64>::default();
    let features = VERSION_1 | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() | RING | own;
    let stuck = Arc::<Mutex<()>>::default();
    let echo = Echo {
        queues,
        features,
        protocol,
        memory: None,
        acked: Arc::clone(&acked),
        stuck: Arc::clone(&stuck),
    };
    let mut listener = Listener::new(socket, true).unwrap();
    let shutdown = Arc::<Mutex<Option<ShutdownHandle>>>::default();
    let handle = Arc::clone(&shutdown);
    let thread = std::thread::spawn(move || {
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let mut daemon = VhostUserDaemon::new("echo".into(), Arc::new(Mutex::new(echo)), memory).unwrap();
        daemon.start(&mut listener).unwrap();
        *handle.lock().unwrap() = daemon.shutdown_handle();
        let _ = daemon.wait();
    });
    Running { thread: Some(thread), shutdown, acked, stuck }
}

/// A server that is a client of the socket.
fn come_to(socket: &Path, queues: usize) -> Running {
    let acked = Arc::<AtomicU64>::default();
    let stuck = Arc::<Mutex<()>>::default();
    let features = VERSION_1 | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() | RING;
    let protocol = protocol();
    let echo = Echo {
        queues,
        features,
        protocol,
        memory: None,
        acked: Arc::clone(&acked),
        stuck: Arc::clone(&stuck),
    };
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let mut daemon = VhostUserDaemon::new("echo".into(), Arc::new(Mutex::new(echo)), memory).unwrap();
    let path = socket.to_str().unwrap();
    while daemon.start_client(path).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let shutdown = Arc::new(Mutex::new(daemon.shutdown_handle()));
    let thread = std::thread::spawn(move || drop(daemon.wait()));
    Running { thread: Some(thread), shutdown, acked, stuck }
}

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("server");
    (directory, socket)
}

fn fs() -> Service {
    Service::Fs { tag: "shared".into(), queues: 1, queue_size: 64 }
}

fn net(pairs: usize) -> Service {
    Service::Net(NetConfig {
        mac: [2, 0, 0, 0, 0, 7],
        mtu: Some(1400),
        pairs,
        queue_size: 64,
        checksum: true,
        tso: true,
        ufo: false,
        limits: LimitConfig::default(),
    })
}

fn connect(socket: &Path, service: Service) -> Result<Server, ServerError> {
    Server::connect(socket, service, &host())
}

fn host() -> Arc<dyn DeviceHost> {
    Arc::new(NoDeviceHost)
}

fn device(machine: &Machine, server: &Arc<Server>) -> VhostUser {
    VhostUser::new(Arc::clone(server), Arc::clone(&machine.memory))
}

fn ask(driver: &mut Driver, queue: usize) -> Vec<u8> {
    let (question, answer) = (driver.buffer(b"hello"), driver.room(8));
    assert_eq!(driver.request(queue, &[question, answer]), 5);
    driver.content(answer)[..5].to_vec()
}

/// Has an interface with two pairs use the first `pairs`.
fn set_pairs(driver: &mut Driver, pairs: u32) {
    let command = [VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, pairs, 0];
    let command = driver.buffer(&command.map(|byte| u8::try_from(byte).unwrap()));
    let status = driver.room(1);
    driver.request(4, &[command, status]);
    assert_eq!(driver.content(status), [0]);
}

#[test]
fn server_answers_the_requests_of_the_guest_and_interrupts_it() {
    let (_directory, socket) = place();
    let running = serve(&socket, 2, protocol());
    let server = Arc::new(connect(&socket, fs()).unwrap());
    let machine = Machine::shared();
    let mut driver = machine.start(device(&machine, &server), RING);
    assert_eq!(driver.device_config(0, 6).to_le_bytes()[..6], *b"shared");
    assert_eq!(driver.device_config(36, 4), 1);
    assert_eq!(driver.offered() & 0xff_ffff, 0, "no features of a file system are offered");
    for queue in [1, 0, 1] {
        assert_eq!(ask(&mut driver, queue), b"HELLO");
    }
    let acked = running.acked.load(Ordering::Relaxed);
    assert_eq!(acked, VERSION_1 | RING | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits());
}

#[test]
fn guest_that_resets_the_device_or_boots_anew_finds_the_server_as_before() {
    let (_directory, socket) = place();
    let _running = serve(&socket, 2, protocol());
    let server = Arc::new(connect(&socket, fs()).unwrap());
    for _boot in 0..2 {
        let machine = Machine::shared();
        let mut driver = machine.start(device(&machine, &server), RING);
        for _reset in 0..2 {
            assert_eq!(ask(&mut driver, 1), b"HELLO");
            driver.start(RING);
        }
        assert_eq!(ask(&mut driver, 1), b"HELLO");
    }
}

#[test]
fn device_whose_server_goes_needs_a_reset_and_works_once_the_server_is_back() {
    let (_directory, socket) = place();
    let mut running = serve(&socket, 2, protocol());
    let server = Arc::new(connect(&socket, fs()).unwrap());
    let machine = Machine::shared();
    let mut driver = machine.start(device(&machine, &server), RING);
    assert_eq!(ask(&mut driver, 1), b"HELLO");
    running.kill();
    driver.wait_needs_reset();
    let _back = serve(&socket, 2, protocol());
    driver.start(RING);
    assert_eq!(ask(&mut driver, 1), b"HELLO");
}

#[test]
fn server_that_hangs_keeps_neither_a_reset_nor_the_next_start() {
    let (_directory, socket) = place();
    let mut running = serve(&socket, 2, protocol());
    let server = Arc::new(connect(&socket, fs()).unwrap());
    let machine = Machine::shared();
    let mut driver = machine.start(device(&machine, &server), RING);
    assert_eq!(ask(&mut driver, 1), b"HELLO");
    let stuck = Arc::clone(&running.stuck);
    let stuck = stuck.lock().unwrap();
    let (question, answer) = (driver.buffer(b"hello"), driver.room(8));
    driver.submit(1, &[question, answer]);
    std::thread::sleep(std::time::Duration::from_millis(50));
    // The server works on a request, and answers nothing else meanwhile.
    assert_eq!(driver.set_status(0), 0, "the reset is done");
    drop(stuck);
    running.kill();
    let _back = serve(&socket, 2, protocol());
    driver.start(RING);
    assert_eq!(ask(&mut driver, 1), b"HELLO");
}

#[test]
fn device_whose_server_does_not_take_its_rings_needs_a_reset() {
    let (_directory, socket) = place();
    let mut running = serve(&socket, 2, protocol());
    let server = Arc::new(connect(&socket, fs()).unwrap());
    let machine = Machine::shared();
    let stuck = Arc::clone(&running.stuck);
    let stuck = stuck.lock().unwrap();
    let mut driver = machine.plug(device(&machine, &server));
    driver.start(RING);
    driver.wait_needs_reset();
    drop(stuck);
    running.kill();
    let _back = serve(&socket, 2, protocol());
    driver.start(RING);
    assert_eq!(ask(&mut driver, 1), b"HELLO");
}

#[test]
fn server_may_come_to_us_and_come_again() {
    let (_directory, socket) = place();
    std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let alone = Server::listen(&socket, fs(), &host()).unwrap_err();
    assert!(
        matches!(alone, ServerError::Alone { .. }),
        "a socket that was left behind is no hindrance: {alone}"
    );
    assert!(!socket.exists());
    let coming = || {
        let socket = socket.clone();
        std::thread::spawn(move || come_to(&socket, 2))
    };
    let first = coming();
    let server = Arc::new(Server::listen(&socket, fs(), &host()).unwrap());
    let mut first = first.join().unwrap();
    let machine = Machine::shared();
    let mut driver = machine.start(device(&machine, &server), RING);
    assert_eq!(ask(&mut driver, 1), b"HELLO");
    first.kill();
    driver.wait_needs_reset();
    let second = coming();
    driver.start(RING);
    assert_eq!(ask(&mut driver, 1), b"HELLO");
    drop((driver, machine, server));
    second.join().unwrap().kill();
    assert!(!socket.exists());
}

#[test]
fn server_touches_nothing_while_the_device_stands_still() {
    let (_directory, socket) = place();
    let _running = serve(&socket, 2, protocol());
    let server = Arc::new(connect(&socket, fs()).unwrap());
    let machine = Machine::shared();
    let (mut driver, pci) = machine.plug_and_keep(device(&machine, &server));
    driver.start(RING);
    assert_eq!(ask(&mut driver, 1), b"HELLO");
    pci.pause();
    let (question, answer) = (driver.buffer(b"hello"), driver.room(8));
    let head = driver.submit(1, &[question, answer]);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(driver.take_used(1), None);
    pci.resume();
    assert_eq!(driver.wait_used(1), (head, 5));
    assert_eq!(ask(&mut driver, 1), b"HELLO");
}

#[test]
fn memory_without_a_file_cannot_be_shared() {
    let (_directory, socket) = place();
    let _running = serve(&socket, 2, protocol());
    let server = Arc::new(connect(&socket, fs()).unwrap());
    let machine = Machine::plain();
    let driver = machine.start(device(&machine, &server), RING);
    driver.wait_needs_reset();
    let error = regions(&machine);
    assert!(error.contains("shared=on"), "{error}");
}

fn regions(machine: &Machine) -> String {
    server::regions(&machine.memory).err().unwrap().to_string()
}

#[test]
fn second_pair_of_an_interface_runs_when_the_guest_asks_for_it() {
    let (_directory, socket) = place();
    let running = serve_features(&socket, 4, protocol(), NET);
    let server = Arc::new(connect(&socket, net(2)).unwrap());
    let machine = Machine::shared();
    let mut driver = machine.start(device(&machine, &server), u64::MAX);
    assert_eq!(driver.device_config(0, 6), 0x0700_0000_0002);
    assert_eq!((driver.device_config(8, 2), driver.device_config(10, 2)), (2, 1400));
    assert_eq!(ask(&mut driver, 1), b"HELLO");

    let (question, answer) = (driver.buffer(b"hello"), driver.room(8));
    let head = driver.submit(3, &[question, answer]);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(driver.take_used(3), None, "the second pair is not enabled yet");
    set_pairs(&mut driver, 2);
    assert_eq!(driver.wait_used(3), (head, 5));
    let acked = running.acked.load(Ordering::Relaxed);
    assert_eq!(acked & 0xff_ffff, NET, "what is ours is not the server's to know");
}

#[test]
fn disk_is_what_the_server_says_with_the_queues_that_were_asked_for() {
    let (_directory, socket) = place();
    let _running = serve(&socket, 2, protocol());
    let service = Service::Block { queues: 2, queue_size: 64 };
    let server = Arc::new(connect(&socket, service).unwrap());
    let machine = Machine::shared();
    let mut driver = machine.start(device(&machine, &server), u64::MAX);
    assert_eq!(driver.device_config(0, 8), 0x0706_0504_0302_0100);
    assert_eq!(driver.device_config(34, 2), 2);
    assert_eq!(driver.offered() & 0xff_ffff, BLOCK_FEATURES);
    assert_eq!(ask(&mut driver, 1), b"HELLO");
}

#[test]
fn server_that_is_not_there_or_cannot_do_enough_is_refused() {
    let (_directory, socket) = place();
    let refused = |service| connect(&socket, service).unwrap_err();
    assert!(matches!(refused(fs()), ServerError::Connect { .. }));

    let mut running = serve(&socket, 1, protocol());
    assert!(matches!(refused(fs()), ServerError::Queues { found: 1, needed: 2, .. }));
    running.thread.take().unwrap().join().unwrap();

    let mut running = serve(&socket, 1, VhostUserProtocolFeatures::REPLY_ACK);
    let error = refused(Service::Block { queues: 1, queue_size: 64 });
    assert!(matches!(error, ServerError::Lacks { .. }), "{error}");
    running.thread.take().unwrap().join().unwrap();
}

#[test]
fn server_that_says_nothing_is_not_waited_for_without_end() {
    let (_directory, socket) = place();
    let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(matches!(connect(&socket, fs()), Err(ServerError::Exchange { .. })));
}

#[test]
fn ring_that_leaves_its_region_is_refused() {
    let memory = Machine::shared().memory;
    let start = crate::testing::RAM;
    let layout = |descriptors| super::super::queue::QueueLayout {
        size: 64,
        descriptors,
        driver: start,
        device: start,
    };
    assert!(server::ring(&memory, layout(start), 0).is_ok());
    for bad in [start - 16, start + (16 << 20) - 16, u64::MAX - 15, 0] {
        assert!(
            matches!(server::ring(&memory, layout(bad), 3), Err(ServerError::Ring { queue: 3 })),
            "{bad:#x}"
        );
    }
}
