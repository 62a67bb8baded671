//! The thread that owns the VM.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process;
use std::sync::mpsc::{Receiver, channel};

use api::VmConfig;
use api::message::{
    Counters, DeviceNode, VmInfo, VmRemoveDevice, VmResize, VmResizeDisk, VmState, VmmPingResponse,
};

use super::request::{Action, Answer, Handle, Input, Metrics, NewDevice};
use super::runtime::{BootEvents, Machine, VmRuntime};
use super::{ControlError, devices};
use crate::Error;
use crate::config::{names, validate};
use crate::event::Event;
use crate::monitor::EventMonitor;

/// How a VM, or the VMM, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest powered itself off.
    PoweredOff,
    /// The guest asked for a reset and was not to get one.
    Reset,
    /// The guest reported its own crash.
    Crashed,
    /// A signal ended the VM.
    Stopped {
        /// Number of the signal.
        signal: i32,
    },
    /// A client ended the VMM.
    Dismissed,
}

/// What happens when the guest ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// A guest that asks for a reset is not launched anew.
    pub no_reboot: bool,
    /// The VMM stays when the guest has ended, and the VM can be booted again.
    pub no_shutdown: bool,
}

/// Owns the VM, if there is one.
pub struct Control<R: VmRuntime> {
    runtime: R,
    policy: Policy,
    monitor: EventMonitor,
    handle: Handle,
    inputs: Receiver<Input>,
    launches: u64,
    vm: Option<Vm<R>>,
}

/// The one VM.
struct Vm<R: VmRuntime> {
    config: VmConfig,
    /// Descriptors that came with requests; the configuration has their numbers.
    descriptors: Vec<OwnedFd>,
    attachments: Option<R::Attachments>,
    state: VmState,
    machine: Option<R::Machine>,
}

/// What is to become of the VMM.
enum Next {
    GoOn,
    End(Outcome),
}

impl<R: VmRuntime> Control<R> {
    /// Nothing is created yet.
    pub fn new(runtime: R, policy: Policy, monitor: EventMonitor) -> Self {
        let (sender, inputs) = channel();
        Self { runtime, policy, monitor, handle: Handle::new(sender), inputs, launches: 0, vm: None }
    }

    /// Sends requests to this thread, for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Creates the VM.
    ///
    /// # Errors
    ///
    /// [`ControlError::Exists`] or [`ControlError::Config`].
    pub fn create(&mut self, mut config: VmConfig) -> Result<(), ControlError> {
        if self.vm.is_some() {
            return Err(ControlError::Exists);
        }
        names::assign(&mut config);
        validate(&config)?;
        self.runtime.check(&config)?;
        self.vm = Some(Vm {
            config,
            descriptors: Vec::new(),
            attachments: None,
            state: VmState::Created,
            machine: None,
        });
        Ok(())
    }

