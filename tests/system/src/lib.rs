//! What whole-system tests share: a VM described by a JSON configuration, run by the real `redoubt-vmm`.
//!
//! The tests themselves are in `tests/` and run on an arm64 host only.

#![forbid(unsafe_code)]
#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod linux;

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, copy};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use client::Client;
use p384::ecdsa::SigningKey;
use p384::elliptic_curve::Generate;
use p384::pkcs8::{EncodePrivateKey, LineEnding};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a guest may take to say something before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(90);

/// The value of an environment variable that the harness sets.
#[must_use]
pub fn asset(variable: &str) -> PathBuf {
    env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set; run `cargo xtask test`")).into()
}

/// A VM to be run, in a directory of its own.
pub struct TestVm {
    /// Holds the serial log and whatever a test puts there.
    pub directory: TempDir,
    config: Value,
    flags: Vec<String>,
}

impl TestVm {
    /// A software Realm that runs the bare-metal guest's `case`.
    #[must_use]
    pub fn realm(case: &str) -> Self {
        let mut vm = Self::plain(case);
        let key = vm.path("platform.pem");
        let pem =
            SigningKey::generate_from_rng(&mut rand::rng()).to_pkcs8_pem(LineEnding::LF).expect("a key");
        fs::write(&key, pem.as_bytes()).expect("the key is written");
        vm.config["realm"] = json!({"backend": "soft", "platform": {"key": key}});
        vm
    }

    /// An ordinary VM that runs the bare-metal guest's `case`.
    #[must_use]
    pub fn plain(case: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let config = json!({
            "payload": {"kernel": asset("REDOUBT_MINI_GUEST"), "cmdline": format!("case={case}")},
            "memory": {"size": 64 << 20},
            "serial": {"mode": "File", "file": directory.path().join("serial.log")},
        });
        Self { directory, config, flags: Vec::new() }
    }

