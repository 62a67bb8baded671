//! The PC itself.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use arm_host::initramfs::Initramfs;
use tempfile::TempDir;
use test_swtpm::Chip;

use crate::error::file;
use crate::{Disk, Error, Packages, Result};

const PROGRAM: &str = "qemu-system-x86_64";
/// Where firmware looks for a boot loader, and shim for GRUB, and that for its configuration.
const LOADERS: &str = "boot/EFI/BOOT";
/// The drivers of its devices, as far as Debian's kernel has not built them in.
const MODULES: [&str; 2] = ["virtio_blk", "virtio_net"];
/// It takes about 10 s where nothing else runs.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
/// Lines of the console that an error shows.
const TAIL_LINES: usize = 40;

/// A PC that is off: firmware with its variables, a partition to boot from, a disk and a TPM.
pub struct Pc {
    directory: TempDir,
    firmware: PathBuf,
    chip: Chip,
}

/// What came of a command.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code.
    pub status: i32,
    /// Its standard output.
    pub output: String,
}

impl Pc {
    /// A new PC.
    ///
    /// # Errors
    /// If a part of it cannot be had.
    pub fn new(packages: &Packages, chip: Chip, disk: &Disk) -> Result<Self> {
        let directory =
            TempDir::with_prefix("pc-").map_err(file("create a directory in", std::env::temp_dir()))?;
        let copy = |from: &Path, name: &str| {
            let to = directory.path().join(name);
            fs::copy(from, to).map(drop).map_err(file("copy", from))
        };
        let [firmware, variables] = packages.firmware()?;
        copy(&variables, "variables")?;
        disk.image(&directory.path().join("disk"))?;
        let loaders = directory.path().join(LOADERS);
        fs::create_dir_all(&loaders).map_err(file("create", loaders))?;
        let [shim, grub] = packages.shim_and_grub()?;
        copy(&shim, &format!("{LOADERS}/BOOTX64.EFI"))?;
        copy(&grub, &format!("{LOADERS}/grubx64.efi"))?;
        let kernel = packages.kernel()?;
        copy(&kernel.image, "boot/vmlinuz")?;
        let mut initramfs = Initramfs::new();
        initramfs.copy("/bin/busybox", 0o755, packages.busybox()?).symlink("/bin/sh", "busybox");
        let modules = initramfs.modules(kernel.modules.resolve(&MODULES)?);
        initramfs.directory("/dev").directory("/disk").file("/init", 0o755, first_init(&modules));
        initramfs.write_to(&directory.path().join("boot/initrd.img"))?;
        Ok(Self { directory, firmware, chip })
    }

