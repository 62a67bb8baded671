//! The program `redoubt` with directories of its own and a VMM without a VM.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long something may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Directories of their own; VMMs that live in them end with this value.
pub struct Host {
    directory: TempDir,
}

impl Host {
    pub fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program, not yet run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redoubt"));
        command
            .args(arguments)
            .env("REDOUBT_STATE_DIR", self.path("state"))
            .env("REDOUBT_RUN_DIR", self.path("run"))
            .env("REDOUBT_VMM", fake_vmm())
            .stdin(Stdio::null());
        command
    }

    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What the program prints, which must have worked.
    pub fn redoubt(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What the program complains of, which must not have worked.
    pub fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8(output.stderr).unwrap()
    }

    /// Defines a domain with a JSON configuration.
    pub fn define(&self, name: &str, config: &Value) {
        let domain = json!({"name": name, "config": config});
        let file = self.path(&format!("{name}.json"));
        std::fs::write(&file, domain.to_string()).unwrap();
        let said = self.redoubt(&["define", file.to_str().unwrap()]);
        assert!(said.starts_with(&format!("Domain '{name}' defined")), "{said}");
    }

    pub fn state(&self, name: &str) -> String {
        self.redoubt(&["domstate", name]).trim().to_owned()
    }

    pub fn reason(&self, name: &str) -> String {
        self.redoubt(&["domstate", "--reason", name]).trim().to_owned()
    }

    /// Process of a domain's VMM.
    pub fn pid(&self, name: &str) -> i32 {
        let info: Value =
            serde_json::from_str(&self.redoubt(&["dominfo", name, "--format", "json"])).unwrap();
        info["id"].as_str().unwrap().parse().unwrap()
    }

    pub fn wait_for_state(&self, name: &str, wanted: &str) {
        wait(|| self.state(name) == wanted, || format!("{wanted}; it is {}", self.reason(name)));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let output = self.output(&["list", "--name"]);
        for name in String::from_utf8_lossy(&output.stdout).lines() {
            self.output(&["destroy", name]);
        }
    }
}

/// Waits until something holds.
pub fn wait(holds: impl Fn() -> bool, what: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {}", what());
        sleep(Duration::from_millis(20));
    }
}

/// The VMM without a VM, which is built with the tests.
pub fn fake_vmm() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_redoubt")).with_file_name("examples").join("fake-vmm");
    assert!(path.is_file(), "{} is not built: run the tests of the whole crate", path.display());
    path
}

/// The smallest configuration.
pub fn kernel() -> Value {
    json!({"payload": {"kernel": "/k"}})
}

/// A configuration with a kernel command line, which tells the VMM how to fail.
pub fn failing(how: &str) -> Value {
    json!({"payload": {"kernel": "/k", "cmdline": format!("quiet fake={how}")}})
}
