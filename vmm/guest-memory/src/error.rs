//! Why memory cannot be had as it was asked for.

use std::io;
use std::path::PathBuf;

/// Guest memory cannot be had; the message says what to change.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host cannot map so much.
    #[error("{size} bytes cannot be mapped")]
    Map {
        /// Bytes asked for.
        size: u64,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The host has too few huge pages.
    #[error(
        "{needed} huge pages of {page_size} bytes are needed, and the host has {free} free; add some in \
         /sys/kernel/mm/hugepages/hugepages-{kib}kB/nr_hugepages, or ask for no huge pages", kib = page_size / 1024
    )]
    HugePages {
        /// Pages asked for.
        needed: u64,
        /// Bytes of a page.
        page_size: u64,
        /// Pages that are free.
        free: u64,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The host has no huge pages of this size.
    #[error("the host has no huge pages of {page_size} bytes; it has {known}")]
    HugePageSize {
        /// Bytes of the page asked for.
        page_size: u64,
        /// Sizes that there are.
        known: String,
    },
    /// The host has no such node.
    #[error("the host has no NUMA node {node}; it has {known}")]
    NoNode {
        /// Node asked for.
        node: u32,
        /// Nodes that there are.
        known: String,
    },
    /// The memory cannot be bound to the node.
    #[error("the memory cannot be bound to NUMA node {node} of the host")]
    Bind {
        /// Node asked for.
        node: u32,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The file cannot back memory.
    #[error("{path} cannot back memory")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The kernel does not merge pages.
    #[error("mergeable: the host's kernel cannot merge equal pages (it is built without CONFIG_KSM)")]
    Mergeable(#[source] io::Error),
    /// The pages cannot be allocated in advance.
    #[error("prefault: {size} bytes cannot be allocated before the VM starts")]
    Prefault {
        /// Bytes asked for.
        size: u64,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The range is not one of this memory.
    #[error("the range of {len} bytes at offset {offset} is not whole pages of the memory")]
    Range {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// The pages cannot be given back.
    #[error("{len} bytes cannot be given back to the host")]
    Discard {
        /// Bytes.
        len: u64,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}
