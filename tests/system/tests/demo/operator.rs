//! A guest whose agent its host can ask: `redoubt attest` has it prove itself, and is not deceived.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use system_tests::asset;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(120);

struct Operator {
    directory: TempDir,
}

impl Operator {
    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn tried(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(asset("REDOUBT_CLI"));
        command.args(arguments).env("REDOUBT_VMM", asset("REDOUBT_VMM"));
        command.env("REDOUBT_STATE_DIR", self.path("state")).env("REDOUBT_RUN_DIR", self.path("run"));
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn redoubt(&self, arguments: &[&str]) -> String {
        self.tried(arguments)
            .unwrap_or_else(|error| panic!("redoubt {arguments:?}: {error}\n{}", self.serial()))
    }

    fn serial(&self) -> String {
        fs::read_to_string(self.path("serial.log")).unwrap_or_default()
    }

    /// The service's keys, from itself: its host is reached by the socket that its guest's connections go to.
    fn fetch_keys(&self, vsock: &str) -> String {
        let keys = self.path("as.jwks");
        let fetched = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--output", &keys, "--cacert"])
            .arg(asset("REDOUBT_DEMO").join("service.pem"))
            .args(["--unix-socket", &format!("{vsock}_8443")])
            .arg("https://attestation.redoubt.internal/.well-known/jwks.json")
            .output()
            .unwrap();
        assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
        keys
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.tried(&["destroy", "proven"]);
    }
}

#[test]
fn domain_proves_itself_to_its_operator() {
    let operator = Operator { directory: TempDir::new().unwrap() };
    let config = fs::read(asset("REDOUBT_DEMO").join("agent.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["serial"] = json!({"mode": "File", "file": operator.path("serial.log")});
    let vsock = config["vsock"]["socket"].as_str().unwrap().to_owned();
    let uuid = "5f6d1c9e-40c5-4c36-9d7b-0f1f6a1d2c11";
    let definition = operator.path("proven.json");
    let define = |config: &Value| {
        let domain = json!({"name": "proven", "uuid": uuid, "config": config});
        fs::write(&definition, domain.to_string()).unwrap();
        operator.redoubt(&["define", &definition]);
    };
    define(&config);
    operator.redoubt(&["start", "proven"]);
    let keys = operator.fetch_keys(&vsock);
    let attest = ["attest", "proven", "--jwks", &keys, "--issuer", "redoubt"];

    let deadline = Instant::now() + PATIENCE;
    let table = loop {
        match operator.tried(&attest) {
            Ok(table) => break table,
            // The guest has not come so far.
            Err(error) if error.contains("no agent answers") && Instant::now() < deadline => {
                sleep(Duration::from_millis(500));
            }
            Err(error) => panic!("{error}\n{}", operator.serial()),
        }
    };
    println!("{table}");
    let cell = |name: &str| {
        let line =
            table.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{table}"));
        line.trim().to_owned()
    };
    let measured = operator.redoubt(&["measure", "proven", "--", "--format", "json"]);
    let measured: Value = serde_json::from_str(&measured).unwrap();
    assert_eq!(measured["rim"], json!(cell("Attested RIM:")));
    assert_eq!(cell("Expected RIM:"), cell("Attested RIM:"));
    assert!(cell("Verdict:").starts_with("accepted"), "{table}");
    assert!(cell("Lifecycle:").contains("(0x5000)"), "{table}");

    let foreign = asset("REDOUBT_DEMO").join("service.pem");
    let error =
        operator.tried(&["attest", "proven", "--service-key", foreign.to_str().unwrap()]).unwrap_err();
    assert!(error.contains("signature is not valid"), "{error}");
    // What runs is no longer what is defined.
    config["payload"]["cmdline"] = json!("console=ttyAMA0 quiet panic=-1 swiotlb=16384 more");
    define(&config);
    let error = operator.tried(&attest).unwrap_err();
    assert!(error.contains(&cell("Attested RIM:")) && error.contains("is expected"), "{error}");
    operator.redoubt(&["destroy", "proven"]);
}
