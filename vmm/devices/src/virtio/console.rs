//! Console device with a single port (virtio 1.2, 5.3).

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::{Errno, read, write};
use tracing::warn;
use virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE;
use vmm_sys_util::epoll::EventSet;

use super::{
    ActivateError, Activation, DeviceQueue, EventHandler, QueueError, ThreadKind, VirtioDevice, WorkerSpec,
};
use crate::poller::Source;

/// Receive queue, transmit queue.
const QUEUE_SIZES: [u16; 2] = [128, 128];
const RECEIVE: usize = 0;

/// Most bytes taken from one transmit buffer. Without it one buffer could make the device hold 4 GiB. Linux sends a page
/// at a time.
const MAX_TRANSMIT: usize = 64 * 1024;
/// Most bytes read for one receive buffer, however large the guest made it.
const MAX_RECEIVE: usize = 4096;
/// Most bytes per write(2): a descriptor that polls as writable takes this much without blocking, so that a reader who
/// stopped reading cannot make the guest's reset wait.
const WRITE_CHUNK: usize = 512;

const INPUT: u64 = 0;
const OUTPUT: u64 = 1;

/// A virtio console.
pub struct Console {
    input: Option<Arc<OwnedFd>>,
    output: Arc<OwnedFd>,
}

impl Console {
    /// A console that shows what the guest writes on `output` and gives it what comes from `input`.
    pub fn new(input: Option<OwnedFd>, output: OwnedFd) -> Self {
        Self { input: input.map(Arc::new), output: Arc::new(output) }
    }
}

impl VirtioDevice for Console {
    fn device_id(&self) -> u16 {
        super::id(VIRTIO_ID_CONSOLE)
    }
    fn class(&self) -> u32 {
        0x07_80_00
    }
    fn thread_kind(&self) -> ThreadKind {
        ThreadKind::Console
    }
    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }
    fn features(&self) -> u64 {
        0
    }
    fn activate(&self, activation: Activation) -> Result<Vec<WorkerSpec>, ActivateError> {
        let [receive, transmit] = activation.all_queues()?;
        let handler = Handler {
            input: self.input.clone(),
            output: self.output.clone(),
            receive,
            receive_waiting: false,
            transmit,
            unsent: VecDeque::new(),
            unsent_head: None,
        };
        Ok(WorkerSpec::only(QUEUE_SIZES.len(), handler))
    }
}

struct Handler {
    /// None once it ended.
    input: Option<Arc<OwnedFd>>,
    output: Arc<OwnedFd>,
    receive: DeviceQueue,
    /// The driver has offered a buffer for input.
    receive_waiting: bool,
    transmit: DeviceQueue,
    /// What `output` has not taken yet, and the transmit buffer it came from.
    unsent: VecDeque<u8>,
    unsent_head: Option<u16>,
}

impl EventHandler for Handler {
    fn queue_event(&mut self, queue: usize) -> Result<(), QueueError> {
        if queue == RECEIVE { self.look_for_receive_buffer() } else { self.fetch_output() }
    }

    fn sources(&self) -> Vec<Source<'_>> {
        let input = self.input.as_ref().filter(|_| self.receive_waiting);
        let input = input.map(|fd| Source { token: INPUT, fd: fd.as_fd(), events: EventSet::IN });
        let output = (!self.unsent.is_empty()).then(|| Source {
            token: OUTPUT,
            fd: self.output.as_fd(),
            events: EventSet::OUT,
        });
        input.into_iter().chain(output).collect()
    }

    fn source_event(&mut self, token: u64, _ready: EventSet) -> Result<(), QueueError> {
        if token == INPUT { self.take_input() } else { self.send_output() }
    }
}

impl Handler {
    fn look_for_receive_buffer(&mut self) -> Result<(), QueueError> {
        self.receive_waiting = self.receive.pop()?.is_some();
        if self.receive_waiting {
            self.receive.undo_pop();
        }
        Ok(())
    }

    fn take_input(&mut self) -> Result<(), QueueError> {
        let Some(input) = self.input.clone() else { return Ok(()) };
        let Some(chain) = self.receive.pop()? else { return self.look_for_receive_buffer() };
        let mut writer = chain.writer()?;
        let mut bytes = [0; MAX_RECEIVE];
        let room = writer.available_bytes().min(MAX_RECEIVE);
        let Some(buffer) = bytes.get_mut(..room).filter(|buffer| !buffer.is_empty()) else {
            self.receive.reject(chain.head(), "console receive buffer without writable bytes")?;
            self.receive.notify()?;
            return self.look_for_receive_buffer();
        };
        match read(&*input, &mut *buffer) {
            Ok(count) if count > 0 => {
                // The buffer has room for all of it.
                let _ = writer.write_all(buffer.get(..count).unwrap_or_default());
                self.receive.complete(chain.head(), u32::try_from(count).unwrap_or(0))?;
                self.receive.notify()?;
            }
            Err(Errno::AGAIN | Errno::INTR) => self.receive.undo_pop(),
            end => {
                if let Err(error) = end {
                    warn!("console input ends: {error}");
                }
                self.receive.undo_pop();
                self.input = None;
            }
        }
        self.look_for_receive_buffer()
    }

