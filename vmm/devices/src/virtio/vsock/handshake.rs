//! The line with which a host process names the guest port that it wants.

use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Longest line: `CONNECT 4294967295\n`. Without a bound a process that never ends its line would fill our memory.
const MAX_LINE: usize = 19;

/// A host process that has not named its port yet.
pub(super) struct Handshake {
    stream: UnixStream,
    line: Vec<u8>,
}

/// What reading on led to.
pub(super) enum Progress {
    /// The line is not complete.
    Wait(Handshake),
    /// The process wants this guest port.
    Connect(UnixStream, u32),
    /// The process went away or does not speak the protocol.
    Refuse,
}

impl Handshake {
    /// `stream` must not block.
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, line: Vec::new() }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Reads on, byte by byte: what follows the line belongs to the guest.
    pub(super) fn advance(mut self) -> Progress {
        let mut byte = [0];
        while self.line.len() < MAX_LINE {
            match self.stream.read(&mut byte) {
                Ok(0) => return Progress::Refuse,
                Ok(_) => self.line.extend_from_slice(&byte),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Wait(self),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Progress::Refuse,
            }
            if byte == *b"\n" {
                return match parse(&self.line) {
                    Some(port) => Progress::Connect(self.stream, port),
                    None => Progress::Refuse,
                };
            }
        }
        Progress::Refuse
    }
}

fn parse(line: &[u8]) -> Option<u32> {
    let port = line.strip_prefix(b"CONNECT ")?.strip_suffix(b"\n")?;
    let digits = port.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(port).ok().filter(|_| digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_lines_name_a_port() {
        assert_eq!(parse(b"CONNECT 8443\n"), Some(8443));
        assert_eq!(parse(b"CONNECT 4294967295\n"), Some(u32::MAX));
        for bad in [
            "CONNECT 4294967296\n",
            "CONNECT \n",
            "CONNECT +1\n",
            "CONNECT -1\n",
            "connect 1\n",
            "CONNECT 1",
            "\n",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
