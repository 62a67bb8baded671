//! Any server of a vhost-user device: it answers what it likes, when it is asked or not, and goes when it likes. Nothing
//! panics, and the guest keeps a device that it can reset.

#![no_main]

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use devices::rate_limit::LimitConfig;
use devices::virtio::net::NetConfig;
use devices::virtio::vhost_user::{Server, Service, VhostUser};
use devices::virtio::{DeviceHost, NoDeviceHost};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use redoubt_fuzz::driver::{BAR, Guest, NOTIFY};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    device: Device,
    queues: u8,
    /// Bits that the server leaves out of its features, which are all bits otherwise; a server without the bit of
    /// VERSION_1 is refused at once.
    features_missing: u64,
    answers: Vec<Answer<'a>>,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Device {
    Fs,
    Block,
    Net,
}

/// What the server says when it has been told something.
#[derive(Arbitrary, Debug)]
enum Answer<'a> {
    /// What it should, if anything: success, its features, as many bytes as were asked for.
    Right,
    /// An answer to this request with that content.
    Content(&'a [u8]),
    /// The same with another head.
    Head {
        request: u8,
        flags: u8,
        size: u16,
        content: &'a [u8],
    },
    Nothing,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Start,
    Reset,
    Ring(u8),
    ReadConfig { at: u8, len: u8 },
    WriteConfig { at: u8, value: u64 },
}

// Requests of the vhost-user protocol that have an answer of their own.
const GET_FEATURES: u32 = 1;
const GET_VRING_BASE: u32 = 11;
const GET_PROTOCOL_FEATURES: u32 = 15;
const GET_QUEUE_NUM: u32 = 17;
const GET_CONFIG: u32 = 24;
const NEED_REPLY: u32 = 1 << 3;
/// Version 1, and an answer.
const ANSWER: u32 = 1 | 1 << 2;

fuzz_target!(|input: Input<'_>| {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("server");
    let listener = UnixListener::bind(&socket).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // A server that has gone comes back; one that has said everything goes at once.
            let mut answers = input.answers.iter();
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::Acquire) {
                    break;
                }
                let _ = serve(stream, &mut answers, input.features_missing);
            }
        });
        let service = service(&input);
        let host: Arc<dyn DeviceHost> = Arc::new(NoDeviceHost);
        if let Ok(server) = Server::connect(&socket, service, &host) {
            drive(server, &input.steps);
        }
        over.store(true, Ordering::Release);
        drop(UnixStream::connect(&socket));
    });
});

fn service(input: &Input<'_>) -> Service {
    let queues = u16::from(input.queues % 4) + 1;
    match input.device {
        Device::Fs => Service::Fs { tag: "fuzz".into(), queues, queue_size: 64 },
        Device::Block => Service::Block { queues, queue_size: 64 },
        Device::Net => Service::Net(NetConfig {
            mac: [2, 0, 0, 0, 0, 9],
            mtu: None,
            pairs: queues.min(2).into(),
            queue_size: 64,
            checksum: true,
            tso: true,
            ufo: true,
            limits: LimitConfig::default(),
        }),
    }
}

fn drive(server: Server, steps: &[Step]) {
    let server = Arc::new(server);
    let guest = Guest::new(None, |memory| Arc::new(VhostUser::new(server, Arc::clone(memory))));
    guest.place_bar();
    guest.start_calmly();
    for step in steps.iter().take(16) {
        match *step {
            Step::Start => drop(guest.start_calmly()),
            Step::Reset => guest.reset(),
            Step::Ring(queue) => guest.write(NOTIFY + 4 * u64::from(queue % 6), 2, queue.into()),
            Step::ReadConfig { at, len } => drop(guest.read(BAR + 0x2000 + u64::from(at), len % 9)),
            Step::WriteConfig { at, value } => guest.write(BAR + 0x2000 + u64::from(at), 4, value),
        }
    }
    guest.reset();
}

/// Serves until the front end goes or waits, or the answers are used up.
fn serve<'a>(
    mut stream: UnixStream,
    answers: &mut impl Iterator<Item = &'a Answer<'a>>,
    features_missing: u64,
) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    loop {
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        let [request, flags, size] =
            [0, 4, 8].map(|at| u32::from_le_bytes(head[at..at + 4].try_into().unwrap()));
        let mut content = vec![0; size.min(0x1000) as usize];
        stream.read_exact(&mut content)?;
        let (head, content) = match answers.next() {
            None => return Ok(()),
            Some(Answer::Right) => {
                let Some(content) = right(request, flags, &content, features_missing) else { continue };
                ([request, ANSWER, content.len() as u32], content)
            }
            Some(Answer::Content(content)) => ([request, ANSWER, content.len() as u32], content.to_vec()),
            Some(Answer::Head { request, flags, size, content }) => {
                ([u32::from(*request), u32::from(*flags), u32::from(*size)], content.to_vec())
            }
            Some(Answer::Nothing) => continue,
        };
        stream.write_all(head.map(u32::to_le_bytes).as_flattened())?;
        stream.write_all(&content)?;
    }
}

fn right(request: u32, flags: u32, content: &[u8], features_missing: u64) -> Option<Vec<u8>> {
    match request {
        GET_FEATURES => Some((!features_missing).to_le_bytes().into()),
        // MQ, REPLY_ACK and CONFIG.
        GET_PROTOCOL_FEATURES => Some((1_u64 | 1 << 3 | 1 << 9).to_le_bytes().into()),
        GET_QUEUE_NUM => Some(8_u64.to_le_bytes().into()),
        GET_CONFIG | GET_VRING_BASE => Some(content.to_vec()),
        _ => (flags & NEED_REPLY != 0).then(|| 0_u64.to_le_bytes().into()),
    }
}
