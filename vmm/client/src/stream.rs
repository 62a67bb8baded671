//! A connection that sends file descriptors with its first byte.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Most descriptors that the kernel passes at once (`SCM_MAX_FD`).
pub const MAX_FDS: usize = 253;

/// A Unix stream; the descriptors go with the first byte written, and are closed here once they have gone.
pub struct FdStream {
    stream: TokioIo<UnixStream>,
    fds: Vec<OwnedFd>,
}

impl FdStream {
    pub fn new(stream: UnixStream, fds: Vec<OwnedFd>) -> Self {
        Self { stream: TokioIo::new(stream), fds }
    }

    fn poll_send_with_fds(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let stream = self.stream.inner();
            ready!(stream.poll_write_ready(context))?;
            let sent = stream.try_io(Interest::WRITABLE, || send(stream, bytes, &self.fds));
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(count) => {
                    self.fds.clear();
                    return Poll::Ready(Ok(count));
                }
            }
        }
    }
}

fn send(stream: &UnixStream, bytes: &[IoSlice<'_>], fds: &[OwnedFd]) -> io::Result<usize> {
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let message = SendAncillaryMessage::ScmRights(&fds);
    let mut space = vec![std::mem::MaybeUninit::uninit(); message.size()];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(message) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many file descriptors"));
    }
    Ok(sendmsg(stream.as_fd(), bytes, &mut control, SendFlags::NOSIGNAL)?)
}

impl Write for FdStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.fds.is_empty() {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        self.poll_send_with_fds(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.fds.is_empty() {
            return Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        }
        self.poll_send_with_fds(context, bytes)
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

impl Read for FdStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}
