//! The program `redoubt` with directories of its own and a VMM without a VM.

use std::path::PathBuf;
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

/// The VMM without a VM, which is built with the tests: a test as far as cargo knows, so its name has a hash.
pub fn fake_vmm() -> PathBuf {
    let tests = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let mut found: Vec<_> = std::fs::read_dir(&tests)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap_or_default();
            name.starts_with("fake_vmm-") && path.extension().is_none()
        })
        .collect();
    // Those of former builds stay.
    found.sort_by_key(|path| path.metadata().unwrap().modified().unwrap());
    assert!(!found.is_empty(), "fake-vmm is not built: run all tests of the crate");
    found.pop().unwrap()
}

/// The smallest configuration.
pub fn kernel() -> Value {
    json!({"payload": {"kernel": "/k"}})
}

/// A configuration with a kernel command line, which tells the VMM how to fail.
pub fn failing(how: &str) -> Value {
    json!({"payload": {"kernel": "/k", "cmdline": format!("quiet fake={how}")}})
}
