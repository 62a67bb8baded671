//! A Linux guest whose number of vCPUs changes while it runs.

#![cfg(target_arch = "aarch64")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use api::message::VmResize;
use client::{Client, Failure};
use serde_json::json;
use system_tests::{TestVm, linux};

/// Turns vCPUs on and off when the host asks for the next step through the size of a disk.
const SCRIPT: &str = r#"
exec > /dev/hvc0 2>&1
online() { cat /sys/devices/system/cpu/online; }
turn() { echo $2 > /sys/devices/system/cpu/cpu$1/online 2> /dev/null && echo done || echo refused; }
wait_for() { while [ ! -e /sys/block/vda ] || [ "$(cat /sys/block/vda/size)" -lt $(($1 * 2048)) ]; do usleep 50000; done; }
echo "first $(online) of $(cat /sys/devices/system/cpu/present)"
echo "early $(turn 2 1)"
echo "step 1"
wait_for 2
echo "third $(turn 2 1) $(online) $(nproc)"
taskset 4 sh -c 'n=0; while [ $n -lt 1000 ]; do n=$((n+1)); done; echo "ran $(cut -d" " -f39 /proc/self/stat)"'
echo "step 2"
wait_for 3
echo "away $(turn 2 0) $(online)"
echo "step 3"
wait_for 4
echo "late $(turn 2 1) $(online)"
echo "end"
"#;

#[test]
fn guest_has_as_many_vcpus_as_it_was_given() {
    let vm = TestVm::plain("linux");
    let (disk, console) = (vm.path("disk.img"), vm.path("console.log"));
    fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    let mut running = vm
        .boot_linux(SCRIPT)
        .with("/cpus", json!({"boot_vcpus": 2, "max_vcpus": 4}))
        .with("/console", json!({"mode": "File", "file": console}))
        .with("/disks", json!([{"path": disk, "image_type": "Raw", "id": "steps"}]))
        .serve_with_vm();
    let api = running.api();
    let mut after = |step: u64| {
        running.wait_for_file("console.log", |text| text.contains(&format!("step {step}")));
    };
    after(1);
    assert_eq!(
        refusal(&api, 5),
        (
            400,
            "desired_vcpus: found 5, expected 1 to 4: cpus.max_vcpus is fixed when the VM is created".into()
        )
    );
    resize(&api, 3).unwrap();
    assert_eq!(api.info().unwrap().config.cpus.boot_vcpus, 3);
    next(&api, 2);
    after(2);
    let (status, reason) = refusal(&api, 2);
    assert!(status == 500 && reason.contains("/sys/devices/system/cpu"), "the guest uses it: {reason}");
    next(&api, 3);
    after(3);
    // A vCPU that is off stands still with the others, and does not keep the VM from going on.
    api.pause().unwrap();
    api.resume().unwrap();
    resize(&api, 2).unwrap();
    next(&api, 4);
    let errors = running.wait_until_ended(4);
    let answers = fs::read_to_string(running.path("console.log")).unwrap();
    for (name, expected) in [
        ("first", "0-1 of 0-3"),
        ("early", "refused"),
        ("third", "done 0-2 3"),
        ("ran", "2"),
        ("away", "done 0-1"),
        ("late", "refused 0-1"),
    ] {
        assert_eq!(linux::answer(&answers, name).as_deref(), Some(expected), "{name}:\n{answers}\n{errors}");
    }
}

fn resize(api: &Client, count: u16) -> Result<(), client::Error> {
    api.resize(&VmResize { desired_vcpus: Some(count), ..VmResize::default() })
}

/// Status code and outermost reason.
fn refusal(api: &Client, count: u16) -> (u16, String) {
    match resize(api, count).unwrap_err().failure {
        Failure::Refused { status, messages } => (status, messages[0].clone()),
        other => panic!("{other}"),
    }
}

fn next(api: &Client, mib: u64) {
    api.resize_disk(&api::message::VmResizeDisk { id: "steps".into(), desired_size: mib << 20 }).unwrap();
}
