//! A server that acknowledges nothing, takes its time, and forgets what it heard of a queue before that was enabled.

use std::fs::File;
use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::*;

/// Requests (vhost-user, "Front-end message types").
const GET_FEATURES: u32 = 1;
const GET_VRING_BASE: u32 = 11;
const SET_VRING_KICK: u32 = 12;
const GET_PROTOCOL_FEATURES: u32 = 15;
const SET_VRING_ENABLE: u32 = 18;

/// Version 1, a reply.
const REPLY: u32 = 1 | 1 << 2;
const HEADER_LEN: usize = 12;

/// The doorbells of its queues, in order.
struct Doorbells(Vec<File>);

impl Doorbells {
    /// Whether `queue` is rung within some seconds.
    fn rings(&self, queue: usize) -> bool {
        (0..1000).any(|_| {
            thread::sleep(Duration::from_millis(10));
            forget(&self.0[queue])
        })
    }
}

/// Whether there was something to forget.
fn forget(mut doorbell: &File) -> bool {
    doorbell.read_exact(&mut [0; 8]).is_ok()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn answer(mut stream: &UnixStream, request: u32, payload: &[u8]) {
    let header = [request, REPLY, u32::try_from(payload.len()).unwrap()];
    stream.write_all(&[header.map(u32::to_le_bytes).as_flattened(), payload].concat()).unwrap();
}

/// Serves one connection. The doorbells come once it has as many as `queues`.
fn serve(socket: &Path, queues: usize) -> Receiver<Doorbells> {
    let listener = UnixListener::bind(socket).unwrap();
    let (sender, doorbells) = channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut kicks: Vec<File> = Vec::new();
        let mut header = [0; HEADER_LEN];
        while let Ok((HEADER_LEN, file)) = stream.recv_with_fd(&mut header) {
            let request = word(&header, 0);
            let mut payload = vec![0; usize::try_from(word(&header, 8)).unwrap()];
            stream.read_exact(&mut payload).unwrap();
            match request {
                GET_FEATURES => {
                    let features = VERSION_1 | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() | RING;
                    answer(&stream, request, &features.to_le_bytes());
                }
                GET_PROTOCOL_FEATURES => answer(&stream, request, &0_u64.to_le_bytes()),
                GET_VRING_BASE => answer(&stream, request, &payload),
                SET_VRING_KICK => {
                    let kick = file.unwrap();
                    fcntl_setfl(&kick, OFlags::NONBLOCK).unwrap();
                    kicks.push(kick);
                }
                SET_VRING_ENABLE => {
                    thread::sleep(Duration::from_millis(20));
                    forget(&kicks[usize::try_from(word(&payload, 0)).unwrap()]);
                    if kicks.len() == queues {
                        let kept = kicks.iter().map(|kick| kick.try_clone().unwrap()).collect();
                        // The test has its doorbells from the first time.
                        let _ = sender.send(Doorbells(kept));
                    }
                }
                _ => {}
            }
        }
    });
    doorbells
}

#[test]
fn doorbells_are_rung_again_once_their_queues_are_enabled() {
    let (_directory, socket) = place();
    let doorbells = serve(&socket, 4);
    let server = Arc::new(connect(&socket, net(2)).unwrap());
    let machine = Machine::shared();
    let mut driver = machine.start(device(&machine, &server), u64::MAX);
    let doorbells = doorbells.recv().unwrap();
    assert!((0..2).all(|queue| doorbells.rings(queue)), "the first pair is enabled at once");
    for doorbell in &doorbells.0 {
        forget(doorbell);
    }
    set_pairs(&mut driver, 2);
    assert!((2..4).all(|queue| doorbells.rings(queue)), "the second pair is enabled now");
}
