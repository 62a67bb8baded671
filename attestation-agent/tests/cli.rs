//! What a user sees at the command line.
#![expect(clippy::unwrap_used, reason = "helpers outside of test functions")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};

fn agent(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_attestation-agent")).args(arguments).output().unwrap()
}

fn failure(arguments: &[&str]) -> String {
    let output = agent(arguments);
    // 2 would mean that the service refused.
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn usage_errors_do_not_look_like_refusals() {
    assert!(failure(&["fetch", "--no-such-option"]).contains("--no-such-option"));
    assert!(failure(&[]).contains("Usage"));
}

#[test]
fn says_which_option_is_missing_or_wrong() {
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), "{}").unwrap();
    let config = config.path().to_str().unwrap();
    let fetch = |more: &[&str]| failure(&[&["fetch", "--config", config], more].concat());
    assert!(fetch(&[]).contains("option --service: missing"));
    assert!(fetch(&["--service", "http://x:1"]).contains("option --service:"));
    assert!(fetch(&["--service", "vsock://2:1"]).contains("option --server-name: missing"));
    assert!(fetch(&["--service", "https://x:1"]).contains("option --service-cert: missing"));
    let absent = fetch(&["--service", "https://x:1", "--service-cert", "/nonexistent.pem"]);
    assert!(absent.contains("--service-cert: cannot read /nonexistent.pem: "), "{absent}");
    assert!(
        failure(&["fetch", "--config", "/nonexistent.json"])
            .contains("--config: cannot read /nonexistent.json")
    );
}

#[test]
fn does_not_listen_for_others_unless_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let certificate = directory.path().join("as.pem");
    let pem = rcgen::generate_simple_self_signed(vec!["as".to_owned()]).unwrap().cert.pem();
    std::fs::write(&certificate, pem).unwrap();
    let text = failure(&[
        "daemon",
        "--service",
        "https://as:1",
        "--service-cert",
        certificate.to_str().unwrap(),
        "--listen",
        // Nobody's address (RFC 5737): without the check the daemon would fail to listen, not run on.
        "192.0.2.1:0",
    ]);
    assert!(text.contains("--allow-remote"), "{text}");
}

#[test]
fn prints_help_completions_and_manual() {
    for arguments in [
        &["--help"][..],
        &["fetch", "--help"],
        &["gta", "--help"],
        &["gta", "attest", "--help"],
        &["completions", "bash"],
        &["man"],
        &["--version"],
    ] {
        let output = agent(arguments);
        assert!(output.status.success() && !output.stdout.is_empty(), "{arguments:?}");
    }
    assert!(String::from_utf8(agent(&["--help"]).stdout).unwrap().contains("Examples:"));
}

#[test]
fn an_agent_whose_log_nobody_reads_serves_on() {
    let directory = tempfile::tempdir().unwrap();
    let certificate = directory.path().join("as.pem");
    let pem = rcgen::generate_simple_self_signed(vec!["as".to_owned()]).unwrap().cert.pem();
    std::fs::write(&certificate, pem).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = Command::new(env!("CARGO_BIN_EXE_attestation-agent"))
        .args(["--log", "debug", "daemon", "--service", "https://127.0.0.1:1", "--service-cert"])
        .arg(&certificate)
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(writer)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address = ready["listening"][0].as_str().unwrap();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /challenge HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    }
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_machine_without_a_tpm_or_an_authority_is_told_what_is_missing() {
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), r#"{"gta": {"node_id": "n", "tpm": "device:/nonexistent/tpm"}}"#).unwrap();
    let config = config.path().to_str().unwrap();
    let gta = |command: &str, more: &[&str]| failure(&[&["gta", command, "--config", config], more].concat());
    assert!(gta("enroll", &[]).contains("gta.service"));
    assert!(gta("attest", &["--service", "http://127.0.0.1:1"]).contains("gta.tenant"));
    assert!(gta("attest", &["--attester-data", "{"]).contains("--attester-data"));
    assert!(gta("run", &["--tpm", "nonsense"]).contains("gta.service"));
    assert!(gta("evidence", &["--nonce", "AA=="]).contains("no TPM 2.0"));
    assert!(gta("evidence", &["--nonce", ""]).contains("--nonce"));
    assert!(gta("evidence", &["--nonce", "%"]).contains("--nonce"));
    assert!(gta("evidence", &["--nonce", "AA==", "--tpm", "/dev/tpm0"]).contains("--tpm"));
    // Nobody's address (RFC 5737).
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "key").unwrap();
    let service = ["--service", "http://127.0.0.1:1", "--tenant", "t", "--listen", "192.0.2.1:0"];
    let file = ["--api-key-file", key.path().to_str().unwrap()];
    assert!(gta("run", &[&service[..], &file].concat()).contains("--allow-remote"));
}
