//! Where the bytes of a guest console go and come from.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::Error;
use crate::terminal::RawMode;
use api::config::{ConsoleConfig, ConsoleMode};

/// The two ends of a console that exists.
pub struct ConsoleEnds {
    /// Takes what the guest writes.
    pub output: File,
    /// Gives what the guest reads; nothing where it can only write.
    pub input: Option<OwnedFd>,
    /// The terminal that was borrowed for it.
    pub terminal: Option<RawMode>,
}

/// Opens the ends that `config` names, or nothing where there is to be no console.
///
/// # Errors
///
/// [`Error::Device`] that names `field`, or [`Error::Terminal`].
pub fn open(field: &'static str, config: &ConsoleConfig) -> Result<Option<ConsoleEnds>, Error> {
    let (output, input, terminal) = match config.mode {
        ConsoleMode::Off => return Ok(None),
        ConsoleMode::Pty | ConsoleMode::Socket => {
            return Err(Error::Config(crate::config::ConfigError::Unsupported {
                field,
                expected: "Off, Null, Tty or File",
            }));
        }
        ConsoleMode::Null => (open_for_output(field, "/dev/null".as_ref())?, None, None),
        ConsoleMode::File => {
            let path = config.file.as_deref().unwrap_or_else(|| "/dev/null".as_ref());
            (open_for_output(field, path)?, None, None)
        }
        ConsoleMode::Tty => {
            let output = duplicate(io::stdout().as_fd()).map_err(Error::Terminal)?;
            let input = duplicate(io::stdin().as_fd()).map_err(Error::Terminal)?;
            (File::from(output), Some(input), RawMode::enter().map_err(Error::Terminal)?)
        }
    };
    Ok(Some(ConsoleEnds { output, input, terminal }))
}

/// Appends, so that a VM launched anew after a reset goes on where the guest stopped.
fn open_for_output(field: &'static str, path: &std::path::Path) -> Result<File, Error> {
    OpenOptions::new().append(true).create(true).open(path).map_err(|source| Error::Device {
        field,
        path: path.into(),
        source: source.into(),
    })
}

fn duplicate(fd: std::os::fd::BorrowedFd<'_>) -> io::Result<OwnedFd> {
    fd.try_clone_to_owned()
}
