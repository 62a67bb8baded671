//! `redoubt` and a domain with a real guest in it.

#![cfg(target_arch = "aarch64")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use system_tests::{TestVm, asset};

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(90);

/// Says what it sees of its disks until the power button is pressed.
const SCRIPT: &str = r#"
exec > /dev/hvc0 2>&1
echo "ready $(cat /sys/block/vda/size)"
(while :; do [ -b /dev/vdb ] && echo "second disk"; usleep 100000; done) &
head -c 24 /dev/input/event0 > /dev/null
echo "pressed"
poweroff -f
"#;

/// A guest without daemons: what `redoubt` keeps of it lies in one directory.
struct Host {
    vm: TestVm,
}

impl Host {
    fn path(&self, name: &str) -> PathBuf {
        self.vm.path(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(asset("REDOUBT_CLI"));
        command.args(arguments).env("REDOUBT_VMM", asset("REDOUBT_VMM"));
        command.env("REDOUBT_STATE_DIR", self.path("state")).env("REDOUBT_RUN_DIR", self.path("run"));
        command
    }

    fn tried(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn redoubt(&self, arguments: &[&str]) -> String {
        self.tried(arguments).unwrap_or_else(|error| panic!("redoubt {arguments:?}: {error}{}", self.log()))
    }

    fn state(&self) -> String {
        self.redoubt(&["domstate", "web"]).trim().to_owned()
    }

    fn listed(&self) -> Vec<Value> {
        let text = self.redoubt(&["list", "--all", "--format", "json"]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("state/log/web.log")).unwrap_or_default()
    }

    fn console(&self) -> String {
        fs::read_to_string(self.path("console.log")).unwrap_or_default()
    }

    fn wait(&self, what: &str, holds: impl Fn() -> bool) {
        self.wait_or(what, holds, || self.console());
    }

    fn wait_or(&self, what: &str, holds: impl Fn() -> bool, shown: impl Fn() -> String) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "no {what}\n{}\n{}", shown(), self.log());
            sleep(Duration::from_millis(50));
        }
    }
}

fn xml(vm: &TestVm, disk: &Path) -> String {
    let (kernel, initrd) = (asset("REDOUBT_GUEST_IMAGE"), vm.path("initrd.cpio"));
    format!(
        "<domain type='kvm'>
           <name>web</name>
           <memory unit='MiB'>512</memory>
           <vcpu>2</vcpu>
           <os><type arch='aarch64' machine='virt'>hvm</type>
             <kernel>{}</kernel><initrd>{}</initrd><cmdline>console=ttyAMA0 quiet panic=-1</cmdline></os>
           <devices>
             <disk type='file' device='disk'><source file='{}'/><target dev='vda' bus='virtio'/></disk>
             <console type='file'><source path='{}'/><target type='virtio'/></console>
             <memballoon model='virtio'/>
           </devices>
         </domain>",
        kernel.display(),
        initrd.display(),
        disk.display(),
        vm.path("console.log").display(),
    )
}

#[test]
fn domain_lives_by_the_verbs_of_virsh() {
    let vm = TestVm::plain("linux").boot_linux(SCRIPT);
    let (disk, second) = (vm.path("disk.img"), vm.path("second.img"));
    for image in [&disk, &second] {
        File::create(image).unwrap().set_len(16 * MIB).unwrap();
    }
    fs::write(vm.path("web.xml"), xml(&vm, &disk)).unwrap();
    let host = Host { vm };
    host.redoubt(&["define", host.path("web.xml").to_str().unwrap()]);
    assert_eq!(host.state(), "shut off");
    assert!(host.tried(&["suspend", "web"]).unwrap_err().contains("web"));

    host.redoubt(&["start", "web"]);
    assert_eq!(host.state(), "running");
    assert!(host.tried(&["start", "web"]).is_err(), "it runs already");
    let [domain] = &host.listed()[..] else { panic!("one domain") };
    assert_eq!((domain["name"].as_str(), domain["state"].as_str()), (Some("web"), Some("running")));
    host.wait("guest", || host.console().contains("ready 32768"));

    host.redoubt(&["suspend", "web"]);
    assert_eq!(host.state(), "paused");
    host.redoubt(&["resume", "web"]);
    assert_eq!(host.state(), "running");

    host.redoubt(&["attach-disk", "web", second.to_str().unwrap(), "vdb", "--live"]);
    host.wait("second disk", || host.console().contains("second disk"));
    let listed = host.redoubt(&["domblklist", "web"]);
    assert!(listed.contains("vdb") && listed.contains(second.to_str().unwrap()), "{listed}");
    host.redoubt(&["detach-disk", "web", "vdb", "--live"]);
    host.wait("end of the second disk", || !host.redoubt(&["domblklist", "web"]).contains("vdb"));

    host.redoubt(&["setmem", "web", "300M", "--live"]);
    let statistics = || {
        let text = host.redoubt(&["domstats", "web", "--format", "json"]);
        serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    };
    let seen = RefCell::new(Value::Null);
    let has_given = || {
        *seen.borrow_mut() = statistics();
        seen.borrow().to_string().contains(&(300 * 1024).to_string())
    };
    host.wait_or("balloon", has_given, || seen.borrow().to_string());
    let described = host.redoubt(&["dumpxml", "web"]);
    assert!(described.contains("<name>web</name>") && described.contains("vda"), "{described}");

    // Killed without a word, it is found to have crashed, and starts again.
    let pid = host.listed()[0]["id"].as_i64().unwrap();
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    host.wait("end", || host.state() == "crashed");
    let reason = host.redoubt(&["domstate", "web", "--reason"]);
    assert!(reason.contains("crashed"), "{reason}");
    File::create(host.path("console.log")).unwrap();
    host.redoubt(&["start", "web"]);
    host.wait("guest", || host.console().contains("ready 32768"));
    host.wait("listening guest", || host.tried(&["shutdown", "web", "--wait", "60"]).is_ok());
    assert_eq!(host.state(), "shut off");
    assert!(host.console().contains("pressed"), "{}", host.console());
    host.redoubt(&["undefine", "web"]);
    assert_eq!(host.listed().len(), 0);
}
