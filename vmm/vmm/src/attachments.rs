//! What of the host a VM is attached to: it outlives the boots of the VM, so that nobody on the other side notices that
//! the guest was launched anew.

use std::path::Path;
use std::sync::Arc;

use api::VmConfig;
use devices::virtio::DeviceHost;

use crate::Error;
use crate::console::Console;
use crate::disk::Disk;
use crate::interface::Interface;

/// Consoles, network interfaces and disks.
pub struct Attachments {
    /// The other end of the serial port.
    pub serial: Option<Console>,
    /// The other end of the virtio console.
    pub console: Option<Console>,
    /// The other ends of network interfaces, in the order of the configuration.
    pub interfaces: Vec<Interface>,
    /// The images of disks, in the order of the configuration.
    pub disks: Vec<Disk>,
}

impl Attachments {
    /// Opens the disks and consoles that `config` names, whose threads ask `host` first, and takes the interfaces.
    ///
    /// # Errors
    ///
    /// [`Error`] that names the field.
    pub fn open(
        config: &VmConfig,
        interfaces: Vec<Interface>,
        host: &Arc<dyn DeviceHost>,
    ) -> Result<Self, Error> {
        Ok(Self {
            serial: Console::open("serial", &config.serial, host)?,
            console: Console::open("console", &config.console, host)?,
            interfaces,
            disks: Disk::open_all(&config.disks, &config.rate_limit_groups)?,
        })
    }

    /// The same for another set of interfaces.
    pub fn with(self, interfaces: Vec<Interface>) -> Self {
        Self { interfaces, ..self }
    }

    /// The pseudo-terminals to which one attaches, by the field that asked for them.
    pub fn terminals(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        [("serial", &self.serial), ("console", &self.console)]
            .into_iter()
            .filter_map(|(field, console)| Some((field, console.as_ref()?.pty_path()?)))
    }
}
