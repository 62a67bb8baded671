//! From what was asked for to a mapping.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, memfd_create};
use vm_memory::mmap::MmapRegionError;
use vm_memory::{FileOffset, GuestAddress, GuestRegionMmap, MmapRegion};

use crate::advice::{Advice, advise, bind};
use crate::{Error, host};

/// What backs memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Backing {
    /// Nothing that has a name.
    #[default]
    Anonymous,
    /// A file, or an unnamed one in a directory. It becomes as large as the memory.
    Path(PathBuf),
}

/// Huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// Of the size that the host prefers.
    Default,
    /// Of so many bytes, a power of two.
    Size(u64),
}

/// How memory is to be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Bytes.
    pub size: u64,
    /// What backs it.
    pub backing: Backing,
    /// Whether the mapping is shared, so that other processes can map the same memory.
    pub shared: bool,
    /// Whether it is made of huge pages.
    pub huge_pages: Option<HugePages>,
    /// Node of the host from which all of it comes.
    pub host_node: Option<u32>,
    /// Whether all pages are allocated now.
    pub prefault: bool,
    /// Whether the host sets swap space aside for all of it.
    pub reserve: bool,
    /// Whether the host may use transparent huge pages.
    pub transparent_huge_pages: bool,
    /// Whether the host may merge equal pages.
    pub mergeable: bool,
}

/// Maps memory that the guest sees from `gpa` on.
///
/// # Errors
///
/// [`Error`] that says what the host does not have.
pub fn map(gpa: u64, options: &Options) -> Result<GuestRegionMmap, Error> {
    let Options { size, shared, .. } = *options;
    let page_size = options.huge_pages.map(|pages| page_size(pages, size)).transpose()?;
    if let Some(node) = options.host_node {
        let nodes = host::nodes();
        if !nodes.contains(&u64::from(node)) {
            return Err(Error::NoNode { node, known: host::listed(&nodes) });
        }
    }
    let failed = |source: io::Error| match page_size {
        Some(page_size) if source.raw_os_error() == Some(libc::ENOMEM) => Error::HugePages {
            needed: size / page_size,
            page_size,
            free: host::free_huge_pages(page_size),
            source,
        },
        _ => Error::Map { size, source },
    };
    let file = match &options.backing {
        Backing::Path(path) => {
            Some(open(path, size).map_err(|source| Error::File { path: path.clone(), source })?)
        }
        Backing::Anonymous if shared => Some(unnamed(size, page_size).map_err(failed)?),
        Backing::Anonymous => None,
    };
    let mut flags = if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
    // Huge pages are always set aside: a guest that touches one that is not there would kill the VMM.
    if !options.reserve && page_size.is_none() {
        flags |= libc::MAP_NORESERVE;
    }
    if file.is_none() {
        flags |= libc::MAP_ANONYMOUS;
        if let Some(page_size) = page_size {
            // Bits 26 to 31 of the flags are the size as a power of two (mmap(2)).
            flags |=
                libc::MAP_HUGETLB | i32::try_from(page_size.ilog2()).unwrap_or(0) << libc::MAP_HUGE_SHIFT;
        }
    }
    let len = usize::try_from(size).map_err(|_| failed(io::Error::from_raw_os_error(libc::ENOMEM)))?;
    let file = file.map(|file| FileOffset::new(file, 0));
    let mapping = MmapRegion::build(file, len, libc::PROT_READ | libc::PROT_WRITE, flags)
        .map_err(|error| failed(system(error)))?;
    let region = GuestRegionMmap::new(mapping, GuestAddress(gpa)).ok_or_else(|| {
        failed(io::Error::new(io::ErrorKind::InvalidInput, "it does not fit the guest's address space"))
    })?;
    advise_all(&region, options, page_size.is_some())?;
    if options.prefault {
        advise(&region, Advice::PopulateWrite).map_err(|source| Error::Prefault { size, source })?;
    }
    Ok(region)
}

