//! The Arm host: emulated, or this very machine.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    num::NonZeroUsize,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use guest_init::{
    config::{Config, Finally, Job, Relay, TestBinary, Tests},
    report::{self, Case, Message},
};

use crate::{
    Error, Result,
    image::{Image, Payload},
    packages::Packages,
    suite::Collector,
};

/// From the start of QEMU to the first report; the machine takes about 10 s where nothing else runs.
const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// Beyond a case's own limit, before the machine itself counts as hung.
const REPORT_SLACK: Duration = Duration::from_secs(60);

/// Where tests find an arm64 kernel with KVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// A machine emulated by QEMU.
    Emulated,
    /// This machine: arm64, with `/dev/kvm`.
    Native,
}

/// Test binaries to run in one boot.
#[derive(Debug, Clone)]
pub struct Suite {
    /// The binaries, as paths on this machine.
    pub binaries: Vec<TestBinary>,
    /// How many of them run side by side.
    pub lanes: NonZeroUsize,
    /// Limit of one case.
    pub case_limit: Duration,
    /// Only cases whose full name contains this.
    pub filter: Option<String>,
    /// Sockets in the host that lead to services on this machine.
    pub relays: Vec<Relay>,
}

impl Suite {
    fn job(&self, binaries: Vec<TestBinary>, report_port: Option<String>) -> Job {
        let (timeout_s, filter) = (self.case_limit.as_secs(), self.filter.clone());
        Job::Tests(Tests { binaries, lanes: self.lanes, timeout_s, filter, report_port })
    }
}

impl Host {
    /// This machine where it can, an emulated one elsewhere.
    #[must_use]
    pub fn detect() -> Self {
        let kvm = File::options().read(true).write(true).open("/dev/kvm").is_ok();
        if cfg!(target_arch = "aarch64") && kvm { Self::Native } else { Self::Emulated }
    }

    /// Runs a suite and gives every case's outcome; `watch` sees the report as it comes.
    ///
    /// `work` keeps the initramfs and the console of an emulated host.
    pub fn run_tests(
        self,
        packages: &Packages,
        payload: &Payload,
        suite: &Suite,
        work: &Path,
        watch: &mut dyn FnMut(&Message),
    ) -> Result<Vec<Case>> {
        fs::create_dir_all(work).map_err(Error::file("create", work))?;
        match self {
            Self::Emulated => run_emulated(packages, payload, suite, work, watch),
            Self::Native => run_native(payload, suite, work, watch),
        }
    }

    /// Opens an interactive shell in the host.
    pub fn shell(self, packages: &Packages, payload: &Payload, work: &Path) -> Result<()> {
        fs::create_dir_all(work).map_err(Error::file("create", work))?;
        match self {
            Self::Emulated => {
                Image::for_host(packages, payload, Job::Shell)?.machine(packages, work)?.interactive()
            }
            Self::Native => {
                let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".into());
                let mut command = Command::new(&shell);
                native_environment(&mut command, payload);
                command.status().map(drop).map_err(|source| Error::Start { program: shell, source })
            }
        }
    }
}

fn run_emulated(
    packages: &Packages,
    payload: &Payload,
    suite: &Suite,
    work: &Path,
    watch: &mut dyn FnMut(&Message),
) -> Result<Vec<Case>> {
    let there = |binary: &TestBinary| format!("/tests/{}", binary.name);
    let binaries = suite.binaries.iter().map(|b| TestBinary { name: b.name.clone(), path: there(b).into() });
    let job = suite.job(binaries.collect(), Some(report::PORT.into()));
    let mut image = Image::for_host(packages, payload, job)?;
    for binary in &suite.binaries {
        image.files.copy(&there(binary), 0o755, &binary.path);
    }
    image.config.relays.clone_from(&suite.relays);
    let mut machine = image.machine(packages, work)?.start()?;
    let mut collector = Collector::default();
    let mut limit = BOOT_LIMIT;
    let ended = loop {
        match machine.line(limit) {
            Ok(Some(line)) => {
                if let Some(message) = collector.feed(&line) {
                    watch(&message);
                }
                limit = suite.case_limit + REPORT_SLACK;
            }
            Ok(None) => break machine.wait(REPORT_SLACK).map(drop),
            Err(error) => break Err(error),
        }
    };
    let why =
        ended.err().map_or_else(|| "the emulated machine powered off".into(), |error| error.to_string());
    Ok(collector.finish(&why))
}

fn run_native(
    payload: &Payload,
    suite: &Suite,
    work: &Path,
    watch: &mut dyn FnMut(&Message),
) -> Result<Vec<Case>> {
    let config = Config {
        modules: vec![],
        env: [].into(),
        commands: vec![],
        relays: suite.relays.clone(),
        job: suite.job(suite.binaries.clone(), None),
        finally: Finally::PowerOff,
    };
    let path = work.join("tests.json");
    fs::write(&path, serde_json::to_vec(&config).map_err(Error::Config)?)
        .map_err(Error::file("write", &path))?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(&payload.init).arg("--run-tests").arg(&path);
    native_environment(&mut command, payload);
    let start = |source| Error::Start { program: payload.init.display().to_string(), source };
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(start)?;
    let mut collector = Collector::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines().map_while(io::Result::ok) {
            if let Some(message) = collector.feed(&line) {
                watch(&message);
            }
        }
    }
    let status = child.wait().map_err(Error::file("wait for", &payload.init))?;
    Ok(collector.finish(&format!("the test runner ended with {status}")))
}

fn native_environment(command: &mut Command, payload: &Payload) {
    let directories = payload.programs.iter().filter_map(|program| program.parent()).map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Ok(path) = std::env::join_paths(directories.chain(std::env::split_paths(&path))) {
        command.env("PATH", path);
    }
    command.env("RUST_BACKTRACE", "1");
    command.envs(payload.assets.iter().map(|asset| (asset.variable, &asset.source)));
}
