//! Real Unix sockets on one side, a guest driver that speaks the protocol on the other.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::time::Instant;

use super::connection::BUFFER;
use super::packet::{Operation, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND, TYPE_STREAM};
use super::*;
use crate::testing::{Buffer, Driver, Machine, PATIENCE};

const GUEST_CID: u64 = 42;
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const ROOM: usize = HEADER_LEN + 4096;
/// Receive buffers lie below, packets that were sent already may be overwritten.
const KEEP: u64 = 0x8_0000;

struct Guest {
    driver: Driver,
    /// Receive buffers by the head with which they were offered.
    rooms: HashMap<u16, Buffer>,
    socket: PathBuf,
    _machine: Machine,
    _directory: tempfile::TempDir,
}

impl Guest {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("vsock");
        let machine = Machine::plain();
        let driver = machine.start(Vsock::new(GUEST_CID, &socket).unwrap(), 0);
        let rooms = HashMap::new();
        let mut guest = Self { driver, rooms, socket, _machine: machine, _directory: directory };
        guest.offer_rooms();
        guest
    }

    fn offer_rooms(&mut self) {
        for _ in 0..16 {
            let room = self.driver.room(ROOM);
            self.offer_room(room);
        }
    }

    fn offer_room(&mut self, room: Buffer) {
        let head = self.driver.submit(RECEIVE, &[room]);
        self.rooms.insert(head, room);
    }

    /// A host service on a port that guests can connect to.
    fn serve(&self, port: u32) -> UnixListener {
        UnixListener::bind(format!("{}_{port}", self.socket.display())).unwrap()
    }

    fn header(op: Operation, guest_port: u32, host_port: u32) -> Header {
        Header {
            src_cid: GUEST_CID,
            dst_cid: HOST_CID,
            src_port: guest_port,
            dst_port: host_port,
            len: 0,
            socket_type: TYPE_STREAM,
            op,
            flags: 0,
            buf_alloc: 0x1_0000,
            fwd_cnt: 0,
        }
    }

    fn send(&mut self, header: &Header, data: &[u8]) {
        let header = Header { len: u32::try_from(data.len()).unwrap(), ..*header };
        let mut packet = header.encode();
        packet.extend_from_slice(data);
        let packet = self.driver.buffer(&packet);
        let head = self.driver.submit(TRANSMIT, &[packet]);
        // The interrupts of both queues share a channel, so returned packets are looked for without them.
        let started = Instant::now();
        loop {
            if let Some((returned, _)) = self.driver.take_used(TRANSMIT) {
                return assert_eq!(returned, head);
            }
            assert!(started.elapsed() < PATIENCE, "packet never returned");
            std::thread::yield_now();
        }
    }

    fn send_op(&mut self, op: Operation, guest_port: u32, host_port: u32) {
        self.send(&Self::header(op, guest_port, host_port), &[]);
    }

    /// The next packet from the device, if there is one.
    fn poll(&mut self) -> Option<(Header, Vec<u8>)> {
        let (head, len) = self.driver.take_used(RECEIVE)?;
        let room = self.rooms.remove(&head).unwrap();
        let packet = self.driver.content(room)[..len as usize].to_vec();
        self.offer_room(room);
        Some((Header::decode(packet[..HEADER_LEN].try_into().unwrap()), packet[HEADER_LEN..].to_vec()))
    }

    /// The next packet from the device, waiting for it.
    fn receive(&mut self) -> (Header, Vec<u8>) {
        let started = Instant::now();
        loop {
            if let Some(packet) = self.poll() {
                return packet;
            }
            assert!(started.elapsed() < PATIENCE, "no packet came");
            std::thread::yield_now();
        }
    }

    fn expect(&mut self, op: Operation) -> Header {
        let (header, data) = self.receive();
        assert_eq!((header.op, data.len()), (op, 0));
        header
    }

    /// Connects guest port 1000 to a host service.
    fn connected(port: u32) -> (Self, UnixStream) {
        let mut guest = Self::new();
        let service = guest.serve(port);
        guest.send_op(Operation::Request, 1000, port);
        let response = guest.expect(Operation::Response);
        assert_eq!((response.src_port, response.dst_port, response.buf_alloc), (port, 1000, BUFFER));
        let (stream, _) = service.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        (guest, stream)
    }
}

#[test]
fn guest_learns_its_cid() {
    assert_eq!(Guest::new().driver.device_config(0, 8), GUEST_CID);
}

