//! The devices of a board: put there before the guest boots, plugged in and out while it runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use api::VmConfig;
use api::message::{Counters, DeviceNode};
use devices::pci::{PciAddress, PciBus, PciDevice, Requester};
use devices::virtio::balloon::{Balloon, BalloonOptions, Reclaim};
use devices::virtio::blk::Block;
use devices::virtio::console::Console as VirtioConsole;
use devices::virtio::rng::Rng;
use devices::virtio::vsock::Vsock;
use devices::virtio::{DeviceHost, VirtioDevice, VirtioPci, VirtioPciConfig};
use devices::watchdog::Watchdog;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::{DeviceMemory, assemble, unusable};
use crate::Error;
use crate::attachments::Attachments;
use crate::config::names;
use crate::isolation::{Isolation, Kernel};

/// What devices are made with, and those that there are.
pub struct DeviceManager {
    pub(super) isolation: Isolation,
    pub(super) memory: Arc<GuestMemoryMmap>,
    pub(super) host: Arc<dyn DeviceHost>,
    pub(super) kernel: Arc<Kernel>,
    pub(super) pci: Arc<PciBus>,
    pub(super) functions: Vec<Function>,
    pub(super) disks: BTreeMap<String, Arc<Block>>,
    pub(super) device_memory: DeviceMemory,
    pub(super) balloon: Option<Arc<Balloon>>,
    pub(super) watchdog: Option<Arc<Watchdog>>,
}

/// A virtio device and where the guest finds it.
pub(super) struct Function {
    address: PciAddress,
    function: Arc<VirtioPci>,
}

/// A device that is to be plugged in, made of the VM's configuration.
enum Plug {
    Virtio(Arc<dyn VirtioDevice>),
    Disk(Arc<Block>),
}

impl DeviceManager {
    /// Puts every device of the configuration on the board, in an order that does not depend on anything else.
    /// `expired` is called by the watchdog.
    pub(super) fn assemble(
        &mut self,
        config: &VmConfig,
        attachments: &Attachments,
        expired: impl Fn() + Send + 'static,
    ) -> Result<(), Error> {
        for disk in &attachments.disks {
            let device = Arc::new(disk.device());
            self.disks.insert(disk.id().to_owned(), Arc::clone(&device));
            self.put(disk.id(), device)?;
        }
        let source = File::open(&config.rng.src).map_err(unusable("rng.src", &config.rng.src))?;
        let id = config.rng.id.clone().unwrap_or_else(|| "_rng".into());
        self.put(&id, Arc::new(Rng::new(source)))?;
        for interface in &attachments.interfaces {
            self.put(interface.id(), Arc::new(interface.device()))?;
        }
        if let Some(vsock) = &config.vsock {
            let id = vsock.id.clone().unwrap_or_else(|| "_vsock".into());
            self.put(&id, self::vsock(vsock)?)?;
        }
        if let Some(console) = &attachments.console {
            let ends = console.ends()?;
            self.put(names::CONSOLE, Arc::new(VirtioConsole::new(ends.input, ends.output.into())))?;
        }
        for served in &attachments.servers {
            self.put(served.id(), Arc::new(served.device(Arc::clone(&self.memory))))?;
        }
        for pmem in &attachments.pmems {
            self.put(pmem.id(), Arc::new(pmem.device(&self.device_memory)?))?;
        }
        self.balloon(config)?;
        if config.watchdog {
            let host = Arc::clone(&self.host);
            let fired: Arc<AtomicBool> = Arc::clone(&attachments.watchdog_fired);
            let watchdog = Watchdog::new(host, fired, expired).map_err(assemble("watchdog"))?;
            let address = self.pci.free_address().map_err(assemble("watchdog"))?;
            self.pci.insert(address, Arc::clone(&watchdog) as _).map_err(assemble("watchdog"))?;
            self.watchdog = Some(watchdog);
        }
        Ok(())
    }

    fn balloon(&mut self, config: &VmConfig) -> Result<(), Error> {
        let Some(balloon) = &config.balloon else { return Ok(()) };
        let id = balloon.id.clone().unwrap_or_else(|| "_balloon".into());
        let options = BalloonOptions {
            target: balloon.size,
            deflate_on_oom: balloon.deflate_on_oom,
            reporting: balloon.free_page_reporting,
        };
        let pages = Box::new(Pages(Arc::clone(&self.memory)));
        let device = Arc::new(Balloon::new(pages, options).map_err(assemble(&id))?);
        self.balloon = Some(Arc::clone(&device));
        self.put(&id, device)
    }

    /// Puts a device on the board itself.
    fn put(&mut self, id: &str, device: Arc<dyn VirtioDevice>) -> Result<(), Error> {
        let address = self.pci.free_address().map_err(assemble(id))?;
        let function = self.function(id, device, address.requester())?;
        self.pci.insert(address, Arc::clone(&function) as Arc<dyn PciDevice>).map_err(assemble(id))?;
        self.functions.push(Function { address, function });
        Ok(())
    }

