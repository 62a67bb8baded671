//! The ioctls, each behind a function that cannot be misused.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::{Errno, Result, fcntl_dupfd_cloexec};
use rustix::ioctl::{Getter, IntegerSetter, Opcode, Setter, Updater, ioctl, opcode};

use crate::Offloads;

pub(crate) const IFF_TAP: u16 = 0x0002;
pub(crate) const IFF_NO_PI: u16 = 0x1000;
pub(crate) const IFF_VNET_HDR: u16 = 0x4000;
pub(crate) const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_ATTACH_QUEUE: u16 = 0x0200;
const IFF_DETACH_QUEUE: u16 = 0x0400;
pub(crate) const IFF_UP: u16 = 0x0001;

// linux/if_tun.h. The types are those of the header; what the pointer names is a `Request` for the first three.
const TUNSETIFF: Opcode = opcode::write::<libc::c_int>(b'T', 202);
const TUNSETQUEUE: Opcode = opcode::write::<libc::c_int>(b'T', 217);
const TUNGETIFF: Opcode = opcode::read::<libc::c_uint>(b'T', 210);
const TUNSETOFFLOAD: Opcode = opcode::write::<libc::c_uint>(b'T', 208);
const TUNSETVNETHDRSZ: Opcode = opcode::write::<libc::c_int>(b'T', 216);

const TUN_F_CSUM: usize = 0x01;
const TUN_F_TSO4: usize = 0x02;
const TUN_F_TSO6: usize = 0x04;
const TUN_F_TSO_ECN: usize = 0x08;
const TUN_F_UFO: usize = 0x10;

/// Bytes of an interface's name with the zero behind it.
const NAME_LEN: usize = libc::IFNAMSIZ;

/// `struct ifreq` (linux/if.h): a name, and 24 bytes whose meaning depends on the call.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    name: [u8; NAME_LEN],
    value: [u8; 24],
}

impl Request {
    /// A request about the interface of that name, if one can have it.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let legal = !name.is_empty()
            && name.len() < NAME_LEN
            && !name.bytes().any(|byte| byte == b'/' || byte.is_ascii_whitespace() || byte == 0);
        let mut bytes = [0; NAME_LEN];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        legal.then_some(Self { name: bytes, value: [0; 24] })
    }

    pub(crate) fn with_value(mut self, value: &[u8]) -> Self {
        for (slot, &byte) in self.value.iter_mut().zip(value) {
            *slot = byte;
        }
        self
    }

    pub(crate) fn with_flags(self, flags: u16) -> Self {
        self.with_value(&flags.to_ne_bytes())
    }

    pub(crate) fn flags(&self) -> u16 {
        let [low, high, ..] = self.value;
        u16::from_ne_bytes([low, high])
    }

    pub(crate) fn name(&self) -> String {
        let len = self.name.iter().position(|&byte| byte == 0).unwrap_or(NAME_LEN);
        String::from_utf8_lossy(self.name.get(..len).unwrap_or_default()).into_owned()
    }
}

/// Makes `fd` a queue of the interface that the request names, which it answers completed.
pub(crate) fn attach(fd: &OwnedFd, mut request: Request) -> Result<Request> {
    // SAFETY: TUNSETIFF reads and writes a `struct ifreq`, which `Request` is.
    unsafe { ioctl(fd, Updater::<TUNSETIFF, Request>::new(&mut request)) }?;
    Ok(request)
}

/// The interface whose queue `fd` is.
pub(crate) fn describe(fd: &OwnedFd) -> Result<Request> {
    // SAFETY: TUNGETIFF writes a `struct ifreq`, which `Request` is; all its bit patterns are valid.
    unsafe { ioctl(fd, Getter::<TUNGETIFF, Request>::new()) }
}

/// A descriptor of our own for what descriptor `number` names.
pub(crate) fn duplicate(number: RawFd) -> Result<OwnedFd> {
    if number < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: the number is used for this one call, which fails when nothing is open under it; nothing of ours closes
    // descriptors by number.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_dupfd_cloexec(borrowed, 0)
}

pub(crate) fn set_header_len(fd: &OwnedFd, len: usize) -> Result<()> {
    let len = libc::c_int::try_from(len).map_err(|_| Errno::INVAL)?;
    // SAFETY: TUNSETVNETHDRSZ reads an int.
    unsafe { ioctl(fd, Setter::<TUNSETVNETHDRSZ, libc::c_int>::new(len)) }
}

pub(crate) fn set_offloads(fd: &OwnedFd, offloads: Offloads) -> Result<()> {
    let flags = [
        (offloads.checksum, TUN_F_CSUM),
        // Segmentation needs checksums.
        (offloads.checksum && offloads.tso4, TUN_F_TSO4),
        (offloads.checksum && offloads.tso6, TUN_F_TSO6),
        (offloads.checksum && offloads.ecn && (offloads.tso4 || offloads.tso6), TUN_F_TSO_ECN),
        (offloads.checksum && offloads.ufo, TUN_F_UFO),
    ];
    let flags = flags.iter().filter(|(on, _)| *on).fold(0, |flags, (_, flag)| flags | flag);
    // SAFETY: TUNSETOFFLOAD takes flags by value.
    unsafe { ioctl(fd, IntegerSetter::<TUNSETOFFLOAD>::new_usize(flags)) }
}

/// Takes a queue of a device with several into use, or out of it.
pub(crate) fn set_queue(fd: &OwnedFd, used: bool) -> Result<()> {
    let flags = if used { IFF_ATTACH_QUEUE } else { IFF_DETACH_QUEUE };
    let request = Request { name: [0; NAME_LEN], value: [0; 24] }.with_flags(flags);
    // SAFETY: TUNSETQUEUE reads a `struct ifreq`, which `Request` is.
    unsafe { ioctl(fd, Setter::<TUNSETQUEUE, Request>::new(request)) }
}

/// Reads or sets a property of an interface (netdevice(7)), through any socket.
pub(crate) fn interface<const OPCODE: Opcode>(
    socket: impl AsFd,
    mut request: Request,
) -> io::Result<Request> {
    // SAFETY: the SIOC[GS]IF* calls of netdevice(7), which are all that callers use, read and write a `struct ifreq`.
    unsafe { ioctl(socket, Updater::<OPCODE, Request>::new(&mut request)) }?;
    Ok(request)
}
