//! The state of the VM that is not there.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{self, exit};
use std::thread;
use std::time::Duration;

use api::VmConfig;
use api::config::{DiskConfig, FsConfig, NetConfig, PmemConfig};
use api::message::{
    EventMessage, PciDeviceInfo, Timestamp, VmInfo, VmRemoveDevice, VmResize, VmState, VmmPingResponse,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::consoles;

/// Status code and reason.
pub type Failure = (u16, String);

type Answer = Result<Option<Value>, Failure>;

pub struct Machine {
    events: File,
    no_reboot: bool,
    config: Option<VmConfig>,
    state: VmState,
}

/// What is measured, whatever it is.
const RIM: &str = "ab12";

/// Prints what was asked for on the command line.
pub fn print(what: &str, arguments: &[String]) {
    let config = arguments.iter().position(|argument| argument == "--config");
    let config = config.map(|at| std::fs::read_to_string(&arguments[at + 1]).expect("the file is there"));
    if let Some(config) = &config {
        serde_json::from_str::<VmConfig>(config).expect("a configuration");
    }
    match what {
        "config" => {
            let kernel = arguments.iter().position(|argument| argument == "--kernel");
            let kernel = kernel.map_or("/k", |at| arguments[at + 1].as_str());
            println!("{}", serde_json::to_string(&VmConfig::booting(kernel.into())).unwrap());
        }
        _ if arguments.ends_with(&["--format".into(), "json".into()]) => {
            println!("{}", serde_json::json!({"rim": RIM, "hash_algorithm": "sha256"}));
        }
        _ => println!("RIM sha256:{RIM} of {}", arguments.join(" ").replace('\n', "")),
    }
}

impl Machine {
    pub fn new(events: PathBuf, no_reboot: bool) -> Self {
        let events = File::options().append(true).open(events).expect("the event file is there");
        let mut machine = Self { events, no_reboot, config: None, state: VmState::Created };
        machine.event("vmm", "starting");
        machine
    }

    pub fn is(&self, how: &str) -> bool {
        let wanted = format!("fake={how}");
        self.config
            .as_ref()
            .is_some_and(|config| config.payload.cmdline.split(' ').any(|word| word == wanted))
    }

    pub fn hangs(&self) -> bool {
        self.is("hangs") && self.state == VmState::Running
    }

    pub fn event(&mut self, source: &str, event: &str) {
        let message = EventMessage {
            timestamp: Timestamp { secs: 1, nanos: 0 },
            source: source.into(),
            event: event.into(),
            properties: None,
        };
        let text = serde_json::to_string_pretty(&message).unwrap();
        self.events.write_all(format!("{text}\n\n").as_bytes()).unwrap();
    }

    pub fn get(&mut self, call: &str) -> Answer {
        match call {
            "vmm.ping" => {
                let ping = VmmPingResponse {
                    build_version: "fake".into(),
                    version: "0.0.0".into(),
                    pid: process::id().into(),
                    features: Vec::new(),
                };
                Ok(Some(serde_json::to_value(ping).unwrap()))
            }
            "vm.info" => {
                let state = self.state;
                let config = self.config()?.clone();
                let balloon = config.balloon.as_ref().map_or(0, |balloon| balloon.size);
                let memory_actual_size = Some(config.memory.size - balloon);
                let info = VmInfo { config, state, memory_actual_size, device_tree: Default::default() };
                Ok(Some(serde_json::to_value(info).unwrap()))
            }
            "vm.counters" => {
                self.config()?;
                Ok(Some(json!({"vda": {"read_bytes": 512, "write_bytes": 1}, "net0": {"rx_frames": 7}})))
            }
            _ => Err((404, format!("{call} is not known"))),
        }
    }

    pub fn put(&mut self, call: &str, body: &[u8]) -> Answer {
        match call {
            "vmm.shutdown" => {
                self.event("vmm", "shutdown");
                exit_soon();
                Ok(None)
            }
            "vm.create" => {
                if self.config.is_some() {
                    return Err((500, "there is a VM already".into()));
                }
                let config: VmConfig = parse(body)?;
                if config.cpus.boot_vcpus == 0 {
                    return Err((400, "cpus.boot_vcpus: found 0, expected 1 to 123".into()));
                }
                self.config = Some(config);
                Ok(None)
            }
            "vm.boot" => self.boot(),
            "vm.pause" => self.change(VmState::Running, VmState::Paused, "paused"),
            "vm.resume" => self.change(VmState::Paused, VmState::Running, "resumed"),
            "vm.reboot" => {
                self.running()?;
                self.event("vm", "rebooting");
                if self.no_reboot {
                    self.event("vm", "shutdown");
                    exit_soon();
                } else {
                    self.event("vm", "rebooted");
                }
                Ok(None)
            }
            "vm.power-button" => {
                self.running()?;
                if !self.is("deaf") {
                    self.event("vm", "shutdown");
                    self.event("vmm", "shutdown");
                    exit_soon();
                }
                Ok(None)
            }
            "vm.resize" => self.resize(parse(body)?),
            "vm.add-disk" => {
                let disk: DiskConfig = parse(body)?;
                let id = disk.id.clone().ok_or((400, "disks.id: found nothing".to_owned()))?;
                self.free(&id)?;
                self.running()?.disks.push(disk);
                Ok(Some(added(id)))
            }
            "vm.add-net" => {
                let net: NetConfig = parse(body)?;
                let id = net.id.clone().ok_or((400, "net.id: found nothing".to_owned()))?;
                self.free(&id)?;
                self.running()?.net.push(net);
                Ok(Some(added(id)))
            }
            "vm.add-fs" => {
                let fs: FsConfig = parse(body)?;
                let id = fs.id.clone().ok_or((400, "fs.id: found nothing".to_owned()))?;
                self.running()?.fs.push(fs);
                Ok(Some(added(id)))
            }
            "vm.add-pmem" => {
                let pmem: PmemConfig = parse(body)?;
                let id = pmem.id.clone().ok_or((400, "pmem.id: found nothing".to_owned()))?;
                self.running()?.pmem.push(pmem);
                Ok(Some(added(id)))
            }
            "vm.remove-device" => self.remove(&parse::<VmRemoveDevice>(body)?.id),
            _ => Err((404, format!("{call} is not known"))),
        }
    }

    fn boot(&mut self) -> Answer {
        self.config()?;
        if self.is("boot-fails") {
            return Err((500, "the guest has no legs".into()));
        }
        if self.state == VmState::Running {
            return Err((500, "the VM runs already".into()));
        }
        self.event("vm", "booting");
        let config = self.config()?;
        for vcpu in 0..config.cpus.boot_vcpus {
            let builder = thread::Builder::new().name(format!("vcpu{vcpu}"));
            builder.spawn(|| thread::sleep(Duration::from_secs(3600))).unwrap();
        }
        consoles::open(&mut config.serial);
        consoles::open(&mut config.console);
        self.state = VmState::Running;
        self.event("vm", "booted");
        if self.is("panics") {
            self.event("guest", "panic");
            exit_soon();
        }
        Ok(None)
    }

    fn resize(&mut self, size: VmResize) -> Answer {
        let config = self.running()?;
        if let Some(vcpus) = size.desired_vcpus {
            if vcpus == 0 || vcpus > config.cpus.max_vcpus.unwrap_or(config.cpus.boot_vcpus) {
                return Err((400, "desired_vcpus is out of bounds".into()));
            }
            config.cpus.boot_vcpus = vcpus;
        }
        if let Some(bytes) = size.desired_balloon {
            let balloon = config.balloon.as_mut().ok_or((404, "there is no balloon".to_owned()))?;
            balloon.size = bytes;
        }
        Ok(None)
    }

    fn remove(&mut self, id: &str) -> Answer {
        let config = self.running()?;
        let devices =
            |config: &VmConfig| config.disks.len() + config.net.len() + config.fs.len() + config.pmem.len();
        let before = devices(config);
        config.disks.retain(|device| device.id.as_deref() != Some(id));
        config.net.retain(|device| device.id.as_deref() != Some(id));
        config.fs.retain(|device| device.id.as_deref() != Some(id));
        config.pmem.retain(|device| device.id.as_deref() != Some(id));
        if devices(config) == before {
            return Err((404, format!("there is no device {id}")));
        }
        self.event("vm", "device-removed");
        Ok(None)
    }

    fn free(&mut self, id: &str) -> Result<(), Failure> {
        let config = self.running()?;
        let taken = config.disks.iter().any(|disk| disk.id.as_deref() == Some(id))
            || config.net.iter().any(|net| net.id.as_deref() == Some(id));
        if taken { Err((409, format!("{id} is taken"))) } else { Ok(()) }
    }

    fn change(&mut self, from: VmState, to: VmState, event: &str) -> Answer {
        self.config()?;
        if self.state != from {
            return Err((500, format!("the VM is {:?}, not {from:?}", self.state)));
        }
        self.state = to;
        self.event("vm", event);
        Ok(None)
    }

    fn config(&mut self) -> Result<&mut VmConfig, Failure> {
        self.config.as_mut().ok_or((404, "there is no VM".into()))
    }

    fn running(&mut self) -> Result<&mut VmConfig, Failure> {
        if self.state != VmState::Running {
            return Err((500, "the VM does not run".into()));
        }
        self.config()
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| (400, error.to_string()))
}

fn added(id: String) -> Value {
    serde_json::to_value(PciDeviceInfo { id, bdf: "0000:00:06.0".into() }).unwrap()
}

/// Ends once the answer has gone out.
fn exit_soon() {
    thread::spawn(|| {
        thread::sleep(Duration::from_millis(50));
        exit(0);
    });
}
