//! VMs on KVM.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use api::VmConfig;
use api::config::NetConfig;
use api::message::{Counters, DeviceNode, PciDeviceInfo};
use devices::virtio::DeviceHost;
use hypervisor::Hypervisor;

use super::{BootEvents, ControlError, Machine, VmRuntime};
use crate::Error;
use crate::attachments::Attachments;
use crate::board::Board;
use crate::config::{ConfigError, ProcessBounds};
use crate::confinement::Confinement;
use crate::host::ProcessHost;
use crate::interface::Interface;
use crate::vcpu::{InUse, VcpuThreads};

/// Builds VMs on KVM, in a process that is confined.
pub struct LiveRuntime {
    /// KVM.
    pub hypervisor: Hypervisor,
    /// The process as devices know it.
    pub host: Arc<ProcessHost>,
    /// What binds threads.
    pub confinement: Arc<Confinement>,
    /// Interfaces that were opened before the process was confined; the first VM takes them.
    pub interfaces: Vec<Arc<Interface>>,
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
        if self.confinement.is_enforced() { taps_are_open(&config.net, &self.open) } else { Ok(()) }
    }

    fn attach(&mut self, config: &VmConfig, before: Option<&Attachments>) -> Result<Attachments, Error> {
        let first = std::mem::take(&mut self.interfaces);
        let open = before.map_or(&first, |before| &before.interfaces);
        let interfaces = Interface::open_all(&config.net, open)?;
        self.open = interfaces.iter().map(|interface| interface.id().to_owned()).collect();
        match before {
            Some(attachments) => attachments.for_config(config, interfaces),
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
        let (board, vcpus) = Board::build(&self.hypervisor, config, attachments, host, &events, launch_log)?;
        let threads =
            VcpuThreads::start(vcpus, &board.context(config, events, Arc::clone(&self.confinement)))?;
        Ok(LiveMachine { threads, board, memory: config.memory.total_size() })
    }
}

/// To open a tap device takes privileges and system calls that a confined process has given up: interfaces have descriptors,
/// or are among those that are `open` by their names.
fn taps_are_open(interfaces: &[NetConfig], open: &BTreeSet<String>) -> Result<(), ConfigError> {
    let closed = interfaces.iter().find(|net| {
        let open = net.id.as_ref().is_some_and(|id| open.contains(id));
        !net.vhost_user && net.fds.is_empty() && !open
    });
    closed.map_or(Ok(()), |net| {
        Err(ConfigError::Field {
            field: "net.tap",
            found: net.tap.clone().unwrap_or_else(|| "no descriptors".into()),
            expected:
                "open tap descriptors with vm.add-net (SCM_RIGHTS), or the interface on the command line: a \
                       confined VMM cannot open tap devices"
                    .into(),
        })
    })
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

impl Machine<Attachments> for LiveMachine {
    fn pause(&mut self) -> Result<(), Error> {
        self.threads.pause();
        self.board.devices().pause();
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Error> {
        self.board.devices().resume();
        self.threads.resume();
        Ok(())
    }

    fn devices(&self) -> Vec<DeviceNode> {
        self.board.devices().nodes()
    }

    fn device_counters(&self) -> Counters {
        self.board.devices().counters()
    }

    fn vcpu_counters(&self) -> Counters {
        self.threads.counters()
    }

    fn memory_actual_size(&self) -> u64 {
        let given_up = self.board.devices().balloon_device().map_or(0, |balloon| balloon.actual());
        self.memory.saturating_sub(given_up)
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

    fn resize_vcpus(&mut self, count: u16) -> Result<(), ControlError> {
        let Some(power) = self.board.power() else {
            return Self::refuse(
                "desired_vcpus",
                "the number of vCPUs is fixed; create the VM with a larger cpus.max_vcpus (--cpus boot=N,max=N)",
            );
        };
        power.allow(count).or_else(|InUse { vcpu }| {
            tracing::info!(vcpu, count, "the guest uses more vCPUs than it is to have");
            Self::refuse(
                "desired_vcpus",
                "the guest uses a vCPU that is to go; there, write 0 to /sys/devices/system/cpu/cpuN/online for each, \
                 from the last one, and ask again",
            )
        })
    }

    fn resize_balloon(&mut self, bytes: u64) -> Result<(), ControlError> {
        let Some(balloon) = self.board.devices().balloon_device() else {
            return Self::refuse("desired_balloon", "this VM has no balloon; give it one when it is created");
        };
        balloon.set_target(bytes);
        Ok(())
    }

    fn resize_disk(&mut self, id: &str, bytes: u64) -> Result<(), ControlError> {
        let disk = self.board.devices().disk(id).ok_or_else(|| ControlError::NoDevice { id: id.into() })?;
        disk.grow(bytes).map_err(|source| {
            let source = Box::new(Error::DiskSize { id: id.into(), source });
            ControlError::Failed { action: "vm.resize-disk", source }
        })
    }

    fn plug(
        &mut self,
        id: &str,
        config: &VmConfig,
        attachments: &Attachments,
    ) -> Result<PciDeviceInfo, ControlError> {
        let failed = |source| ControlError::Failed { action: "adding the device", source: Box::new(source) };
        let address = self.board.devices_mut().plug(id, config, attachments).map_err(failed)?;
        Ok(PciDeviceInfo { id: id.into(), bdf: address.to_string() })
    }

    fn unplug(&mut self, id: &str) -> Result<(), ControlError> {
        let failed = |source| ControlError::Failed { action: "vm.remove-device", source: Box::new(source) };
        self.board.devices().request_unplug(id).map_err(failed)
    }

    fn ejected(&mut self, id: &str) {
        self.board.devices_mut().forget(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confined_process_takes_interfaces_that_are_open_and_no_others() {
        let open = BTreeSet::from(["net0".to_owned()]);
        let named =
            |id: &str| NetConfig { id: Some(id.into()), tap: Some("tap7".into()), ..NetConfig::default() };
        let served = NetConfig { vhost_user: true, ..NetConfig::default() };
        let brought = NetConfig { fds: vec![9], ..named("net1") };
        taps_are_open(&[named("net0"), served, brought], &open).unwrap();
        for closed in [named("net1"), NetConfig::default()] {
            let error = taps_are_open(&[named("net0"), closed], &open).unwrap_err().to_string();
            assert!(error.starts_with("net.tap: ") && error.contains("SCM_RIGHTS"), "{error}");
        }
    }
}
