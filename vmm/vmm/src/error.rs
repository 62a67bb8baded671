//! Why a VM cannot be launched or cannot go on.

use std::path::PathBuf;

use thiserror::Error;

use crate::endpoint::Endpoint;
use crate::launch::PrepareError;

/// A VM cannot be launched or cannot go on; the sources say why.
#[derive(Debug, Error)]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The payload, or the shape of the board.
    #[error("the VM cannot be prepared")]
    Prepare(#[from] PrepareError),
    /// KVM.
    #[error("the host's KVM refused")]
    Hypervisor(#[from] hypervisor::Error),
    /// The process cannot be confined.
    #[error("the VMM cannot be confined")]
    Sandbox(#[from] sandbox::Error),
    /// The Realm back-end.
    #[error("the Realm cannot run")]
    Realm(#[from] realm::Error),
    /// A network interface cannot be had.
    #[error("net {id}")]
    Tap {
        /// Name of the interface.
        id: String,
        /// Why.
        #[source]
        source: tap::Error,
    },
    /// A disk cannot have that size.
    #[error("disk {id}")]
    DiskSize {
        /// Name of the disk.
        id: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A vCPU cannot run where it is to run.
    #[error(
        "cpus.affinity: vCPU {vcpu} cannot be bound to processors of the host; are they online, and in the \
             control group's cpuset?"
    )]
    Affinity {
        /// Number of the vCPU.
        vcpu: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Guest memory cannot be had.
    #[error("{field} cannot be had")]
    Memory {
        /// Field of the configuration.
        field: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file or socket of a device cannot be used.
    #[error("{field}: {path} cannot be used")]
    Device {
        /// Field of the configuration.
        field: &'static str,
        /// The file or socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A device cannot be put on the board.
    #[error("{device} cannot be put on the board")]
    Assemble {
        /// The device.
        device: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A software Realm without a platform.
    #[error("realm.platform: a software Realm needs a development key (--realm soft,key=FILE)")]
    NoPlatform,
    /// The platform key is no key.
    #[error(
        "realm.platform.key: {path} is no P-384 (tokens of Arm CCA) or P-521 (virtCCA) private key in PKCS#8 PEM"
    )]
    PlatformKey {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: p384::pkcs8::Error,
    },
    /// A field of the platform is wrong.
    #[error("{field}: found {found:?}, expected {expected}")]
    PlatformField {
        /// Field of the configuration.
        field: &'static str,
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The launch log cannot be written.
    #[error("--launch-log: {path} cannot be written")]
    LaunchLog {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The socket of the REST interface cannot be used.
    #[error("--api-socket {target}: cannot listen")]
    ApiSocket {
        /// The socket.
        target: Endpoint,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Somebody else listens on the socket of the REST interface.
    #[error("--api-socket {}: another process listens there", path.display())]
    ApiSocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// The thread of the REST interface cannot start.
    #[error("the REST interface cannot start")]
    Api(#[source] std::io::Error),
    /// The event monitor cannot be told.
    #[error("--event-monitor {target}: cannot be opened")]
    EventMonitor {
        /// The file or FIFO.
        target: Endpoint,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What the command line asks for cannot be done.
    #[error(transparent)]
    Refused(Box<crate::control::ControlError>),
    /// The terminal cannot be used.
    #[error("the terminal cannot be switched to raw mode")]
    Terminal(#[source] std::io::Error),
    /// A thread could not be started.
    #[error("the system has no thread left for a vCPU")]
    Thread(#[source] std::io::Error),
    /// The signals of the process cannot be watched.
    #[error("the signals that stop the VM cannot be watched")]
    Signals(#[source] std::io::Error),
    /// A vCPU thread ended before it ran.
    #[error("vCPU {vcpu} ended before it ran")]
    VcpuVanished {
        /// Index of the vCPU.
        vcpu: u16,
    },
    /// A vCPU cannot go on.
    #[error("vCPU {vcpu} cannot go on: {meaning} (exit reason {reason})")]
    VcpuFailed {
        /// Index of the vCPU.
        vcpu: u16,
        /// Exit reason of KVM.
        reason: u32,
        /// What it means.
        meaning: &'static str,
    },
    /// An ordinary guest met a fault that only Realms should.
    #[error("KVM reports a memory fault at {gpa:#x} in a VM that is no Realm")]
    GuestFault {
        /// Guest physical address.
        gpa: u64,
    },
}