    /// Plugs the device of that name in while the guest runs: a disk, an interface, a directory, persistent
    /// memory or the vsock. Gives its place.
    ///
    /// # Errors
    ///
    /// [`Error`] that says what stands in the way.
    pub fn plug(
        &mut self,
        id: &str,
        config: &VmConfig,
        attachments: &Attachments,
    ) -> Result<PciAddress, Error> {
        let plug = self.make(id, config, attachments)?;
        let requester = self.pci.free_port().map_err(assemble(id))?;
        let device = match &plug {
            Plug::Virtio(device) => Arc::clone(device),
            Plug::Disk(disk) => Arc::clone(disk) as _,
        };
        let function = self.function(id, device, requester)?;
        let address = self.pci.plug(id, Arc::clone(&function) as Arc<dyn PciDevice>).map_err(assemble(id))?;
        self.functions.push(Function { address, function });
        if let Plug::Disk(disk) = plug {
            self.disks.insert(id.to_owned(), disk);
        }
        Ok(address)
    }

    /// Asks the guest to let the device of that name go.
    ///
    /// # Errors
    ///
    /// [`Error::Assemble`] where it was not plugged in, or the guest does not listen.
    pub fn request_unplug(&self, id: &str) -> Result<(), Error> {
        self.pci.request_unplug(id).map_err(assemble(id))
    }

    /// Ends the device of that name, which the guest has let go.
    pub fn forget(&mut self, id: &str) {
        self.disks.remove(id);
        self.functions.retain(|Function { function, .. }| function.id() != id);
    }

    /// The device of that name, for a slot.
    fn make(&self, id: &str, config: &VmConfig, attachments: &Attachments) -> Result<Plug, Error> {
        if let Some(disk) = attachments.disks.iter().find(|disk| disk.id() == id) {
            return Ok(Plug::Disk(Arc::new(disk.device())));
        }
        if let Some(interface) = attachments.interfaces.iter().find(|interface| interface.id() == id) {
            return Ok(Plug::Virtio(Arc::new(interface.device())));
        }
        if let Some(served) = attachments.servers.iter().find(|served| served.id() == id) {
            return Ok(Plug::Virtio(Arc::new(served.device(Arc::clone(&self.memory)))));
        }
        if let Some(pmem) = attachments.pmems.iter().find(|pmem| pmem.id() == id) {
            return Ok(Plug::Virtio(Arc::new(pmem.device(&self.device_memory)?)));
        }
        match &config.vsock {
            Some(config) if config.id.as_deref() == Some(id) => Ok(Plug::Virtio(vsock(config)?)),
            _ => Err(assemble(id)("a device of this kind cannot be added while the VM runs")),
        }
    }

    fn function(
        &self,
        id: &str,
        device: Arc<dyn VirtioDevice>,
        requester: Requester,
    ) -> Result<Arc<VirtioPci>, Error> {
        VirtioPci::new(VirtioPciConfig {
            id: id.into(),
            device,
            requester,
            memory: Arc::clone(&self.memory),
            dma: self.isolation.dma_policy(),
            msi: Arc::clone(&self.kernel) as _,
            io_events: Arc::clone(&self.kernel) as _,
            access_platform: self.isolation.realm().is_some(),
            host: Arc::clone(&self.host),
        })
        .map_err(assemble(id))
    }

    /// Makes every device stand still.
    pub fn pause(&self) {
        self.functions.iter().for_each(|Function { function, .. }| function.pause());
        if let Some(watchdog) = &self.watchdog {
            watchdog.pause();
        }
    }

    /// Lets every device go on.
    pub fn resume(&self) {
        self.functions.iter().for_each(|Function { function, .. }| function.resume());
        if let Some(watchdog) = &self.watchdog {
            watchdog.resume();
        }
    }

    /// The devices and their places.
    pub fn nodes(&self) -> Vec<DeviceNode> {
        let node = |Function { address, function }: &Function| DeviceNode {
            id: function.id().into(),
            children: Vec::new(),
            pci_bdf: Some(address.to_string()),
        };
        self.functions.iter().map(node).collect()
    }

    /// What devices have done, by name.
    pub fn counters(&self) -> Counters {
        let counted = |device: &VirtioPci| {
            device.device().counters().into_iter().map(|(name, count)| (name.into(), count)).collect()
        };
        let functions = self.functions.iter().map(|Function { function, .. }| function);
        functions.map(|function| (function.id().into(), counted(function))).collect()
    }

    /// The disk of that name.
    pub fn disk(&self, id: &str) -> Option<&Arc<Block>> {
        self.disks.get(id)
    }

    /// The balloon, if the VM has one.
    pub const fn balloon_device(&self) -> Option<&Arc<Balloon>> {
        self.balloon.as_ref()
    }
}

fn vsock(config: &api::config::VsockConfig) -> Result<Arc<dyn VirtioDevice>, Error> {
    let device = Vsock::new(u64::from(config.cid), &config.socket);
    Ok(Arc::new(device.map_err(unusable("vsock.socket", &config.socket))?))
}

/// Guest memory that a balloon gives back.
struct Pages(Arc<GuestMemoryMmap>);

impl Reclaim for Pages {
    fn reclaim(&self, gpa: u64, len: u64) -> std::io::Result<()> {
        let outside = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "not guest memory");
        let region = self.0.find_region(GuestAddress(gpa)).ok_or_else(outside)?;
        let offset = gpa - region.start_addr().0;
        guest_memory::discard(region, offset, len).map_err(std::io::Error::other)
    }
}
