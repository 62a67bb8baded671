//! A connection that takes file descriptors with the bytes of requests.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Most descriptors that wait for their request: what the kernel passes at once (`SCM_MAX_FD`). Without the bound a
/// client that sends descriptors and no request would use up those of the VMM.
const MOST_DESCRIPTORS: usize = 253;

/// Most bytes that are received at once.
const CHUNK: usize = 8192;

/// Descriptors that have come since the last request was complete.
pub(super) type Descriptors = Rc<RefCell<Vec<OwnedFd>>>;

/// A connection.
pub(super) struct FdStream {
    stream: TokioIo<UnixStream>,
    descriptors: Descriptors,
}

impl FdStream {
    pub(super) fn new(stream: UnixStream, descriptors: Descriptors) -> Self {
        Self { stream: TokioIo::new(stream), descriptors }
    }
}

/// Receives bytes into `buffer`, and the descriptors that come with them.
fn receive(stream: &UnixStream, buffer: &mut [u8], descriptors: &Descriptors) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg(stream.as_fd(), &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = descriptors.borrow_mut();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            descriptors.extend(received);
        }
    }
    if descriptors.len() > MOST_DESCRIPTORS || message.flags.contains(ReturnFlags::CTRUNC) {
        descriptors.clear();
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too many file descriptors in one request"));
    }
    Ok(message.bytes)
}

impl Read for FdStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.stream.inner();
        let mut chunk = [0; CHUNK];
        loop {
            ready!(stream.poll_read_ready(context))?;
            let room = cursor.remaining().min(CHUNK);
            let Some(buffer) = chunk.get_mut(..room) else { return Poll::Ready(Ok(())) };
            match stream.try_io(Interest::READABLE, || receive(stream, buffer, &self.descriptors)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(count) => {
                    cursor.put_slice(buffer.get(..count).unwrap_or_default());
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl Write for FdStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
