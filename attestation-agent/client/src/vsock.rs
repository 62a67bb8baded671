//! From a host to a vsock port of its guest, through the VMM's Unix socket: `CONNECT port\n`, answered by `OK port\n`, as
//! Firecracker and Cloud Hypervisor have it. A VMM whose guest refuses the connection closes the stream.

use std::io::{self, ErrorKind};
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Longest line with which a VMM answers: `OK 4294967295\n`. Without the bound, whoever sits at the socket could send
/// without end.
const MAX_LINE_LEN: usize = 14;

/// A connection to `port` of the guest.
pub async fn connect(socket: &Path, port: u32) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
    let mut line = Vec::new();
    // Byte by byte: what follows the line is the agent's.
    while line.last() != Some(&b'\n') {
        if line.len() == MAX_LINE_LEN {
            return Err(io::Error::new(ErrorKind::InvalidData, "what listens there is no vsock device"));
        }
        let byte = stream.read_u8().await.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => {
                io::Error::new(ErrorKind::ConnectionRefused, format!("nobody in the guest listens on {port}"))
            }
            _ => error,
        })?;
        line.push(byte);
    }
    let digits = line.strip_prefix(b"OK ").and_then(|rest| rest.strip_suffix(b"\n"));
    if digits.is_none_or(|digits| digits.is_empty() || !digits.iter().all(u8::is_ascii_digit)) {
        return Err(io::Error::new(ErrorKind::InvalidData, "what listens there is no vsock device"));
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    /// What a client makes of a VMM that answers so, and what it told the VMM.
    async fn answered(answer: &'static [u8]) -> (io::Result<Vec<u8>>, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vsock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; b"CONNECT 8081\n".len()];
            stream.read_exact(&mut asked).await.unwrap();
            stream.write_all(answer).await.unwrap();
            asked
        });
        let got = match connect(&path, 8081).await {
            Ok(mut stream) => {
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.unwrap();
                Ok(rest)
            }
            Err(error) => Err(error),
        };
        (got, server.await.unwrap())
    }

    #[tokio::test]
    async fn names_the_port_and_leaves_what_follows_to_the_agent() {
        let (got, asked) = answered(b"OK 1073741824\nHTTP").await;
        assert_eq!((got.unwrap().as_slice(), asked.as_slice()), (&b"HTTP"[..], &b"CONNECT 8081\n"[..]));
    }

    #[tokio::test]
    async fn refuses_what_is_no_answer_of_a_vmm() {
        for answer in [&b"OK \n"[..], b"OK x\n", b"ok 1\n", b"\n", b"OK 12345678901\n", &[b'O'; 4096]] {
            let error = answered(answer).await.0.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{answer:?}");
        }
        for answer in [&b""[..], b"OK 1"] {
            let error = answered(answer).await.0.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{answer:?}");
            assert!(error.to_string().contains("8081"), "{error}");
        }
    }
}
