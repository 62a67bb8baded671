//! Several threads for one device, and what the VMM hears of them.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Sender, channel};

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::testing::{Buffer, Driver, Machine, PATIENCE, WRITE};
use crate::virtio::rng::Rng;
use crate::virtio::{EventHandler, QueueError, ThreadKind, WorkerSpec};

/// Answers each request with the name of the thread that serves it; one thread for each queue.
#[derive(Default)]
struct WhoServes {
    notifier: Mutex<Option<ConfigNotifier>>,
    config: Mutex<Vec<u8>>,
}

impl VirtioDevice for WhoServes {
    fn device_id(&self) -> u16 {
        63
    }
    fn class(&self) -> u32 {
        0xff_00_00
    }
    fn thread_kind(&self) -> ThreadKind {
        ThreadKind::Block
    }
    fn queue_sizes(&self) -> &[u16] {
        &[4, 4]
    }
    fn features(&self) -> u64 {
        0
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        crate::virtio::read_config_bytes(&self.config.lock().unwrap(), offset, data);
    }
    fn write_config(&self, offset: u64, data: &[u8]) {
        let mut config = self.config.lock().unwrap();
        config.resize(16, 0);
        let at = usize::try_from(offset).unwrap();
        config[at..at + data.len()].copy_from_slice(data);
    }
    fn connected(&self, notifier: ConfigNotifier) {
        *self.notifier.lock().unwrap() = Some(notifier);
    }
    fn activate(&self, activation: Activation) -> Result<Vec<WorkerSpec>, ActivateError> {
        let queues: [DeviceQueue; 2] = activation.all_queues()?;
        let worker = |(index, queue)| WorkerSpec {
            suffix: format!("_q{index}"),
            queues: vec![index],
            host_cpus: Vec::new(),
            handler: Box::new(OneQueue { index, queue }),
        };
        Ok(queues.into_iter().enumerate().map(worker).collect())
    }
}

struct OneQueue {
    index: usize,
    queue: DeviceQueue,
}

