//! Where the bytes of a guest console go and come from.
//!
//! A [`Console`] lives as long as the VMM, so that whoever is attached to it stays attached when the VM is launched
//! anew; each boot gets its own [`ConsoleEnds`].

mod relay;
mod terminal;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::config::{ConsoleConfig, ConsoleMode};
use devices::virtio::DeviceHost;

use crate::Error;
use relay::{Outside, Relay};
use terminal::RawMode;

/// A console of the VM.
pub struct Console {
    output: File,
    input: Option<OwnedFd>,
    pty: Option<PathBuf>,
    _terminal: Option<RawMode>,
    _relay: Option<Relay>,
    _socket: Option<SocketFile>,
}

/// A socket's file, which goes with the console. It is not the relay's: the thread of a relay may not remove files.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!("{}: {error}", self.0.display());
        }
    }
}

/// The two ends that one boot of the VM uses.
pub struct ConsoleEnds {
    /// Takes what the guest writes.
    pub output: File,
    /// Gives what the guest reads; nothing where it can only write.
    pub input: Option<OwnedFd>,
}

impl Console {
    /// Opens what `config` names, or nothing where there is to be no console. A thread that passes its bytes asks `host`
    /// first.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] that names `field`, or [`Error::Terminal`].
    pub fn open(
        field: &'static str,
        config: &ConsoleConfig,
        host: &Arc<dyn DeviceHost>,
    ) -> Result<Option<Self>, Error> {
        let named = |path: &Option<PathBuf>| path.clone().unwrap_or_else(|| "/dev/null".into());
        Ok(Some(match config.mode {
            ConsoleMode::Off => return Ok(None),
            ConsoleMode::Null => Self::file(open_for_output("/dev/null".as_ref()).map_err(Error::Terminal)?),
            ConsoleMode::File => {
                let path = named(&config.file);
                Self::file_or_fifo(&path, host).map_err(unusable(field, &path))?
            }
            ConsoleMode::Tty => Self::tty().map_err(Error::Terminal)?,
            ConsoleMode::Pty => Self::pty(host).map_err(unusable(field, "/dev/ptmx".as_ref()))?,
            ConsoleMode::Socket => {
                let path = named(&config.socket);
                Self::socket(&path, host).map_err(unusable(field, &path))?
            }
        }))
    }

    /// The pseudo-terminal to which one attaches, with [`ConsoleMode::Pty`].
    pub fn pty_path(&self) -> Option<&Path> {
        self.pty.as_deref()
    }

    /// Ends for one boot of the VM.
    ///
    /// # Errors
    ///
    /// [`Error::Terminal`] when there are no more descriptors.
    pub fn ends(&self) -> Result<ConsoleEnds, Error> {
        let input = self.input.as_ref().map(OwnedFd::try_clone).transpose().map_err(Error::Terminal)?;
        Ok(ConsoleEnds { output: self.output.try_clone().map_err(Error::Terminal)?, input })
    }

    fn file(output: File) -> Self {
        Self { output, input: None, pty: None, _terminal: None, _relay: None, _socket: None }
    }

    fn file_or_fifo(path: &Path, host: &Arc<dyn DeviceHost>) -> io::Result<Self> {
        let is_fifo = path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo());
        if is_fifo {
            Self::relayed(Outside::fifo(path)?, host)
        } else {
            open_for_output(path).map(Self::file)
        }
    }

    fn tty() -> io::Result<Self> {
        let output = io::stdout().as_fd().try_clone_to_owned()?;
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self { input: Some(input), _terminal: RawMode::enter()?, ..Self::file(output.into()) })
    }

    fn pty(host: &Arc<dyn DeviceHost>) -> io::Result<Self> {
        let (outside, path) = Outside::pty()?;
        Ok(Self { pty: Some(path), ..Self::relayed(outside, host)? })
    }

    /// Listens at `path`, in the place of a socket that nobody listens at any more.
    fn socket(path: &Path, host: &Arc<dyn DeviceHost>) -> io::Result<Self> {
        let stale = path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
            && std::os::unix::net::UnixStream::connect(path).is_err();
        if stale {
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        let file = SocketFile(path.into());
        Ok(Self { _socket: Some(file), ..Self::relayed(Outside::socket(listener)?, host)? })
    }

    fn relayed(outside: Outside, host: &Arc<dyn DeviceHost>) -> io::Result<Self> {
        let (relay, guest) = Relay::start(outside, Arc::clone(host))?;
        let output = OwnedFd::from(guest.try_clone()?);
        Ok(Self { input: Some(guest.into()), _relay: Some(relay), ..Self::file(output.into()) })
    }
}

/// Appends, so that a VM launched anew after a reset goes on where the guest stopped.
fn open_for_output(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn unusable(field: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Device { field, path, source: source.into() }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use devices::virtio::NoDeviceHost;

    use super::*;

    fn open(field: &'static str, config: &ConsoleConfig) -> Result<Option<Console>, Error> {
        Console::open(field, config, &(Arc::new(NoDeviceHost) as _))
    }

    fn read_exactly(from: &mut impl Read, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        from.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn socket_client_gets_what_was_written_before_it_came_and_types_to_the_guest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console");
        let config = ConsoleConfig { socket: Some(path.clone()), ..ConsoleConfig::of(ConsoleMode::Socket) };
        let console = open("console", &config).unwrap().unwrap();
        let mut ends = console.ends().unwrap();
        ends.output.write_all(b"early").unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        assert_eq!(read_exactly(&mut client, 5), b"early");
        client.write_all(b"typed").unwrap();
        assert_eq!(read_exactly(&mut File::from(ends.input.unwrap()), 5), b"typed");

        drop(client);
        let mut next = UnixStream::connect(&path).unwrap();
        ends.output.write_all(b"again").unwrap();
        assert_eq!(read_exactly(&mut next, 5), b"again");
        drop((ends.output, console));
        assert!(!path.exists(), "the socket goes with the console");
    }

    #[test]
    fn socket_of_somebody_else_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console");
        let _other = UnixListener::bind(&path).unwrap();
        let config = ConsoleConfig { socket: Some(path.clone()), ..ConsoleConfig::of(ConsoleMode::Socket) };
        assert!(open("console", &config).is_err());
        assert!(path.exists());
    }

    #[test]
    fn pty_passes_bytes_both_ways_unchanged() {
        let console = open("console", &ConsoleConfig::of(ConsoleMode::Pty)).unwrap().unwrap();
        let path = console.pty_path().unwrap();
        let mut terminal = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut ends = console.ends().unwrap();
        ends.output.write_all(b"a\nb\x03").unwrap();
        assert_eq!(read_exactly(&mut terminal, 4), b"a\nb\x03");
        terminal.write_all(b"c\x03\r").unwrap();
        assert_eq!(read_exactly(&mut File::from(ends.input.unwrap()), 3), b"c\x03\r");
    }

    #[test]
    fn fifo_without_a_reader_holds_up_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
            .unwrap();
        let config = ConsoleConfig { file: Some(path.clone()), ..ConsoleConfig::of(ConsoleMode::File) };
        let console = open("serial", &config).unwrap().unwrap();
        let mut ends = console.ends().unwrap();
        ends.output.write_all(&vec![b'x'; 4 << 20]).unwrap();
        ends.output.write_all(b"end").unwrap();
        let mut reader = File::open(&path).unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"end") {
            let mut bytes = [0; 4096];
            let count = reader.read(&mut bytes).unwrap();
            seen.extend_from_slice(&bytes[..count]);
        }
        assert!(seen.len() < 1 << 20, "{} bytes were kept", seen.len());
    }
}
