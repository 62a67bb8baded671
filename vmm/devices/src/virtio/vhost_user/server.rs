//! The connection to a server.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag};
use vhost::vhost_user::{Frontend, VhostUserFrontend, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    MemoryRegionAddress,
};
use vmm_sys_util::eventfd::EventFd;

use super::Service;
use super::guard::{Guard, Watched};
use super::rings::ServedQueue;
use crate::virtio::DeviceHost;
use crate::virtio::queue::QueueLayout;

/// How often a server that does not listen yet is asked, and how long to wait in between.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);
/// How long a server may take to answer. A vCPU that resets the device waits for as long.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });
/// How long a server that is to come to us may take at first; a client of the VMM waits for it.
const ARRIVAL: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 20 });

/// Why a server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Nobody listens.
    #[error("no vhost-user server listens on {}; start it first", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody comes.
    #[error("no vhost-user server has come to {}; start it, as a client of this socket", socket.display())]
    Alone {
        /// The socket.
        socket: PathBuf,
    },
    /// There is no socket to which a server could come.
    #[error("no vhost-user server can come to {}", socket.display())]
    Listen {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An exchange failed.
    #[error("the vhost-user server on {} did not {action}", socket.display())]
    Exchange {
        /// The socket.
        socket: PathBuf,
        /// What it was to do.
        action: &'static str,
        /// Why.
        #[source]
        source: vhost::Error,
    },
    /// The server cannot do what the device needs.
    #[error("the vhost-user server on {} has no {what}", socket.display())]
    Lacks {
        /// The socket.
        socket: PathBuf,
        /// What is missing.
        what: String,
    },
    /// The server has too few queues.
    #[error("the vhost-user server on {} has {found} queues, the device has {needed}", socket.display())]
    Queues {
        /// The socket.
        socket: PathBuf,
        /// Queues of the server.
        found: u64,
        /// Queues of the device.
        needed: usize,
    },
    /// The server cannot map the memory of the guest.
    #[error(
        "guest memory at {gpa:#x} cannot be shared with a vhost-user server: it has no file (memory: shared=on)"
    )]
    Memory {
        /// Where.
        gpa: u64,
    },
    /// The guest's rings lie across two parts of memory.
    #[error("ring {queue} of the guest does not lie in one part of its memory")]
    Ring {
        /// Number of the queue.
        queue: usize,
    },
    /// The server has gone.
    #[error("the vhost-user server on {} has gone; start it again and reset the device", socket.display())]
    Gone {
        /// The socket.
        socket: PathBuf,
    },
}

/// A server of a device in another process, over boots of the guest.
pub struct Server {
    meeting: Meeting,
    service: Service,
    features: u64,
    config: Vec<u8>,
    link: Mutex<Option<Link>>,
    guard: Guard,
}

/// Where a server is met.
struct Meeting {
    socket: PathBuf,
    /// Where it comes to us.
    listener: Option<UnixListener>,
}

/// A live connection.
struct Link {
    frontend: Frontend,
    /// The same socket, to see the server go.
    watch: UnixStream,
    features: u64,
    /// Rings that the server runs, and their doorbells.
    running: Vec<(usize, Arc<EventFd>)>,
}

/// What a server says of itself.
struct Introduction {
    link: Link,
    config: Vec<u8>,
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Server").field("socket", &self.meeting.socket).finish_non_exhaustive()
    }
}

impl Server {
    /// Connects to the server that listens on `socket`, and asks what it can do. A thread of `host` watches over what is
    /// said to it from then on.
    ///
    /// # Errors
    /// [`ServerError`] that names the socket.
    pub fn connect(socket: &Path, service: Service, host: &Arc<dyn DeviceHost>) -> Result<Self, ServerError> {
        Self::meet(Meeting { socket: socket.into(), listener: None }, service, host)
    }

    /// The same for a server that comes to `socket`, which is made.
    ///
    /// # Errors
    /// [`ServerError`] that names the socket.
    pub fn listen(socket: &Path, service: Service, host: &Arc<dyn DeviceHost>) -> Result<Self, ServerError> {
        let failed = |source| ServerError::Listen { socket: socket.into(), source };
        // One that an earlier VMM has left behind.
        if socket.symlink_metadata().is_ok_and(|file| file.file_type().is_socket()) {
            std::fs::remove_file(socket).map_err(failed)?;
        }
        let listener = UnixListener::bind(socket).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Self::meet(Meeting { socket: socket.into(), listener: Some(listener) }, service, host)
    }

