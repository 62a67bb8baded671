//! Feeds a UART from a descriptor.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::io::{Errno, read};
use tracing::{debug, error};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::Pl011;
use crate::poller::{Poller, Ready, Source};
use crate::virtio::{DeviceHost, ThreadKind};

/// A thread that types into a UART; stops and joins when dropped.
pub struct Pl011Input {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

const STOP: usize = 0;

impl Pl011 {
    /// Feeds the UART from `input` until it ends or the result is dropped. The thread that does so asks `host` first.
    ///
    /// # Errors
    /// The host gave no descriptor or thread.
    pub fn connect_input(
        self: &Arc<Self>,
        input: OwnedFd,
        host: Arc<dyn DeviceHost>,
    ) -> io::Result<Pl011Input> {
        let stop = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        let mut poller = Poller::new()?;
        poller.add(stop.as_ref())?;
        poller.add(&self.room)?;
        let (uart, thread_stop) = (self.clone(), stop.clone());
        let thread = crate::threads::spawn("pl011-input", move || {
            let fed = host.thread_starts(ThreadKind::Console).and_then(|()| feed(&uart, &mut poller, &input));
            if let Err(error) = fed {
                error!("serial input ends: {error}");
            }
            drop(thread_stop);
        })?;
        Ok(Pl011Input { stop, thread: Some(thread) })
    }
}

impl Drop for Pl011Input {
    fn drop(&mut self) {
        if let Err(error) = self.stop.write(1) {
            error!("cannot stop the serial input thread: {error}");
            return;
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the serial input thread panicked");
        }
    }
}

fn feed(uart: &Pl011, poller: &mut Poller, input: &OwnedFd) -> io::Result<()> {
    let mut buffer = [0; 256];
    // What was read and does not fit into the FIFO yet; no more is read before it has.
    let mut waiting: Vec<u8> = Vec::new();
    loop {
        let source = Source { token: 0, fd: input.as_fd(), events: EventSet::IN };
        let sources = if waiting.is_empty() { vec![source] } else { vec![] };
        for ready in poller.wait(&sources)? {
            match ready {
                Ready::Permanent(STOP) => return Ok(()),
                Ready::Permanent(_) => {
                    let _ = uart.room.read();
                }
                Ready::Source(..) => match read(input, &mut buffer) {
                    Ok(0) => {
                        debug!("serial input has ended");
                        return Ok(());
                    }
                    Ok(count) => waiting.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                },
            }
        }
        let taken = uart.receive(&waiting);
        waiting.drain(..taken);
    }
}