    /// Takes transmit buffers until `output` has to be waited for.
    fn fetch_output(&mut self) -> Result<(), QueueError> {
        while self.unsent_head.is_none() {
            let Some(chain) = self.transmit.pop()? else { break };
            let reader = chain.reader()?;
            let mut bytes = Vec::new();
            // A read from guest memory that was checked when the reader was made cannot fail.
            let _ = reader.take(MAX_TRANSMIT as u64).read_to_end(&mut bytes);
            if bytes.is_empty() {
                self.transmit.reject(chain.head(), "console transmit buffer without readable bytes")?;
                self.transmit.notify()?;
            } else {
                self.unsent = bytes.into();
                self.unsent_head = Some(chain.head());
            }
        }
        Ok(())
    }

    fn send_output(&mut self) -> Result<(), QueueError> {
        let (chunk, _) = self.unsent.as_slices();
        match write(&*self.output, chunk.get(..WRITE_CHUNK).unwrap_or(chunk)) {
            Ok(count) => drop(self.unsent.drain(..count.min(self.unsent.len()))),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => {
                warn!("console output is lost: {error}");
                self.unsent.clear();
            }
        }
        if self.unsent.is_empty()
            && let Some(head) = self.unsent_head.take()
        {
            self.transmit.complete(head, 0)?;
            self.transmit.notify()?;
            self.fetch_output()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::testing::{Driver, Machine, PATIENCE};

    const TRANSMIT: usize = 1;

    struct Guest {
        driver: Driver,
        keyboard: UnixStream,
        screen: UnixStream,
        _machine: Machine,
    }

    fn guest() -> Guest {
        let (keyboard, input) = UnixStream::pair().unwrap();
        let (screen, output) = UnixStream::pair().unwrap();
        screen.set_read_timeout(Some(PATIENCE)).unwrap();
        let machine = Machine::plain();
        let driver = machine.start(Console::new(Some(input.into()), output.into()), 0);
        Guest { driver, keyboard, screen, _machine: machine }
    }

    fn shown(screen: &mut UnixStream, len: usize) -> Vec<u8> {
        let mut text = vec![0; len];
        screen.read_exact(&mut text).unwrap();
        text
    }

    #[test]
    fn guest_prints_and_hears_that_it_was_printed() {
        let mut guest = guest();
        let (a, b) = (guest.driver.buffer(b"Welcome "), guest.driver.buffer(b"to the Realm\n"));
        assert_eq!(guest.driver.request(TRANSMIT, &[a, b]), 0);
        assert_eq!(shown(&mut guest.screen, 21), b"Welcome to the Realm\n");
    }

    #[test]
    fn typed_text_fills_the_buffers_that_the_guest_offers() {
        let mut guest = guest();
        guest.keyboard.write_all(b"root").unwrap();
        let room = guest.driver.room(64);
        assert_eq!(guest.driver.request(RECEIVE, &[room]), 4);
        assert_eq!(&guest.driver.content(room)[..4], b"root");

        let (small, rest) = (guest.driver.room(3), guest.driver.room(64));
        guest.driver.offer(RECEIVE, &[small]);
        guest.driver.submit(RECEIVE, &[rest]);
        guest.keyboard.write_all(b"secret").unwrap();
        let mut typed = Vec::new();
        for room in [small, rest] {
            let (_, len) = guest.driver.wait_used(RECEIVE);
            typed.extend_from_slice(&guest.driver.content(room)[..len as usize]);
        }
        assert_eq!(typed, b"secret");
    }

    #[test]
    fn guest_goes_on_when_the_keyboard_is_gone() {
        let mut guest = guest();
        let room = guest.driver.room(8);
        guest.driver.submit(RECEIVE, &[room]);
        drop(guest.keyboard);
        let text = guest.driver.buffer(b"alone");
        guest.driver.request(TRANSMIT, &[text]);
        assert_eq!(guest.driver.take_used(RECEIVE), None);
    }

    #[test]
    fn guest_goes_on_when_the_screen_is_gone() {
        let mut guest = guest();
        drop(guest.screen);
        for _ in 0..3 {
            let text = guest.driver.buffer(b"nobody listens");
            guest.driver.request(TRANSMIT, &[text]);
        }
    }

    #[test]
    fn stalled_screen_holds_the_guest_back_but_not_its_reset() {
        // A pipe: it polls as writable when it has room for some of the text, and a larger write blocks.
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let machine = Machine::plain();
        let mut driver = machine.start(Console::new(None, writer), 0);
        let text = driver.buffer(&[b'x'; 60_000]);
        driver.request(TRANSMIT, &[text]);
        driver.submit(TRANSMIT, &[text]);
        // Returns although the screen takes nothing more.
        assert_eq!(driver.set_status(0), 0);
        drop(reader);
    }

    #[test]
    fn overlong_text_is_cut() {
        let mut guest = guest();
        let text = guest.driver.buffer(&vec![b'x'; MAX_TRANSMIT + 1]);
        let reader = std::thread::spawn(move || {
            let mut screen = Vec::new();
            guest.screen.read_to_end(&mut screen).unwrap();
            screen
        });
        guest.driver.request(TRANSMIT, &[text]);
        drop((guest.driver, guest._machine));
        assert_eq!(reader.join().unwrap().len(), MAX_TRANSMIT);
    }

    #[test]
    fn buffers_of_the_wrong_direction_are_returned_empty() {
        let mut guest = guest();
        let (given, room) = (guest.driver.buffer(b"x"), guest.driver.room(8));
        assert_eq!(guest.driver.request(TRANSMIT, &[room]), 0);
        guest.keyboard.write_all(b"y").unwrap();
        assert_eq!(guest.driver.request(RECEIVE, &[given]), 0);
        assert_eq!(guest.driver.request(RECEIVE, &[room]), 1);
    }
}
