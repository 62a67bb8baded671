use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use api::VmConfig;
use api::config::{DiskConfig, NetConfig};
use api::message::{VmInfo, VmRemoveDevice, VmResize, VmResizeDisk, VmState};

use super::fake::{Director, FakeRuntime};
use super::*;
use crate::Error;
use crate::event::Event;
use crate::monitor::{EventMonitor, read_events};

/// A control loop on a thread of its own.
struct Rig {
    handle: Handle,
    director: Director,
    thread: Option<JoinHandle<Result<Outcome, Error>>>,
    events: tempfile::NamedTempFile,
}

impl Rig {
    fn new(policy: Policy) -> Self {
        let events = tempfile::NamedTempFile::new().unwrap();
        let monitor = EventMonitor::to(events.reopen().unwrap()).unwrap();
        let director = Director::default();
        let mut control = Control::new(FakeRuntime(director.0.clone()), policy, monitor);
        let handle = control.handle();
        let thread = Some(thread::spawn(move || control.run()));
        Self { handle, director, thread, events }
    }

    fn resident() -> Self {
        Self::new(Policy { no_shutdown: true, ..Policy::default() })
    }

    fn booted(policy: Policy) -> Self {
        let rig = Self::new(policy);
        rig.create(config()).unwrap();
        rig.ask(Action::Boot).unwrap();
        rig.director.calls();
        rig
    }

    fn ask(&self, action: Action) -> Result<Answer, ControlError> {
        let (sender, answer) = channel();
        self.handle.ask(action, Box::new(move |answer| sender.send(answer).unwrap()))?;
        answer.recv().unwrap()
    }

    fn create(&self, config: VmConfig) -> Result<Answer, ControlError> {
        self.ask(Action::Create(Box::new(config)))
    }

    fn info(&self) -> VmInfo {
        match self.ask(Action::Info).unwrap() {
            Answer::Info(info) => *info,
            other => panic!("{other:?}"),
        }
    }

    fn status(&self, action: Action) -> u16 {
        self.ask(action).unwrap_err().status()
    }

    fn outcome(&mut self) -> Result<Outcome, Error> {
        self.thread.take().unwrap().join().unwrap()
    }

    fn events(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.events.path()).unwrap();
        read_events(&text).iter().map(|event| format!("{} {}", event.source, event.event)).collect()
    }
}

