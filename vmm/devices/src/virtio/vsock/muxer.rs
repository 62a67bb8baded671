//! All connections of a guest: finds the one that a packet or an event is for, and takes turns among those with
//! something to send.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tracing::{debug, warn};
use vmm_sys_util::epoll::EventSet;

use super::connection::{BUFFER, Connection, Outgoing, Ports};
use super::handshake::{Handshake, Progress};
use super::packet::{HOST_CID, Header, Operation, TYPE_STREAM};
use crate::poller::Source;

/// Most connections at a time, those that wait for the guest included. Without it the guest could use up the host's
/// descriptors, and with them memory: each connection holds up to [`BUFFER`] bytes.
const MAX_CONNECTIONS: usize = 256;
/// Most resets that wait for receive buffers. At this point no more packets are taken from the guest; without it a guest
/// that sends garbage and never receives would fill our memory.
const MAX_RESETS: usize = 256;
/// Ports for connections from the host start here, away from those that programs choose.
const FIRST_HOST_PORT: u32 = 1 << 30;

const LISTENER: u64 = 0;

pub(super) struct Muxer {
    guest_cid: u64,
    socket: PathBuf,
    listener: Arc<UnixListener>,
    /// The host is out of descriptors; tried again when a connection has ended.
    listener_paused: bool,
    /// Handshakes and connections share one sequence of ids, which are the tokens of their sockets as well.
    next_id: u64,
    handshakes: BTreeMap<u64, Handshake>,
    connections: BTreeMap<u64, Connection>,
    by_ports: BTreeMap<Ports, u64>,
    next_host_port: u32,
    /// Connections with something to send, each once, in turn.
    ready: VecDeque<u64>,
    /// Resets for packets that belong to no connection.
    resets: VecDeque<Header>,
}

impl Muxer {
    pub(super) fn new(guest_cid: u64, socket: PathBuf, listener: Arc<UnixListener>) -> Self {
        Self {
            guest_cid,
            socket,
            listener,
            listener_paused: false,
            next_id: LISTENER + 1,
            handshakes: BTreeMap::new(),
            connections: BTreeMap::new(),
            by_ports: BTreeMap::new(),
            next_host_port: FIRST_HOST_PORT,
            ready: VecDeque::new(),
            resets: VecDeque::new(),
        }
    }