impl EventHandler for OneQueue {
    fn queue_event(&mut self, queue: usize) -> Result<(), QueueError> {
        assert_eq!(queue, self.index, "a thread serves its own queue only");
        while let Some(chain) = self.queue.pop()? {
            let thread = std::thread::current();
            let mut writer = chain.writer()?;
            if writer.available_bytes() == 1 {
                return Err(QueueError::Dma);
            }
            writer.write_all(thread.name().unwrap().as_bytes()).unwrap();
            self.queue.complete(chain.head(), u32::try_from(writer.bytes_written()).unwrap())?;
            self.queue.notify()?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Host {
    events: Sender<(String, DeviceEvent)>,
    refuses: bool,
}

impl DeviceHost for Host {
    fn thread_starts(&self, kind: ThreadKind) -> io::Result<()> {
        assert_eq!(kind, ThreadKind::Block);
        if self.refuses { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
    }

    fn event(&self, id: &str, event: DeviceEvent) {
        self.events.send((id.into(), event)).unwrap();
    }
}

fn who(driver: &mut Driver, queue: usize) -> String {
    let room = driver.room(32);
    let len = driver.request(queue, &[room]) as usize;
    String::from_utf8(driver.content(room)[..len].to_vec()).unwrap()
}

#[test]
fn each_queue_has_a_thread_of_its_own_named_after_the_device() {
    let mut driver = Machine::plain().start(WhoServes::default(), 0);
    assert_eq!(who(&mut driver, 0), "_test0_q0");
    assert_eq!(who(&mut driver, 1), "_test0_q1");
}

#[test]
fn paused_device_serves_nothing_and_goes_on_where_it_stopped() {
    let machine = Machine::plain();
    let (mut driver, device) = machine.plug_and_keep(WhoServes::default());
    driver.start(0);
    who(&mut driver, 0);
    device.pause();
    machine.msi.drain();
    let room = driver.room(32);
    driver.submit(0, &[room]);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(machine.msi.drain(), []);
    assert_eq!(driver.content(room), [0xee; 32]);
    device.resume();
    assert_ne!(driver.wait_used(0).1, 0);
    assert_eq!(who(&mut driver, 1), "_test0_q1");

    // A reset in the pause ends the threads all the same.
    device.pause();
    driver.set_status(0);
    driver.start(0);
    assert_eq!(who(&mut driver, 0), "_test0_q0");
}

/// A thread that writes 2, 3, 4 and so on into a pipe, for as long as somebody reads.
fn counting() -> File {
    let (reader, mut writer) = io::pipe().unwrap();
    std::thread::spawn(move || {
        let numbers = (2..=u16::MAX).chain(0..2).cycle();
        for number in numbers {
            if writer.write_all(&number.to_le_bytes()).is_err() {
                break;
            }
        }
    });
    OwnedFd::from(reader).into()
}

#[test]
fn device_that_the_guest_makes_feed_itself_is_paused_and_reset_all_the_same() {
    let machine = Machine::plain();
    let (mut driver, device) = machine.plug_and_keep(Rng::new(counting()));
    driver.start(0);
    // Each request writes the index of the next one.
    let index = driver.rings(0).avail + 2;
    driver.submit(0, &[Buffer { addr: index, len: 2, flags: WRITE }]);
    let (done, finished) = channel();
    std::thread::spawn(move || {
        let used = || driver.memory.read_obj::<u16>(GuestAddress(driver.rings(0).used + 2)).unwrap();
        let comes_to_work = |before: u16| while used() == before {};
        comes_to_work(used());
        device.pause();
        let before = used();
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(used(), before);
        device.resume();
        comes_to_work(before);
        assert_eq!(driver.set_status(0), 0);
        done.send(()).unwrap();
    });
    finished.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn configuration_change_counts_up_and_interrupts_a_live_driver() {
    let machine = Machine::plain();
    let device = Arc::new(WhoServes::default());
    let (mut driver, _transport) = machine.plug_shared(device.clone());
    let notifier = device.notifier.lock().unwrap().clone().unwrap();
    let before = driver.common(0x15, 1);
    notifier.changed();
    assert_eq!(machine.msi.drain(), [], "nobody listens yet");
    assert_eq!(driver.common(0x15, 1), before + 1);
    driver.start(0);
    machine.msi.drain();
    driver.write(driver.bar + DEVICE.start + 4, b"abcd");
    assert_eq!(driver.device_config(4, 4).to_le_bytes()[..4], *b"abcd");
    notifier.changed();
    assert_eq!(machine.msi.drain().len(), 1);
    assert_eq!(driver.common(0x15, 1), before + 2);
}

#[test]
fn vmm_hears_of_start_failure_and_reset() {
    let (sender, events) = channel();
    let mut machine = Machine::plain();
    machine.host = Arc::new(Host { events: sender, refuses: false });
    let mut driver = machine.start(WhoServes::default(), 0);
    let next = || events.recv_timeout(PATIENCE).unwrap();
    assert_eq!(next(), ("_test0".into(), DeviceEvent::Activated));
    let room = driver.room(1);
    driver.submit(1, &[room]);
    assert!(matches!(next(), (_, DeviceEvent::Failed(_))));
    assert_ne!(driver.status() & 0x40, 0, "the guest is told to reset");
    driver.set_status(0);
    assert_eq!(next(), ("_test0".into(), DeviceEvent::Reset));
    machine.msi.drain();
    driver.start(0);
    assert_eq!(next(), ("_test0".into(), DeviceEvent::Activated));
    assert_eq!(who(&mut driver, 1), "_test0_q1");
}

#[test]
fn thread_that_cannot_be_confined_serves_nothing() {
    let (sender, events) = channel();
    let mut machine = Machine::plain();
    machine.host = Arc::new(Host { events: sender, refuses: true });
    let mut driver = machine.start(WhoServes::default(), 0);
    let failed = std::iter::from_fn(|| Some(events.recv_timeout(PATIENCE).unwrap()))
        .find(|(_, event)| matches!(event, DeviceEvent::Failed(_)));
    assert!(matches!(failed, Some((_, DeviceEvent::Failed(reason))) if reason.contains("confined")));
    let room = driver.room(32);
    driver.submit(0, &[room]);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(driver.content(room), [0xee; 32]);
}
