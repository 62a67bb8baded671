//! Devices and memory that come and go while a Linux guest runs, and a watchdog that the guest stops feeding.

#![cfg(target_arch = "aarch64")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::net::TcpListener;

use api::config::{DiskConfig, ImageType, NetConfig};
use api::message::VmResize;
use serde_json::json;
use system_tests::{RunningVm, TestVm, linux};

const MIB: u64 = 1 << 20;

/// Uses what appears, for as long as it is there.
const SCRIPT: &str = r#"
exec > /dev/hvc0 2>&1
echo "ready"
until [ -b /dev/vda ]; do usleep 20000; done
echo "serial $(cat /sys/block/vda/serial)"
dd if=/dev/zero of=/dev/vda bs=1M count=8 conv=fsync 2> /dev/null && echo "written yes"
(while [ -b /dev/vda ]; do dd if=/dev/zero of=/dev/vda bs=64k count=16 conv=fsync 2> /dev/null; done
 echo "gone disk") &
until [ -d /sys/class/net/eth0 ]; do usleep 20000; done
echo "mac $(cat /sys/class/net/eth0/address)"
ifconfig eth0 10.88.1.2 netmask 255.255.255.0 up
nc 10.88.1.1 5001 < /dev/null > /dev/null && echo "connected yes"
while [ -d /sys/class/net/eth0 ]; do usleep 20000; done
echo "gone net"
wait
free() { sed -n 's/MemFree: *\([0-9]*\) kB/\1/p' /proc/meminfo; }
echo "before $(free)"
until [ "$(free)" -lt 200000 ]; do usleep 50000; done
echo "inflated $(free)"
until [ "$(free)" -gt 300000 ]; do usleep 50000; done
echo "deflated $(free)"
exec 3> /dev/watchdog
echo "feeding"
while :; do sleep 1; done
"#;

#[test]
fn disk_net_and_memory_come_and_go_and_the_watchdog_bites() {
    let vm = TestVm::plain("linux");
    let (disk, console) = (vm.path("disk.img"), vm.path("console.log"));
    File::create(&disk).unwrap().set_len(32 * MIB).unwrap();
    let mut running = vm
        .boot_linux(SCRIPT)
        .with("/console", json!({"mode": "File", "file": console}))
        .with("/balloon", json!({"size": 0, "free_page_reporting": true}))
        .with("/watchdog", json!(true))
        // A confined VMM opens no tap devices by name.
        .with("/sandbox", json!({"unhardened": true}))
        .serve_with_vm();
    let api = running.api();
    running.wait_for_file("console.log", |text| text.contains("ready"));
    let waits = |running: &mut RunningVm, name: &str| {
        let text = running.wait_for_file("console.log", |text| linux::answer(text, name).is_some());
        linux::answer(&text, name).unwrap_or_else(|| panic!("no {name} in {text}"))
    };

    let image = DiskConfig {
        id: Some("late".into()),
        path: Some(disk.clone()),
        serial: Some("hot".into()),
        image_type: ImageType::Raw,
        ..DiskConfig::default()
    };
    let place = api.add_disk(&image).unwrap().unwrap();
    assert!(place.bdf.starts_with("0000:") && !place.bdf.starts_with("0000:00:"), "{}", place.bdf);
    assert!(api.add_disk(&image).is_err(), "the name is taken");
    assert_eq!(waits(&mut running, "serial"), "hot");
    assert_eq!(waits(&mut running, "written"), "yes");

    let listener = TcpListener::bind(("0.0.0.0", 5001)).unwrap();
    let interface = NetConfig {
        id: Some("nic".into()),
        tap: Some("tap-hot".into()),
        ip: Some([10, 88, 1, 1].into()),
        mask: Some([255, 255, 255, 0].into()),
        mac: Some("52:54:00:00:00:07".into()),
        ..NetConfig::default()
    };
    api.add_net(&interface, Vec::new()).unwrap().unwrap();
    assert_eq!(waits(&mut running, "mac"), "52:54:00:00:00:07");
    drop(listener.accept().unwrap());
    assert_eq!(waits(&mut running, "connected"), "yes");

    // The disk is written to all the time.
    api.remove_device("late").unwrap();
    api.remove_device("nic").unwrap();
    assert!(api.remove_device("_rng").is_err(), "it was there when the VM booted");
    let text = running.wait_for_file("console.log", |text| text.matches("gone ").count() == 2);
    assert!(text.contains("gone disk") && text.contains("gone net"), "{text}");
    running.wait_for_file("events", |text| text.matches("device-removed").count() == 2);
    let info = api.info().unwrap();
    assert!(info.config.disks.is_empty() && info.config.net.is_empty());
    File::open(&disk).unwrap().try_lock().unwrap();

    waits(&mut running, "before");
    let resident = resident(&running);
    let balloon = |bytes| VmResize { desired_balloon: Some(bytes), ..VmResize::default() };
    api.resize(&balloon(300 * MIB)).unwrap();
    waits(&mut running, "inflated");
    running.wait_until(|| api.info().unwrap().memory_actual_size == Some(212 * MIB));
    let counters = &api.counters().unwrap()["_balloon"];
    assert_eq!(counters["inflated_bytes"], 300 * MIB, "{counters:?}");
    // What the guest had touched of it is the host's again.
    assert!(self::resident(&running) <= resident + 8 * MIB, "{resident}");
    api.resize(&balloon(0)).unwrap();
    waits(&mut running, "deflated");
    running.wait_until(|| api.counters().unwrap()["_balloon"].contains_key("guest_free_bytes"));

    running.wait_for_file("console.log", |text| text.contains("feeding"));
    running.wait_until_ended(4);
    let events = fs::read_to_string(running.path("events")).unwrap();
    assert!(events.contains("\"watchdog\""), "{events}");
}

/// Bytes of memory that the VMM and its guest take.
fn resident(running: &RunningVm) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}