    /// A file of this VM.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces one part of the configuration, at a JSON pointer whose parent exists.
    #[must_use]
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        let (parent, name) = pointer.rsplit_once('/').expect("a JSON pointer");
        self.config.pointer_mut(parent).expect("the parent exists")[name] = value;
        self
    }

    /// Adds a command-line flag.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Takes a command-line flag back.
    #[must_use]
    pub fn without_flag(mut self, flag: &str) -> Self {
        self.flags.retain(|given| given != flag);
        self
    }

    fn command(&self) -> Command {
        let path = self.path("vm.json");
        fs::write(&path, self.config.to_string()).expect("the configuration is written");
        let mut command = Command::new(asset("REDOUBT_VMM"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What `redoubt-vmm measure` says of this VM.
    #[must_use]
    pub fn measure(&self) -> Value {
        let mut command = self.command();
        let output = command
            .args(["measure", "--format", "json", "--config"])
            .arg(self.path("vm.json"))
            .output()
            .expect("redoubt-vmm starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Starts the VM.
    #[must_use]
    pub fn start(self) -> RunningVm {
        let mut command = self.command();
        command.arg("--config").arg(self.path("vm.json")).args(&self.flags);
        let child = command.spawn().expect("redoubt-vmm starts");
        RunningVm { vm: self, child: Some(child) }
    }

    /// Starts the VM in a VMM that listens at [`RunningVm::api`] and tells `events` what happens.
    #[must_use]
    pub fn serve_with_vm(self) -> RunningVm {
        let config = format!("--config={}", self.path("vm.json").display());
        self.flag(&config).serve()
    }

    /// Starts the VMM without a VM; it listens at [`RunningVm::api`] and tells `events` what happens.
    #[must_use]
    pub fn serve(self) -> RunningVm {
        let mut command = self.command();
        command.arg(format!("--api-socket=path={}", self.path("api.sock").display()));
        command.arg(format!("--event-monitor=path={}", self.path("events").display()));
        let child = command.args(&self.flags).spawn().expect("redoubt-vmm starts");
        RunningVm { vm: self, child: Some(child) }
    }

    /// Runs the VM until it ends.
    #[must_use]
    pub fn run(self) -> EndedVm {
        self.start().wait()
    }
}

/// A VM that runs; it is killed when dropped.
pub struct RunningVm {
    vm: TestVm,
    child: Option<Child>,
}

impl RunningVm {
    /// Waits until the serial log holds `text` at least `times` times.
    pub fn wait_for(&mut self, text: &str, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while serial(&self.vm.path("serial.log")).matches(text).count() < times {
            assert!(Instant::now() < deadline, "no {text:?} in:\n{}", serial(&self.vm.path("serial.log")));
            self.assert_running(&format!("without {text:?}:\n{}", serial(&self.vm.path("serial.log"))));
            sleep(Duration::from_millis(20));
        }
    }

    /// Waits until `holds`.
    pub fn wait_until(&mut self, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "what was waited for did not come");
            self.assert_running("meanwhile");
            sleep(Duration::from_millis(50));
        }
    }

    fn assert_running(&mut self, how: &str) {
        if self.child.as_mut().is_some_and(|child| child.try_wait().expect("a child").is_some()) {
            let output = self.child.take().expect("a child").wait_with_output().expect("its output");
            panic!("the VM ended {how}\n{}", String::from_utf8_lossy(&output.stderr));
        }
    }

    /// Waits until the VMM has logged `text` to standard error.
    pub fn wait_for_log(&mut self, text: &str) {
        let child = self.child.as_mut().expect("the VM runs");
        let mut lines = BufReader::new(child.stderr.take().expect("standard error is piped")).lines();
        assert!(
            lines.any(|line| line.is_ok_and(|line| line.contains(text))),
            "the VMM ended without {text:?}"
        );
    }

    /// Connects to the VMM's Unix socket of that name, as soon as there is one.
    #[must_use]
    pub fn connect(&self, name: &str) -> UnixStream {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(self.vm.path(name)) {
                Ok(stream) => return stream,
                Err(error) => assert!(Instant::now() < deadline, "{name}: {error}"),
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Opens the pseudo-terminal of the guest's console, as soon as there is one, and keeps what comes out of it in the
    /// file `console.log`. What is written to the end that is returned, the guest reads.
    #[must_use]
    pub fn open_terminal(&mut self) -> File {
        let api = self.api();
        let path = || api.info().ok().and_then(|info| info.config.console.file);
        self.wait_until(|| path().is_some());
        let path = path().expect("it was there");
        let terminal = File::options().read(true).write(true).open(path).expect("the terminal opens");
        let mut output = terminal.try_clone().expect("a descriptor");
        let mut log = File::create(self.path("console.log")).expect("the log is created");
        // Reading fails when the VMM ends.
        spawn(move || copy(&mut output, &mut log));
        terminal
    }

    /// A client of the VMM, which listens by now.
    #[must_use]
    pub fn api(&self) -> Client {
        drop(self.connect("api.sock"));
        Client::new(self.vm.path("api.sock"))
    }

    /// The configuration that the VM was to have.
    #[must_use]
    pub const fn config(&self) -> &Value {
        &self.vm.config
    }

    /// Waits until a file of the VM satisfies `wanted`.
    pub fn wait_for_file(&mut self, name: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = serial(&self.vm.path(name));
            if wanted(&text) {
                return text;
            }
            assert!(Instant::now() < deadline, "{name} stays:\n{text}");
            self.assert_running(&format!("with this in {name}:\n{text}"));
            sleep(Duration::from_millis(20));
        }
    }

    /// Waits for what follows `name` on a line of the guest's console, which is the file `console.log`.
    pub fn answer(&mut self, name: &str) -> String {
        let text = self.wait_for_file("console.log", |text| linux::answer(text, name).is_some());
        linux::answer(&text, name).expect("it was there")
    }

    /// A field of `/proc/pid/task/tid/status` (proc(5)) for every thread of the VMM, by the thread's name.
    #[must_use]
    pub fn threads(&self, field: &str) -> BTreeMap<String, String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the VM runs");
        let status = |task: PathBuf| {
            let text = fs::read_to_string(task.join("status")).expect("the thread runs");
            let value = |field: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
                line.unwrap_or_else(|| panic!("no {field} in:\n{text}")).trim().to_owned()
            };
            (value("Name"), value(field))
        };
        tasks.map(|task| status(task.expect("a thread").path())).collect()
    }

    /// A file of the VM.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.vm.path(name)
    }

    /// Process identifier of the VMM.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the VM runs").id()
    }

    /// Sends the VMM a signal.
    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the VM runs");
        kill_process(Pid::from_child(child), signal).expect("the signal is sent");
    }

    /// Waits until the VMM ends with `code`, and gives what it wrote to standard error.
    pub fn wait_until_ended(&mut self, code: i32) -> String {
        let output = self.child.take().expect("the VM runs").wait_with_output().expect("the VM ends");
        let ended = EndedVm { serial: serial(&self.vm.path("serial.log")), output };
        ended.expect_code(code).errors()
    }

    /// Waits until the VM ends.
    #[must_use]
    pub fn wait(mut self) -> EndedVm {
        let output = self.child.take().expect("the VM runs").wait_with_output().expect("the VM ends");
        EndedVm { serial: serial(&self.vm.path("serial.log")), output }
    }
}

impl Drop for RunningVm {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A VM that has ended.
#[derive(Debug)]
pub struct EndedVm {
    /// What the guest wrote to its serial port.
    pub serial: String,
    /// What the VMM left behind.
    pub output: Output,
}

impl EndedVm {
    /// Fails unless the VMM ended with `code`.
    #[must_use]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.output.status.code(), Some(code), "{}\n{}", self.serial, self.errors());
        self
    }

    /// Fails unless the bare-metal guest ended `case` and all its checks held.
    #[must_use]
    pub fn expect_passed(self, case: &str) -> Self {
        let done = self.serial.lines().any(|line| line.trim_end() == format!("done {case}"));
        assert!(done && !self.serial.contains("FAIL"), "{}\n{}", self.serial, self.errors());
        self
    }

    /// What the VMM wrote to standard error.
    #[must_use]
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// The value that the bare-metal guest printed behind `name`, in hex.
    #[must_use]
    pub fn value(&self, name: &str) -> Vec<u8> {
        let line = self.serial.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(' '));
        let line = line.unwrap_or_else(|| panic!("no {name} in:\n{}", self.serial));
        hex::decode(line).expect("hex digits")
    }
}

fn serial(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
