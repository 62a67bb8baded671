//! What can go wrong between Redoubt and KVM, and what the user can do about it.

use thiserror::Error;
use vmm_sys_util::errno;

/// Result of a KVM operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A KVM operation failed.
#[derive(Debug, Error)]
pub enum Error {
    /// `/dev/kvm` could not be opened.
    #[error(
        "/dev/kvm cannot be opened: load the kvm module, and let this user read and write the file (group kvm)"
    )]
    Open(#[source] errno::Error),
    /// The machine cannot run arm64 guests.
    #[error("arm64 guests need an arm64 host with KVM; this machine is {found} (try `cargo xtask arm-host`)")]
    Architecture {
        /// Architecture of this machine.
        found: &'static str,
    },
    /// KVM lacks a capability that Redoubt needs.
    #[error("KVM of this kernel lacks {capability}; {remedy}")]
    Capability {
        /// Name of the capability.
        capability: &'static str,
        /// What would help.
        remedy: &'static str,
    },
    /// The VM could not be created.
    #[error(
        "KVM refuses a VM of type {vm_type:#x} (the host supports guest addresses of up to {ipa_limit} bits)"
    )]
    CreateVm {
        /// Argument of `KVM_CREATE_VM`.
        vm_type: u64,
        /// Limit that the host reports.
        ipa_limit: u32,
        /// Reason that the kernel gave.
        #[source]
        source: errno::Error,
    },
    /// A memory slot was refused.
    #[error("KVM refuses the memory slot at {gpa:#x}, {size:#x} bytes")]
    MapMemory {
        /// Guest physical address.
        gpa: u64,
        /// Size in bytes.
        size: u64,
        /// Reason that the kernel gave.
        #[source]
        source: errno::Error,
    },
    /// A memory slot could not be taken away.
    #[error("KVM does not let go of the memory slot at {gpa:#x}")]
    UnmapMemory {
        /// Guest physical address.
        gpa: u64,
        /// Reason that the kernel gave.
        #[source]
        source: errno::Error,
    },
    /// Another operation failed.
    #[error("KVM cannot {action}")]
    Kvm {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// Reason that the kernel gave.
        #[source]
        source: errno::Error,
    },
    /// The signal handler that takes vCPUs out of the guest could not be installed.
    #[error("the signal that takes vCPUs out of the guest cannot be set up")]
    Signal(#[source] errno::Error),
}
