//! The same Linux guest in our VMM and in QEMU's `virt` machine.

use std::env;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use system_tests::asset;

/// Kernel command line of both.
const COMMAND_LINE: &str = "console=ttyAMA0 quiet panic=-1";

/// Whose VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vmm {
    /// Ours.
    Redoubt,
    /// QEMU's.
    Qemu,
}

/// What the guest has.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// Its initial RAM disk.
    pub initrd: &'a Path,
    /// A raw image.
    pub disk: &'a Path,
    /// Name of a tap device, which the VMM creates.
    pub tap: &'a str,
}

/// A guest that runs; it is ended when dropped.
pub struct Running {
    vmm: Vmm,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// What the guest has said.
    heard: String,
    /// When the VMM was started.
    pub started: Instant,
}

impl Vmm {
    /// Starts the guest with one vCPU, 512 MiB, and its serial port on our side of a pipe.
    pub fn start(self, guest: &Guest<'_>) -> Running {
        let mut command = match self {
            Self::Redoubt => redoubt(guest),
            Self::Qemu => qemu(guest),
        };
        let started = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { vmm: self, child, lines, heard: String::new(), started }
    }
}

impl Running {
    /// What the guest says next behind `word` and a space.
    pub fn wait_for(&mut self, word: &str) -> String {
        loop {
            let Some(line) = self.lines.next() else {
                let (vmm, status) = (self.vmm, self.child.wait().unwrap());
                panic!(
                    "{vmm:?} ended with {status} and without {word:?}; the guest had said:\n{}",
                    self.heard
                );
            };
            let line = line.unwrap();
            self.heard.push_str(&line);
            self.heard.push('\n');
            if let Some(rest) = line.trim_end().strip_prefix(word).and_then(|rest| rest.strip_prefix(' ')) {
                return rest.to_owned();
            }
        }
    }

    /// The number that the guest says next behind `word`.
    pub fn wait_for_figure(&mut self, word: &str) -> f64 {
        let said = self.wait_for(word);
        // The kernel may have put a word of its own behind it.
        let number = said.split_whitespace().next().and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| {
            panic!("{said:?} behind {word:?} is no number; the guest had said:\n{}", self.heard)
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn redoubt(guest: &Guest<'_>) -> Command {
    let mut command = Command::new(asset("REDOUBT_VMM"));
    command.arg("--kernel").arg(asset("REDOUBT_GUEST_IMAGE")).arg("--initramfs").arg(guest.initrd);
    command.args(["--cmdline", COMMAND_LINE, "--cpus=boot=1", "--memory=size=512M", "--serial=tty"]);
    command.args(["--console=off", "--no-reboot"]);
    command.arg(format!("--disk=path={},image_type=raw", guest.disk.display()));
    command.arg(format!("--net=tap={}", guest.tap));
    command
}

fn qemu(guest: &Guest<'_>) -> Command {
    let mut command = Command::new(env::var_os("REDOUBT_BENCH_QEMU").unwrap());
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"]);
    command.args(["-M", "virt,gic-version=3", "-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", "512"]);
    command.arg("-kernel").arg(asset("REDOUBT_GUEST_IMAGE")).arg("-initrd").arg(guest.initrd);
    command.args(["-append", COMMAND_LINE]);
    command.arg("-drive").arg(format!("if=none,id=disk,format=raw,file={}", guest.disk.display()));
    command.args(["-device", "virtio-blk-pci,drive=disk"]);
    command.arg("-netdev").arg(format!("tap,id=net,ifname={},script=no,downscript=no", guest.tap));
    command.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
    command
}
