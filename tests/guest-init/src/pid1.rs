//! The life of PID 1: mount, load, configure, run the job, reap, power off.

use std::{
    convert::Infallible,
    fs::{self, File},
    io,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use guest_init::{
    config::{self, Config, Finally, Job},
    report,
};
use rustix::{
    mount::{MountFlags, mount},
    process::{Pid, WaitOptions, WaitStatus},
    system::{RebootCommand, reboot},
    time::{ClockId, Timespec, clock_settime},
};

use crate::{read_config, relay};

/// Exit code that stands for "the job could not be started".
const NOT_STARTED: i32 = 125;

/// Runs the boot that [`config::PATH`] describes and ends the machine; returns only when that fails.
pub fn run() -> Result<()> {
    let (code, finally) = match boot() {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("guest-init: {error:#}");
            (NOT_STARTED, Finally::PowerOff)
        }
    };
    println!("{}", report::exit_line(code));
    rustix::fs::sync();
    end(finally).map(|never| match never {})
}

fn boot() -> Result<(i32, Finally)> {
    mount_early()?;
    let config = read_config(config::PATH)?;
    for module in &config.modules {
        load_module(module)?;
    }
    mount_late()?;
    set_clock()?;
    for argv in &config.commands {
        let code = spawn_and_reap(argv, &config)?;
        if code != 0 {
            bail!("the command {argv:?} ended with code {code}");
        }
    }
    // The test runner starts its own: on a machine that is no emulated one, it is all there is of this program.
    if !matches!(config.job, Job::Tests(_)) {
        relay::start_all(&config.relays)?;
    }
    let code = match &config.job {
        Job::Run(argv) => spawn_and_reap(argv, &config)?,
        Job::Tests(_) => spawn_and_reap(&own(&["--run-tests", config::PATH]), &config)?,
        Job::Shell => spawn_and_reap(&own(&["--session", "/bin/sh", "-l"]), &config)?,
    };
    Ok((code, config.finally))
}

fn own(arguments: &[&str]) -> Vec<String> {
    ["/proc/self/exe"].iter().chain(arguments).map(ToString::to_string).collect()
}

fn mount_early() -> Result<()> {
    mount_at("proc", "/proc")?;
    mount_at("sysfs", "/sys")?;
    mount_at("devtmpfs", "/dev")?;
    mount_at("tmpfs", "/run")?;
    mount_at("tmpfs", "/tmp")?;
    fs::create_dir_all("/dev/pts").context("cannot create /dev/pts")?;
    mount_at("devpts", "/dev/pts")
}

/// File systems whose mount points the kernel creates only once it (or a module) knows them.
fn mount_late() -> Result<()> {
    for (kind, target) in [("configfs", "/sys/kernel/config"), ("securityfs", "/sys/kernel/security")] {
        if Path::new(target).is_dir() {
            mount_at(kind, target)?;
        }
    }
    Ok(())
}

fn mount_at(kind: &str, target: &str) -> Result<()> {
    if !Path::new(target).is_dir() {
        fs::create_dir_all(target).with_context(|| format!("cannot create {target}"))?;
    }
    match mount(kind, target, kind, MountFlags::empty(), None) {
        // The kernel may have mounted devtmpfs itself.
        Ok(()) | Err(rustix::io::Errno::BUSY) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot mount {kind} on {target}")),
    }
}

fn load_module(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open the module {}", path.display()))?;
    match rustix::system::finit_module(&file, c"", 0) {
        // No device: a driver for hardware, or for a kind of guest, that this machine is not.
        Ok(()) | Err(rustix::io::Errno::EXIST | rustix::io::Errno::NODEV) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("the kernel refused the module {}", path.display())),
    }
}

/// Certificates are checked against the wall clock, so take it from the board's clock where the kernel has not.
fn set_clock() -> Result<()> {
    let rtc = Path::new("/sys/class/rtc/rtc0");
    let read = |name| fs::read_to_string(rtc.join(name)).ok();
    let Some(epoch) = read("since_epoch") else { return Ok(()) };
    if read("hctosys").is_some_and(|text| text.trim() == "1") {
        return Ok(());
    }
    let seconds = epoch.trim().parse().context("the real-time clock gave no number of seconds")?;
    clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: 0 })
        .context("cannot set the system clock")
}

/// Starts a program and reaps every child that ends, ours or inherited, until it is that program.
fn spawn_and_reap(argv: &[String], config: &Config) -> Result<i32> {
    let (program, arguments) = argv.split_first().context("the job has no program")?;
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/bin:/sbin:/usr/bin")
        .env("HOME", "/")
        .env("TERM", std::env::var("TERM").as_deref().unwrap_or("linux"))
        .envs(&config.env)
        .stdin(Stdio::inherit())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == Pid::from_child(&child) => return Ok(exit_code(status)),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error)).context("cannot wait for children"),
        }
    }
}

/// Exit code in the manner of shells: a signal `n` is `128 + n`.
fn exit_code(status: WaitStatus) -> i32 {
    status.exit_status().or_else(|| status.terminating_signal().map(|n| 128 + n)).unwrap_or(NOT_STARTED)
}

fn end(finally: Finally) -> Result<Infallible> {
    let command = match finally {
        Finally::PowerOff => RebootCommand::PowerOff,
        Finally::Reboot => RebootCommand::Restart,
    };
    reboot(command).context("the kernel refused to end the machine")?;
    loop {
        std::thread::park();
    }
}
