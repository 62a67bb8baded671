//! Devices and memory that come and go while a Linux guest uses them, over reboots; its console is a pseudo-terminal.

#![cfg(target_arch = "aarch64")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use api::config::{DiskConfig, ImageType, NetConfig};
use api::message::VmResize;
use client::Client;
use serde_json::json;
use system_tests::{RunningVm, TestVm};
use tap::{Address, Tap};

const MIB: u64 = 1 << 20;

/// Uses what appears, for as long as it is there. Every boot begins here.
const DEVICES: &str = r#"
exec < /dev/hvc0 > /dev/hvc0 2>&1
echo "ready"
read word
echo "heard $word"
until [ -b /dev/vda ]; do usleep 20000; done
echo "serial $(cat /sys/block/vda/serial)"
dd if=/dev/zero of=/dev/vda bs=1M count=8 conv=fsync 2> /dev/null && echo "written yes"
(while [ -b /dev/vda ]; do dd if=/dev/zero of=/dev/vda bs=64k count=16 conv=fsync 2> /dev/null; done) &
until [ -d /sys/class/net/eth0 ]; do usleep 20000; done
echo "mac $(cat /sys/class/net/eth0/address)"
ifconfig eth0 NETWORK.2 netmask 255.255.255.0 up
nc NETWORK.1 5101 < /dev/zero > /dev/null 2>&1 &
while [ -b /dev/vda ]; do usleep 20000; done
echo "gone disk"
while [ -d /sys/class/net/eth0 ]; do usleep 20000; done
echo "gone net"
kill $!
wait
"#;

/// Goes on with memory, and lets the watchdog end this boot.
const MEMORY: &str = r#"
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

/// Starts the guest, which may reboot, and gives the VM and its terminal.
fn start(vm: TestVm, script: &str) -> (RunningVm, File) {
    let mut running = vm
        .boot_linux(script)
        .without_flag("--no-reboot")
        .with("/console", json!({"mode": "Pty"}))
        .serve_with_vm();
    let terminal = running.open_terminal();
    running.wait_for_file("console.log", |text| text.contains("ready"));
    (running, terminal)
}

/// An interface of the host, open, and how many bytes have come from the guest over it.
struct Network {
    tap: OwnedFd,
    received: Arc<AtomicU64>,
}

impl Network {
    fn new(name: &str, address: Ipv4Addr) -> Self {
        let tap = Tap::open(name, 1).unwrap();
        let mask = [255, 255, 255, 0].into();
        tap.configure(&Address { ip: Some((address, mask)), ..Address::default() }).unwrap();
        let listener = TcpListener::bind((address, 5101)).unwrap();
        let received = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&received);
        thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut buffer = vec![0; 1 << 16];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                counter.fetch_add(count as u64, Ordering::Relaxed);
            }
        });
        Self { tap: tap.queue(0).unwrap().try_clone_to_owned().unwrap(), received }
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// A disk and an interface come, are used without a pause, and go.
fn devices_come_and_go(running: &mut RunningVm, terminal: &mut File, api: &Client, network: &Network) {
    terminal.write_all(b"hello\n").unwrap();
    assert_eq!(running.answer("heard"), "hello");

    let image = running.path("disk.img");
    File::create(&image).unwrap().set_len(32 * MIB).unwrap();
    let disk = disk(&image);
    let place = api.add_disk(&disk).unwrap().unwrap();
    assert!(place.bdf.starts_with("0000:") && !place.bdf.starts_with("0000:00:"), "{}", place.bdf);
    assert!(api.add_disk(&disk).is_err(), "the name is taken");
    assert_eq!(running.answer("serial"), "hot");
    assert_eq!(running.answer("written"), "yes");

    let interface =
        NetConfig { id: Some("nic".into()), mac: Some("52:54:00:00:00:07".into()), ..NetConfig::default() };
    let tap = network.tap.try_clone().unwrap();
    api.add_net(&interface, vec![tap]).unwrap().unwrap();
    assert_eq!(running.answer("mac"), "52:54:00:00:00:07");
    running.wait_until(|| network.received() > MIB);

    let before = (network.received(), written(api));
    running.wait_until(|| network.received() > before.0 && written(api) > before.1);
    api.remove_device("late").unwrap();
    api.remove_device("nic").unwrap();
    assert!(api.remove_device("_rng").is_err(), "it was there when the VM booted");
    running.wait_for_file("console.log", |text| text.matches("gone ").count() == 2);
    running.wait_for_file("events", |text| text.matches("device-removed").count() == 2);
    let info = api.info().unwrap();
    assert!(info.config.disks.is_empty() && info.config.net.is_empty());
    File::open(&image).unwrap().try_lock().unwrap();
}