    pub(super) fn sources(&self) -> Vec<Source<'_>> {
        // Processes beyond the limit wait in the backlog.
        let listening = !self.listener_paused && self.has_room();
        let listener =
            listening.then(|| Source { token: LISTENER, fd: self.listener.as_fd(), events: EventSet::IN });
        let handshakes = self.handshakes.iter().map(|(&token, shake)| Source {
            token,
            fd: shake.fd(),
            events: EventSet::IN,
        });
        let connections = self.connections.iter().filter_map(|(&token, connection)| {
            let (fd, events) = connection.interest()?;
            Some(Source { token, fd, events })
        });
        listener.into_iter().chain(handshakes).chain(connections).collect()
    }

    /// One of the sources is ready.
    pub(super) fn event(&mut self, token: u64, ready: EventSet) {
        if token == LISTENER {
            self.accept();
        } else if let Some(handshake) = self.handshakes.remove(&token) {
            self.listener_paused = false;
            match handshake.advance() {
                Progress::Wait(handshake) => drop(self.handshakes.insert(token, handshake)),
                Progress::Connect(stream, guest_port) => self.connect_to_guest(stream, guest_port),
                Progress::Refuse => debug!("a host process broke off its vsock handshake"),
            }
        } else if let Some(connection) = self.connections.get_mut(&token) {
            connection.host_event(ready);
            self.settle(token);
        }
    }

    /// Whether packets from the guest can be taken now.
    pub(super) fn accepts_packets(&self) -> bool {
        self.resets.len() < MAX_RESETS
    }

    /// A packet from the guest; no data when its length was wrong.
    pub(super) fn guest_packet(&mut self, header: &Header, data: Option<&[u8]>) {
        if header.src_cid != self.guest_cid || header.dst_cid != HOST_CID || header.socket_type != TYPE_STREAM
        {
            debug!(?header, "vsock packet with an address or type that is not served");
            return self.reset(header);
        }
        let ports = Ports { host: header.dst_port, guest: header.src_port };
        if let Some(&id) = self.by_ports.get(&ports) {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.guest_packet(header, data);
            }
            self.settle(id);
        } else if header.op == Operation::Request {
            self.connect_to_host(ports, header);
        } else {
            self.reset(header);
        }
    }

    /// Whether a packet waits for a receive buffer.
    pub(super) fn has_packet(&self) -> bool {
        !self.resets.is_empty() || !self.ready.is_empty()
    }

    /// The next packet for the guest, with at most `room` (not 0) bytes of data.
    pub(super) fn next_packet(&mut self, room: usize) -> Option<(Header, Vec<u8>)> {
        if let Some(reset) = self.resets.pop_front() {
            return Some((reset, Vec::new()));
        }
        while let Some(id) = self.ready.pop_front() {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            let ports = connection.ports();
            let packet = connection.next_packet(room);
            self.settle(id);
            if let Some(packet) = packet {
                return Some(self.address(ports, packet));
            }
        }
        None
    }

    fn address(&self, ports: Ports, packet: Outgoing) -> (Header, Vec<u8>) {
        let header = Header {
            src_cid: HOST_CID,
            dst_cid: self.guest_cid,
            src_port: ports.host,
            dst_port: ports.guest,
            len: u32::try_from(packet.data.len()).unwrap_or(0),
            socket_type: TYPE_STREAM,
            op: packet.op,
            flags: packet.flags,
            buf_alloc: BUFFER,
            fwd_cnt: packet.fwd_cnt,
        };
        (header, packet.data)
    }

    /// Queues a connection that has something to send, forgets one that is closed.
    fn settle(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        if connection.closed() {
            self.by_ports.remove(&connection.ports());
            self.connections.remove(&id);
            self.listener_paused = false;
        } else if connection.has_packet() && !self.ready.contains(&id) {
            self.ready.push_back(id);
        }
    }

    /// Answers a packet that belongs to no connection.
    fn reset(&mut self, packet: &Header) {
        // A reset for a reset would never end.
        if packet.op == Operation::Reset {
            return;
        }
        self.resets.push_back(Header {
            src_cid: packet.dst_cid,
            dst_cid: packet.src_cid,
            src_port: packet.dst_port,
            dst_port: packet.src_port,
            len: 0,
            socket_type: packet.socket_type,
            op: Operation::Reset,
            flags: 0,
            buf_alloc: 0,
            fwd_cnt: 0,
        });
    }

    fn connect_to_host(&mut self, ports: Ports, request: &Header) {
        if !self.has_room() {
            debug!(port = ports.host, "guest has {MAX_CONNECTIONS} vsock connections open and gets no more");
            return self.reset(request);
        }
        match self.host_stream(ports.host) {
            Ok(stream) => self.add(Connection::from_guest(ports, stream, request)),
            Err(error) => {
                debug!(port = ports.host, "no host process takes the guest's connection: {error}");
                self.reset(request);
            }
        }
    }

    fn host_stream(&self, port: u32) -> io::Result<UnixStream> {
        let mut path = OsString::from(&self.socket);
        path.push(format!("_{port}"));
        // std's connect would block while the process's backlog is full, and the whole device with it.
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(socket.into())
    }

    fn accept(&mut self) {
        let accepted = self.listener.accept().and_then(|(stream, _)| {
            stream.set_nonblocking(true)?;
            Ok(stream)
        });
        match accepted {
            Ok(stream) => {
                let id = self.take_id();
                self.handshakes.insert(id, Handshake::new(stream));
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => {
                warn!("vsock socket takes no connections for now: {error}");
                self.listener_paused = true;
            }
        }
    }

    fn connect_to_guest(&mut self, stream: UnixStream, guest: u32) {
        let host = self.next_host_port;
        self.next_host_port = host.checked_add(1).unwrap_or(FIRST_HOST_PORT);
        let ports = Ports { host, guest };
        if self.by_ports.contains_key(&ports) {
            return warn!("vsock port {host} is still in use; the host process has to try again");
        }
        self.add(Connection::from_host(ports, stream));
    }

    fn add(&mut self, connection: Connection) {
        let id = self.take_id();
        self.by_ports.insert(connection.ports(), id);
        self.connections.insert(id, connection);
        self.settle(id);
    }

    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn has_room(&self) -> bool {
        self.connections.len() + self.handshakes.len() < MAX_CONNECTIONS
    }
}
