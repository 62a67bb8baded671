//! A runtime without a machine, for tests: strict about the order of calls, and told what the guest does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use api::VmConfig;
use api::message::{Counters, DeviceNode, PciDeviceInfo};

use super::{BootEvents, ControlError, Machine, VmRuntime};
use crate::Error;
use crate::config::ConfigError;
use crate::event::Event;

/// What a fake runtime shares with its test.
#[derive(Debug, Default)]
pub struct Shared {
    /// What was called, in order.
    pub calls: Vec<String>,
    /// The events of the boot that runs.
    pub guest: Option<BootEvents>,
    /// Launches fail.
    pub broken: bool,
    /// Devices can be plugged in and out.
    pub hot_plug: bool,
    /// The next launch waits for a message.
    pub hold: Option<Receiver<()>>,
}

/// Shared with the test.
pub type Script = Arc<Mutex<Shared>>;

/// A runtime without a machine.
#[derive(Debug, Default)]
pub struct FakeRuntime(pub Script);

/// What the fake VM is attached to.
#[derive(Debug)]
pub struct FakeAttachments {
    terminals: Vec<(&'static str, PathBuf)>,
    interfaces: Vec<(String, Vec<i32>)>,
}

impl FakeRuntime {
    fn log(&self, call: impl Into<String>) {
        self.0.lock().unwrap().calls.push(call.into());
    }
}

impl VmRuntime for FakeRuntime {
    type Attachments = FakeAttachments;
    type Machine = FakeMachine;

    fn check(&self, _config: &VmConfig) -> Result<(), ConfigError> {
        Ok(())
    }

    fn attach(
        &mut self,
        config: &VmConfig,
        before: Option<&FakeAttachments>,
    ) -> Result<FakeAttachments, Error> {
        self.log(if before.is_some() { "attach again" } else { "attach" });
        let pty = config.serial.mode == api::config::ConsoleMode::Pty;
        Ok(FakeAttachments {
            terminals: pty.then(|| ("serial", "/dev/pts/7".into())).into_iter().collect(),
            interfaces: config.net.iter().map(|net| (net.id.clone().unwrap(), net.fds.clone())).collect(),
        })
    }

    fn detach(&mut self, _attachments: FakeAttachments) {
        self.log("detach");
    }

    fn terminals(attachments: &FakeAttachments) -> Vec<(&'static str, PathBuf)> {
        attachments.terminals.clone()
    }

    fn launch(
        &mut self,
        config: &VmConfig,
        attachments: &FakeAttachments,
        events: BootEvents,
    ) -> Result<FakeMachine, Error> {
        self.log("launch");
        let hold = self.0.lock().unwrap().hold.take();
        if let Some(hold) = hold {
            let _ = hold.recv();
        }
        for (_, fds) in &attachments.interfaces {
            for &fd in fds {
                crate::endpoint::inherited(fd).expect("descriptors of an interface are open");
            }
        }
        let mut shared = self.0.lock().unwrap();
        if shared.broken {
            return Err(Error::GuestFault { gpa: 0x1000 });
        }
        assert!(shared.guest.is_none(), "the VM before it was taken down");
        shared.guest = Some(events);
        drop(shared);
        let ids = config.disks.iter().map(|disk| disk.id.clone().unwrap());
        Ok(FakeMachine { script: Arc::clone(&self.0), paused: false, ids: ids.collect() })
    }
}

/// A VM that only remembers.
#[derive(Debug)]
pub struct FakeMachine {
    script: Script,
    paused: bool,
    ids: Vec<String>,
}

impl FakeMachine {
    fn log(&self, call: impl Into<String>) {
        self.script.lock().unwrap().calls.push(call.into());
    }

    fn can_plug(&self, what: &str) -> Result<(), ControlError> {
        let can = self.script.lock().unwrap().hot_plug;
        let refused = ControlError::Unsupported { what: what.into(), reason: "not in a running VM" };
        if can { Ok(()) } else { Err(refused) }
    }
}

impl Machine<FakeAttachments> for FakeMachine {
    fn pause(&mut self) -> Result<(), Error> {
        assert!(!self.paused, "paused twice");
        self.paused = true;
        self.log("pause");
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Error> {
        assert!(self.paused, "resumed without a pause");
        self.paused = false;
        self.log("resume");
        Ok(())
    }

    fn devices(&self) -> Vec<DeviceNode> {
        let node = |(slot, id): (usize, &String)| DeviceNode {
            id: id.clone(),
            children: Vec::new(),
            pci_bdf: Some(format!("0000:00:{:02x}.0", slot + 1)),
        };
        self.ids.iter().enumerate().map(node).collect()
    }

    fn device_counters(&self) -> Counters {
        self.ids.iter().map(|id| (id.clone(), BTreeMap::from([("read_bytes".into(), 512)]))).collect()
    }

    fn vcpu_counters(&self) -> Counters {
        BTreeMap::from([("vcpu0".into(), BTreeMap::from([("mmio_read".into(), 3)]))])
    }

    fn memory_actual_size(&self) -> u64 {
        1 << 20
    }

    fn power_button(&mut self) -> Result<(), ControlError> {
        Err(ControlError::Unsupported { what: "vm.power-button".into(), reason: "no power button" })
    }

    fn resize_vcpus(&mut self, count: u16) -> Result<(), ControlError> {
        self.log(format!("vcpus {count}"));
        Ok(())
    }

    fn resize_balloon(&mut self, bytes: u64) -> Result<(), ControlError> {
        self.log(format!("balloon {bytes}"));
        Ok(())
    }

    fn resize_disk(&mut self, id: &str, bytes: u64) -> Result<(), ControlError> {
        self.log(format!("resize {id} {bytes}"));
        Ok(())
    }

    fn plug(
        &mut self,
        id: &str,
        config: &VmConfig,
        _attachments: &FakeAttachments,
    ) -> Result<PciDeviceInfo, ControlError> {
        self.can_plug(id)?;
        let known = config.disks.iter().any(|disk| disk.id.as_deref() == Some(id));
        assert!(known || config.net.iter().any(|net| net.id.as_deref() == Some(id)));
        self.log(format!("plug {id}"));
        Ok(PciDeviceInfo { id: id.into(), bdf: "0000:01:00.0".into() })
    }

    fn unplug(&mut self, id: &str) -> Result<(), ControlError> {
        self.can_plug(id)?;
        self.log(format!("unplug {id}"));
        Ok(())
    }

    fn ejected(&mut self, id: &str) {
        self.log(format!("ejected {id}"));
    }
}

impl Drop for FakeMachine {
    fn drop(&mut self) {
        self.log("take down");
        self.script.lock().unwrap().guest = None;
    }
}

/// A test's view of a fake runtime.
#[derive(Clone, Debug, Default)]
pub struct Director(pub Script);

impl Director {
    /// The guest that runs does something.
    pub fn guest(&self, event: Event) {
        self.running().send(event);
    }

    /// The events of the boot that runs.
    pub fn running(&self) -> BootEvents {
        self.0.lock().unwrap().guest.clone().expect("a VM runs")
    }

    /// What was called since the last question.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().calls)
    }

    /// Changes what the runtime does.
    pub fn set(&self, change: impl FnOnce(&mut Shared)) {
        change(&mut self.0.lock().unwrap());
    }
}
