//! What the back-ends for kernels with Realms share.

use machine::launch::LaunchPlan;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::errno::Error as Errno;

use crate::Error;

/// How far a launch is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    #[default]
    Empty,
    Loaded,
    Active,
}

impl Phase {
    /// A load that fails cannot be tried again: parts of it are measured.
    pub(crate) fn load(&mut self) -> Result<(), Error> {
        match self {
            Self::Empty => {
                *self = Self::Loaded;
                Ok(())
            }
            _ => Err(Error::AlreadyLoaded),
        }
    }

    pub(crate) fn activate(&mut self) -> Result<(), Error> {
        match self {
            Self::Loaded => {
                *self = Self::Active;
                Ok(())
            }
            _ => Err(Error::NotLoaded),
        }
    }
}

pub(crate) fn failed(action: &'static str) -> impl Fn(Errno) -> Error {
    move |source| Error::Kernel { action, source }
}

/// Puts the content of a plan where the kernel reads it.
pub(crate) fn write_plan(memory: &GuestMemoryMmap, plan: &LaunchPlan) -> Result<(), Error> {
    plan.segments().iter().try_for_each(|segment| {
        memory.write_slice(segment.bytes(), GuestAddress(segment.gpa())).map_err(|source| Error::Load {
            segment: segment.name(),
            gpa: segment.gpa(),
            source,
        })
    })
}
