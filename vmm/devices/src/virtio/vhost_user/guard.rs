//! Hangs up on a server that does not answer in time.
//!
//! An exchange with a server waits for its answer, and the guest's vCPU waits for the exchange when it resets the device.
//! A thread of its own ends both.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::virtio::{DeviceHost, ThreadKind};

/// Watches over the exchanges with one server.
pub(super) struct Guard {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    line: Option<UnixStream>,
    deadline: Option<Instant>,
    ends: bool,
}

/// An exchange that may take some time, until this is dropped.
pub(super) struct Watched<'a>(&'a Shared);

impl Guard {
    /// A guard without a line to watch.
    ///
    /// # Errors
    /// The host has no thread left, or it cannot be confined.
    pub(super) fn new(host: &Arc<dyn DeviceHost>) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (ready, started) = sync_channel(1);
        let thread = {
            let (shared, host) = (Arc::clone(&shared), Arc::clone(host));
            crate::threads::spawn("vhost-user-wait", move || {
                let confined = host.thread_starts(ThreadKind::VhostUser);
                let watches = confined.is_ok();
                if ready.send(confined).is_ok() && watches {
                    shared.watch();
                }
            })?
        };
        let guard = Self { shared, thread: Some(thread) };
        started.recv().map_err(io::Error::other)??;
        Ok(guard)
    }

    /// Allows what happens on `line` from now on `patience`.
    pub(super) fn over(&self, line: UnixStream, patience: Duration) -> Watched<'_> {
        let mut state = self.shared.state();
        state.line = Some(line);
        state.deadline = Some(Instant::now() + patience);
        self.shared.changed.notify_all();
        Watched(&self.shared)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) {
        let mut state = self.state();
        while !state.ends {
            let left = state.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    state.deadline = None;
                    if let Some(line) = state.line.take() {
                        // It may have gone already.
                        let _ = line.shutdown(Shutdown::Both);
                    }
                    state
                }
                Some(left) => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.line, state.deadline) = (None, None);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.state().ends = true;
        self.shared.changed.notify_all();
        // It can have panicked only with nothing left to do.
        drop(self.thread.take().map(JoinHandle::join));
    }
}
