//! Socket device (virtio 1.2, 5.10) in the hybrid form: the host side is Unix sockets.
//!
//! - Host to guest: a host process connects to the device's socket and sends `CONNECT <port>\n`. When the guest accepts,
//!   it reads `OK <host port>\n` and the connection is open; when not, it reads the end of the stream.
//! - Guest to host: the guest connects to CID 2 and a port; the device connects to the device's socket path followed by
//!   `_<port>`. When nobody listens there the guest sees a reset.

mod connection;
mod handshake;
mod muxer;
mod packet;

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;
use vmm_sys_util::epoll::EventSet;

use self::muxer::Muxer;
use self::packet::{HEADER_LEN, HOST_CID, Header};
use super::{
    ActivateError, Activation, Chain, DeviceQueue, EventHandler, QueueError, ThreadKind, VirtioDevice,
    WorkerSpec,
};
use crate::poller::Source;

/// Receive, transmit and event queue.
const QUEUE_SIZES: [u16; 3] = [128, 128, 16];
/// VIRTIO_VSOCK_F_STREAM.
const FEATURE_STREAM: u64 = 1 << 0;
/// Most data in one packet, what Linux's drivers use. Without it a packet could make the device hold 4 GiB.
const MAX_DATA: usize = 64 * 1024;

/// Why a vsock device cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum VsockError {
    /// The CID is reserved.
    #[error("guest CID {0} is reserved; choose one from 3 to 4294967294")]
    Cid(u64),
    /// The socket cannot be created.
    #[error(
        "cannot listen on vsock socket {path}; another process does, or the path cannot be written: choose another one"
    )]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
}

/// A virtio socket device.
pub struct Vsock {
    config: [u8; 8],
    guest_cid: u64,
    socket: PathBuf,
    listener: Arc<UnixListener>,
}

impl Vsock {
    /// A device for a guest with the given CID that listens on the Unix socket `socket`, which it creates now and
    /// removes when dropped.
    ///
    /// # Errors
    /// [`VsockError`].
    pub fn new(guest_cid: u64, socket: &Path) -> Result<Self, VsockError> {
        if guest_cid <= HOST_CID || guest_cid >= u64::from(u32::MAX) {
            return Err(VsockError::Cid(guest_cid));
        }
        let listener = bind(socket).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let listener = listener.map_err(|source| VsockError::Listen { path: socket.into(), source })?;
        Ok(Self {
            config: guest_cid.to_le_bytes(),
            guest_cid,
            socket: socket.into(),
            listener: Arc::new(listener),
        })
    }
}

/// Takes over the socket file of a VMM that was killed; one that somebody still listens on is left alone.
fn bind(socket: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(socket) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && nobody_listens(socket) => {
            std::fs::remove_file(socket)?;
            UnixListener::bind(socket)
        }
        bound => bound,
    }
}

/// A connection to a file of another kind is refused too, hence the look at what it is.
fn nobody_listens(socket: &Path) -> bool {
    socket.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
        && UnixStream::connect(socket).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

impl Drop for Vsock {
    fn drop(&mut self) {
        // Someone who removed the file already did no harm.
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl VirtioDevice for Vsock {
    fn device_id(&self) -> u16 {
        super::id(VIRTIO_ID_VSOCK)
    }
    fn class(&self) -> u32 {
        0x07_80_00
    }
    fn thread_kind(&self) -> ThreadKind {
        ThreadKind::Vsock
    }
    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }
    fn features(&self) -> u64 {
        FEATURE_STREAM
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        super::read_config_bytes(&self.config, offset, data);
    }
    fn activate(&self, activation: Activation) -> Result<Vec<WorkerSpec>, ActivateError> {
        // The event queue stays with the driver: its only event follows a restored snapshot.
        let [receive, transmit, _] = activation.all_queues()?;
        let muxer = Muxer::new(self.guest_cid, self.socket.clone(), self.listener.clone());
        let handler = Handler { receive, transmit, muxer };
        Ok(WorkerSpec::only(QUEUE_SIZES.len(), handler))
    }
}

struct Handler {
    receive: DeviceQueue,
    transmit: DeviceQueue,
    muxer: Muxer,
}

impl EventHandler for Handler {
    fn queue_event(&mut self, _queue: usize) -> Result<(), QueueError> {
        self.exchange()
    }

    fn sources(&self) -> Vec<Source<'_>> {
        self.muxer.sources()
    }

    fn source_event(&mut self, token: u64, ready: EventSet) -> Result<(), QueueError> {
        self.muxer.event(token, ready);
        self.exchange()
    }
}

impl Handler {
    /// Moves packets both ways until one side has no more or no room.
    fn exchange(&mut self) -> Result<(), QueueError> {
        loop {
            let transmitted = self.take_transmitted()?;
            let received = self.fill_received()?;
            // Room for answers, made by filling receive buffers, lets the transmit queue go on.
            if transmitted == 0 && received == 0 {
                return Ok(());
            }
        }
    }

    fn take_transmitted(&mut self) -> Result<usize, QueueError> {
        let mut count = 0;
        while self.muxer.accepts_packets() {
            let Some(chain) = self.transmit.pop()? else { break };
            match read_packet(&chain)? {
                Some((header, data)) => {
                    self.muxer.guest_packet(&header, data.as_deref());
                    self.transmit.complete(chain.head(), 0)?;
                }
                None => self.transmit.reject(chain.head(), "vsock packet without a header")?,
            }
            count += 1;
        }
        if count > 0 {
            self.transmit.notify()?;
        }
        Ok(count)
    }

    fn fill_received(&mut self) -> Result<usize, QueueError> {
        let mut count = 0;
        while self.muxer.has_packet() {
            let Some(chain) = self.receive.pop()? else { break };
            let mut writer = chain.writer()?;
            let room = writer.available_bytes().saturating_sub(HEADER_LEN);
            if room == 0 {
                self.receive.reject(chain.head(), "vsock receive buffer without room for data")?;
                count += 1;
                continue;
            }
            let Some((header, data)) = self.muxer.next_packet(room) else {
                self.receive.undo_pop();
                break;
            };
            // The buffer has room for both.
            let _ = writer.write_all(&header.encode()).and_then(|()| writer.write_all(&data));
            self.receive.complete(chain.head(), u32::try_from(writer.bytes_written()).unwrap_or(u32::MAX))?;
            count += 1;
        }
        if count > 0 {
            self.receive.notify()?;
        }
        Ok(count)
    }
}

/// Header and data of a packet. No data when its length is not what the header says or is beyond the limit.
type Packet = (Header, Option<Vec<u8>>);

fn read_packet(chain: &Chain) -> Result<Option<Packet>, QueueError> {
    let mut reader = chain.reader()?;
    let mut header = [0; HEADER_LEN];
    if reader.read_exact(&mut header).is_err() {
        return Ok(None);
    }
    let header = Header::decode(&header);
    let len = usize::try_from(header.len).ok().filter(|&len| len <= MAX_DATA);
    let data = len.and_then(|len| {
        let mut data = vec![0; len];
        reader.read_exact(&mut data).ok()?;
        Some(data)
    });
    Ok(Some((header, data)))
}

#[cfg(test)]
mod tests;
