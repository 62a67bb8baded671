//! A file or socket that the command line names by its path, or by the number of an open descriptor.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::str::FromStr;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Where to listen or write: `path=FILE`, `fd=N`, or a path alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A path.
    Path(PathBuf),
    /// A descriptor that was open when the program started.
    Fd(i32),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "path={}", path.display()),
            Self::Fd(fd) => write!(f, "fd={fd}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(number) = text.strip_prefix("fd=") {
            let fd = number.parse().ok().filter(|&fd: &i32| fd >= 0);
            return fd
                .map(Self::Fd)
                .ok_or_else(|| format!("found fd={number}, expected the number of an open descriptor"));
        }
        match text.strip_prefix("path=").unwrap_or(text) {
            "" => Err("found no path, expected path=FILE, fd=N or a path".into()),
            path => Ok(Self::Path(path.into())),
        }
    }
}

/// A duplicate of open descriptor `fd`.
///
/// Asks the kernel for it by its number: to claim the number itself would have to be believed, as whoever started this
/// program knows what it is and we do not.
///
/// # Errors
///
/// The system's; `EBADF` when nothing is open at that number.
pub fn inherited(fd: i32) -> io::Result<OwnedFd> {
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(pidfd_getfd(this, fd, PidfdGetfdFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn path_alone_path_by_name_and_descriptor() {
        assert_eq!("/run/a.sock".parse(), Ok(Endpoint::Path("/run/a.sock".into())));
        assert_eq!("path=/run/a.sock".parse(), Ok(Endpoint::Path("/run/a.sock".into())));
        assert_eq!("fd=7".parse(), Ok(Endpoint::Fd(7)));
        for wrong in ["fd=", "fd=-1", "fd=x", "", "path="] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn descriptor_is_duplicated_and_a_closed_one_refused() {
        let file = tempfile::tempfile().unwrap();
        let copy = inherited(file.as_raw_fd()).unwrap();
        assert_ne!(copy.as_raw_fd(), file.as_raw_fd());
        assert!(inherited(i32::MAX).is_err());
    }
}
