//! The test runner as a process of its own, as the harness uses it on a native arm64 machine.

#![forbid(unsafe_code)]

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use guest_init::{
    config::{Config, Finally, Job, TestBinary, Tests},
    report::Message,
};

#[test]
fn leaves_no_daemon_behind_and_tells_failure_by_its_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let (binary, pid_file) = (directory.path().join("fake"), directory.path().join("pid"));
    fs::write(
        &binary,
        format!(
            "#!/bin/sh\ncase \"$*\" in --list*) echo daemon: test; exit;; esac\n\
             setsid sleep 1000 & echo $! > {}\necho 'assertion failed'; exit 101\n",
            pid_file.display()
        ),
    )
    .unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let config = Config {
        modules: vec![],
        env: [].into(),
        commands: vec![],
        relays: vec![],
        job: Job::Tests(Tests {
            binaries: vec![TestBinary { name: "fake".into(), path: binary }],
            lanes: std::num::NonZeroUsize::MIN,
            timeout_s: 60,
            filter: None,
            report_port: None,
        }),
        finally: Finally::PowerOff,
    };
    let config_file = directory.path().join("config.json");
    fs::write(&config_file, serde_json::to_vec(&config).unwrap()).unwrap();

    let output =
        Command::new(env!("CARGO_BIN_EXE_guest-init")).arg("--run-tests").arg(&config_file).output().unwrap();

    let messages: Vec<Message> =
        output.stdout.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert!(
        matches!(&messages[2], Message::Case(case) if !case.ok && case.output.contains("assertion failed"))
    );
    assert!(!output.status.success());
    let pid: i32 = fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    assert!(rustix::process::test_kill_process(pid).is_err(), "the daemon is still alive");
}