fn config() -> VmConfig {
    serde_json::from_str(r#"{"payload":{"kernel":"/k"},"disks":[{"path":"/a"}]}"#).unwrap()
}

fn disk(id: Option<&str>) -> Action {
    let disk = DiskConfig { id: id.map(Into::into), path: Some("/b".into()), ..DiskConfig::default() };
    Action::AddDevice(NewDevice::Disk(Box::new(disk)))
}

fn net(descriptors: Vec<OwnedFd>) -> Action {
    Action::AddDevice(NewDevice::Net(Box::default(), descriptors))
}

fn remove(id: &str) -> Action {
    Action::RemoveDevice(VmRemoveDevice { id: id.into() })
}

#[test]
fn life_goes_through_its_states_and_tells_of_each() {
    let rig = Rig::resident();
    rig.create(config()).unwrap();
    assert_eq!(rig.info().state, VmState::Created);
    for (action, state) in [
        (Action::Boot, VmState::Running),
        (Action::Pause, VmState::Paused),
        (Action::Resume, VmState::Running),
        (Action::Reboot, VmState::Running),
        (Action::Pause, VmState::Paused),
        (Action::Reboot, VmState::Running),
        (Action::Shutdown, VmState::Shutdown),
        (Action::Boot, VmState::Running),
    ] {
        assert_eq!(rig.ask(action).unwrap(), Answer::Done);
        assert_eq!(rig.info().state, state);
    }
    rig.ask(Action::Delete).unwrap();
    assert_eq!(rig.status(Action::Info), 404);
    let calls = rig.director.calls();
    let launched = calls.iter().filter(|call| *call == "launch").count();
    let taken_down = calls.iter().filter(|call| *call == "take down").count();
    assert_eq!((launched, taken_down), (4, 4));
    assert_eq!(calls.iter().filter(|call| *call == "attach").count(), 1, "attachments outlive boots");
    assert_eq!(calls.last().unwrap(), "detach");
    let expected = "vm booting, vm booted, vm pausing, vm paused, vm resuming, vm resumed, vm rebooting, \
                    vm rebooted, vm pausing, vm paused, vm rebooting, vm rebooted, vm shutdown, vm booting, \
                    vm booted, vm shutdown, vm deleted";
    assert_eq!(rig.events().join(", "), expected);
}

#[test]
fn every_state_refuses_what_cannot_be_done_in_it() {
    let rig = Rig::resident();
    let all: [fn() -> Action; 9] = [
        || Action::Info,
        || Action::Counters,
        || Action::Boot,
        || Action::Pause,
        || Action::Resume,
        || Action::Shutdown,
        || Action::Reboot,
        || Action::PowerButton,
        || disk(None),
    ];
    for action in all {
        assert_eq!(rig.status(action()), 404, "{:?} without a VM", action());
    }
    rig.ask(Action::Delete).unwrap();
    rig.create(config()).unwrap();
    assert_eq!(rig.status(Action::Create(Box::new(config()))), 500);
    let not_launched: [fn() -> Action; 6] = [
        || Action::Counters,
        || Action::Pause,
        || Action::Resume,
        || Action::Shutdown,
        || Action::Reboot,
        || Action::PowerButton,
    ];
    for action in not_launched {
        let error = rig.ask(action()).unwrap_err();
        assert_eq!(error.status(), 500, "{error}");
        assert!(error.to_string().contains("Created") && error.to_string().contains("expected"), "{error}");
    }
    rig.ask(Action::Boot).unwrap();
    for action in [Action::Boot, Action::Resume] {
        assert_eq!(rig.status(action), 500);
    }
    rig.ask(Action::Pause).unwrap();
    for action in [Action::Boot, Action::Pause] {
        assert_eq!(rig.status(action), 500);
    }
}

#[test]
fn guest_that_ends_ends_the_vmm_unless_it_is_to_stay() {
    for (event, policy, outcome) in [
        (Event::Off, Policy::default(), Outcome::PoweredOff),
        (Event::Crash, Policy::default(), Outcome::Crashed),
        (Event::Reset, Policy { no_reboot: true, ..Policy::default() }, Outcome::Reset),
    ] {
        let mut rig = Rig::booted(policy);
        rig.director.guest(event);
        assert_eq!(rig.outcome().unwrap(), outcome);
        assert_eq!(rig.director.calls(), ["take down"]);
    }
    let rig = Rig::booted(Policy { no_shutdown: true, ..Policy::default() });
    rig.director.guest(Event::Crash);
    assert_eq!(rig.info().state, VmState::Shutdown);
    assert_eq!(rig.events()[2..], ["guest panic", "vm shutdown"]);
    rig.ask(Action::Boot).unwrap();
}

#[test]
fn guest_that_resets_is_launched_anew_and_its_last_words_mean_nothing() {
    let rig = Rig::booted(Policy::default());
    let earlier = rig.director.running();
    rig.director.guest(Event::Reset);
    assert_eq!(rig.info().state, VmState::Running);
    assert_eq!(rig.director.calls(), ["take down", "attach again", "launch"]);
    // Another vCPU of the boot that is over.
    earlier.send(Event::Off);
    earlier.send(Event::Reset);
    assert_eq!(rig.info().state, VmState::Running);
    assert!(rig.director.calls().is_empty());
    rig.ask(Action::Pause).unwrap();
    rig.director.guest(Event::Reset);
    assert_eq!(rig.info().state, VmState::Running, "a vCPU had asked for it before it stood still");
}

#[test]
fn vm_that_cannot_go_on_ends_the_vmm_with_the_reason() {
    let mut rig = Rig::booted(Policy::default());
    rig.director.guest(Event::Failed(Error::GuestFault { gpa: 7 }));
    assert!(matches!(rig.outcome(), Err(Error::GuestFault { gpa: 7 })));
    let mut rig = Rig::booted(Policy::default());
    rig.director.set(|shared| shared.broken = true);
    rig.director.guest(Event::Reset);
    assert!(matches!(rig.outcome(), Err(Error::GuestFault { gpa: 0x1000 })));
    let rig = Rig::booted(Policy { no_shutdown: true, ..Policy::default() });
    rig.director.set(|shared| shared.broken = true);
    rig.director.guest(Event::Reset);
    assert_eq!(rig.info().state, VmState::Shutdown);
}

#[test]
fn launch_that_fails_is_told_and_can_be_tried_again() {
    let rig = Rig::resident();
    rig.create(config()).unwrap();
    rig.director.set(|shared| shared.broken = true);
    let error = rig.ask(Action::Boot).unwrap_err();
    assert_eq!((error.status(), error.to_string().as_str()), (500, "vm.boot failed"));
    assert_eq!(rig.info().state, VmState::Created);
    rig.director.set(|shared| shared.broken = false);
    rig.ask(Action::Boot).unwrap();
    rig.director.set(|shared| shared.broken = true);
    assert_eq!(rig.status(Action::Reboot), 500);
    assert_eq!(rig.info().state, VmState::Shutdown);
}

#[test]
fn signals_and_clients_end_the_vmm() {
    let mut rig = Rig::booted(Policy { no_shutdown: true, ..Policy::default() });
    rig.handle.inputs().send(Input::Signal(15)).unwrap();
    assert_eq!(rig.outcome().unwrap(), Outcome::Stopped { signal: 15 });
    assert_eq!(rig.director.calls(), ["take down"]);
    let mut rig = Rig::booted(Policy::default());
    assert_eq!(rig.ask(Action::ShutdownVmm).unwrap(), Answer::Done);
    assert_eq!(rig.outcome().unwrap(), Outcome::Dismissed);
    assert!(matches!(rig.ask(Action::Ping), Err(ControlError::Ending)));
}

#[test]
fn devices_are_named_added_and_removed_before_boot() {
    let rig = Rig::resident();
    rig.create(config()).unwrap();
    assert_eq!(rig.ask(disk(None)).unwrap(), Answer::Done);
    assert_eq!(rig.ask(disk(Some("data"))).unwrap(), Answer::Done);
    assert_eq!(rig.status(disk(Some("data"))), 409);
    assert_eq!(rig.status(disk(Some("_rng"))), 409);
    let ids = |rig: &Rig| -> Vec<String> {
        rig.info().config.disks.iter().map(|disk| disk.id.clone().unwrap()).collect()
    };
    assert_eq!(ids(&rig), ["_disk0", "_disk1", "data"]);
    rig.ask(remove("_disk0")).unwrap();
    assert_eq!(rig.status(remove("_disk0")), 404);
    assert_eq!(rig.status(remove("_rng")), 500);
    assert_eq!(ids(&rig), ["_disk1", "data"]);
    assert_eq!(rig.events(), ["vm device-removed"]);
    let wrong = DiskConfig { path: Some("/b".into()), serial: Some("x".repeat(21)), ..DiskConfig::default() };
    assert_eq!(rig.status(Action::AddDevice(NewDevice::Disk(Box::new(wrong)))), 400);
    assert_eq!(ids(&rig), ["_disk1", "data"], "what is refused leaves no trace");
}

#[test]
fn devices_of_a_running_vm_are_plugged_where_the_board_can() {
    let rig = Rig::booted(Policy::default());
    let error = rig.ask(disk(None)).unwrap_err();
    assert_eq!(error.status(), 500);
    assert_eq!(rig.info().config.disks.len(), 1);
    assert_eq!(rig.status(remove("_disk0")), 500);
    rig.director.set(|shared| shared.hot_plug = true);
    let Answer::Device(device) = rig.ask(disk(None)).unwrap() else { panic!("no device") };
    assert_eq!((device.id.as_str(), device.bdf.as_str()), ("_disk1", "0000:01:00.0"));
    assert_eq!(rig.info().config.disks.len(), 2);
    rig.ask(remove("_disk0")).unwrap();
    assert_eq!(rig.director.calls(), ["attach again", "attach again", "plug _disk1", "unplug _disk0"]);
    assert_eq!(rig.info().config.disks.len(), 2, "the guest still has it");
    rig.director.guest(Event::Ejected("_disk0".into()));
    let ids: Vec<_> = rig.info().config.disks.into_iter().map(|disk| disk.id.unwrap()).collect();
    assert_eq!(ids, ["_disk1"]);
    assert_eq!(rig.director.calls(), ["ejected _disk0", "attach again"]);
    assert_eq!(rig.events().last().unwrap(), "vm device-removed");
    assert_eq!(rig.status(remove("nothing")), 404);
}

#[test]
fn descriptors_live_until_their_interface_goes() {
    let rig = Rig::resident();
    rig.create(config()).unwrap();
    let (alive, end) = std::io::pipe().unwrap();
    rig.ask(net(vec![end.into()])).unwrap();
    let id = rig.info().config.net[0].id.clone().unwrap();
    // The fake looks at the descriptors when it launches.
    rig.ask(Action::Boot).unwrap();
    rig.ask(Action::Reboot).unwrap();
    rig.ask(Action::Shutdown).unwrap();
    rig.ask(remove(&id)).unwrap();
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut File::from(OwnedFd::from(alive)), &mut rest).unwrap();
    assert!(rest.is_empty(), "the other end was closed");
}