/// Maps the first `size` bytes of `file` as memory that the guest sees from `gpa` on. What the guest writes reaches the
/// file if `shared`, and nobody else if not. The file must keep its length: a page behind its end cannot be had.
///
/// # Errors
///
/// [`Error::Map`].
pub fn map_file(gpa: u64, file: File, size: u64, shared: bool) -> Result<GuestRegionMmap, Error> {
    let failed = |source| Error::Map { size, source };
    let flags = if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE | libc::MAP_NORESERVE };
    let len = usize::try_from(size).map_err(|_| failed(io::Error::from_raw_os_error(libc::ENOMEM)))?;
    let file = Some(FileOffset::new(file, 0));
    let mapping = MmapRegion::build(file, len, libc::PROT_READ | libc::PROT_WRITE, flags)
        .map_err(|error| failed(system(error)))?;
    let region = GuestRegionMmap::new(mapping, GuestAddress(gpa)).ok_or_else(|| {
        failed(io::Error::new(io::ErrorKind::InvalidInput, "it does not fit the guest's address space"))
    })?;
    // A kernel without the feature has been told of by the log, as for other memory.
    let _ = advise(&region, Advice::DontDump);
    Ok(region)
}

fn advise_all(region: &GuestRegionMmap, options: &Options, huge: bool) -> Result<(), Error> {
    // Advice that a kernel without the feature need not follow: there are no huge pages either way then, and whoever
    // lets a core dump be written without it has been told by the log.
    if !huge {
        let advice = if options.transparent_huge_pages { Advice::HugePage } else { Advice::NoHugePage };
        let _ = advise(region, advice);
    }
    let _ = advise(region, Advice::DontDump);
    if options.mergeable {
        advise(region, Advice::Mergeable).map_err(Error::Mergeable)?;
    }
    // Before any page is there: those that are stay where they are.
    match options.host_node {
        Some(node) => bind(region, node).map_err(|source| Error::Bind { node, source }),
        None => Ok(()),
    }
}

/// Size of the huge pages of which `size` bytes can be made.
fn page_size(pages: HugePages, size: u64) -> Result<u64, Error> {
    let sizes = host::huge_page_sizes();
    let page_size = match pages {
        HugePages::Size(bytes) => bytes,
        HugePages::Default => host::default_huge_page_size().unwrap_or(0),
    };
    if !sizes.contains(&page_size) {
        return Err(Error::HugePageSize { page_size, known: host::listed(&sizes) });
    }
    if size.is_multiple_of(page_size) {
        return Ok(page_size);
    }
    let text = format!("it is not a multiple of the size of its huge pages, {page_size} bytes");
    Err(Error::Map { size, source: io::Error::new(io::ErrorKind::InvalidInput, text) })
}

fn unnamed(size: u64, page_size: Option<u64>) -> io::Result<File> {
    let mut flags = MemfdFlags::CLOEXEC;
    if let Some(page_size) = page_size {
        // The same bits as mmap(2) has.
        flags |= MemfdFlags::HUGETLB;
        flags |= MemfdFlags::from_bits_retain(page_size.ilog2() << libc::MAP_HUGE_SHIFT);
    }
    let file = File::from(memfd_create("guest-memory", flags)?);
    file.set_len(size)?;
    Ok(file)
}

fn open(path: &Path, size: u64) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if path.is_dir() {
        options.custom_flags(libc::O_TMPFILE).mode(0o600);
    }
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.len() < size {
        file.set_len(size)?;
    }
    Ok(file)
}

