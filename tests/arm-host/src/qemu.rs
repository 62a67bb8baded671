//! Runs the emulated host in QEMU and ends it with its owner.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use guest_init::report;

use crate::{Error, Result};

const PROGRAM: &str = "qemu-system-aarch64";

/// Lines of the console that an error shows.
const TAIL_LINES: usize = 40;

/// An arm64 machine: EL2, GICv3, SMMUv3, a report port, and a user network on which 10.0.2.2 is this machine's loopback.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Kernel file.
    pub kernel: PathBuf,
    /// Initramfs.
    pub initrd: PathBuf,
    /// Where the serial console is written.
    pub console: PathBuf,
    /// Processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Further kernel parameters.
    pub parameters: String,
}

impl Machine {
    /// The usual size: two processors and 3 GiB.
    #[must_use]
    pub fn new(kernel: PathBuf, initrd: PathBuf, console: PathBuf) -> Self {
        Self { kernel, initrd, console, cpus: 2, memory_mib: 3072, parameters: String::new() }
    }

    fn command(&self) -> Command {
        // setpriv ends QEMU when the thread that started it ends, however it ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", PROGRAM, "-nodefaults", "-no-user-config", "-no-reboot"]);
        command.args(["-display", "none", "-accel", "tcg,thread=multi", "-cpu", "neoverse-n2"]);
        command.args(["-M", "virt,virtualization=on,gic-version=3,iommu=smmuv3"]);
        command.args(["-smp", &self.cpus.to_string(), "-m", &self.memory_mib.to_string()]);
        command.args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
        command.args(["-device", "virtio-rng-pci"]);
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initrd);
        command.arg("-append").arg(format!("console=ttyAMA0 quiet panic=-1 {}", self.parameters));
        command
    }

    /// Starts the machine. It ends when the value is dropped, or when the calling thread ends.
    pub fn start(&self) -> Result<Running> {
        let mut serial = std::ffi::OsString::from("file:");
        serial.push(&self.console);
        let log = self.console.with_extension("qemu.log");
        let stderr = File::create(&log).map_err(Error::file("create", &log))?;
        let mut command = self.command();
        command.arg("-serial").arg(serial);
        command.args(["-chardev", "stdio,id=report,signal=off", "-device", "virtio-serial-pci"]);
        command.args(["-device", &format!("virtserialport,chardev=report,name={}", report::PORT)]);
        // An open standard input keeps the port connected; without a connection the guest's writes would wait.
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(|source| Error::Start { program: PROGRAM.into(), source })?;
        let (sender, lines) = channel();
        let input = child.stdin.take();
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(output).lines() {
                    let Ok(line) = line else { return };
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Running {
            child,
            _input: input,
            lines,
            console: self.console.clone(),
            log,
            started: Instant::now(),
        })
    }

    /// Runs the machine with its console on this terminal, until it powers off or the user types Ctrl-A X.
    pub fn interactive(&self) -> Result<()> {
        let status = self
            .command()
            .args(["-serial", "mon:stdio"])
            .status()
            .map_err(|source| Error::Start { program: PROGRAM.into(), source })?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Command {
            command: PROGRAM.into(),
            status: status.to_string(),
            output: "see above".into(),
        })
    }
}

/// A machine that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    _input: Option<ChildStdin>,
    lines: Receiver<String>,
    console: PathBuf,
    log: PathBuf,
    started: Instant,
}

impl Running {
    /// The next line on the report port; `None` when the machine has ended.
    pub fn line(&mut self, limit: Duration) -> Result<Option<String>> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                Err(self.error(format!("the emulated machine reported nothing for {} s", limit.as_secs())))
            }
        }
    }

    /// Waits for the machine to power off, and gives the exit code of its job.
    pub fn wait(&mut self, limit: Duration) -> Result<i32> {
        let deadline = Instant::now() + limit;
        loop {
            match self.line(deadline.saturating_duration_since(Instant::now())) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return Err(self.error("the emulated machine is still running".into())),
            }
        }
        let status = self.child.wait().map_err(Error::file("wait for", PROGRAM))?;
        if !status.success() {
            return Err(self.error(format!("QEMU ended with {status}")));
        }
        let code = self.console_text().lines().rev().find_map(report::parse_exit_line);
        code.ok_or_else(|| self.error("the emulated machine ended without the end of its job".into()))
    }

    /// What the serial console has shown so far.
    #[must_use]
    pub fn console_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    fn error(&self, what: String) -> Error {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let text = self.console_text();
        let lines: Vec<&str> = text.lines().chain(log.lines()).collect();
        let tail = lines
            .iter()
            .skip(lines.len().saturating_sub(TAIL_LINES))
            .map(|line| format!("  {line}\n"))
            .collect();
        Error::Machine { what, after: self.started.elapsed(), console: self.console.clone(), tail }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
