//! secGear's files are taken over, or it is said why not.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed test panics")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use verifier::testing::VirtccaMint;

const REGO: &str = "package attestation\noutput := {\"allow\": true}";
const RESOURCE_REGO: &str = "package acme.own\ndefault allow = false\nallow { input[\"tee\"] == \"vcca\" }";

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// secGear's layout with good things and bad ones in it.
fn layout(root: &Path) {
    let certificate = VirtccaMint::new([0; 64]).root.pem();
    let rim = "ab".repeat(32);
    write(root, "policy/default_vcca.rego", REGO);
    write(root, "policy/broken.rego", "package attestation");
    write(root, "resource/policy/acme/own.rego", RESOURCE_REGO);
    write(root, "resource/policy/acme/not-a-package.rego", RESOURCE_REGO);
    write(
        root,
        "resource/storage/acme/disk/key",
        &json!({ "content": "secret", "policy": ["acme/own.rego"] }).to_string(),
    );
    write(root, "resource/storage/oeas/image", &json!({ "content": "secret", "policy": [] }).to_string());
    write(root, "resource/storage/oeas/broken", "the secret itself");
    write(root, "verifier/virtcca/Huawei Equipment Root CA.pem", &certificate);
    write(root, "verifier/virtcca/eccp521_root_cert.pem", "no certificate");
    // A certificate, but of no authority.
    let server = rcgen::generate_simple_self_signed(["server".to_owned()]).unwrap().cert.pem();
    write(root, "verifier/virtcca/Huawei IT Product CA.pem", &server);
    write(
        root,
        "verifier/virtcca/uefi/digest_list_file",
        &format!("{}\n{}\n", "11".repeat(32), "22".repeat(32)),
    );
    write(root, &format!("verifier/virtcca/ima/{rim}/digest_list_file"), &"33".repeat(32));
    write(root, "token/private.pem", "a key");
    write(root, "reference/db", "sled");
    write(
        root,
        "reference.json",
        &json!([{ "name": "vcca.cvm.rim", "value": rim }, { "name": "a/b", "value": 1 }]).to_string(),
    );
}

fn import(root: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_attestation-service"))
        .arg("import-secgear")
        .arg(root.join("secgear"))
        .arg("--database")
        .arg(format!("sqlite:{}", root.join("db").display()))
        .arg("--master-key")
        .arg(root.join("master.key"))
        .args(more)
        .output()
        .unwrap()
}

fn outcomes(output: &Output) -> BTreeMap<String, (String, String)> {
    let report: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    report.iter().map(|item| (text(&item["name"]), (text(&item["outcome"]), text(&item["note"])))).collect()
}

#[test]
fn imports_what_is_good_and_reports_what_is_not() {
    let root = tempfile::tempdir().unwrap();
    layout(&root.path().join("secgear"));
    let output = import(root.path(), &["--format", "json"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let outcomes = outcomes(&output);
    for (name, outcome, note) in [
        ("default_vcca.rego", "imported", ""),
        ("broken.rego", "refused", "policy_invalid"),
        ("acme/own.rego", "imported", ""),
        ("acme/not-a-package.rego", "refused", "vendor/id.rego"),
        ("acme/disk/key", "imported", ""),
        ("oeas/image", "imported", "released to nobody"),
        ("oeas/broken", "refused", "expected a JSON object"),
        ("Huawei Equipment Root CA.pem", "imported", ""),
        ("eccp521_root_cert.pem", "refused", "expected certificates in PEM"),
        ("Huawei IT Product CA.pem", "refused", "not a certificate authority"),
        ("uefi/digest_list_file", "imported", "guests' references"),
        ("vcca.cvm.rim", "imported", ""),
        ("a/b", "refused", "name"),
        ("token/private.pem", "skipped", "JWKS"),
    ] {
        let (found, said) = &outcomes[name];
        assert_eq!(found, outcome, "{name}: {said}");
        assert!(said.contains(note), "{name}: {said}");
    }
    let (outcome, note) = &outcomes[&"ab".repeat(32)];
    assert_eq!(outcome, "imported", "{note}");
    assert!(note.contains("its lists count"), "{note}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("the secret itself"));
}

#[test]
fn a_second_import_keeps_what_is_there_and_says_so() {
    let root = tempfile::tempdir().unwrap();
    layout(&root.path().join("secgear"));
    import(root.path(), &[]);
    let again = outcomes(&import(root.path(), &["--format", "json"]));
    assert_eq!(again["acme/disk/key"].0, "refused");
    assert!(again["acme/disk/key"].1.contains("exists"), "{:?}", again["acme/disk/key"]);
}

#[test]
fn a_database_that_is_not_exported_is_named() {
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("secgear"), "reference/db", "sled");
    let output = import(root.path(), &[]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("reference.json") && text.contains("0 imported, 0 refused, 1 skipped"), "{text}");
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let output = import(root.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read"));
}
