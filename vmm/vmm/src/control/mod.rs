//! The life of a VM: created, booted, paused and resumed, launched anew, shut down, deleted.
//!
//! One thread owns it all. API threads, the watcher of signals and vCPUs send it [`Input`]s through a channel; it answers
//! requests one after the other ([`Control::run`]). What a VM needs of a real machine is behind [`VmRuntime`], so the
//! life is the same whether KVM, or a test, is below.

mod devices;
mod error;
mod life;
mod live;
mod request;
mod runtime;

pub use error::ControlError;
pub use life::{Control, Outcome, Policy};
pub use live::LiveRuntime;
pub use request::{Action, Answer, Handle, Input, Metrics, NewDevice, Reply};
pub use runtime::{BootEvents, Machine, VmRuntime};

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