#[test]
fn interface_with_the_wrong_number_of_descriptors_is_refused() {
    let rig = Rig::resident();
    rig.create(config()).unwrap();
    let file = || OwnedFd::from(tempfile::tempfile().unwrap());
    assert_eq!(rig.status(net(vec![file(), file()])), 400);
    let many = NetConfig { num_queues: 4, ..NetConfig::default() };
    assert_eq!(rig.status(Action::AddDevice(NewDevice::Net(Box::new(many), vec![file()]))), 400);
}

#[test]
fn wrong_configurations_are_the_clients_fault() {
    let rig = Rig::resident();
    let mut wrong = config();
    wrong.cpus.boot_vcpus = 0;
    assert_eq!(rig.create(wrong).unwrap_err().status(), 400);
    let mut same = config();
    same.disks.push(same.disks[0].clone());
    same.disks.iter_mut().for_each(|disk| disk.id = Some("twice".into()));
    assert_eq!(rig.create(same).unwrap_err().status(), 409);
    assert_eq!(rig.status(Action::Info), 404, "nothing was created");
}

#[test]
fn number_of_vcpus_changes_within_what_the_vm_was_made_for_and_stays() {
    let rig = Rig::resident();
    let mut growing = config();
    (growing.cpus.boot_vcpus, growing.cpus.max_vcpus) = (2, Some(4));
    rig.create(growing).unwrap();
    rig.ask(Action::Boot).unwrap();
    rig.director.calls();
    let resize =
        |count| rig.ask(Action::Resize(VmResize { desired_vcpus: Some(count), ..VmResize::default() }));
    for wrong in [0, 5] {
        assert!(resize(wrong).unwrap_err().to_string().contains("max_vcpus"));
    }
    for count in [4, 4, 1] {
        resize(count).unwrap();
    }
    assert_eq!(rig.director.calls(), ["vcpus 4", "vcpus 1"], "what is so already is not asked for");
    let Answer::Info(info) = rig.ask(Action::Info).unwrap() else { panic!("no information") };
    assert_eq!((info.config.cpus.boot_vcpus, info.config.cpus.max_vcpus), (1, Some(4)));
}