#[test]
fn guest_talks_to_a_host_service() {
    let (mut guest, mut service) = Guest::connected(8443);
    guest.send(&Guest::header(Operation::Data, 1000, 8443), b"GET /challenge");
    let mut text = [0; 14];
    service.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"GET /challenge");
    service.write_all(b"nonce").unwrap();
    let (header, data) = guest.receive();
    assert_eq!((header.op, header.len, header.fwd_cnt, &data[..]), (Operation::Data, 5, 14, &b"nonce"[..]));
}

#[test]
fn host_process_reaches_a_guest_port() {
    let mut guest = Guest::new();
    let mut client = UnixStream::connect(&guest.socket).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    // What follows the line is for the guest.
    client.write_all(b"CONNECT 52\nhello").unwrap();
    let request = guest.expect(Operation::Request);
    assert_eq!(request.dst_port, 52);
    let host_port = request.src_port;
    guest.send_op(Operation::Response, 52, host_port);
    let mut client = BufReader::new(client);
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    assert_eq!(line, format!("OK {host_port}\n"));
    assert_eq!(guest.receive().1, b"hello");
    guest.send(&Guest::header(Operation::Data, 52, host_port), b"hi");
    let mut text = [0; 2];
    client.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"hi");
}

#[test]
fn host_process_is_turned_away_when_the_guest_resets() {
    let mut guest = Guest::new();
    let mut client = UnixStream::connect(&guest.socket).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"CONNECT 52\n").unwrap();
    let request = guest.expect(Operation::Request);
    guest.send_op(Operation::Reset, 52, request.src_port);
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn host_process_that_speaks_nonsense_is_turned_away() {
    let guest = Guest::new();
    for line in [&b"HELLO\n"[..], b"CONNECT x\n", &[b'C'; 100], b"\n"] {
        let mut client = UnixStream::connect(&guest.socket).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(line).unwrap();
        // A reset instead of the end of the stream tells that unread bytes were thrown away.
        let end = client.read(&mut [0; 8]).or_else(|error| match error.kind() {
            ErrorKind::ConnectionReset => Ok(0),
            _ => Err(error),
        });
        assert_eq!(end.unwrap(), 0);
    }
}

#[test]
fn connection_to_a_port_without_service_is_reset() {
    let mut guest = Guest::new();
    guest.send_op(Operation::Request, 1000, 9);
    let reset = guest.expect(Operation::Reset);
    assert_eq!((reset.src_port, reset.dst_port), (9, 1000));
}

#[test]
fn packets_that_belong_to_nothing_are_reset_but_resets_are_not_answered() {
    let mut guest = Guest::new();
    for op in [
        Operation::Data,
        Operation::Response,
        Operation::Shutdown,
        Operation::CreditRequest,
        Operation::Unknown(99),
    ] {
        guest.send_op(op, 1000, 9);
        guest.expect(Operation::Reset);
    }
    guest.send_op(Operation::Reset, 1000, 9);
    guest.send_op(Operation::Data, 1001, 9);
    assert_eq!(guest.expect(Operation::Reset).dst_port, 1001);
}

#[test]
fn packet_of_another_cid_or_type_never_reaches_a_service() {
    let mut guest = Guest::new();
    let service = guest.serve(8443);
    service.set_nonblocking(true).unwrap();
    let request = Guest::header(Operation::Request, 1000, 8443);
    let strays = [
        Header { dst_cid: 3, ..request },
        Header { src_cid: 7, ..request },
        Header { socket_type: 2, ..request },
    ];
    for stray in strays {
        guest.send(&stray, &[]);
        let (reset, _) = guest.receive();
        assert_eq!(reset.op, Operation::Reset);
        assert_eq!((reset.src_cid, reset.dst_cid), (stray.dst_cid, stray.src_cid));
        assert_eq!(reset.socket_type, stray.socket_type);
        assert!(service.accept().is_err());
    }
}

#[test]
fn guest_that_closes_gets_its_data_delivered_and_a_confirmation() {
    let (mut guest, mut service) = Guest::connected(8443);
    guest.send(&Guest::header(Operation::Data, 1000, 8443), b"bye");
    let shutdown = Header { flags: SHUTDOWN_BOTH, ..Guest::header(Operation::Shutdown, 1000, 8443) };
    guest.send(&shutdown, &[]);
    guest.expect(Operation::Reset);
    let mut text = Vec::new();
    service.read_to_end(&mut text).unwrap();
    assert_eq!(text, b"bye");
}