fn system(error: MmapRegionError) -> io::Error {
    match error {
        MmapRegionError::Mmap(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestMemoryRegion, MemoryRegionAddress};

    use super::*;
    use crate::discard;

    const SIZE: u64 = 4 << 20;

    fn options() -> Options {
        Options { size: SIZE, transparent_huge_pages: true, ..Options::default() }
    }

    fn at(offset: u64) -> MemoryRegionAddress {
        MemoryRegionAddress(offset)
    }

    fn resident(region: &GuestRegionMmap) -> u64 {
        let start = format!("{:x}-", region.as_ptr() as usize);
        let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mapping = text.lines().skip_while(|line| !line.starts_with(&start));
        let line = mapping.skip(1).find_map(|line| line.strip_prefix("Rss:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() << 10
    }

    #[test]
    fn every_kind_of_memory_keeps_what_is_written_until_it_is_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("memory");
        std::fs::write(&file, []).unwrap();
        for (name, options) in [
            ("private", options()),
            ("shared", Options { shared: true, ..options() }),
            ("without huge pages", Options { transparent_huge_pages: false, reserve: true, ..options() }),
            ("file", Options { backing: Backing::Path(file.clone()), shared: true, ..options() }),
            ("private file", Options { backing: Backing::Path(file.clone()), ..options() }),
            (
                "directory",
                Options { backing: Backing::Path(directory.path().into()), shared: true, ..options() },
            ),
        ] {
            let region = map(0x4000_0000, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((region.start_addr().0, region.len()), (0x4000_0000, SIZE), "{name}");
            region.write_obj(0x1234_5678_u32, at(0)).unwrap();
            region.write_obj(0x1234_5678_u32, at(SIZE / 2)).unwrap();
            discard(&region, SIZE / 2, SIZE / 2).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(region.read_obj::<u32>(at(0)).unwrap(), 0x1234_5678, "{name}");
            assert_eq!(region.read_obj::<u32>(at(SIZE / 2)).unwrap(), 0, "{name}");
            discard(&region, 0, SIZE).unwrap();
        }
        assert_eq!(std::fs::metadata(file).unwrap().len(), SIZE);
    }

    #[test]
    fn file_sees_what_is_written_only_where_it_is_shared() {
        use std::os::unix::fs::FileExt;
        for shared in [true, false] {
            let file = tempfile::tempfile().unwrap();
            file.set_len(SIZE).unwrap();
            file.write_all_at(&[7], 0).unwrap();
            let region = map_file(0x8_0000_0000, file.try_clone().unwrap(), SIZE, shared).unwrap();
            assert_eq!(region.read_obj::<u8>(at(0)).unwrap(), 7);
            region.write_obj(9_u8, at(0)).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, 0).unwrap();
            assert_eq!(byte, [if shared { 9 } else { 7 }]);
        }
    }

    #[test]
    fn pages_are_allocated_before_or_when_they_are_needed() {
        let now = map(0, &Options { prefault: true, ..options() }).unwrap();
        assert_eq!(resident(&now), SIZE);
        let later = map(0, &Options { transparent_huge_pages: false, ..options() }).unwrap();
        assert_eq!(resident(&later), 0);
        discard(&now, 0, SIZE).unwrap();
        assert_eq!(resident(&now), 0);
    }

    #[test]
    fn only_whole_pages_inside_the_memory_are_given_back() {
        let region = map(0, &options()).unwrap();
        let page = rustix::param::page_size() as u64;
        for (offset, len) in [(1, page), (0, page + 1), (0, 0), (SIZE, page), (page, SIZE), (u64::MAX, page)]
        {
            assert!(matches!(discard(&region, offset, len), Err(Error::Range { .. })), "{offset} {len}");
        }
    }

    #[test]
    fn memory_comes_from_the_node_that_was_asked_for() {
        let node = u32::try_from(*host::nodes().first().unwrap()).unwrap();
        let region = map(0, &Options { host_node: Some(node), prefault: true, ..options() }).unwrap();
        let start = format!("{:x} bind:{node}", region.as_ptr() as usize);
        let maps = std::fs::read_to_string("/proc/self/numa_maps").unwrap_or_default();
        assert!(maps.is_empty() || maps.contains(&start), "{start}\n{maps}");
        let error = map(0, &Options { host_node: Some(999), ..options() }).unwrap_err();
        assert!(error.to_string().contains("no NUMA node 999; it has 0"), "{error}");
    }

    #[test]
    fn what_the_host_lacks_of_huge_pages_is_said() {
        let error = map(0, &Options { huge_pages: Some(HugePages::Size(1 << 13)), ..options() }).unwrap_err();
        assert!(matches!(error, Error::HugePageSize { .. }), "{error}");
        for shared in [false, true] {
            let size = 1 << 40;
            let huge = Options { size, shared, huge_pages: Some(HugePages::Default), ..options() };
            match map(0, &huge) {
                Err(error @ Error::HugePages { .. }) => {
                    assert!(error.to_string().contains("nr_hugepages"), "{error}");
                }
                // A kernel without huge pages.
                Err(Error::HugePageSize { .. }) => assert!(host::huge_page_sizes().is_empty()),
                other => panic!("shared {shared}: {other:?}"),
            }
        }
    }
}
