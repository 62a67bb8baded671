//! Taking a vCPU out of the guest from another thread.
//!
//! A signal makes `KVM_RUN` return. One that arrives just before the call would be lost, so its handler also sets
//! `immediate_exit` in the `kvm_run` page of the vCPU that this thread runs.

use std::cell::Cell;
use std::ptr;
use std::sync::Once;

use kvm_ioctls::VcpuFd;
use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use crate::{Error, Result};

thread_local! {
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(ptr::null_mut()) };
}

/// Takes the vCPU of one thread out of the guest.
///
/// The holder must not kick after the thread has ended; whoever joins the thread drops the kicker first or with it.
#[derive(Debug)]
pub struct Kicker {
    thread: libc::pthread_t,
}

// SAFETY: a `pthread_t` names its thread to every thread of the process; musl only happens to spell it as a pointer.
unsafe impl Send for Kicker {}

impl Kicker {
    pub(super) fn for_this_thread(vcpu: &mut VcpuFd) -> Result<Self> {
        static HANDLER: Once = Once::new();
        let mut installed = Ok(());
        HANDLER.call_once(|| installed = register_signal_handler(SIGRTMIN(), on_kick));
        installed.map_err(Error::Signal)?;
        IMMEDIATE_EXIT.set(ptr::from_mut(&mut vcpu.get_kvm_run().immediate_exit));
        // SAFETY: the call has no preconditions.
        let thread = unsafe { libc::pthread_self() };
        Ok(Self { thread })
    }

    /// Makes the vCPU return [`Exit::Interrupted`](crate::Exit::Interrupted) now, or at its next run.
    pub fn kick(&self) {
        // SAFETY: the thread has not been joined (see the type's contract). A failure means that it has ended,
        // which is what a kick is for.
        unsafe { libc::pthread_kill(self.thread, SIGRTMIN()) };
    }
}

/// Stops the handler from touching the `kvm_run` page of `vcpu`, which is about to be unmapped.
pub(super) fn forget(vcpu: &mut VcpuFd) {
    let own = ptr::from_mut(&mut vcpu.get_kvm_run().immediate_exit);
    IMMEDIATE_EXIT.with(|pointer| {
        if pointer.get() == own {
            pointer.set(ptr::null_mut());
        }
    });
}

extern "C" fn on_kick(_signal: c_int, _info: *mut siginfo_t, _context: *mut c_void) {
    let flag = IMMEDIATE_EXIT.get();
    if !flag.is_null() {
        // SAFETY: the pointer is set while this thread owns the vCPU and its mapped page, and cleared in `forget`.
        // The kernel reads the byte concurrently, hence volatile.
        unsafe { flag.write_volatile(1) };
    }
}