    fn meet(meeting: Meeting, service: Service, host: &Arc<dyn DeviceHost>) -> Result<Self, ServerError> {
        let socket = &meeting.socket;
        let guard =
            Guard::new(host).map_err(|source| ServerError::Connect { socket: socket.clone(), source })?;
        let stream = meeting.open(ARRIVAL)?;
        let Introduction { link, config } = {
            let _watched = watched(&guard, &stream, socket)?;
            introduce(socket, &service, stream)?
        };
        let config = service.config(config);
        Ok(Self { meeting, service, features: link.features, config, link: Mutex::new(Some(link)), guard })
    }

    pub(super) fn service(&self) -> &Service {
        &self.service
    }

    /// Feature bits that it offered when the device was made.
    pub(super) fn features(&self) -> u64 {
        self.features
    }

    /// The device's configuration space.
    pub(super) fn config(&self) -> &[u8] {
        &self.config
    }

    /// A descriptor that hangs up with the server.
    pub(super) fn watch(&self) -> Result<UnixStream, ServerError> {
        let link = self.link();
        let watch = link.as_ref().and_then(|link| link.watch.try_clone().ok());
        watch.ok_or_else(|| ServerError::Gone { socket: self.socket().into() })
    }

    /// The server, if it was there when it was last needed, has gone.
    pub(super) fn gone(&self) -> ServerError {
        *self.link() = None;
        ServerError::Gone { socket: self.socket().into() }
    }

    /// Has the server run `queues` on `memory`, after it has come back if it had gone. Of an interface only the first
    /// pair is enabled.
    pub(super) fn start(
        &self,
        features: u64,
        memory: &GuestMemoryMmap,
        queues: &[ServedQueue],
    ) -> Result<(), ServerError> {
        let regions = regions(memory)?;
        let rings = queues
            .iter()
            .map(|queue| Ok((queue, ring(memory, queue.queue.layout(), queue.index)?)))
            .collect::<Result<Vec<_>, ServerError>>()?;
        let mut slot = self.link();
        if slot.as_ref().is_none_or(|link| hung_up(&link.watch)) {
            *slot = None;
            let stream = self.meeting.open(ATTEMPTS * PAUSE)?;
            let _watched = watched(&self.guard, &stream, self.socket())?;
            let back = introduce(self.socket(), &self.service, stream)?.link;
            let missing = self.features & !back.features;
            if missing != 0 {
                return Err(self.lacks(format!("features {missing:#x} that it had before")));
            }
            tracing::info!(socket = %self.socket().display(), "the vhost-user server is back");
            *slot = Some(back);
        }
        let Some(link) = slot.as_mut() else {
            return Err(ServerError::Gone { socket: self.socket().into() });
        };
        let _watched = watched(&self.guard, &link.watch, self.socket())?;
        let started = self.run(link, features, &regions, &rings);
        if started.is_err() {
            // Half of a set-up is worth nothing: the server starts over with a new connection.
            *slot = None;
        }
        started
    }

    fn run(
        &self,
        link: &mut Link,
        features: u64,
        regions: &[VhostUserMemoryRegionInfo],
        rings: &[(&ServedQueue, VringConfigData)],
    ) -> Result<(), ServerError> {
        // A ring that still runs belongs to an earlier guest.
        for (ring, _) in std::mem::take(&mut link.running) {
            link.frontend.get_vring_base(ring).map_err(self.failed("stop a queue"))?;
        }
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        let features = (features | protocol) & link.features;
        link.frontend.set_features(features).map_err(self.failed("take the features"))?;
        link.frontend.set_mem_table(regions).map_err(self.failed("take the guest's memory"))?;
        let at_first = if matches!(self.service, Service::Net(_)) { 2 } else { usize::MAX };
        for (served, config) in rings {
            let ring = served.index;
            let frontend = &mut link.frontend;
            frontend.set_vring_num(ring, config.queue_size).map_err(self.failed("take a queue's size"))?;
            frontend.set_vring_addr(ring, config).map_err(self.failed("take a queue's place"))?;
            frontend.set_vring_base(ring, served.base).map_err(self.failed("take a queue's position"))?;
            frontend.set_vring_call(ring, &served.call).map_err(self.failed("take a queue's interrupt"))?;
            frontend.set_vring_kick(ring, &served.kick).map_err(self.failed("take a queue's doorbell"))?;
            link.running.push((ring, Arc::clone(&served.kick)));
            if features & protocol != 0 {
                frontend.set_vring_enable(ring, ring < at_first).map_err(self.failed("enable a queue"))?;
            }
        }
        self.knock(link)
    }