#[test]
fn half_closed_streams_still_carry_the_other_direction() {
    let (mut guest, mut service) = Guest::connected(8443);
    let done = Header { flags: SHUTDOWN_SEND, ..Guest::header(Operation::Shutdown, 1000, 8443) };
    guest.send(&done, &[]);
    assert_eq!(service.read(&mut [0; 8]).unwrap(), 0);
    service.write_all(b"answer").unwrap();
    assert_eq!(guest.receive().1, b"answer");

    let (mut guest, mut service) = Guest::connected(8443);
    service.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(guest.expect(Operation::Shutdown).flags, SHUTDOWN_SEND);
    guest.send(&Guest::header(Operation::Data, 1000, 8443), b"answer");
    let mut text = [0; 6];
    service.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"answer");
}

#[test]
fn guest_hears_that_the_service_hung_up() {
    let (mut guest, service) = Guest::connected(8443);
    drop(service);
    let mut told = 0;
    while told != SHUTDOWN_BOTH {
        told |= guest.expect(Operation::Shutdown).flags;
    }
    assert_eq!(told, SHUTDOWN_RECEIVE | SHUTDOWN_SEND);
    guest.send_op(Operation::Reset, 1000, 8443);
    guest.send_op(Operation::Data, 1000, 8443);
    guest.expect(Operation::Reset);
}

#[test]
fn service_is_not_read_beyond_the_credit_of_the_guest() {
    let (mut guest, mut service) = Guest::connected(8443);
    let small = Header { buf_alloc: 10, ..Guest::header(Operation::CreditUpdate, 1000, 8443) };
    guest.send(&small, &[]);
    service.write_all(b"0123456789abcdef").unwrap();
    assert_eq!(guest.receive().1, b"0123456789");
    guest.expect(Operation::CreditRequest);
    guest.send(&Header { fwd_cnt: 10, ..small }, &[]);
    assert_eq!(guest.receive().1, b"abcdef");
}

#[test]
fn guest_that_lies_about_its_credit_gets_nothing() {
    let (mut guest, mut service) = Guest::connected(8443);
    let update = Guest::header(Operation::CreditUpdate, 1000, 8443);
    guest.send(&Header { fwd_cnt: 1000, ..update }, &[]);
    service.write_all(b"data").unwrap();
    guest.expect(Operation::CreditRequest);
    guest.send(&update, &[]);
    assert_eq!(guest.receive().1, b"data");
}

#[test]
fn guest_that_sends_beyond_its_credit_is_reset() {
    let (mut guest, _service) = Guest::connected(8443);
    let data = Guest::header(Operation::Data, 1000, 8443);
    // The service reads nothing: its socket takes some, the device the rest.
    for _ in 0..100 {
        guest.driver.forget_buffers(KEEP);
        guest.send(&data, &[0; 0xffff]);
        if guest.poll().is_some_and(|(header, _)| header.op == Operation::Reset) {
            return;
        }
    }
    panic!("the device took 6 MB without a reader");
}

#[test]
fn credit_comes_back_as_the_service_reads() {
    let (mut guest, mut service) = Guest::connected(8443);
    let reader = std::thread::spawn(move || {
        let mut total = vec![0; 2 << 20];
        service.read_exact(&mut total).unwrap();
        total
    });
    let mut forwarded = 0_u32;
    let mut sent = 0_u32;
    while sent < 2 << 20 {
        while sent.wrapping_sub(forwarded) + 0x8000 > BUFFER {
            let (header, _) = guest.receive();
            assert_eq!(header.op, Operation::CreditUpdate);
            forwarded = header.fwd_cnt;
        }
        guest.driver.forget_buffers(KEEP);
        let data: Vec<u8> = (sent..sent + 0x8000).map(|at| u8::try_from(at % 251).unwrap()).collect();
        guest.send(&Guest::header(Operation::Data, 1000, 8443), &data);
        sent += 0x8000;
    }
    let total = reader.join().unwrap();
    assert!(total.iter().enumerate().all(|(at, &byte)| byte == u8::try_from(at % 251).unwrap()));
}