#[test]
fn sizes_that_are_fixed_are_refused_by_name() {
    let rig = Rig::booted(Policy::default());
    let resize = |size: VmResize| rig.ask(Action::Resize(size));
    let refused = |size: VmResize| resize(size).unwrap_err().to_string();
    assert!(refused(VmResize { desired_vcpus: Some(2), ..VmResize::default() }).contains("desired_vcpus"));
    assert!(refused(VmResize { desired_ram: Some(1 << 21), ..VmResize::default() }).contains("desired_ram"));
    for balloon in [512 << 20, u64::MAX] {
        let error = refused(VmResize { desired_balloon: Some(balloon), ..VmResize::default() });
        assert!(error.contains("desired_balloon") && error.contains("less than"), "{error}");
    }
    resize(VmResize { desired_vcpus: Some(1), desired_ram: Some(512 << 20), desired_balloon: None }).unwrap();
    resize(VmResize { desired_balloon: Some(4096), ..VmResize::default() }).unwrap();
    let disk = |id: &str| Action::ResizeDisk(VmResizeDisk { id: id.into(), desired_size: 1 << 20 });
    rig.ask(disk("_disk0")).unwrap();
    assert_eq!(rig.status(disk("_disk9")), 404);
    assert_eq!(rig.director.calls(), ["balloon 4096", "resize _disk0 1048576"]);
}

#[test]
fn info_has_terminals_devices_and_the_memory_that_is_left() {
    let rig = Rig::resident();
    let mut config = config();
    config.serial = api::config::ConsoleConfig::of(api::config::ConsoleMode::Pty);
    rig.create(config).unwrap();
    let before = rig.info();
    assert_eq!((before.memory_actual_size, before.device_tree.len()), (Some(512 << 20), 0));
    rig.ask(Action::Boot).unwrap();
    let info = rig.info();
    assert_eq!(info.config.serial.file.as_deref(), Some("/dev/pts/7".as_ref()));
    assert_eq!(info.memory_actual_size, Some(1 << 20));
    assert_eq!(info.device_tree["_disk0"].pci_bdf.as_deref(), Some("0000:00:01.0"));
    let Answer::Counters(counters) = rig.ask(Action::Counters).unwrap() else { panic!("no counters") };
    assert_eq!((counters["_disk0"]["read_bytes"], counters["vcpu0"]["mmio_read"]), (512, 3));
    let Answer::Metrics(metrics) = rig.ask(Action::Metrics).unwrap() else { panic!("no metrics") };
    assert_eq!((metrics.state, metrics.launches), (Some(VmState::Running), 1));
}

#[test]
fn requests_that_wait_are_bounded() {
    let rig = Rig::resident();
    rig.create(config()).unwrap();
    let (release, hold) = channel();
    rig.director.set(|shared| shared.hold = Some(hold));
    let (sender, answers) = channel();
    let mut busy = None;
    for _ in 0..64 {
        let sender = sender.clone();
        let reply =
            Box::new(move |answer: Result<Answer, ControlError>| sender.send(answer.is_ok()).unwrap());
        if let Err(error) = rig.handle.ask(Action::Boot, reply) {
            busy = Some(error.status());
            break;
        }
    }
    assert_eq!(busy, Some(429));
    release.send(()).unwrap();
    drop(sender);
    let answered: Vec<bool> = answers.iter().collect();
    assert!((16..=17).contains(&answered.len()), "{answered:?}");
    rig.ask(Action::Ping).unwrap();
}
