//! Boot, disk and network beside QEMU: one guest after the other, ours and theirs in turn.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use system_tests::linux;

use crate::figures::report_pair;
use crate::rivals::{Guest, Running, Vmm};
use crate::workload::{self, DISK_SIZE};

/// Guests of each side.
const ROUNDS: usize = 4;

/// The host's and the guest's address on their network.
const HOST: &str = "10.88.0.1";
const GUEST: &str = "10.88.0.2";

/// Ports of the host that take from the guest and give to it.
const SINK: u16 = 5001;
const SOURCE: u16 = 5002;

/// Measures everything in each guest.
pub fn measure() {
    contest(&workload::DISK_FIGURES);
}

/// Measures boot and network alone.
pub fn measure_network() {
    contest(&[]);
}

fn contest(disk_figures: &[&'static str]) {
    let directory = tempfile::tempdir().unwrap();
    let (initrd, disk) = (directory.path().join("initrd.cpio"), directory.path().join("disk.img"));
    let script = format!(
        "echo guest boot; ifconfig eth0 {GUEST} netmask 255.255.255.0 up; \
         exec /bench {} {} send {HOST}:{SINK} receive {HOST}:{SOURCE}",
        workload::ARGUMENT,
        if disk_figures.is_empty() { "" } else { "disk /dev/vda" }
    );
    let program = fs::read("/proc/self/exe").unwrap();
    fs::write(&initrd, linux::initrd(&script, &[("bench", &program)])).unwrap();
    // Written whole, so that nobody pays for the first write to a block.
    let mut image = File::create(&disk).unwrap();
    std::io::copy(&mut std::io::repeat(0x5a).take(DISK_SIZE), &mut image).unwrap();
    let network = Network::open();

    let (mut ours, mut theirs) = (Figures::default(), Figures::default());
    for round in 0..ROUNDS {
        for (vmm, figures) in [(Vmm::Redoubt, &mut ours), (Vmm::Qemu, &mut theirs)] {
            let tap = format!("bench{round}{vmm:?}");
            let guest = Guest { initrd: &initrd, disk: &disk, tap: &tap };
            network.serve(&guest, vmm.start(&guest), disk_figures, figures);
        }
    }
    for (&(name, unit), values) in &ours.0 {
        report_pair(name, unit, values, &theirs.0[&(name, unit)]);
    }
}

/// Measured values by name and unit.
#[derive(Default)]
struct Figures(BTreeMap<(&'static str, &'static str), Vec<f64>>);

impl Figures {
    fn add(&mut self, name: &'static str, unit: &'static str, value: f64) {
        self.0.entry((name, unit)).or_default().push(value);
    }
}

/// The host's side of the network.
struct Network {
    sink: TcpListener,
    source: TcpListener,
}

impl Network {
    fn open() -> Self {
        let listen = |port: u16| TcpListener::bind(("0.0.0.0", port)).unwrap();
        Self { sink: listen(SINK), source: listen(SOURCE) }
    }

    /// Follows a guest through its workloads.
    fn serve(
        &self,
        guest: &Guest<'_>,
        mut running: Running,
        disk_figures: &[&'static str],
        figures: &mut Figures,
    ) {
        bring_up(guest.tap);
        running.wait_for("guest");
        figures.add("linux-exec-to-init", "ms", running.started.elapsed().as_secs_f64() * 1000.0);
        for &name in disk_figures {
            figures.add(name, "MiB/s", running.wait_for_figure(name));
        }
        figures.add("net-guest-to-host", "MiB/s", drain(self.sink.accept().unwrap().0));
        let socket = self.source.accept().unwrap().0;
        let source = thread::spawn(move || flood(socket));
        figures.add("net-host-to-guest", "MiB/s", running.wait_for_figure("net-receive"));
        source.join().unwrap();
    }
}

/// Gives the tap device, which appears when the VMM has created it, its address.
fn bring_up(tap: &str) {
    while !Path::new(&format!("/sys/class/net/{tap}")).exists() {
        sleep(Duration::from_millis(5));
    }
    let address = format!("{HOST}/24");
    for arguments in [&["addr", "add", &address, "dev", tap][..], &["link", "set", tap, "up"]] {
        let status = Command::new("ip").args(arguments).status().unwrap();
        assert!(status.success(), "ip {arguments:?}");
    }
}

/// Takes all that comes; MiB a second.
fn drain(mut socket: TcpStream) -> f64 {
    let mut buffer = vec![0; 256 * 1024];
    let (started, mut bytes) = (Instant::now(), 0);
    loop {
        match socket.read(&mut buffer).unwrap() {
            0 => return workload::rate(bytes, started.elapsed()),
            count => bytes += count,
        }
    }
}

/// Gives until the other side has enough, or is there no more.
fn flood(mut socket: TcpStream) {
    socket.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    let buffer = vec![0x5a; 256 * 1024];
    while socket.write_all(&buffer).is_ok() {}
}
