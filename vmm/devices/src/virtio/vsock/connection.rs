//! One stream between a guest port and a host socket: states, credit and shutdown (virtio 1.2, 5.10.6).

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::num::Wrapping;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use vmm_sys_util::epoll::EventSet;

use super::MAX_DATA;
use super::packet::{Header, Operation, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};

/// Bytes from the guest that a connection holds while its host socket does not take them. The guest is told, and a guest
/// that sends more anyway is reset; without it a stalled host process would let the guest fill our memory.
pub(super) const BUFFER: u32 = 256 * 1024;
/// Credit that the guest has not been told of reaches this before a packet is sent just for it.
const ANNOUNCE: u32 = BUFFER / 4;

/// Both ports of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ports {
    pub(super) host: u32,
    pub(super) guest: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The host process connected; the guest has not answered our request.
    Requested,
    Established,
    /// The next packet is a reset, the last one.
    Aborted,
    /// Nothing more will be sent.
    Closed,
}

/// What goes to the guest: everything of a packet but addresses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) op: Operation,
    pub(super) flags: u32,
    pub(super) fwd_cnt: u32,
    pub(super) data: Vec<u8>,
}

/// One connection.
pub(super) struct Connection {
    ports: Ports,
    stream: UnixStream,
    state: State,
    /// Request or response that the guest waits for.
    greeting: Option<Operation>,

    /// From the guest, not yet taken by the host process.
    to_host: VecDeque<u8>,
    /// Bytes that the host process has taken.
    forwarded: Wrapping<u32>,
    /// What the guest knows of `forwarded`.
    announced: Wrapping<u32>,
    credit_update: bool,

    guest_buffer: u32,
    guest_forwarded: Wrapping<u32>,
    /// Bytes sent to the guest.
    sent: Wrapping<u32>,
    /// The guest was asked for credit and has not given any.
    credit_requested: bool,
    /// The host process has something to say, or has ended.
    readable: bool,

    host_sends: bool,
    host_receives: bool,
    guest_sends: bool,
    guest_receives: bool,
    /// Shutdown flags that the guest was told.
    shutdown_told: u32,
}

impl Connection {
    /// A connection that a host process asked for; the guest gets a request.
    pub(super) fn from_host(ports: Ports, stream: UnixStream) -> Self {
        Self::new(ports, stream, State::Requested, Operation::Request)
    }

    /// A connection that the guest asked for; it gets a response.
    pub(super) fn from_guest(ports: Ports, stream: UnixStream, request: &Header) -> Self {
        let mut connection = Self::new(ports, stream, State::Established, Operation::Response);
        connection.take_credit(request);
        connection
    }

    fn new(ports: Ports, stream: UnixStream, state: State, greeting: Operation) -> Self {
        Self {
            ports,
            stream,
            state,
            greeting: Some(greeting),
            to_host: VecDeque::new(),
            forwarded: Wrapping(0),
            announced: Wrapping(0),
            credit_update: false,
            guest_buffer: 0,
            guest_forwarded: Wrapping(0),
            sent: Wrapping(0),
            credit_requested: false,
            readable: false,
            host_sends: true,
            host_receives: true,
            guest_sends: true,
            guest_receives: true,
            shutdown_told: 0,
        }
    }

    pub(super) fn ports(&self) -> Ports {
        self.ports
    }

    pub(super) fn closed(&self) -> bool {
        self.state == State::Closed
    }

    /// The host socket and what to wait for, if anything. Hang-ups are always waited for while they mean something.
    pub(super) fn interest(&self) -> Option<(BorrowedFd<'_>, EventSet)> {
        let mut events = EventSet::empty();
        if self.state == State::Established && self.host_sends && self.guest_receives && !self.readable {
            events |= EventSet::IN;
        }
        if !self.to_host.is_empty() {
            events |= EventSet::OUT;
        }
        let alive = matches!(self.state, State::Requested | State::Established);
        (alive && (self.host_receives || !events.is_empty())).then(|| (self.stream.as_fd(), events))
    }

    /// The host socket is ready.
    pub(super) fn host_event(&mut self, ready: EventSet) {
        if ready.intersects(EventSet::HANG_UP | EventSet::ERROR) {
            if self.state == State::Requested {
                return self.abort();
            }
            self.host_receives = false;
            self.to_host.clear();
        }
        if ready.intersects(EventSet::IN | EventSet::HANG_UP | EventSet::ERROR) {
            self.readable = true;
        }
        if ready.contains(EventSet::OUT) {
            self.flush();
        }
        self.conclude();
    }

    /// A packet from the guest. `None` for data whose length is not what the header says.
    pub(super) fn guest_packet(&mut self, header: &Header, data: Option<&[u8]>) {
        self.take_credit(header);
        match (header.op, data) {
            (Operation::Reset, _) => self.state = State::Closed,
            (Operation::Response, _) if self.state == State::Requested => self.open(),
            (Operation::Data, Some(data)) if self.state == State::Established => self.take_data(data),
            (Operation::Shutdown, _) if self.state == State::Established => {
                self.guest_receives &= header.flags & SHUTDOWN_RECEIVE == 0;
                self.guest_sends &= header.flags & SHUTDOWN_SEND == 0;
            }
            (Operation::CreditUpdate, _) => {}
            (Operation::CreditRequest, _) => self.credit_update = true,
            _ => self.abort(),
        }
        self.conclude();
    }

