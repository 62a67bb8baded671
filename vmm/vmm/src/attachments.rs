//! What of the host a VM is attached to: it outlives the boots of the VM, so that nobody on the other side notices that
//! the guest was launched anew.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use api::VmConfig;
use devices::rate_limit::Limits;
use devices::virtio::DeviceHost;

use crate::Error;
use crate::console::Console;
use crate::disk::Disk;
use crate::interface::Interface;
use crate::pmem::Pmem;
use crate::vhost_user::Served;

/// Consoles, network interfaces, disks, persistent memory and servers. Clones are the same ones.
#[derive(Clone)]
pub struct Attachments {
    /// The other end of the serial port.
    pub serial: Option<Arc<Console>>,
    /// The other end of the virtio console.
    pub console: Option<Arc<Console>>,
    /// The other ends of network interfaces, in the order of the configuration.
    pub interfaces: Vec<Arc<Interface>>,
    /// The images of disks, in the order of the configuration.
    pub disks: Vec<Arc<Disk>>,
    /// The files of persistent memory, in the order of the configuration.
    pub pmems: Vec<Arc<Pmem>>,
    /// The servers of devices.
    pub servers: Vec<Arc<Served>>,
    /// Whether the watchdog has reset the VM.
    pub watchdog_fired: Arc<AtomicBool>,
    host: Arc<dyn DeviceHost>,
    groups: BTreeMap<String, Limits>,
}

impl Attachments {
    /// Opens the disks and consoles that `config` names, whose threads ask `host` first, and takes the interfaces.
    ///
    /// # Errors
    ///
    /// [`Error`] that names the field.
    pub fn open(
        config: &VmConfig,
        interfaces: Vec<Arc<Interface>>,
        host: &Arc<dyn DeviceHost>,
    ) -> Result<Self, Error> {
        let console = |field, config| Console::open(field, config, host).map(|console| console.map(Arc::new));
        let groups = crate::rate_limit::groups(&config.rate_limit_groups);
        Ok(Self {
            serial: console("serial", &config.serial)?,
            console: console("console", &config.console)?,
            interfaces,
            disks: Disk::open_all(&config.disks, &groups, &[])?,
            pmems: Pmem::open_all(&config.pmem, &[])?,
            servers: Served::open_all(config, &[], host)?,
            watchdog_fired: Arc::default(),
            host: Arc::clone(host),
            groups,
        })
    }

    /// The same for another configuration: what it has in common with the earlier one stays open.
    ///
    /// # Errors
    ///
    /// [`Error`] that names the field.
    pub fn for_config(&self, config: &VmConfig, interfaces: Vec<Arc<Interface>>) -> Result<Self, Error> {
        let disks = Disk::open_all(&config.disks, &self.groups, &self.disks)?;
        let pmems = Pmem::open_all(&config.pmem, &self.pmems)?;
        let servers = Served::open_all(config, &self.servers, &self.host)?;
        Ok(Self { interfaces, disks, pmems, servers, ..self.clone() })
    }

    /// The pseudo-terminals to which one attaches, by the field that asked for them.
    pub fn terminals(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        [("serial", &self.serial), ("console", &self.console)]
            .into_iter()
            .filter_map(|(field, console)| Some((field, console.as_ref()?.pty_path()?)))
    }
}