fn disk(image: &Path) -> DiskConfig {
    DiskConfig {
        id: Some("late".into()),
        path: Some(image.into()),
        serial: Some("hot".into()),
        image_type: ImageType::Raw,
        ..DiskConfig::default()
    }
}

fn written(api: &Client) -> u64 {
    api.counters().unwrap()["late"]["write_bytes"]
}

/// The guest's next boot finds the terminal as it was, and no device that has gone.
fn boots_again(mut running: RunningVm, terminal: &mut File, api: &Client) {
    running.wait_for_file("console.log", |text| text.matches("ready").count() == 2);
    terminal.write_all(b"again\n").unwrap();
    running.wait_for_file("console.log", |text| text.contains("heard again"));
    let events = fs::read_to_string(running.path("events")).unwrap();
    assert!(events.contains("\"rebooted\""), "{events}");
    let info = api.info().unwrap();
    assert!(info.config.disks.is_empty() && info.config.net.is_empty());
    api.shutdown_vmm().unwrap();
    running.wait_until_ended(0);
}

#[test]
fn devices_and_memory_come_and_go_and_the_watchdog_reboots_the_guest() {
    let vm = TestVm::plain("linux")
        .with("/balloon", json!({"size": 0, "free_page_reporting": true}))
        .with("/watchdog", json!(true));
    let network = Network::new("tap-hot", Ipv4Addr::new(10, 88, 1, 1));
    let (mut running, mut terminal) = start(vm, &(DEVICES.replace("NETWORK", "10.88.1") + MEMORY));
    let api = running.api();
    devices_come_and_go(&mut running, &mut terminal, &api, &network);

    running.answer("before");
    let resident = resident(&running);
    let balloon = |bytes| VmResize { desired_balloon: Some(bytes), ..VmResize::default() };
    api.resize(&balloon(300 * MIB)).unwrap();
    running.answer("inflated");
    running.wait_until(|| api.info().unwrap().memory_actual_size == Some(212 * MIB));
    let counters = &api.counters().unwrap()["_balloon"];
    assert_eq!(counters["inflated_bytes"], 300 * MIB, "{counters:?}");
    // What the guest had touched of it is the host's again.
    assert!(self::resident(&running) <= resident + 8 * MIB, "{resident}");
    api.resize(&balloon(0)).unwrap();
    running.answer("deflated");
    running.wait_until(|| api.counters().unwrap()["_balloon"].contains_key("guest_free_bytes"));

    running.wait_for_file("console.log", |text| text.contains("feeding"));
    running.wait_for_file("events", |text| text.contains("\"watchdog\""));
    boots_again(running, &mut terminal, &api);
}

/// The script ends, and the guest's init reboots.
#[test]
fn devices_come_and_go_in_a_realm_and_the_guest_reboots() {
    let network = Network::new("tap-hot-realm", Ipv4Addr::new(10, 88, 2, 1));
    let (mut running, mut terminal) = start(TestVm::realm("linux"), &DEVICES.replace("NETWORK", "10.88.2"));
    let api = running.api();
    devices_come_and_go(&mut running, &mut terminal, &api, &network);
    boots_again(running, &mut terminal, &api);
}

/// Bytes of memory that the VMM and its guest take.
fn resident(running: &RunningVm) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}