    /// Whether [`Connection::next_packet`] would find something.
    pub(super) fn has_packet(&self) -> bool {
        match self.state {
            State::Closed => false,
            State::Aborted => true,
            State::Requested => self.greeting.is_some(),
            State::Established => {
                self.greeting.is_some()
                    || self.shutdown_news() != 0
                    || self.credit_update
                    || self.can_read() && (self.credit() > 0 || !self.credit_requested)
            }
        }
    }

    /// The next packet for the guest with at most `room` (not 0) bytes of data.
    pub(super) fn next_packet(&mut self, room: usize) -> Option<Outgoing> {
        let (op, flags, data) = self.next_operation(room)?;
        self.announced = self.forwarded;
        self.credit_update = false;
        Some(Outgoing { op, flags, fwd_cnt: self.forwarded.0, data })
    }

    fn next_operation(&mut self, room: usize) -> Option<(Operation, u32, Vec<u8>)> {
        match self.state {
            State::Closed => return None,
            State::Aborted => {
                self.state = State::Closed;
                return Some((Operation::Reset, 0, Vec::new()));
            }
            State::Requested | State::Established => {}
        }
        if let Some(greeting) = self.greeting.take() {
            return Some((greeting, 0, Vec::new()));
        }
        if self.state == State::Established && self.can_read() {
            if let Some(packet) = self.read_host(room) {
                return Some(packet);
            }
            if self.state == State::Aborted {
                return self.next_operation(room);
            }
        }
        if self.shutdown_news() != 0 {
            self.shutdown_told |= self.shutdown_news();
            return Some((Operation::Shutdown, self.shutdown_told, Vec::new()));
        }
        self.credit_update.then(|| (Operation::CreditUpdate, 0, Vec::new()))
    }

    fn read_host(&mut self, room: usize) -> Option<(Operation, u32, Vec<u8>)> {
        let credit = self.credit() as usize;
        if credit == 0 {
            let ask = !std::mem::replace(&mut self.credit_requested, true);
            return ask.then(|| (Operation::CreditRequest, 0, Vec::new()));
        }
        let mut data = vec![0; credit.min(room).min(MAX_DATA)];
        match self.stream.read(&mut data) {
            Ok(0) => self.host_sends = false,
            Ok(count) => {
                data.truncate(count);
                self.sent += Wrapping(u32::try_from(count).unwrap_or(0));
                return Some((Operation::Data, 0, data));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(_) => self.abort(),
        }
        None
    }

    fn open(&mut self) {
        self.state = State::Established;
        // A fresh socket has room for the line.
        if self.stream.write_all(format!("OK {}\n", self.ports.host).as_bytes()).is_err() {
            self.abort();
        }
    }

    fn take_credit(&mut self, header: &Header) {
        self.guest_buffer = header.buf_alloc;
        self.guest_forwarded = Wrapping(header.fwd_cnt);
        if self.credit() > 0 {
            self.credit_requested = false;
        }
    }

    /// Bytes that the guest has room for. A guest whose counters contradict ours has none.
    fn credit(&self) -> u32 {
        self.guest_buffer.saturating_sub((self.sent - self.guest_forwarded).0)
    }

    fn take_data(&mut self, data: &[u8]) {
        let held = self.to_host.len() + data.len();
        if !self.guest_sends || !self.host_receives || held > BUFFER as usize {
            return self.abort();
        }
        self.to_host.extend(data);
        self.flush();
    }

    fn flush(&mut self) {
        while !self.to_host.is_empty() {
            let (chunk, _) = self.to_host.as_slices();
            match self.stream.write(chunk) {
                Ok(count) if count > 0 => {
                    self.to_host.drain(..count.min(self.to_host.len()));
                    self.forwarded += Wrapping(u32::try_from(count).unwrap_or(0));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                _ => {
                    self.host_receives = false;
                    self.to_host.clear();
                }
            }
        }
        self.credit_update |= (self.forwarded - self.announced).0 >= ANNOUNCE;
    }

    /// Passes the guest's shutdown on once all its data has arrived, and ends what both sides have ended.
    fn conclude(&mut self) {
        if self.state != State::Established || self.guest_sends || !self.to_host.is_empty() {
            return;
        }
        if !self.guest_receives {
            // The guest closed its socket and waits for the reset that confirms it (5.10.6.5).
            return self.abort();
        }
        // Fails when the process is gone, which its hang-up tells.
        let _: io::Result<()> = self.stream.shutdown(Shutdown::Write);
    }

    fn can_read(&self) -> bool {
        self.readable && self.host_sends && self.guest_receives
    }

    /// Shutdown flags that the guest should hear of.
    fn shutdown_news(&self) -> u32 {
        let send = if self.host_sends { 0 } else { SHUTDOWN_SEND };
        let receive = if self.host_receives { 0 } else { SHUTDOWN_RECEIVE };
        (send | receive) & SHUTDOWN_BOTH & !self.shutdown_told
    }

    fn abort(&mut self) {
        if self.state != State::Closed {
            self.state = State::Aborted;
        }
    }
}
