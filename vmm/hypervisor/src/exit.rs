//! Why a vCPU came back from the guest.

/// Reason for which [`Vcpu::run`](crate::Vcpu::run) returned.
#[derive(Debug)]
pub enum Exit<'a> {
    /// The guest read a device register; fill `data` before the next run.
    MmioRead {
        /// Guest physical address; in a Realm it may carry the unprotected-half bit.
        addr: u64,
        /// One to eight bytes.
        data: &'a mut [u8],
    },
    /// The guest wrote a device register.
    MmioWrite {
        /// Guest physical address; in a Realm it may carry the unprotected-half bit.
        addr: u64,
        /// One to eight bytes.
        data: &'a [u8],
    },
    /// An SMCCC call that the filter forwards to user space; arguments are in x1.., results go to x0...
    Hypercall {
        /// Function identifier.
        function: u32,
        /// Whether the conduit was SMC (else HVC).
        smc: bool,
    },
    /// The guest asked for power-off or reset, or crashed.
    SystemEvent(SystemEvent),
    /// A guest access that guest_memfd cannot serve in the state that the page is in.
    MemoryFault(MemoryFault),
    /// The guest accessed a device with an instruction that KVM cannot decode, such as one that loads a pair. Nothing has
    /// happened yet: run again, and the guest repeats it; or answer with [`Vcpu::inject_data_abort`](crate::Vcpu).
    Undecodable,
    /// A signal or a [`Kicker`](crate::Kicker) brought the vCPU out.
    Interrupted,
    /// KVM cannot go on with this vCPU.
    Failed {
        /// `exit_reason` of `struct kvm_run`.
        reason: u32,
        /// What the reason means.
        meaning: &'static str,
    },
}

/// Event that concerns the whole VM (`KVM_EXIT_SYSTEM_EVENT`, raised by PSCI).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemEvent {
    /// PSCI `SYSTEM_OFF`.
    Off,
    /// PSCI `SYSTEM_RESET` or `SYSTEM_RESET2`.
    Reset,
    /// The guest reported its own crash.
    Crash,
    /// An event of a newer kernel.
    Other(u32),
}

/// Details of `KVM_EXIT_MEMORY_FAULT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryFault {
    /// Guest physical address of the range.
    pub gpa: u64,
    /// Length of the range in bytes.
    pub size: u64,
    /// Whether the guest wants the range private.
    pub private: bool,
}