    /// Rings every doorbell once more. A server may have heard the guest's ring while the queue was not enabled, and
    /// have forgotten it (vhost-user-backend did before 0.22, and virtiofsd with it); a ring for nothing harms none.
    fn knock(&self, link: &Link) -> Result<(), ServerError> {
        // Without acknowledgements, an answer tells that the server has enabled what it was asked to before.
        link.frontend.get_features().map_err(self.failed("enable its queues"))?;
        for (_, kick) in &link.running {
            // It fails only when the server has rings to hear already.
            let _ = kick.write(1);
        }
        Ok(())
    }

    /// Stops all rings: the server touches guest memory no more. Their positions, by number of the ring.
    pub(super) fn stop(&self) -> Result<Vec<(usize, u16)>, ServerError> {
        let mut slot = self.link();
        let Some(link) = slot.as_mut() else { return Ok(Vec::new()) };
        let line = link.watch.try_clone();
        let line = line.map_err(|source| ServerError::Connect { socket: self.socket().into(), source })?;
        let _watched = self.guard.over(line, PATIENCE);
        let mut bases = Vec::new();
        for (ring, _) in std::mem::take(&mut link.running) {
            match link.frontend.get_vring_base(ring) {
                Ok(base) => bases.push((ring, u16::try_from(base & 0xffff).unwrap_or(0))),
                Err(source) => {
                    *slot = None;
                    return Err(self.failed("stop a queue")(source));
                }
            }
        }
        Ok(bases)
    }

    /// Enables the first `count` rings, and no others.
    pub(super) fn enable_first(&self, count: usize) -> Result<(), ServerError> {
        let mut slot = self.link();
        let Some(link) = slot.as_mut() else {
            return Err(ServerError::Gone { socket: self.socket().into() });
        };
        let _watched = watched(&self.guard, &link.watch, self.socket())?;
        for &(ring, _) in &link.running {
            link.frontend.set_vring_enable(ring, ring < count).map_err(self.failed("enable a queue"))?;
        }
        self.knock(link)
    }

    fn socket(&self) -> &Path {
        &self.meeting.socket
    }

    fn link(&self) -> MutexGuard<'_, Option<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, action: &'static str) -> impl Fn(vhost::Error) -> ServerError {
        failed(self.socket(), action)
    }

    fn lacks(&self, what: String) -> ServerError {
        ServerError::Lacks { socket: self.socket().into(), what }
    }
}

fn failed(socket: &Path, action: &'static str) -> impl Fn(vhost::Error) -> ServerError {
    move |source| ServerError::Exchange { socket: socket.into(), action, source }
}

/// Ends what happens on `line` unless the result is dropped in time.
fn watched<'a>(guard: &'a Guard, line: &UnixStream, socket: &Path) -> Result<Watched<'a>, ServerError> {
    let line = line.try_clone().map_err(|source| ServerError::Connect { socket: socket.into(), source })?;
    Ok(guard.over(line, PATIENCE))
}

impl Meeting {
    /// A new connection. One that is to come is waited for.
    fn open(&self, arrival: Duration) -> Result<UnixStream, ServerError> {
        match &self.listener {
            Some(listener) => self.accept(listener, arrival),
            None => self.connect(),
        }
    }

    fn accept(&self, listener: &UnixListener, arrival: Duration) -> Result<UnixStream, ServerError> {
        let socket = || self.socket.clone();
        let failed = |source| ServerError::Listen { socket: socket(), source };
        let limit = Timespec::try_from(arrival).unwrap_or_default();
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&limit)).map_err(|errno| failed(errno.into()))?;
        if ready == 0 {
            return Err(ServerError::Alone { socket: socket() });
        }
        let (stream, _) = listener.accept().map_err(failed)?;
        stream.set_nonblocking(false).map_err(failed)?;
        Ok(stream)
    }

    /// A server may have been started at the same time, so it is given some time to listen.
    fn connect(&self) -> Result<UnixStream, ServerError> {
        let mut attempt = 1;
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => return Ok(stream),
                Err(error)
                    if attempt < ATTEMPTS
                        && matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {}
                Err(source) => return Err(ServerError::Connect { socket: self.socket.clone(), source }),
            }
            attempt += 1;
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        if self.listener.is_some() {
            // Somebody may have taken it away already.
            let _ = std::fs::remove_file(&self.socket);
        }
    }
}

