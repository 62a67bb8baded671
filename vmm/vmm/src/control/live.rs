//! VMs on KVM.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use api::VmConfig;
use api::message::{Counters, DeviceNode, PciDeviceInfo};
use devices::virtio::DeviceHost;
use hypervisor::Hypervisor;

use super::{BootEvents, ControlError, Machine, NewDevice, VmRuntime};
use crate::Error;
use crate::attachments::Attachments;
use crate::board::Board;
use crate::config::{ConfigError, ProcessBounds};
use crate::confinement::Confinement;
use crate::host::ProcessHost;
use crate::interface::Interface;
use crate::vcpu::VcpuThreads;

/// Builds VMs on KVM, in a process that is confined.
pub struct LiveRuntime {
    /// KVM.
    pub hypervisor: Hypervisor,
    /// The process as devices know it.
    pub host: Arc<ProcessHost>,
    /// What binds threads.
    pub confinement: Arc<Confinement>,
    /// Interfaces that were opened before the process was confined; the first VM takes them.
    pub interfaces: Vec<Interface>,
    /// Names of interfaces that are open, which therefore need not be opened.
    pub open: BTreeSet<String>,
    /// Bounds of the process.
    pub bounds: ProcessBounds,
    /// File that takes the launch log of a Realm.
    pub launch_log: Option<PathBuf>,
}

impl VmRuntime for LiveRuntime {
    type Attachments = Attachments;
    type Machine = LiveMachine;

    fn check(&self, config: &VmConfig) -> Result<(), ConfigError> {
        self.bounds.check(config)?;
        // To open a tap device takes privileges and system calls that a confined process has given up.
        let closed = config.net.iter().find(|net| {
            let open = net.id.as_ref().is_some_and(|id| self.open.contains(id));
            net.fds.is_empty() && !open && self.confinement.is_enforced()
        });
        closed.map_or(Ok(()), |net| {
            Err(ConfigError::Field {
                field: "net.tap",
                found: net.tap.clone().unwrap_or_else(|| "no descriptors".into()),
                expected: "open tap descriptors with vm.add-net (SCM_RIGHTS), or the interface on the command line: \
                           a confined VMM cannot open tap devices"
                    .into(),
            })
        })
    }

    fn attach(&mut self, config: &VmConfig, before: Option<Attachments>) -> Result<Attachments, Error> {
        let (attached, open) = match before {
            None => (None, std::mem::take(&mut self.interfaces)),
            Some(mut attachments) => {
                let open = std::mem::take(&mut attachments.interfaces);
                (Some(attachments), open)
            }
        };
        let interfaces = Interface::open_all(&config.net, open)?;
        self.open = interfaces.iter().map(|interface| interface.id().to_owned()).collect();
        match attached {
            Some(attachments) => Ok(attachments.with(interfaces)),
            None => {
                let host = Arc::clone(&self.host) as Arc<dyn DeviceHost>;
                Attachments::open(config, interfaces, &host)
            }
        }
    }

    fn detach(&mut self, attachments: Attachments) {
        self.open.clear();
        drop(attachments);
    }

    fn terminals(attachments: &Attachments) -> Vec<(&'static str, PathBuf)> {
        attachments.terminals().map(|(field, path)| (field, path.into())).collect()
    }

    fn launch(
        &mut self,
        config: &VmConfig,
        attachments: &Attachments,
        events: BootEvents,
    ) -> Result<LiveMachine, Error> {
        let host = Arc::clone(&self.host) as Arc<dyn DeviceHost>;
        let launch_log = self.launch_log.as_deref();
        let (board, vcpus) = Board::build(&self.hypervisor, config, attachments, host, launch_log)?;
        let threads =
            VcpuThreads::start(vcpus, &board.context(config, events, Arc::clone(&self.confinement)))?;
        Ok(LiveMachine { threads, board, memory: config.memory.total_size() })
    }
}

/// A VM on KVM. The vCPUs end before the board goes: fields are dropped in their order.
pub struct LiveMachine {
    threads: VcpuThreads,
    board: Board,
    memory: u64,
}

impl LiveMachine {
    fn refuse<T>(what: &str, reason: &'static str) -> Result<T, ControlError> {
        Err(ControlError::Unsupported { what: what.into(), reason })
    }
}

impl Machine for LiveMachine {
    fn pause(&mut self) -> Result<(), Error> {
        self.threads.pause();
        for (_, device) in self.board.virtio() {
            device.pause();
        }
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Error> {
        for (_, device) in self.board.virtio() {
            device.resume();
        }
        self.threads.resume();
        Ok(())
    }

    fn devices(&self) -> Vec<DeviceNode> {
        let node = |(address, device): &(_, Arc<devices::virtio::VirtioPci>)| DeviceNode {
            id: device.id().into(),
            children: Vec::new(),
            pci_bdf: Some(devices::pci::PciAddress::to_string(address)),
        };
        self.board.virtio().iter().map(node).collect()
    }

    fn device_counters(&self) -> Counters {
        let counted = |device: &devices::virtio::VirtioPci| {
            device.device().counters().into_iter().map(|(name, count)| (name.into(), count)).collect()
        };
        self.board.virtio().iter().map(|(_, device)| (device.id().into(), counted(device))).collect()
    }

    fn vcpu_counters(&self) -> Counters {
        self.threads.counters()
    }

    fn memory_actual_size(&self) -> u64 {
        self.memory
    }

    fn power_button(&mut self) -> Result<(), ControlError> {
        if self.board.gpio().press_power_button() {
            return Ok(());
        }
        Self::refuse(
            "vm.power-button",
            "the guest does not listen to its power button, because it has not booted so far or has no driver \
             gpio-keys; try again later, or use vm.shutdown",
        )
    }

    fn resize_balloon(&mut self, _bytes: u64) -> Result<(), ControlError> {
        Self::refuse("desired_balloon", "this VM has no balloon")
    }

    fn resize_disk(&mut self, id: &str, bytes: u64) -> Result<(), ControlError> {
        let disk = self.board.disk(id).ok_or_else(|| ControlError::NoDevice { id: id.into() })?;
        disk.grow(bytes).map_err(|source| {
            let source = Box::new(Error::DiskSize { id: id.into(), source });
            ControlError::Failed { action: "vm.resize-disk", source }
        })
    }

    fn plug(&mut self, id: &str, device: &NewDevice) -> Result<PciDeviceInfo, ControlError> {
        let what = format!("{}: {id}", device.call());
        Self::refuse(
            &what,
            "the device cannot be added to a running VM; shut the VM down, add it and boot again",
        )
    }

    fn unplug(&mut self, id: &str) -> Result<(), ControlError> {
        Self::refuse(id, "the device cannot be removed from a running VM; shut the VM down first")
    }
}
