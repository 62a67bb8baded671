//! The demo's guests on the Arm host: each proves itself, or is refused, to a service elsewhere.
//!
//! `cargo xtask` prepares them: a configuration and the expected outcome for each scenario.

#![cfg(target_arch = "aarch64")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use system_tests::asset;

fn play(scenario: &str) {
    let directory = asset("REDOUBT_DEMO");
    let serial = tempfile::NamedTempFile::new().unwrap();
    let vmm = Command::new(asset("REDOUBT_VMM"))
        .arg("--config")
        .arg(directory.join(format!("{scenario}.json")))
        .arg(format!("--serial=file={}", serial.path().display()))
        .arg("--no-reboot")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let console = fs::read_to_string(serial.path()).unwrap();
    let errors = String::from_utf8_lossy(&vmm.stderr);
    assert!(vmm.status.success(), "{}\n{console}\n{errors}", vmm.status);
    let report = console.lines().find(|line| line.starts_with("{\"verdict\""));
    let report =
        report.unwrap_or_else(|| panic!("the agent did not report:\n{console}\n{errors}")).trim_end();
    println!("report {report}");

    let report: Value = serde_json::from_str(report).unwrap();
    let expected = fs::read(directory.join(format!("{scenario}.expected.json"))).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    assert_eq!(report["verdict"], expected["verdict"], "{report}\n{console}");
    assert_eq!(report["code"], expected["code"], "{report}");
    assert!(!errors.contains("DMA refused"), "{errors}");
}

mod operator;

mod cca {
    use super::play;

    #[test]
    fn honest() {
        play("cca_honest");
    }

    #[test]
    fn kernel() {
        play("cca_kernel");
    }

    #[test]
    fn initrd() {
        play("cca_initrd");
    }

    #[test]
    fn cmdline() {
        play("cca_cmdline");
    }

    #[test]
    fn nonce() {
        play("cca_nonce");
    }

    #[test]
    fn token() {
        play("cca_token");
    }

    #[test]
    fn platform_key() {
        play("cca_platform_key");
    }
}

/// What does not depend on the flavour of the evidence is played with every change by the module above; here only
/// `cargo xtask demo --realm soft-virtcca` plays it.
mod virtcca {
    use super::play;

    #[test]
    fn honest() {
        play("virtcca_honest");
    }

    #[test]
    fn kernel() {
        play("virtcca_kernel");
    }

    #[test]
    fn initrd() {
        play("virtcca_initrd");
    }

    #[test]
    fn cmdline() {
        play("virtcca_cmdline");
    }

    #[test]
    fn nonce() {
        play("virtcca_nonce");
    }

    #[test]
    fn token() {
        play("virtcca_token");
    }

    #[test]
    fn platform_key() {
        play("virtcca_platform_key");
    }

    #[test]
    fn device_certificate() {
        play("virtcca_device_certificate");
    }

    #[test]
    fn platform_token() {
        play("virtcca_platform_token");
    }
}