    /// Boots with these kernel parameters beside the usual ones.
    ///
    /// # Errors
    /// If it does not come to the point where it does commands.
    pub fn power_on(&mut self, parameters: &str) -> Result<Running> {
        let tpm = self.chip.power_on()?;
        let at = |name: &str| self.directory.path().join(name);
        let menu = at(LOADERS).join("grub.cfg");
        let line = format!("console=ttyS0 quiet panic=-1 ima_policy=tcb {parameters}");
        let text = format!("linux /vmlinuz {}\ninitrd /initrd.img\nboot\n", line.trim_end());
        fs::write(&menu, text).map_err(file("write", menu))?;
        let log = at("qemu.log");
        let stderr = File::create(&log).map_err(file("create", &log))?;
        // setpriv ends QEMU when the thread that started it ends, however it ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", PROGRAM, "-nodefaults", "-no-user-config", "-no-reboot"]);
        command.args(["-display", "none", "-M", "q35,smm=on", "-accel", "tcg,thread=multi", "-cpu", "max"]);
        command.args(["-smp", "2", "-m", "512"]);
        let flash =
            |options: &str, path: &Path| format!("if=pflash,format=raw{options},file={}", path.display());
        command.args([
            "-drive",
            &flash(",readonly=on", &self.firmware),
            "-drive",
            &flash("", &at("variables")),
        ]);
        command.args(["-chardev", &format!("socket,id=tpm,path={}", tpm.display())]);
        command.args(["-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm"]);
        command.args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
        command.args(["-drive", &format!("if=none,id=disk,format=raw,file={}", at("disk").display())]);
        command.args(["-device", "virtio-blk-pci,drive=disk"]);
        // QEMU makes a FAT file system of the directory.
        let boot = format!("if=none,id=boot,format=raw,readonly=on,file=fat:{}", at("boot").display());
        command.args(["-drive", &boot, "-device", "virtio-blk-pci,drive=boot,bootindex=0"]);
        command.args(["-serial", &format!("file:{}", at("console").display())]);
        command.args(["-chardev", "stdio,id=commands,signal=off", "-device", "isa-serial,chardev=commands"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(|source| Error::Start { program: PROGRAM, package: "qemu-system-x86", source })?;
        let (commands, output) = (child.stdin.take(), child.stdout.take());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.into_iter().flat_map(|output| BufReader::new(output).split(b'\n')) {
                let Ok(line) = line else { return };
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        let running = Running { child, commands, lines, console: at("console"), log };
        while running.line(BOOT_LIMIT)? != "[ready]" {}
        Ok(running)
    }
}

/// Finds the disk and goes on from there.
fn first_init(modules: &[PathBuf]) -> String {
    let load: String =
        modules.iter().map(|module| format!("$b insmod {} || exit\n", module.display())).collect();
    format!(
        "#!/bin/busybox sh\nb=/bin/busybox\n$b mount -t devtmpfs dev /dev\n{load}$b mount -t ext4 /dev/vda /disk || exit\n\
         $b mount --move /dev /disk/dev\nexec $b switch_root /disk /sbin/init\n"
    )
}

/// A PC that is on. It is unplugged when this is dropped, or when the thread that started it ends.
pub struct Running {
    child: Child,
    commands: Option<ChildStdin>,
    lines: Receiver<String>,
    console: PathBuf,
    log: PathBuf,
}

impl Running {
    /// Does a line of the shell. What it says on standard error is on the console.
    ///
    /// # Errors
    /// If the PC does not answer.
    pub fn run(&mut self, line: &str) -> Result<Finished> {
        self.send(line)?;
        let mut output = String::new();
        loop {
            let line = self.line(COMMAND_LIMIT)?;
            let end = line.strip_prefix("[finished ").and_then(|rest| rest.strip_suffix(']'));
            if let Some(Ok(status)) = end.map(str::parse) {
                return Ok(Finished { status, output });
            }
            output += &line;
            output.push('\n');
        }
    }

    /// Writes everything to the disk, shuts down the TPM and goes off.
    ///
    /// # Errors
    /// If it stays on.
    pub fn power_off(mut self) -> Result<()> {
        self.run("sync")?;
        self.send("poweroff -f")?;
        loop {
            match self.lines.recv_timeout(COMMAND_LIMIT) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return Err(self.error("the PC does not go off")),
            }
        }
        self.child.wait().map(drop).map_err(file("wait for", PROGRAM))
    }

    fn send(&mut self, line: &str) -> Result<()> {
        let sent = self.commands.as_mut().map(|commands| writeln!(commands, "{line}"));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(self.error("the PC takes no command")),
        }
    }

    fn line(&self, limit: Duration) -> Result<String> {
        self.lines.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Disconnected => self.error("the PC went off"),
            RecvTimeoutError::Timeout => {
                self.error(&format!("the PC said nothing for {} s", limit.as_secs()))
            }
        })
    }

    fn error(&self, what: &str) -> Error {
        let texts = [&self.console, &self.log].map(|path| fs::read(path).unwrap_or_default());
        let texts = texts.map(|text| String::from_utf8_lossy(&text).into_owned());
        let lines: Vec<&str> = texts.iter().flat_map(|text| text.lines()).collect();
        let last = lines.iter().skip(lines.len().saturating_sub(TAIL_LINES));
        let tail = last.map(|line| format!("  {}\n", line.escape_debug())).collect();
        Error::Machine { what: what.to_owned(), tail }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