#[test]
fn data_of_the_wrong_length_resets_the_connection() {
    for (claimed, given) in [(5, 4), (u32::MAX, 4), (0x1_0001, 0x1_0001)] {
        let (mut guest, _service) = Guest::connected(8443);
        let header = Header { len: claimed, ..Guest::header(Operation::Data, 1000, 8443) };
        let mut packet = header.encode();
        packet.resize(HEADER_LEN + given, 0);
        let packet = guest.driver.buffer(&packet);
        guest.driver.submit(TRANSMIT, &[packet]);
        guest.expect(Operation::Reset);
    }
}

#[test]
fn packet_in_many_pieces_is_put_together() {
    let (mut guest, mut service) = Guest::connected(8443);
    let header = Header { len: 9, ..Guest::header(Operation::Data, 1000, 8443) }.encode();
    let pieces = [&header[..7], &header[7..], b"one", b"two", b"six"];
    let chain: Vec<Buffer> = pieces.iter().map(|piece| guest.driver.buffer(piece)).collect();
    guest.driver.submit(TRANSMIT, &chain);
    let mut text = [0; 9];
    service.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"onetwosix");
}

#[test]
fn flood_of_connections_is_bounded_and_ends_with_the_guests_resets() {
    let mut guest = Guest::new();
    let service = guest.serve(8443);
    let acceptor =
        std::thread::spawn(move || service.incoming().take(257).map(Result::unwrap).collect::<Vec<_>>());
    let mut open = 0;
    for port in 0..300 {
        guest.driver.forget_buffers(KEEP);
        guest.send_op(Operation::Request, port, 8443);
        match guest.receive().0.op {
            Operation::Response => open += 1,
            op => assert_eq!(op, Operation::Reset),
        }
    }
    assert_eq!(open, 256);
    guest.send_op(Operation::Reset, 0, 8443);
    guest.send_op(Operation::Request, 1000, 8443);
    guest.expect(Operation::Response);
    assert_eq!(acceptor.join().unwrap().len(), 257);
}

#[test]
fn guest_that_never_receives_cannot_make_the_device_collect_answers() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("vsock");
    let listener = Arc::new(UnixListener::bind(&socket).unwrap());
    let mut muxer = Muxer::new(GUEST_CID, socket, listener);
    let stray = Guest::header(Operation::Data, 1, 2);
    let mut taken = 0;
    while muxer.accepts_packets() && taken < 1000 {
        muxer.guest_packet(&stray, Some(&[]));
        taken += 1;
    }
    assert_eq!(taken, 256);
    muxer.next_packet(1).unwrap();
    assert!(muxer.accepts_packets());
}

#[test]
fn packets_wait_for_the_guest_to_receive_answers() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Machine::plain();
    let mut driver = machine.start(Vsock::new(GUEST_CID, &directory.path().join("vsock")).unwrap(), 0);
    let stray = driver.buffer(&Guest::header(Operation::Data, 1, 2).encode());
    for _ in 0..256 {
        driver.request(TRANSMIT, &[stray]);
    }
    // The device is full; room for an answer lets it go on.
    driver.submit(TRANSMIT, &[stray]);
    let room = driver.room(ROOM);
    driver.submit(RECEIVE, &[room]);
    driver.wait_used(TRANSMIT);
}

#[test]
fn reset_of_the_device_closes_every_stream_and_the_next_driver_starts_afresh() {
    let (mut guest, mut service) = Guest::connected(8443);
    assert_eq!(guest.driver.set_status(0), 0);
    assert_eq!(service.read(&mut [0; 8]).unwrap(), 0);
    guest.driver.start(0);
    guest.rooms.clear();
    guest.offer_rooms();
    guest.send_op(Operation::Data, 1000, 8443);
    guest.expect(Operation::Reset);
}

#[test]
fn socket_of_a_vmm_that_was_killed_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vsock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "std leaves the file, as a killed process does");
    let device = Vsock::new(3, &path).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
    drop(device);
    std::fs::write(&path, "no socket").unwrap();
    assert!(matches!(Vsock::new(3, &path), Err(VsockError::Listen { .. })));
    assert!(path.exists(), "a file of another kind is left alone");
}

#[test]
fn socket_is_created_exclusively_and_removed_with_the_device() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vsock");
    let device = Vsock::new(3, &path).unwrap();
    let error = Vsock::new(3, &path).err().unwrap();
    assert!(error.to_string().contains("another process"), "{error}");
    drop(device);
    assert!(!path.exists());
    for cid in [0, 1, 2, u64::from(u32::MAX), u64::MAX] {
        assert!(matches!(Vsock::new(cid, &path), Err(VsockError::Cid(_))));
    }
    assert!(!path.exists());
}
