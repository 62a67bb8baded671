//! Waits for descriptors that become ready, with the set of interest stated anew before each wait.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// A descriptor of a device's backend.
pub struct Source<'fd> {
    /// Returned with the event; chosen by the owner, unique among its descriptors and never used again for another one.
    pub token: u64,
    /// The descriptor.
    pub fd: BorrowedFd<'fd>,
    /// What to wait for. Errors and hang-ups are reported in any case.
    pub events: EventSet,
}

/// Events that one wait takes at most; the rest comes with the next wait.
const BATCH: usize = 64;

/// Tokens of permanent descriptors count down from here.
const PERMANENT: u64 = u64::MAX;

/// An epoll set that follows a list of [`Source`]s.
pub(crate) struct Poller {
    epoll: Epoll,
    permanent: u64,
    watched: BTreeMap<u64, Watched>,
}

#[derive(Clone, Copy, PartialEq)]
struct Watched {
    fd: RawFd,
    events: EventSet,
    /// Regular files and /dev/null cannot be waited for: they never block.
    always_ready: bool,
}

/// What woke the poller up.
pub(crate) enum Ready {
    /// The permanent descriptor of this number, counted from 0 in the order of [`Poller::add`].
    Permanent(usize),
    /// A source, with the events that happened.
    Source(u64, EventSet),
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: Epoll::new()?, permanent: 0, watched: BTreeMap::new() })
    }

    /// Watches `fd` for input as long as the poller lives. `fd` must live as long.
    pub(crate) fn add(&mut self, fd: &dyn AsRawFd) -> io::Result<()> {
        let event = EpollEvent::new(EventSet::IN, PERMANENT - self.permanent);
        self.epoll.ctl(ControlOperation::Add, fd.as_raw_fd(), event)?;
        self.permanent += 1;
        Ok(())
    }

    /// Waits until a permanent descriptor or one of `sources` is ready.
    pub(crate) fn wait(&mut self, sources: &[Source<'_>]) -> io::Result<Vec<Ready>> {
        self.watch(sources)?;
        let always_ready = self.watched.iter().filter(|(_, watched)| watched.always_ready);
        let mut ready: Vec<_> =
            always_ready.map(|(&token, watched)| Ready::Source(token, watched.events)).collect();
        let timeout = if ready.is_empty() { -1 } else { 0 };

        let mut events = [EpollEvent::default(); BATCH];
        let count = loop {
            match self.epoll.wait(timeout, &mut events) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        ready.extend(events.iter().take(count).map(|event| match PERMANENT - event.data() {
            number if number < self.permanent => {
                Ready::Permanent(usize::try_from(number).unwrap_or(usize::MAX))
            }
            _ => Ready::Source(event.data(), EventSet::from_bits_truncate(event.events())),
        }));
        Ok(ready)
    }

    fn watch(&mut self, sources: &[Source<'_>]) -> io::Result<()> {
        let is_watched = |source: &Source<'_>| {
            let watched = self.watched.get(&source.token);
            watched.is_some_and(|known| known.fd == source.fd.as_raw_fd() && known.events == source.events)
        };
        if self.watched.len() == sources.len() && sources.iter().all(is_watched) {
            return Ok(());
        }
        let wanted: BTreeMap<u64, (RawFd, EventSet)> =
            sources.iter().map(|source| (source.token, (source.fd.as_raw_fd(), source.events))).collect();
        // Removals first: a closed descriptor's number may already belong to a new source.
        self.watched.retain(|token, watched| {
            let keep = wanted.get(token) == Some(&(watched.fd, watched.events));
            if !keep && !watched.always_ready {
                // Fails when the descriptor was closed, which has removed it.
                let _ = self.epoll.ctl(ControlOperation::Delete, watched.fd, EpollEvent::default());
            }
            keep
        });
        for (token, (fd, events)) in wanted {
            if self.watched.contains_key(&token) {
                continue;
            }
            let always_ready = match self.epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(events, token))
            {
                Ok(()) => false,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => true,
                Err(error) => return Err(error),
            };
            self.watched.insert(token, Watched { fd, events, always_ready });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use vmm_sys_util::eventfd::EventFd;

    fn source<'fd>(token: u64, fd: &'fd impl AsFd, events: EventSet) -> Source<'fd> {
        Source { token, fd: fd.as_fd(), events }
    }

    fn tokens(ready: Vec<Ready>) -> Vec<u64> {
        let token = |ready| match ready {
            Ready::Permanent(number) => 1000 + number as u64,
            Ready::Source(token, _) => token,
        };
        ready.into_iter().map(token).collect()
    }

    #[test]
    fn only_what_is_asked_for_wakes() {
        let (a, mut b) = UnixStream::pair().unwrap();
        let event = EventFd::new(0).unwrap();
        let mut poller = Poller::new().unwrap();
        poller.add(&EventFd::new(0).unwrap()).unwrap();
        poller.add(&event).unwrap();

        b.write_all(b"x").unwrap();
        assert_eq!(tokens(poller.wait(&[source(1, &a, EventSet::IN)]).unwrap()), [1]);
        event.write(1).unwrap();
        assert_eq!(tokens(poller.wait(&[]).unwrap()), [1001]);
        assert_eq!(tokens(poller.wait(&[source(1, &a, EventSet::IN)]).unwrap()).len(), 2);
    }

    #[test]
    fn descriptor_number_that_is_used_again_belongs_to_the_new_source() {
        let mut poller = Poller::new().unwrap();
        let (old, peer) = UnixStream::pair().unwrap();
        let number = old.as_raw_fd();
        poller.wait(&[source(1, &old, EventSet::OUT)]).unwrap();
        drop((old, peer));
        let streams: Vec<_> = (0..8).map(|_| UnixStream::pair().unwrap()).collect();
        let new = streams.iter().flat_map(|(a, b)| [a, b]).find(|stream| stream.as_raw_fd() == number);
        if let Some(new) = new {
            assert_eq!(tokens(poller.wait(&[source(2, new, EventSet::OUT)]).unwrap()), [2]);
        }
    }

    #[test]
    fn regular_file_is_always_ready() {
        let file = tempfile::tempfile().unwrap();
        let mut poller = Poller::new().unwrap();
        for _ in 0..2 {
            assert_eq!(tokens(poller.wait(&[source(7, &file, EventSet::IN)]).unwrap()), [7]);
        }
        assert!(poller.watched.contains_key(&7));
    }
}