    /// Launches the VM. The pseudo-terminals of its consoles are told.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub fn boot(&mut self) -> Result<Vec<(&'static str, PathBuf)>, ControlError> {
        let vm = self.vm.as_mut().ok_or(ControlError::NoVm)?;
        vm.expect("vm.boot", &[VmState::Created, VmState::Shutdown], "Created or Shutdown")?;
        self.monitor.vm("booting");
        self.launch().map_err(ControlError::failed("vm.boot"))?;
        self.monitor.vm("booted");
        Ok(self.terminals())
    }

    /// Answers requests and heeds events until the VMM is to end. The VM is gone afterwards.
    ///
    /// # Errors
    ///
    /// [`Error`] that ended the VM, where nobody is there to boot it again.
    pub fn run(&mut self) -> Result<Outcome, Error> {
        let outcome = loop {
            // The handle of this very thread keeps the channel open.
            let Ok(input) = self.inputs.recv() else { break Ok(Outcome::Dismissed) };
            match self.heed(input) {
                Ok(Next::GoOn) => {}
                Ok(Next::End(outcome)) => break Ok(outcome),
                Err(error) => break Err(error),
            }
        };
        self.take_down();
        self.vm = None;
        outcome
    }

    fn heed(&mut self, input: Input) -> Result<Next, Error> {
        match input {
            Input::Request { action, reply } => {
                let ends = matches!(action, Action::ShutdownVmm);
                let name = action.name();
                let answer = self.answer(action);
                if let Err(error) = &answer {
                    tracing::info!(request = name, "refused: {error}");
                } else {
                    tracing::debug!(request = name, "done");
                }
                reply(answer);
                Ok(if ends { Next::End(Outcome::Dismissed) } else { Next::GoOn })
            }
            Input::Event { boot, event } if boot == self.launches && self.is_launched() => self.guest(event),
            // A vCPU of an earlier boot had the last word.
            Input::Event { .. } => Ok(Next::GoOn),
            Input::Signal(signal) => Ok(Next::End(Outcome::Stopped { signal })),
            Input::Failed(error) => Err(error),
        }
    }

    fn answer(&mut self, action: Action) -> Result<Answer, ControlError> {
        match action {
            Action::Ping => return Ok(Answer::Ping(ping())),
            Action::ShutdownVmm => {}
            Action::Info => return self.info(),
            Action::Counters => return self.counters().map(Answer::Counters),
            Action::Metrics => return Ok(Answer::Metrics(self.metrics())),
            Action::Create(config) => self.create(*config)?,
            Action::Delete => self.delete(),
            Action::Boot => drop(self.boot()?),
            Action::Pause => self.pause()?,
            Action::Resume => self.resume()?,
            Action::Shutdown => self.shutdown()?,
            Action::Reboot => self.reboot_for_client()?,
            Action::PowerButton => self.machine("vm.power-button")?.power_button()?,
            Action::Resize(size) => self.resize(size)?,
            Action::ResizeDisk(size) => self.resize_disk(&size)?,
            Action::AddDevice(device) => return self.add(device),
            Action::RemoveDevice(device) => self.remove(&device)?,
        }
        Ok(Answer::Done)
    }

    /// The guest, or a vCPU of it, ended the boot.
    fn guest(&mut self, event: Event) -> Result<Next, Error> {
        let event = match event {
            Event::Ejected(id) => {
                self.ejected(&id)?;
                return Ok(Next::GoOn);
            }
            Event::Watchdog => {
                self.monitor.event("guest", "watchdog", &[("event", "the guest did not feed its watchdog")]);
                Event::Reset
            }
            event => event,
        };
        let outcome = match event {
            Event::Off => Outcome::PoweredOff,
            Event::Crash => {
                self.monitor.event("guest", "panic", &[("event", "the guest reported its own crash")]);
                Outcome::Crashed
            }
            Event::Reset if self.policy.no_reboot => Outcome::Reset,
            Event::Reset | Event::Watchdog | Event::Ejected(_) => {
                tracing::info!("the guest is reset; launching it anew");
                return match self.reboot() {
                    Ok(()) => Ok(Next::GoOn),
                    Err(error) => self.end_with(error),
                };
            }
            Event::Failed(error) => {
                self.take_down();
                return self.end_with(error);
            }
        };
        self.take_down();
        Ok(if self.policy.no_shutdown { Next::GoOn } else { Next::End(outcome) })
    }

    /// The VM ended with an error: it ends the VMM, unless a client may boot the VM again.
    fn end_with(&self, error: Error) -> Result<Next, Error> {
        if self.policy.no_shutdown {
            let error = anyhow::Error::new(error);
            tracing::error!("the VM ended: {error:#}");
            return Ok(Next::GoOn);
        }
        Err(error)
    }

    fn launch(&mut self) -> Result<(), Error> {
        let Some(vm) = &mut self.vm else { return Ok(()) };
        let attachments = self.runtime.attach(&vm.config, vm.attachments.as_ref())?;
        let attachments = vm.attachments.insert(attachments);
        self.launches += 1;
        let events = BootEvents::new(self.launches, self.handle.inputs().clone());
        vm.machine = Some(self.runtime.launch(&vm.config, attachments, events)?);
        vm.state = VmState::Running;
        tracing::info!("the guest runs");
        Ok(())
    }

    fn reboot(&mut self) -> Result<(), Error> {
        self.monitor.vm("rebooting");
        if let Some(vm) = &mut self.vm {
            vm.machine = None;
            vm.state = VmState::Shutdown;
        }
        self.launch().inspect_err(|_| self.monitor.vm("shutdown"))?;
        self.monitor.vm("rebooted");
        Ok(())
    }

    fn reboot_for_client(&mut self) -> Result<(), ControlError> {
        self.machine("vm.reboot")?;
        self.reboot().map_err(ControlError::failed("vm.reboot"))
    }

    fn shutdown(&mut self) -> Result<(), ControlError> {
        self.machine("vm.shutdown")?;
        self.take_down();
        Ok(())
    }

    fn delete(&mut self) {
        self.take_down();
        if let Some(vm) = self.vm.take() {
            if let Some(attachments) = vm.attachments {
                self.runtime.detach(attachments);
            }
            self.monitor.vm("deleted");
        }
    }

    /// Takes the VM down if it was launched; it can be booted again.
    fn take_down(&mut self) {
        if let Some(vm) = &mut self.vm
            && let Some(machine) = vm.machine.take()
        {
            drop(machine);
            vm.state = VmState::Shutdown;
            self.monitor.vm("shutdown");
        }
    }

    fn pause(&mut self) -> Result<(), ControlError> {
        self.launched("vm.pause", VmState::Running, "Running")?;
        self.monitor.vm("pausing");
        self.machine("vm.pause")?.pause().map_err(ControlError::failed("vm.pause"))?;
        self.set_state(VmState::Paused);
        self.monitor.vm("paused");
        Ok(())
    }

    fn resume(&mut self) -> Result<(), ControlError> {
        self.launched("vm.resume", VmState::Paused, "Paused")?;
        self.monitor.vm("resuming");
        self.machine("vm.resume")?.resume().map_err(ControlError::failed("vm.resume"))?;
        self.set_state(VmState::Running);
        self.monitor.vm("resumed");
        Ok(())
    }

    fn resize(&mut self, size: VmResize) -> Result<(), ControlError> {
        let config = &self.vm.as_ref().ok_or(ControlError::NoVm)?.config;
        let (cpus, memory) = (&config.cpus, config.memory.total_size());
        let vcpus = size.desired_vcpus.filter(|&desired| desired != cpus.boot_vcpus);
        if let Some(desired) = vcpus.filter(|desired| !(1..=cpus.max()).contains(desired)) {
            let expected = format!("1 to {}: cpus.max_vcpus is fixed when the VM is created", cpus.max());
            return Err(ControlError::Size { field: "desired_vcpus", found: desired.into(), expected });
        }
        if let Some(desired) = size.desired_ram.filter(|&desired| desired != memory) {
            let expected = format!(
                "{memory}, which is fixed when the VM is created; desired_balloon takes some of it back"
            );
            return Err(ControlError::Size { field: "desired_ram", found: desired, expected });
        }
        if let Some(desired) = size.desired_balloon.filter(|&desired| desired >= memory) {
            let expected = format!("less than the guest's memory, {memory}");
            return Err(ControlError::Size { field: "desired_balloon", found: desired, expected });
        }
        if let Some(desired) = vcpus {
            self.machine("vm.resize")?.resize_vcpus(desired)?;
            if let Some(vm) = &mut self.vm {
                vm.config.cpus.boot_vcpus = desired;
            }
        }
        let Some(balloon) = size.desired_balloon else { return Ok(()) };
        self.machine("vm.resize")?.resize_balloon(balloon)?;
        if let Some(config) = self.vm.as_mut().and_then(|vm| vm.config.balloon.as_mut()) {
            config.size = balloon;
        }
        Ok(())
    }

    fn resize_disk(&mut self, size: &VmResizeDisk) -> Result<(), ControlError> {
        let config = &self.vm.as_ref().ok_or(ControlError::NoVm)?.config;
        if !config.disks.iter().any(|disk| disk.id.as_deref() == Some(&size.id)) {
            return Err(ControlError::NoDevice { id: size.id.clone() });
        }
        self.machine("vm.resize-disk")?.resize_disk(&size.id, size.desired_size)
    }

    /// Adds a device to a VM: to its configuration before it boots, to the guest while it runs.
    fn add(&mut self, device: NewDevice) -> Result<Answer, ControlError> {
        let vm = self.vm.as_mut().ok_or(ControlError::NoVm)?;
        let (config, id) = devices::with(&vm.config, &device)?;
        validate(&config)?;
        self.runtime.check(&config)?;
        let answer = match &mut vm.machine {
            Some(machine) => {
                let failed = ControlError::failed(device.call());
                let attachments = self.runtime.attach(&config, vm.attachments.as_ref()).map_err(failed)?;
                let plugged = machine.plug(&id, &config, &attachments)?;
                vm.attachments = Some(attachments);
                Answer::Device(plugged)
            }
            None => Answer::Done,
        };
        vm.config = config;
        if let NewDevice::Net(_, descriptors) = device {
            vm.descriptors.extend(descriptors);
        }
        Ok(answer)
    }

    fn remove(&mut self, VmRemoveDevice { id }: &VmRemoveDevice) -> Result<(), ControlError> {
        let vm = self.vm.as_mut().ok_or(ControlError::NoVm)?;
        let mut config = vm.config.clone();
        devices::remove(&mut config, id)?;
        if let Some(machine) = &mut vm.machine {
            return machine.unplug(id);
        }
        vm.forget(config);
        self.monitor.event("vm", "device-removed", &[("id", id)]);
        Ok(())
    }

    /// The guest has let the device of that name go.
    fn ejected(&mut self, id: &str) -> Result<(), Error> {
        let Some(vm) = &mut self.vm else { return Ok(()) };
        if let Some(machine) = &mut vm.machine {
            machine.ejected(id);
        }
        let mut config = vm.config.clone();
        if devices::remove(&mut config, id).is_ok() {
            let attachments = self.runtime.attach(&config, vm.attachments.as_ref())?;
            vm.attachments = Some(attachments);
            vm.forget(config);
        }
        self.monitor.event("vm", "device-removed", &[("id", id)]);
        Ok(())
    }

    fn info(&self) -> Result<Answer, ControlError> {
        let vm = self.vm.as_ref().ok_or(ControlError::NoVm)?;
        let mut config = vm.config.clone();
        for (field, path) in self.terminals() {
            let console = if field == "serial" { &mut config.serial } else { &mut config.console };
            console.file = Some(path);
        }
        let machine = vm.machine.as_ref();
        let named = |node: DeviceNode| (node.id.clone(), node);
        Ok(Answer::Info(Box::new(VmInfo {
            config,
            state: vm.state,
            memory_actual_size: Some(
                machine.map_or(vm.config.memory.total_size(), Machine::memory_actual_size),
            ),
            device_tree: machine.map(Machine::devices).into_iter().flatten().map(named).collect(),
        })))
    }

    fn counters(&mut self) -> Result<Counters, ControlError> {
        let machine = self.machine("vm.counters")?;
        let mut counters = machine.device_counters();
        counters.extend(machine.vcpu_counters());
        Ok(counters)
    }

    fn metrics(&self) -> Metrics {
        let machine = self.vm.as_ref().and_then(|vm| vm.machine.as_ref());
        Metrics {
            state: self.vm.as_ref().map(|vm| vm.state),
            launches: self.launches,
            devices: machine.map(Machine::device_counters).unwrap_or_default(),
            vcpus: machine.map(Machine::vcpu_counters).unwrap_or_default(),
        }
    }

    fn terminals(&self) -> Vec<(&'static str, PathBuf)> {
        let attachments = self.vm.as_ref().and_then(|vm| vm.attachments.as_ref());
        attachments.map(R::terminals).unwrap_or_default()
    }

    fn is_launched(&self) -> bool {
        self.vm.as_ref().is_some_and(|vm| vm.machine.is_some())
    }

    fn set_state(&mut self, state: VmState) {
        if let Some(vm) = &mut self.vm {
            vm.state = state;
        }
    }

    fn launched(
        &self,
        action: &'static str,
        state: VmState,
        expected: &'static str,
    ) -> Result<(), ControlError> {
        self.vm.as_ref().ok_or(ControlError::NoVm)?.expect(action, &[state], expected)
    }

    /// The VM that was launched.
    fn machine(&mut self, action: &'static str) -> Result<&mut R::Machine, ControlError> {
        let vm = self.vm.as_mut().ok_or(ControlError::NoVm)?;
        let state = vm.state;
        vm.machine.as_mut().ok_or(ControlError::State { action, state, expected: "Running or Paused" })
    }
}

impl<R: VmRuntime> Vm<R> {
    /// Takes a configuration without a device that there was. What came with a request for it alone is closed.
    fn forget(&mut self, config: VmConfig) {
        self.descriptors.retain(|fd| config.net.iter().any(|net| net.fds.contains(&fd.as_raw_fd())));
        self.config = config;
    }

    fn expect(
        &self,
        action: &'static str,
        states: &[VmState],
        expected: &'static str,
    ) -> Result<(), ControlError> {
        let state = self.state;
        if states.contains(&state) { Ok(()) } else { Err(ControlError::State { action, state, expected }) }
    }
}

fn ping() -> VmmPingResponse {
    let version = env!("CARGO_PKG_VERSION");
    VmmPingResponse {
        build_version: format!("v{version}"),
        version: version.into(),
        pid: process::id().into(),
        features: vec!["kvm".into(), "realm-soft".into()],
    }
}
