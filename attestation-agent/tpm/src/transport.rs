//! How commands reach the TPM: the kernel's device, or the socket of an emulator.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::Error;
use crate::command::HEADER_LEN;

/// Longest answer read, in bytes: the buffer of Linux's driver (`TPM_BUFSIZE`).
pub(crate) const MAX_ANSWER: usize = 4096;
/// How long an emulator may take. An RSA key takes a TPM that is itself emulated half a minute.
const PATIENCE: Duration = Duration::from_secs(300);
/// `EBUSY`, which Rust has no name for on all versions.
const EBUSY: i32 = 16;

/// Takes a command to a TPM and brings its answer back.
pub trait Transport: Send {
    /// One command, one answer of at most 4096 bytes.
    ///
    /// # Errors
    /// If the command did not reach the TPM, or no answer came back.
    fn exchange(&mut self, command: &[u8]) -> io::Result<Zeroizing<Vec<u8>>>;
}

/// Where a TPM is, as tpm2-tools write it (`TPM2TOOLS_TCTI`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tcti {
    /// `device:PATH`: the kernel's device.
    Device(PathBuf),
    /// `swtpm:path=PATH`: the Unix socket of swtpm.
    Unix(PathBuf),
    /// `swtpm:host=HOST,port=PORT`: its TCP socket.
    Tcp {
        /// Name or address.
        host: String,
        /// The port.
        port: u16,
    },
}

/// Not the address of a TPM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not of the form device:/dev/tpmrm0, swtpm:path=PATH or swtpm:host=HOST,port=PORT")]
pub struct TctiError {
    /// What was given.
    pub found: String,
}

impl Default for Tcti {
    /// The kernel's device with its resource manager, which lets several programs share the TPM.
    fn default() -> Self {
        Self::Device("/dev/tpmrm0".into())
    }
}

impl FromStr for Tcti {
    type Err = TctiError;

    fn from_str(text: &str) -> Result<Self, TctiError> {
        let expected = || TctiError { found: text.to_owned() };
        let (kind, rest) = text.split_once(':').ok_or_else(expected)?;
        match kind {
            "device" if rest.starts_with('/') => Ok(Self::Device(rest.into())),
            "swtpm" => {
                let (mut path, mut host, mut port) = (None, None, None);
                for option in rest.split(',') {
                    let (name, value) = option.split_once('=').ok_or_else(expected)?;
                    let slot = match name {
                        "path" => &mut path,
                        "host" => &mut host,
                        "port" => &mut port,
                        _ => return Err(expected()),
                    };
                    if value.is_empty() || slot.replace(value).is_some() {
                        return Err(expected());
                    }
                }
                match (path, host, port) {
                    (Some(path), None, None) if path.starts_with('/') => Ok(Self::Unix(path.into())),
                    (None, Some(host), Some(port)) => {
                        Ok(Self::Tcp { host: host.to_owned(), port: port.parse().map_err(|_| expected())? })
                    }
                    _ => Err(expected()),
                }
            }
            _ => Err(expected()),
        }
    }
}

impl fmt::Display for Tcti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "device:{}", path.display()),
            Self::Unix(path) => write!(f, "swtpm:path={}", path.display()),
            Self::Tcp { host, port } => write!(f, "swtpm:host={host},port={port}"),
        }
    }
}

impl Tcti {
    /// Connects to the TPM.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(&self) -> Result<Box<dyn Transport>, Error> {
        let failed = |source: io::Error| {
            let advice = match (self, source.kind()) {
                (Self::Device(_), io::ErrorKind::NotFound) => {
                    "this machine has no TPM 2.0, or Linux no driver for it (tpm_tis, tpm_crb); is it switched off in the \
                     firmware's set-up?"
                }
                (Self::Device(_), io::ErrorKind::PermissionDenied) => {
                    "run as root, or as a member of the group of the device (tss on many systems)"
                }
                (Self::Device(_), _) if source.raw_os_error() == Some(EBUSY) => {
                    "another program has it to itself: use device:/dev/tpmrm0, which several can share"
                }
                (Self::Device(_), _) => "the device cannot be opened",
                _ => "is swtpm running, with this socket as its --server?",
            };
            Error::Open { tcti: self.to_string(), advice, source }
        };
        Ok(match self {
            Self::Device(path) => Box::new(Device::open(path).map_err(failed)?),
            Self::Unix(path) => Box::new(Socket::unix(path).map_err(failed)?),
            Self::Tcp { host, port } => Box::new(Socket::tcp(host, *port).map_err(failed)?),
        })
    }
}

