//! What the kernel is told about guest memory: only what changes where and when pages are kept, and, for pages that the
//! guest has given up, that they are no longer needed.

use std::io;

use vm_memory::{GuestMemoryRegion, GuestRegionMmap};

use crate::Error;

/// Memory policy: from these nodes and no others (set_mempolicy(2)).
const MPOL_BIND: libc::c_int = 2;
/// Nodes in one word of the mask.
const WORD: u32 = u64::BITS;

/// Gives `len` bytes from `offset` of `region` back to the host; they read as zeroes afterwards, or, in a mapping of a
/// file that is not shared, as the file has them.
///
/// # Errors
///
/// [`Error::Range`] unless these are whole pages inside the region, or [`Error::Discard`].
pub fn discard(region: &GuestRegionMmap, offset: u64, len: u64) -> Result<(), Error> {
    let page = page_size();
    let inside = offset.checked_add(len).is_some_and(|end| end <= region.len());
    if !inside || len == 0 || !offset.is_multiple_of(page) || !len.is_multiple_of(page) {
        return Err(Error::Range { offset, len });
    }
    // What lies in a shared mapping stays in its file until it is cut out there.
    let advice = if region.is_shared() { libc::MADV_REMOVE } else { libc::MADV_DONTNEED };
    advise_range(region, offset, len, advice).map_err(|source| Error::Discard { len, source })
}

/// Size of the host's pages. From the C library, which knows it since the program started: to ask the kernel now is more
/// than a confined thread may do.
fn page_size() -> u64 {
    // SAFETY: the call reads a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

/// Tells the kernel `advice` about all of `region`; only advice that keeps the content.
pub fn advise(region: &GuestRegionMmap, advice: Advice) -> io::Result<()> {
    advise_range(region, 0, region.len(), advice as libc::c_int)
}

/// Advice that keeps the content (madvise(2)).
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub enum Advice {
    /// Transparent huge pages are welcome.
    HugePage = libc::MADV_HUGEPAGE,
    /// They are not.
    NoHugePage = libc::MADV_NOHUGEPAGE,
    /// Equal pages may be merged.
    Mergeable = libc::MADV_MERGEABLE,
    /// A core dump of the VMM is not to hold what the guest has.
    DontDump = libc::MADV_DONTDUMP,
    /// All pages are needed now.
    PopulateWrite = libc::MADV_POPULATE_WRITE,
}

fn advise_range(region: &GuestRegionMmap, offset: u64, len: u64, advice: libc::c_int) -> io::Result<()> {
    let range = || Some((usize::try_from(offset).ok()?, usize::try_from(len).ok()?));
    let (offset, len) = range().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the range lies inside a mapping that `region` keeps alive. Nobody holds references into guest memory:
    // it is accessed as volatile, because the guest changes it at any time. Hence the content may change here, too.
    let result = unsafe { libc::madvise(region.as_ptr().add(offset).cast(), len, advice) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets the memory come from `node` of the host and from no other.
pub fn bind(region: &GuestRegionMmap, node: u32) -> io::Result<()> {
    let too_large = || io::Error::from(io::ErrorKind::InvalidInput);
    let words = usize::try_from(node / WORD).map_err(|_| too_large())? + 1;
    let mut mask = vec![0_u64; words];
    if let Some(last) = mask.last_mut() {
        *last = 1 << (node % WORD);
    }
    let len = usize::try_from(region.len()).map_err(|_| too_large())?;
    // The kernel takes one bit less than it is told.
    let bits = words * WORD as usize + 1;
    let none: libc::c_uint = 0;
    // SAFETY: the range is the mapping of `region`, whose content stays as it is; the mask has as many bits as said.
    let result =
        unsafe { libc::syscall(libc::SYS_mbind, region.as_ptr(), len, MPOL_BIND, mask.as_ptr(), bits, none) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

trait Shared {
    fn is_shared(&self) -> bool;
}

impl Shared for GuestRegionMmap {
    fn is_shared(&self) -> bool {
        self.flags() & libc::MAP_SHARED != 0
    }
}
