//! Stands between a console and an end that may be absent: nobody attached, a slow reader, a client that goes.
//!
//! The guest must never wait for the outside. What it writes is kept for whoever attaches next, up to a bound; the
//! oldest is given up first.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use devices::virtio::{DeviceHost, ThreadKind};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::OFlags;
use rustix::io::{Errno, ioctl_fionbio, read, write};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tracing::{debug, error, warn};

/// Bytes that are kept for an end that does not take them. Without it a guest could fill the host's memory.
const BACKLOG: usize = 64 * 1024;
/// Bytes moved at once.
const CHUNK: usize = 4096;

/// The end that is not the guest.
pub(super) enum Outside {
    /// A pseudo-terminal. The other side is kept open, so that it exists while nobody is attached.
    Pty { main: OwnedFd, _terminal: OwnedFd },
    /// A socket with at most one client.
    Socket { listener: UnixListener, client: Option<UnixStream> },
    /// A FIFO that only takes.
    Fifo(OwnedFd),
}

impl Outside {
    pub(super) fn pty() -> io::Result<(Self, PathBuf)> {
        let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&main)?;
        unlockpt(&main)?;
        let name = ptsname(&main, Vec::new())?;
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let flags = OFlags::NOCTTY.bits().cast_signed();
        let terminal = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path)?;
        // Nothing is echoed or translated on the way: the guest's own terminal does that.
        let mut raw = tcgetattr(&terminal)?;
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        ioctl_fionbio(&main, true)?;
        Ok((Self::Pty { main, _terminal: terminal.into() }, path))
    }

    pub(super) fn socket(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::Socket { listener, client: None })
    }

    pub(super) fn fifo(path: &Path) -> io::Result<Self> {
        // Opened for reading as well: otherwise the open waits for a reader, and writes fail when it goes.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        Ok(Self::Fifo(file.into()))
    }

    /// Where the guest's output goes now.
    fn attached(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Pty { main, .. } => Some(main.as_fd()),
            Self::Socket { client, .. } => client.as_ref().map(AsFd::as_fd),
            Self::Fifo(fifo) => Some(fifo.as_fd()),
        }
    }

    fn gives_input(&self) -> bool {
        !matches!(self, Self::Fifo(_))
    }

    /// Somebody who may attach while nobody else is.
    fn waiting(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Socket { listener, client: None, .. } => Some(listener.as_fd()),
            _ => None,
        }
    }

    fn accept(&mut self) {
        if let Self::Socket { listener, client, .. } = self {
            match listener.accept() {
                Ok((stream, _)) => match stream.set_nonblocking(true) {
                    Ok(()) => *client = Some(stream),
                    Err(error) => warn!("a console client was turned away: {error}"),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => warn!("a console client could not attach: {error}"),
            }
        }
    }

    /// The end is gone. Returns whether another may come.
    fn detach(&mut self) -> bool {
        match self {
            Self::Socket { client, .. } => {
                *client = None;
                true
            }
            Self::Pty { .. } | Self::Fifo(_) => false,
        }
    }
}

/// A thread that passes bytes; stops and joins when dropped.
pub(super) struct Relay {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts to pass bytes between `outside` and the stream that is returned, for the guest's device.
    pub(super) fn start(outside: Outside, host: Arc<dyn DeviceHost>) -> io::Result<(Self, UnixStream)> {
        let (guest, inside) = UnixStream::pair()?;
        inside.set_nonblocking(true)?;
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let thread_stop = Arc::clone(&stop);
        let mut state = State { inside, outside, output: VecDeque::new(), input: Vec::new() };
        let thread = devices::threads::spawn("console", move || {
            let run = host.thread_starts(ThreadKind::Console).and_then(|()| state.run(&thread_stop));
            if let Err(error) = run {
                error!("a console is lost: {error}");
            }
        })?;
        Ok((Self { stop, thread: Some(thread) }, guest))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Err(error) = write(&self.stop, &1_u64.to_ne_bytes()) {
            error!("cannot stop a console thread: {error}");
            return;
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("a console thread panicked");
        }
    }
}

struct State {
    inside: UnixStream,
    outside: Outside,
    /// What the guest wrote and the outside has not taken.
    output: VecDeque<u8>,
    /// What the outside typed and the guest has not taken.
    input: Vec<u8>,
}

/// What one wait found.
struct Ready {
    stop: bool,
    inside: PollFlags,
    attached: PollFlags,
    waiting: bool,
}

impl State {
    fn run(&mut self, stop: &OwnedFd) -> io::Result<()> {
        loop {
            let ready = self.wait(stop)?;
            if ready.stop {
                self.pass_out()?;
                return Ok(());
            }
            if ready.waiting {
                self.outside.accept();
            }
            if ready.inside.contains(PollFlags::IN) {
                self.take_output()?;
            }
            if ready.inside.contains(PollFlags::OUT) {
                self.give_input()?;
            }
            if ready.attached.contains(PollFlags::OUT) {
                self.pass_out()?;
            }
            if ready.attached.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                self.take_input()?;
            }
        }
    }

    fn wait(&self, stop: &OwnedFd) -> io::Result<Ready> {
        let mut inside = PollFlags::IN;
        inside.set(PollFlags::OUT, !self.input.is_empty());
        let mut attached = PollFlags::empty();
        attached.set(PollFlags::OUT, !self.output.is_empty());
        attached.set(PollFlags::IN, self.input.is_empty() && self.outside.gives_input());
        let mut fds = vec![PollFd::new(stop, PollFlags::IN), PollFd::new(&self.inside, inside)];
        let client = self.outside.attached();
        fds.extend(client.map(|fd| PollFd::from_borrowed_fd(fd, attached)));
        fds.extend(self.outside.waiting().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let found = |index: usize| fds.get(index).map_or(PollFlags::empty(), PollFd::revents);
        let (attached, waiting) =
            if client.is_some() { (found(2), found(3)) } else { (PollFlags::empty(), found(2)) };
        Ok(Ready { stop: !found(0).is_empty(), inside: found(1), attached, waiting: !waiting.is_empty() })
    }

    fn take_output(&mut self) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        match read(&self.inside, &mut chunk) {
            Ok(count) => self.output.extend(chunk.get(..count).unwrap_or_default()),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let excess = self.output.len().saturating_sub(BACKLOG);
        self.output.drain(..excess);
        Ok(())
    }

    fn pass_out(&mut self) -> io::Result<()> {
        let Some(fd) = self.outside.attached() else { return Ok(()) };
        let (chunk, _) = self.output.as_slices();
        match write(fd, chunk) {
            Ok(count) => drop(self.output.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => self.lost(error)?,
        }
        Ok(())
    }

    fn take_input(&mut self) -> io::Result<()> {
        let Some(fd) = self.outside.attached() else { return Ok(()) };
        let mut chunk = [0; CHUNK];
        match read(fd, &mut chunk) {
            Ok(0) => self.lost(Errno::PIPE)?,
            Ok(count) => self.input.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => self.lost(error)?,
        }
        Ok(())
    }

    fn give_input(&mut self) -> io::Result<()> {
        match write(&self.inside, &self.input) {
            Ok(count) => drop(self.input.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The attached end failed; a socket waits for the next client.
    fn lost(&mut self, error: Errno) -> io::Result<()> {
        debug!("console end: {error}");
        if self.outside.detach() { Ok(()) } else { Err(error.into()) }
    }
}
