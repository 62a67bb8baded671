//! A PC whose firmware and Linux measure into its TPM, attested by the agent's program.

// The PC runs programs of this machine.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failed test panics")]

mod stage;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stage::{NODE, Stage};
use test_pc::Running;

const DATABASE: support::Database = support::Database::Sqlite;
const DATE: &str = "/usr/bin/date";

/// One story, because a boot takes its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn linux_measures_into_a_tpm_and_the_agent_attests_it() {
    let mut stage = Stage::set(&[DATE]).await;
    let mut pc = stage.pc.power_on("").unwrap();

    let (status, report) = stage.attest(&mut pc);
    assert_eq!((status, &report["accepted"]), (0, &json!(true)), "{report:#}");
    let node = stage.get(&format!("/node?ids={NODE}")).await;
    assert_eq!(node["nodes"][0]["provenance"]["kind"], "activated");
    let (first, system) = stage.received().pop().unwrap();
    for path in ["boot_aggregate", "/sbin/init", "/usr/bin/attestation-agent", "/lib/libc.so.6"] {
        assert!(system.iter().any(|entry| entry == path), "{path} is not in {system:?}");
    }
    let known = u64::try_from(system.len()).unwrap();
    assert_eq!((first, &report["ima_next_entry"]), (0, &json!(known)));
    let token = stage.token(&report).await;
    let [boot, files] = ["tpm_boot", "tpm_ima"].map(|kind| &token[kind]["evidence"]["logs"][0]);
    assert_eq!((&boot["log_status"], &boot["secure_boot"]), (&json!("replay_success"), &json!(true)));
    assert_eq!(files["log_status"], "replay_success");
    assert_eq!((&files["boot_aggregate_verified"], &files["proven_entries"]), (&json!(true), &json!(known)));

    // The log says the same to another reader, and whoever vouches for it vouches for such boots only.
    let log = boot_log(&mut pc);
    assert_eq!(replayed(&log), measured(&token["tpm_boot"]["evidence"]["pcrs"]["pcr_values"]));
    stage.vouch("first boot", &log).await;
    let roles = ["shim", "grub", "kernel", "initramfs", "command_line"];
    let demanded = json!({ "required": true, "secure_boot": true, "roles": roles });
    stage.tenant.demand("secure boot", "tpm_boot", json!({ "logs": { "boot": demanded } })).await;

    // Only what is new is sent.
    assert_eq!(pc.run(DATE).unwrap().status, 0);
    let (status, report) = stage.attest(&mut pc);
    assert_eq!((status, &report["accepted"]), (0, &json!(true)), "{report:#}");
    assert_eq!(stage.received(), [(known, vec![DATE.to_owned()])]);
    let token = stage.token(&report).await;
    let matched = &token["tpm_boot"]["evidence"]["logs"][0]["matched"];
    assert_eq!((&matched["ref_value"], &matched["kernel"]), (&json!("first boot"), &json!("debian")));

    // Somebody changes a program and starts it again.
    assert_eq!(pc.run(&format!("echo >> {DATE}; {DATE}")).unwrap().status, 0);
    let (status, report) = stage.attest(&mut pc);
    assert_eq!((status, &report["accepted"]), (2, &json!(false)));
    assert_eq!(stage.received(), [(known + 1, vec![DATE.to_owned()])]);
    let (kind, code, detail) = reason(&report);
    assert_eq!((kind, code), ("tpm_ima", "ima_entry_unknown"));
    // Not before: Linux measures what root reads, too.
    let changed = pc.run(&format!("sha256sum {DATE}")).unwrap().output;
    assert!(detail.contains(DATE) && detail.contains(&changed[..64]), "{detail}");

    // Started anew by somebody who gives the kernel another command line. That program does not run.
    pc.power_off().unwrap();
    let mut pc = stage.pc.power_on("loglevel=3").unwrap();
    let (status, report) = stage.attest(&mut pc);
    assert_eq!(status, 2, "{report:#}");
    let (kind, code, detail) = reason(&report);
    assert_eq!((kind, code), ("tpm_boot", "boot_event_unknown"));
    assert!(detail.contains("command_line") && detail.contains("loglevel=3"), "{detail}");
    assert_eq!((stage.received(), &report["ima_next_entry"]), (vec![(0, system)], &json!(known)));
    stage.vouch("second boot", &boot_log(&mut pc)).await;
    let (status, report) = stage.attest(&mut pc);
    assert_eq!((status, stage.received()), (0, vec![(known, Vec::new())]), "{report:#}");
}

#[track_caller]
fn reason(report: &Value) -> (&str, &str, &str) {
    let reason = &report["reasons"][0];
    let text = |name: &str| reason[name].as_str().unwrap_or_else(|| panic!("no reason: {report:#}"));
    (text("attester_type"), text("code"), text("detail"))
}

fn boot_log(pc: &mut Running) -> Vec<u8> {
    let log = "/sys/kernel/security/tpm0/binary_bios_measurements";
    STANDARD.decode(pc.run(&format!("base64 -w 0 {log}; echo")).unwrap().output.trim()).unwrap()
}

/// The registers that anything was measured into.
fn measured(quoted: &Value) -> BTreeMap<u32, String> {
    let text = |register: &Value| register["pcr_value"].as_str().unwrap().to_owned();
    let index = |register: &Value| register["pcr_index"].as_u64().unwrap().try_into().unwrap();
    let registers = quoted.as_array().unwrap().iter().map(|register| (index(register), text(register)));
    registers.filter(|(_, value)| value.bytes().any(|digit| digit != b'0')).collect()
}

/// The SHA-256 registers to which a log leads, as tpm2_eventlog sees it.
fn replayed(log: &[u8]) -> BTreeMap<u32, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(log).unwrap();
    let output = Command::new("tpm2_eventlog").arg(file.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, registers) = text.split_once("\npcrs:\n").unwrap();
    let (_, registers) = registers.split_once("  sha256:\n").unwrap();
    let lines = registers.lines().map_while(|line| line.split_once(": 0x"));
    lines.map(|(register, value)| (register.trim().parse().unwrap(), value.to_owned())).collect()
}