/// The kernel's device: `/dev/tpmrm0`, or `/dev/tpm0`, which one program at a time can have.
#[derive(Debug)]
pub struct Device(File);

impl Device {
    /// Opens the device at `path`.
    ///
    /// # Errors
    /// If there is none, or it may not be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open(path).map(Self)
    }
}

impl Transport for Device {
    fn exchange(&mut self, command: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
        // The driver takes a command by one write and gives its answer by one read, waiting as long as such a command takes.
        self.0.write_all(command)?;
        let mut answer = Zeroizing::new(vec![0; MAX_ANSWER]);
        let len = self.0.read(&mut answer)?;
        answer.truncate(len);
        Ok(answer)
    }
}

/// The socket of an emulator, on which commands and answers follow each other without anything between.
#[derive(Debug)]
pub struct Socket<S>(S);

impl Socket<UnixStream> {
    fn unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }
}

impl Socket<TcpStream> {
    fn tcp(host: &str, port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((host, port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }
}

impl<S: Read + Write + Send> Transport for Socket<S> {
    fn exchange(&mut self, command: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
        self.0.write_all(command)?;
        let mut head = [0; HEADER_LEN];
        self.0.read_exact(&mut head)?;
        let [_, _, a, b, c, d, ..] = head;
        let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let rest = len.checked_sub(HEADER_LEN).filter(|_| len <= MAX_ANSWER).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("the answer says that it has {len} bytes"))
        })?;
        let mut answer = Zeroizing::new(head.to_vec());
        answer.resize(HEADER_LEN + rest, 0);
        if let Some(body) = answer.get_mut(HEADER_LEN..) {
            self.0.read_exact(body)?;
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_addresses_that_tpm2_tools_read() {
        for text in ["device:/dev/tpm0", "swtpm:path=/run/tpm.sock", "swtpm:host=localhost,port=2321"] {
            assert_eq!(text.parse::<Tcti>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "/dev/tpm0",
            "device:",
            "device:tpm0",
            "swtpm:",
            "swtpm:path=",
            "swtpm:path=relative",
            "swtpm:host=a",
            "swtpm:host=a,port=65536",
            "swtpm:host=a,host=b,port=1",
            "swtpm:path=/a,port=1",
            "mssim:host=a,port=1",
        ] {
            assert!(text.parse::<Tcti>().is_err(), "{text}");
        }
    }

    /// A socket that gives these bytes back, whatever is sent.
    struct Answers(io::Cursor<Vec<u8>>);

    impl Read for Answers {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            self.0.read(bytes)
        }
    }

    impl Write for Answers {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_answer_of_an_emulator_is_as_long_as_it_says() {
        let exchange = |len: u32, sent: usize| {
            let mut bytes = [&[0x80, 1][..], &len.to_be_bytes()].concat();
            bytes.resize(sent, 7);
            Socket(Answers(io::Cursor::new(bytes))).exchange(&[]).map(|answer| answer.len())
        };
        assert_eq!(exchange(12, 100).unwrap(), 12);
        assert_eq!(exchange(4096, 4096).unwrap(), 4096);
        assert_eq!(exchange(12, 11).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        for len in [0, 9, 4097, u32::MAX] {
            assert_eq!(exchange(len, 5000).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn says_what_to_do_when_there_is_no_tpm() {
        let error = Tcti::Device("/nonexistent/tpm".into()).open().map(drop).unwrap_err();
        assert!(error.to_string().contains("no TPM 2.0"), "{error}");
        let error = Tcti::Unix("/nonexistent/tpm".into()).open().map(drop).unwrap_err();
        assert!(error.to_string().contains("is swtpm running"), "{error}");
    }
}
