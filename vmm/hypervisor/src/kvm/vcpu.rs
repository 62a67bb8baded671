//! A virtual CPU: its registers and the run loop's single step.

use kvm_bindings::{
    KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_PSCI_0_2, KVM_EXIT_ARM_NISV, KVM_MEMORY_EXIT_FLAG_PRIVATE,
    KVM_REG_ARM_CORE, KVM_REG_ARM64, KVM_REG_SIZE_U64, KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET,
    KVM_SYSTEM_EVENT_SHUTDOWN, kvm_regs, kvm_vcpu_events, kvm_vcpu_init, user_pt_regs,
};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::kick::{self, Kicker};
use crate::{Error, Exit, MemoryFault, Result, SystemEvent};

/// Bit of `hypercall.flags` that tells SMC from HVC (Documentation/virt/kvm/api.rst, KVM_EXIT_HYPERCALL).
const HYPERCALL_EXIT_SMC: u32 = 1;

/// A virtual CPU; it is run by one thread at a time.
#[derive(Debug)]
pub struct Vcpu {
    fd: VcpuFd,
    target: kvm_vcpu_init,
}

impl Vcpu {
    pub(super) const fn file(&self) -> &VcpuFd {
        &self.fd
    }

    pub(super) fn new(fd: VcpuFd, target: kvm_vcpu_init) -> Self {
        Self { fd, target }
    }

    /// Gives the vCPU the host's CPU type, PSCI and the feature bits of `features`; one that is not `runnable` waits for
    /// PSCI `CPU_ON`. May be called again, with the same features: the vCPU is then as new.
    ///
    /// # Errors
    ///
    /// [`Error::Kvm`].
    pub fn init(&mut self, runnable: bool, features: u32) -> Result<()> {
        self.target.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2 | features;
        self.target.features[0] &= !(1 << KVM_ARM_VCPU_POWER_OFF);
        if !runnable {
            self.target.features[0] |= 1 << KVM_ARM_VCPU_POWER_OFF;
        }
        self.fd.vcpu_init(&self.target).map_err(|source| Error::Kvm { action: "initialise a vCPU", source })
    }

    /// Sets the program counter and x0 to x7, with which the guest starts.
    ///
    /// # Errors
    ///
    /// [`Error::Kvm`].
    pub fn set_entry(&mut self, pc: u64, gprs: &[u64; 8]) -> Result<()> {
        for (register, value) in gprs.iter().enumerate() {
            self.write(core_register(register), *value)?;
        }
        self.write(core_register(PC_INDEX), pc)
    }

    /// Reads general register `register` (0 to 30).
    ///
    /// # Errors
    ///
    /// [`Error::Kvm`].
    pub fn gpr(&self, register: usize) -> Result<u64> {
        let mut bytes = [0; 8];
        self.fd
            .get_one_reg(core_register(register), &mut bytes)
            .map_err(|source| Error::Kvm { action: "read a vCPU register", source })?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes general register `register` (0 to 30).
    ///
    /// # Errors
    ///
    /// [`Error::Kvm`].
    pub fn set_gpr(&mut self, register: usize, value: u64) -> Result<()> {
        self.write(core_register(register), value)
    }

    /// Lets the guest take a synchronous external data abort at the instruction where it stands, as from a bus that does
    /// not answer (Documentation/virt/kvm/api.rst, `KVM_SET_VCPU_EVENTS`).
    ///
    /// # Errors
    ///
    /// [`Error::Kvm`].
    pub fn inject_data_abort(&mut self) -> Result<()> {
        let mut events = kvm_vcpu_events::default();
        events.exception.ext_dabt_pending = 1;
        self.fd
            .set_vcpu_events(&events)
            .map_err(|source| Error::Kvm { action: "let the guest take a data abort", source })
    }

    fn write(&mut self, id: u64, value: u64) -> Result<()> {
        self.fd
            .set_one_reg(id, &value.to_le_bytes())
            .map(|_| ())
            .map_err(|source| Error::Kvm { action: "write a vCPU register", source })
    }

    /// Lets other threads take this vCPU, which the calling thread will run, out of the guest.
    ///
    /// # Errors
    ///
    /// [`Error::Signal`].
    pub fn kicker(&mut self) -> Result<Kicker> {
        Kicker::for_this_thread(&mut self.fd)
    }

    /// Runs the guest until something needs the VMM.
    ///
    /// # Errors
    ///
    /// [`Error::Kvm`].
    pub fn run(&mut self) -> Result<Exit<'_>> {
        let exit = match self.fd.run() {
            Ok(exit) => exit,
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                return Ok(Exit::Interrupted);
            }
            Err(source) => return Err(Error::Kvm { action: "run a vCPU", source }),
        };
        Ok(match exit {
            VcpuExit::MmioRead(addr, data) => Exit::MmioRead { addr, data },
            VcpuExit::MmioWrite(addr, data) => Exit::MmioWrite { addr, data },
            #[expect(clippy::cast_possible_truncation, reason = "SMCCC function identifiers have 32 bits")]
            VcpuExit::Hypercall(call) => {
                Exit::Hypercall { function: call.nr as u32, smc: call.longmode & HYPERCALL_EXIT_SMC != 0 }
            }
            VcpuExit::SystemEvent(kind, _) => Exit::SystemEvent(match kind {
                KVM_SYSTEM_EVENT_SHUTDOWN => SystemEvent::Off,
                KVM_SYSTEM_EVENT_RESET => SystemEvent::Reset,
                KVM_SYSTEM_EVENT_CRASH => SystemEvent::Crash,
                other => SystemEvent::Other(other),
            }),
            VcpuExit::MemoryFault { flags, gpa, size } => Exit::MemoryFault(MemoryFault {
                gpa,
                size,
                private: flags & u64::from(KVM_MEMORY_EXIT_FLAG_PRIVATE) != 0,
            }),
            VcpuExit::Intr => Exit::Interrupted,
            VcpuExit::FailEntry(..) => {
                Exit::Failed { reason: 9, meaning: "the hardware refused to enter the guest" }
            }
            VcpuExit::InternalError => Exit::Failed { reason: 17, meaning: "KVM met an internal error" },
            VcpuExit::Unsupported(KVM_EXIT_ARM_NISV) => Exit::Undecodable,
            VcpuExit::Unsupported(reason) => Exit::Failed { reason, meaning: "unknown exit reason" },
            _ => Exit::Failed { reason: 0, meaning: "an exit that arm64 does not have" },
        })
    }

    /// Clears a kick that has been seen.
    pub fn clear_kick(&mut self) {
        self.fd.set_kvm_immediate_exit(0);
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        kick::forget(&mut self.fd);
    }
}

/// Position of the program counter behind x0..x30 and SP in `struct user_pt_regs`.
const PC_INDEX: usize = 32;

const _: () = assert!(std::mem::offset_of!(kvm_regs, regs) == 0);
const _: () = assert!(std::mem::offset_of!(user_pt_regs, regs) == 0);
const _: () = assert!(std::mem::offset_of!(user_pt_regs, pc) == PC_INDEX * 8);

/// Identifier of the 64-bit core register at position `index`; the kernel counts in 32-bit words.
fn core_register(index: usize) -> u64 {
    KVM_REG_ARM64 | KVM_REG_SIZE_U64 | u64::from(KVM_REG_ARM_CORE) | (2 * index as u64)
}
