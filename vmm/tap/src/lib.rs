//! Tap devices of the host: the network interfaces whose other end a VM has.
//!
//! The only crate with the ioctls of `/dev/net/tun` and of network interfaces. Frames carry a virtio header of
//! [`HEADER_LEN`] bytes, so that checksums and segmentation can be left to whoever does them best.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod interface;
mod ioctl;

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

pub use interface::Address;

/// Length of `struct virtio_net_hdr_v1` before each frame (virtio 1.2, 5.1.6).
pub const HEADER_LEN: usize = 12;

const DEVICE: &str = "/dev/net/tun";

/// A tap device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are no tap devices on this host.
    #[error("{DEVICE} cannot be opened: load the module `tun`, or pass descriptors of open tap devices")]
    NoDevice(#[source] io::Error),
    /// The kernel refused.
    #[error("tap {name}: cannot {action}")]
    Refused {
        /// Name of the device.
        name: String,
        /// What was refused.
        action: &'static str,
        /// Why; without `CAP_NET_ADMIN` only an existing tap device of this user can be opened.
        #[source]
        source: io::Error,
    },
    /// A name that no interface can have.
    #[error("tap {name:?}: expected 1 to 15 bytes without a slash or a space")]
    Name {
        /// What was found.
        name: String,
    },
    /// A descriptor that is no tap device.
    #[error(
        "descriptor {fd} is not an open tap device with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR: found flags {flags:#x}"
    )]
    NotATap {
        /// The descriptor.
        fd: RawFd,
        /// The flags that it has.
        flags: u16,
    },
    /// A descriptor that is not open, or not of `/dev/net/tun`.
    #[error("descriptor {fd} is not an open tap device")]
    Descriptor {
        /// The descriptor.
        fd: RawFd,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// What the guest takes over from the host: frames may come without checksum, or larger than the link allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one bit of the kernel's interface")]
pub struct Offloads {
    /// Checksums.
    pub checksum: bool,
    /// TCP over IPv4.
    pub tso4: bool,
    /// TCP over IPv6.
    pub tso6: bool,
    /// TCP with explicit congestion notification.
    pub ecn: bool,
    /// UDP.
    pub ufo: bool,
}

/// An open tap device with one or several queues.
#[derive(Debug)]
pub struct Tap {
    name: String,
    queues: Vec<OwnedFd>,
}

impl Tap {
    /// Opens the tap device of that name, or a new one; an empty name lets the kernel choose.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(name: &str, queues: usize) -> Result<Self, Error> {
        let mut flags = ioctl::IFF_TAP | ioctl::IFF_NO_PI | ioctl::IFF_VNET_HDR;
        if queues > 1 {
            flags |= ioctl::IFF_MULTI_QUEUE;
        }
        let mut tap =
            Self { name: if name.is_empty() { "vmtap%d".into() } else { name.into() }, queues: Vec::new() };
        for _ in 0..queues.max(1) {
            let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
            let file = OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(DEVICE);
            let fd = OwnedFd::from(file.map_err(Error::NoDevice)?);
            let request =
                ioctl::Request::new(&tap.name).ok_or_else(|| Error::Name { name: tap.name.clone() })?;
            let request =
                ioctl::attach(&fd, request.with_flags(flags)).map_err(tap.refused("open a queue"))?;
            tap.name = request.name();
            tap.queues.push(fd);
        }
        tap.set_header()?;
        Ok(tap)
    }

    /// Takes the queues of a tap device that somebody else opened. The descriptors are duplicated.
    ///
    /// # Errors
    /// [`Error::NotATap`], [`Error::Descriptor`], or the kernel's refusal.
    pub fn adopt(fds: &[RawFd]) -> Result<Self, Error> {
        let mut tap = Self { name: String::new(), queues: Vec::new() };
        for &number in fds {
            let unusable =
                |source: rustix::io::Errno| Error::Descriptor { fd: number, source: source.into() };
            let fd = ioctl::duplicate(number).map_err(unusable)?;
            let request = ioctl::describe(&fd).map_err(unusable)?;
            let needed = ioctl::IFF_TAP | ioctl::IFF_NO_PI | ioctl::IFF_VNET_HDR;
            if request.flags() & needed != needed {
                return Err(Error::NotATap { fd: number, flags: request.flags() });
            }
            let flags = fcntl_getfl(&fd).map_err(unusable)?;
            fcntl_setfl(&fd, flags | OFlags::NONBLOCK).map_err(unusable)?;
            tap.name = request.name();
            tap.queues.push(fd);
        }
        tap.set_header()?;
        Ok(tap)
    }

    /// Name of the interface.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of queues.
    #[must_use]
    pub fn queues(&self) -> usize {
        self.queues.len()
    }

    /// A queue: each read and write is one frame behind its header. It never blocks.
    #[must_use]
    pub fn queue(&self, index: usize) -> Option<BorrowedFd<'_>> {
        self.queues.get(index).map(AsFd::as_fd)
    }

    /// Says what the guest can take.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn set_offloads(&self, offloads: Offloads) -> Result<(), Error> {
        for fd in &self.queues {
            ioctl::set_offloads(fd, offloads).map_err(self.refused("set offloads"))?;
        }
        Ok(())
    }

    /// Takes the first `count` queues into use and the others out of it.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn use_queues(&self, count: usize) -> Result<(), Error> {
        if self.queues.len() < 2 {
            return Ok(());
        }
        for (index, fd) in self.queues.iter().enumerate() {
            match ioctl::set_queue(fd, index < count) {
                // A queue that is in the wanted state already.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(self.refused("switch a queue")(error)),
            }
        }
        Ok(())
    }

    /// Gives the host's side of the interface its address, and brings it up.
    ///
    /// # Errors
    /// [`Error::Refused`], usually for want of `CAP_NET_ADMIN`.
    pub fn configure(&self, address: &Address) -> Result<(), Error> {
        interface::configure(&self.name, address)
    }

    fn set_header(&self) -> Result<(), Error> {
        for fd in &self.queues {
            ioctl::set_header_len(fd, HEADER_LEN).map_err(self.refused("set the header length"))?;
        }
        Ok(())
    }

    fn refused(&self, action: &'static str) -> impl Fn(rustix::io::Errno) -> Error + use<> {
        let name = self.name.clone();
        move |source| Error::Refused { name: name.clone(), action, source: source.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_tap_device_is_not_adopted() {
        use std::os::fd::AsRawFd;
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(Tap::adopt(&[null.as_raw_fd()]), Err(Error::Descriptor { .. })));
        let closed = RawFd::MAX;
        assert!(matches!(Tap::adopt(&[closed]), Err(Error::Descriptor { .. })));
    }

    #[test]
    fn impossible_name_is_refused_before_the_kernel_sees_it() {
        for name in ["a/b", "a b", "sixteen-bytes-xx"] {
            assert!(ioctl::Request::new(name).is_none(), "{name}");
        }
        assert_eq!(ioctl::Request::new("tap0").unwrap().name(), "tap0");
    }
}
