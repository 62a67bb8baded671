//! What the life of a VM needs of whatever runs it.

use std::path::PathBuf;
use std::sync::mpsc::Sender;

use api::VmConfig;
use api::message::{Counters, DeviceNode, PciDeviceInfo};

use super::{ControlError, Input};
use crate::Error;
use crate::config::ConfigError;
use crate::event::Event;

/// Builds VMs.
pub trait VmRuntime {
    /// What of the host a VM is attached to: it outlives boots.
    type Attachments;
    /// A VM that was launched.
    type Machine: Machine<Self::Attachments>;

    /// Refuses what a VM of this process cannot be made of, whatever the host.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] that names the field.
    fn check(&self, config: &VmConfig) -> Result<(), ConfigError>;

    /// Opens what `config` names, and keeps what is open already. What was there before stays as it is.
    ///
    /// # Errors
    ///
    /// [`Error`] that names the field.
    fn attach(
        &mut self,
        config: &VmConfig,
        before: Option<&Self::Attachments>,
    ) -> Result<Self::Attachments, Error>;

    /// Takes back what a VM that is forgotten was attached to.
    fn detach(&mut self, attachments: Self::Attachments) {
        drop(attachments);
    }

    /// The pseudo-terminals among the attachments, by field of the configuration.
    fn terminals(attachments: &Self::Attachments) -> Vec<(&'static str, PathBuf)>;

    /// Builds the VM that `config` describes and starts its vCPUs, which report to `events`.
    ///
    /// # Errors
    ///
    /// [`Error`] that names what stands in the way.
    fn launch(
        &mut self,
        config: &VmConfig,
        attachments: &Self::Attachments,
        events: BootEvents,
    ) -> Result<Self::Machine, Error>;
}

/// A VM that was launched; dropping it takes it down.
pub trait Machine<A> {
    /// Makes vCPUs and devices stand still.
    ///
    /// # Errors
    ///
    /// [`Error`].
    fn pause(&mut self) -> Result<(), Error>;

    /// Lets them go on.
    ///
    /// # Errors
    ///
    /// [`Error`].
    fn resume(&mut self) -> Result<(), Error>;

    /// Its devices.
    fn devices(&self) -> Vec<DeviceNode>;

    /// Counters by device.
    fn device_counters(&self) -> Counters;

    /// Counters by vCPU.
    fn vcpu_counters(&self) -> Counters;

    /// Bytes of memory that the guest has, without what the balloon holds.
    fn memory_actual_size(&self) -> u64;

    /// Presses the power button.
    ///
    /// # Errors
    ///
    /// [`ControlError::Unsupported`] where there is none.
    fn power_button(&mut self) -> Result<(), ControlError>;

    /// Lets the guest have so many vCPUs.
    ///
    /// # Errors
    ///
    /// [`ControlError`] that says why that cannot be.
    fn resize_vcpus(&mut self, count: u16) -> Result<(), ControlError>;

    /// Asks the guest to give up this many bytes.
    ///
    /// # Errors
    ///
    /// [`ControlError`] that says why that cannot be.
    fn resize_balloon(&mut self, bytes: u64) -> Result<(), ControlError>;

    /// Tells the guest that the disk of that name has this many bytes.
    ///
    /// # Errors
    ///
    /// [`ControlError`] that says why that cannot be.
    fn resize_disk(&mut self, id: &str, bytes: u64) -> Result<(), ControlError>;

    /// Plugs the device of that name, which `config` and `attachments` have, in while the guest runs.
    ///
    /// # Errors
    ///
    /// [`ControlError`] that says why that cannot be.
    fn plug(&mut self, id: &str, config: &VmConfig, attachments: &A) -> Result<PciDeviceInfo, ControlError>;

    /// Asks the guest to let go of the device of that name.
    ///
    /// # Errors
    ///
    /// [`ControlError`] that says why that cannot be.
    fn unplug(&mut self, id: &str) -> Result<(), ControlError>;

    /// Takes the device away that the guest has let go.
    fn ejected(&mut self, id: &str);
}

/// Takes the events of one boot. Those of an earlier one, which may still be on their way, mean nothing to the next.
#[derive(Clone, Debug)]
pub struct BootEvents {
    boot: u64,
    inputs: Sender<Input>,
}

impl BootEvents {
    pub(super) const fn new(boot: u64, inputs: Sender<Input>) -> Self {
        Self { boot, inputs }
    }

    /// Reports `event`.
    pub fn send(&self, event: Event) {
        // The receiver is gone only when the process ends.
        let _ = self.inputs.send(Input::Event { boot: self.boot, event });
    }
}