fn introduce(socket: &Path, service: &Service, stream: UnixStream) -> Result<Introduction, ServerError> {
    let lacks = |what: &str| ServerError::Lacks { socket: socket.into(), what: what.into() };
    let needed = service.served_queues();
    let watch =
        stream.try_clone().map_err(|source| ServerError::Connect { socket: socket.into(), source })?;
    let mut frontend = Frontend::from_stream(stream, needed as u64);
    frontend.set_owner().map_err(failed(socket, "accept its owner"))?;
    let features = frontend.get_features().map_err(failed(socket, "tell its features"))?;
    if features & 1 << VIRTIO_F_VERSION_1 == 0 {
        return Err(lacks("virtio 1.0 (VIRTIO_F_VERSION_1)"));
    }
    let mut protocol = VhostUserProtocolFeatures::empty();
    if features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() != 0 {
        let wanted = VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIG;
        let known = frontend.get_protocol_features().map_err(failed(socket, "tell its protocol"))?;
        protocol = known & wanted;
        frontend.set_protocol_features(protocol).map_err(failed(socket, "take the protocol"))?;
    }
    if protocol.contains(VhostUserProtocolFeatures::REPLY_ACK) {
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    }
    // Servers of interfaces disagree on whether they count queues or pairs, so they are not asked.
    if protocol.contains(VhostUserProtocolFeatures::MQ) && !matches!(service, Service::Net(_)) {
        let found = frontend.get_queue_num().map_err(failed(socket, "tell its number of queues"))?;
        if found < needed as u64 {
            return Err(ServerError::Queues { socket: socket.into(), found, needed });
        }
    }
    let len = service.server_config_len();
    let mut config = Vec::new();
    if len > 0 {
        if !protocol.contains(VhostUserProtocolFeatures::CONFIG) {
            return Err(lacks("configuration space (VHOST_USER_PROTOCOL_F_CONFIG)"));
        }
        let room = vec![0; usize::try_from(len).unwrap_or(0)];
        config = frontend
            .get_config(0, len, VhostUserConfigFlags::empty(), &room)
            .map_err(failed(socket, "tell its configuration"))?
            .1;
    }
    Ok(Introduction { link: Link { frontend, watch, features, running: Vec::new() }, config })
}

fn hung_up(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
    let ready = poll(&mut fds, Some(&Timespec::default()));
    ready.is_err() || fds.iter().any(|fd| !fd.revents().is_empty())
}

pub(super) fn regions(memory: &GuestMemoryMmap) -> Result<Vec<VhostUserMemoryRegionInfo>, ServerError> {
    let region = |region: &GuestRegionMmap| {
        VhostUserMemoryRegionInfo::from_guest_region(region)
            .map_err(|_| ServerError::Memory { gpa: region.start_addr().0 })
    };
    memory.iter().map(region).collect()
}

/// A ring as the server is told of it: by addresses of this process. A server translates where a part begins, and goes
/// on from there; so each part has to lie in one region.
pub(super) fn ring(
    memory: &GuestMemoryMmap,
    layout: QueueLayout,
    queue: usize,
) -> Result<VringConfigData, ServerError> {
    let size = u64::from(layout.size);
    let address = |gpa: u64, len: u64| {
        let region = memory.find_region(GuestAddress(gpa))?;
        let offset = gpa.checked_sub(region.start_addr().0)?;
        let last = offset.checked_add(len.checked_sub(1)?)?;
        region.address_in_range(MemoryRegionAddress(last)).then_some(region.as_ptr() as u64 + offset)
    };
    let lies_across = || ServerError::Ring { queue };
    Ok(VringConfigData {
        queue_max_size: layout.size,
        queue_size: layout.size,
        flags: 0,
        desc_table_addr: address(layout.descriptors, 16 * size).ok_or_else(lies_across)?,
        avail_ring_addr: address(layout.driver, 6 + 2 * size).ok_or_else(lies_across)?,
        used_ring_addr: address(layout.device, 6 + 8 * size).ok_or_else(lies_across)?,
        log_addr: None,
    })
}
