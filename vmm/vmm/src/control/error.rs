//! Why a request is refused, and whose fault that is.

use api::message::VmState;
use thiserror::Error;

use crate::config::ConfigError;

/// A request that was not carried out.
#[derive(Debug, Error)]
pub enum ControlError {
    /// There is no VM.
    #[error("there is no VM; create one first (vm.create)")]
    NoVm,
    /// There is a VM already.
    #[error("there is a VM already; delete it first (vm.delete)")]
    Exists,
    /// The VM is in a state in which this cannot be done.
    #[error("{action}: the VM is {state:?}, expected {expected}")]
    State {
        /// The call.
        action: &'static str,
        /// State of the VM.
        state: VmState,
        /// States in which it can be done.
        expected: &'static str,
    },
    /// The configuration is wrong.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    /// A size is out of bounds.
    #[error("{field}: found {found}, expected {expected}")]
    Size {
        /// The field of the request.
        field: &'static str,
        /// What was asked for.
        found: u64,
        /// What this VM can have.
        expected: String,
    },
    /// No device has this name.
    #[error("{id}: the VM has no such device")]
    NoDevice {
        /// The name.
        id: String,
    },
    /// This VM cannot do it.
    #[error("{what}: {reason}")]
    Unsupported {
        /// The call, field or device.
        what: String,
        /// What it cannot do, and what to do instead.
        reason: &'static str,
    },
    /// It was tried and failed.
    #[error("{action} failed")]
    Failed {
        /// The call.
        action: &'static str,
        /// Why.
        #[source]
        source: Box<crate::Error>,
    },
    /// Too many requests wait.
    #[error("{waiting} requests wait for the VM already; try again when they are answered")]
    Busy {
        /// Their number.
        waiting: usize,
    },
    /// The VMM is about to end.
    #[error("the VMM is ending")]
    Ending,
}

impl ControlError {
    /// The HTTP status code that says whose fault it is, as Cloud Hypervisor's clients know it.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Config(ConfigError::DuplicateName { .. }) => 409,
            Self::Config(_) | Self::Size { .. } => 400,
            Self::NoVm | Self::NoDevice { .. } => 404,
            Self::Busy { .. } => 429,
            Self::Exists
            | Self::State { .. }
            | Self::Unsupported { .. }
            | Self::Failed { .. }
            | Self::Ending => 500,
        }
    }

    /// The error that it is for somebody who asked on the command line.
    #[must_use]
    pub fn into_error(self) -> crate::Error {
        match self {
            Self::Config(error) => error.into(),
            Self::Failed { source, .. } => *source,
            other => crate::Error::Refused(Box::new(other)),
        }
    }

    pub(super) fn failed(action: &'static str) -> impl FnOnce(crate::Error) -> Self {
        move |error| match error {
            crate::Error::Config(error) => Self::Config(error),
            source => Self::Failed { action, source: Box::new(source) },
        }
    }
}
