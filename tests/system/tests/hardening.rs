//! What a guest would gain by taking over its VMM: the bounds of the real process, with a VM in it.

#![cfg(target_arch = "aarch64")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::process::Signal;
use serde_json::{Value, json};
use system_tests::{RunningVm, TestVm, asset};

/// A VM with every device that the bare-metal guest leaves alone; it stands still until it is ended.
fn hanging() -> TestVm {
    let vm = TestVm::realm("hang").with("/cpus", json!({"boot_vcpus": 2}));
    with_devices(vm)
}

fn with_devices(vm: TestVm) -> TestVm {
    let (disk, vsock, console) = (vm.path("disk.img"), vm.path("vsock"), vm.path("console"));
    fs::write(&disk, vec![0; 1 << 20]).unwrap();
    vm.with("/disks", json!([{"path": disk}]))
        .with("/vsock", json!({"cid": 3, "socket": vsock}))
        .with("/console", json!({"mode": "Socket", "socket": console}))
}

fn started(vm: TestVm) -> RunningVm {
    let mut vm = vm.start();
    vm.wait_for("done hang", 1);
    vm
}

fn end(mut vm: RunningVm) -> String {
    vm.signal(Signal::TERM);
    vm.wait_until_ended(128 + 15)
}

fn proc_of(vm: &RunningVm, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}", vm.pid())).join(path)
}

#[track_caller]
fn expect_everywhere(vm: &RunningVm, field: &str, expected: &str) {
    for (thread, value) in vm.threads(field) {
        assert_eq!(value, expected, "{field} of thread {thread}");
    }
}

#[test]
fn every_thread_has_a_filter_and_no_thread_has_privileges() {
    let vm = started(hanging());
    let names = vm.threads("Name");
    for thread in ["redoubt-vmm", "signals", "vcpu0", "vcpu1", "console"] {
        assert!(names.contains_key(thread), "{names:?}");
    }
    expect_everywhere(&vm, "Seccomp", "2");
    expect_everywhere(&vm, "NoNewPrivs", "1");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        expect_everywhere(&vm, set, "0000000000000000");
    }
    // Each thread adds its own filter to what it inherits.
    let filters = vm.threads("Seccomp_filters");
    let main = &filters["redoubt-vmm"];
    for (thread, count) in filters.iter().filter(|(thread, _)| *thread != "redoubt-vmm") {
        assert!(count > main, "{thread} has no filter of its own: {filters:?}");
    }
    let limits = fs::read_to_string(proc_of(&vm, "limits")).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"]);
    end(vm);
}

#[test]
fn unhardened_vmm_runs_when_asked_for_by_name_and_says_so() {
    let vm = started(hanging().with("/sandbox", json!({"unhardened": true})));
    expect_everywhere(&vm, "Seccomp", "0");
    expect_everywhere(&vm, "NoNewPrivs", "0");
    let said = end(vm);
    assert!(said.contains("WARN") && said.contains("sandbox.unhardened"), "{said}");

    let vm = started(hanging().flag("--seccomp=false"));
    expect_everywhere(&vm, "Seccomp", "0");
    expect_everywhere(&vm, "CapEff", "0000000000000000");
    let said = end(vm);
    assert!(said.contains("WARN") && said.contains("not enforced"), "{said}");
}

#[test]
fn filters_that_only_log_let_the_vm_run() {
    let vm = started(hanging().flag("--seccomp=log"));
    expect_everywhere(&vm, "Seccomp", "2");
    assert!(end(vm).contains("not enforced"));
}

#[test]
fn vmm_with_namespaces_of_its_own_runs_a_vm() {
    let sandbox = json!({"user_namespace": true, "mount_namespace": true, "network_namespace": true});
    let vm = started(hanging().with("/sandbox", sandbox));
    for name in ["user", "mnt", "net"] {
        let own = fs::read_link(Path::new("/proc/self/ns").join(name)).unwrap();
        let its = fs::read_link(proc_of(&vm, "ns").join(name)).unwrap();
        assert_ne!(its, own);
    }
    expect_everywhere(&vm, "CapEff", "0000000000000000");
    end(vm);
}

#[test]
fn vmm_moves_to_its_control_group_with_limits() {
    match mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MountFlags::empty(), None) {
        Ok(()) | Err(Errno::BUSY) => {}
        Err(error) => panic!("cannot mount control groups: {error}"),
    }
    let sandbox = json!({
        "cgroup": "/redoubt-test/vm", "memory_max": 512 << 20, "cpu_percent": 150, "rlimits": {"nofile": 200},
    });
    let vm = started(hanging().with("/sandbox", sandbox));
    let group = fs::read_to_string(proc_of(&vm, "cgroup")).unwrap();
    assert!(group.contains("0::/redoubt-test/vm\n"), "{group}");
    let directory = Path::new("/sys/fs/cgroup/redoubt-test/vm");
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
    assert_eq!(read("memory.max").trim(), (512 << 20).to_string());
    assert_eq!(read("cpu.max").trim(), "150000 100000");
    let limits = fs::read_to_string(proc_of(&vm, "limits")).unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().next(), Some("200"));
    end(vm);
    fs::remove_dir(directory).unwrap();
    fs::remove_dir(directory.parent().unwrap()).unwrap();
}

/// A VM whose guest resets at once, whose kernel is `kernel`, and which Landlock confines.
fn rebooting(kernel: impl FnOnce(&TestVm) -> Value) -> TestVm {
    let vm = TestVm::realm("reboot");
    let (kernel, log) = (kernel(&vm), vm.path("launch.json"));
    let flag = format!("--launch-log={}", log.display());
    with_devices(vm)
        .with("/console", json!({"mode": "Pty"}))
        .with("/payload/kernel", kernel)
        .flag("--landlock")
        .flag(&flag)
}

#[test]
fn vm_that_landlock_confines_is_launched_again_and_again() {
    let mut vm = rebooting(|_| json!(asset("REDOUBT_MINI_GUEST"))).start();
    vm.wait_for("done reboot", 3);
    end(vm);
}

#[test]
fn vm_that_landlock_confines_cannot_open_what_its_configuration_did_not_name() {
    let mut link = PathBuf::new();
    let mut other = PathBuf::new();
    let vm = rebooting(|vm| {
        (link, other) = (vm.path("kernel"), vm.path("other"));
        fs::copy(asset("REDOUBT_MINI_GUEST"), &other).unwrap();
        symlink(asset("REDOUBT_MINI_GUEST"), &link).unwrap();
        json!(link)
    });
    let swap = vm.path("swap");
    let mut vm = vm.start();
    vm.wait_for("done reboot", 1);
    // Under the name that the configuration has there is now another kernel.
    symlink(&other, &swap).unwrap();
    fs::rename(&swap, &link).unwrap();
    let said = vm.wait_until_ended(1);
    assert!(said.contains("payload.kernel") && said.contains("Permission denied"), "{said}");
}
