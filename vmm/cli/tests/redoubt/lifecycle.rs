//! Domains are started and ended, by the verbs and by force, and `list` explains what is left.

use std::fs;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Host, failing, kernel, wait};

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn a_domain_is_defined_started_suspended_and_shut_down() {
    let host = Host::new();
    host.define("web", &kernel());
    assert_eq!(host.state("web"), "shut off");
    assert_eq!(host.redoubt(&["start", "web"]), "Domain 'web' started\n\n");
    assert_eq!(host.state("web"), "running");
    let list = host.redoubt(&["list"]);
    let lines: Vec<_> = list.lines().collect();
    let header: Vec<_> = lines[0].split_whitespace().collect();
    assert_eq!(header, ["Id", "Name", "State"]);
    assert!(
        lines[1].starts_with("---") && lines[2].contains("web") && lines[2].ends_with("running"),
        "{list}"
    );
    host.redoubt(&["suspend", "web"]);
    assert_eq!(host.state("web"), "paused");
    assert!(host.refusal(&["suspend", "web"]).contains("vm.pause"), "the VMM's reason is told");
    host.redoubt(&["resume", "web"]);
    host.redoubt(&["reboot", "web"]);
    host.redoubt(&["reset", "web"]);
    assert_eq!(host.redoubt(&["shutdown", "web", "--wait"]), "Domain 'web' is shut off\n\n");
    assert!(host.reason("web").contains("powered off"), "{}", host.reason("web"));
    assert!(!host.redoubt(&["list"]).contains("web"));
    assert!(host.redoubt(&["list", "--all"]).contains("shut off"));
    host.redoubt(&["undefine", "web"]);
    assert!(host.refusal(&["domstate", "web"]).contains("list --all"));
}

#[test]
fn lists_have_forms_and_filters() {
    let host = Host::new();
    host.define("a", &kernel());
    host.define("b", &kernel());
    host.redoubt(&["start", "b"]);
    host.redoubt(&["autostart", "a"]);
    assert_eq!(host.redoubt(&["list", "--name"]), "b\n");
    assert_eq!(host.redoubt(&["list", "--all", "--name"]), "a\nb\n");
    assert_eq!(host.redoubt(&["list", "--inactive", "--name"]), "a\n");
    assert_eq!(host.redoubt(&["list", "--all", "--autostart", "--name"]), "a\n");
    let rows: Value = serde_json::from_str(&host.redoubt(&["list", "--all", "--format", "json"])).unwrap();
    assert_eq!(rows[0]["autostart"], json!(true));
    assert_eq!((&rows[0]["state"], &rows[1]["state"]), (&json!("shut off"), &json!("running")));
    let uuid = rows[1]["uuid"].as_str().unwrap();
    assert_eq!(host.redoubt(&["domstate", uuid]).trim(), "running");
    assert_eq!(host.redoubt(&["domuuid", "b"]).trim(), uuid);
    assert_eq!(host.redoubt(&["list", "--uuid"]).trim(), uuid);
    host.redoubt(&["autostart", "--disable", "a"]);
    assert_eq!(host.redoubt(&["list", "--all", "--autostart", "--name"]), "");
}

#[test]
fn marked_domains_start_together_and_one_that_fails_keeps_no_other_from_it() {
    let host = Host::new();
    host.define("a", &failing("boot-fails"));
    host.define("b", &kernel());
    host.define("c", &kernel());
    host.redoubt(&["autostart", "a"]);
    host.redoubt(&["autostart", "b"]);
    assert!(host.refusal(&["start", "--autostart"]).contains("no legs"));
    assert_eq!((host.state("a"), host.state("b")), ("shut off".into(), "running".into()));
    assert_eq!(host.state("c"), "shut off");
}

#[test]
fn a_domain_that_is_only_created_leaves_nothing() {
    let host = Host::new();
    let file = host.path("once.json");
    fs::write(&file, json!({"name": "once", "config": kernel()}).to_string()).unwrap();
    host.redoubt(&["create", file.to_str().unwrap()]);
    assert_eq!(host.state("once"), "running");
    assert!(host.refusal(&["create", file.to_str().unwrap()]).contains("running"));
    assert!(host.refusal(&["autostart", "once"]).contains("not defined"));
    host.redoubt(&["destroy", "once"]);
    assert!(!host.redoubt(&["list", "--all"]).contains("once"));
    assert!(fs::read_dir(host.path("run/domains")).unwrap().next().is_none());
}

#[test]
fn undefining_what_runs_lets_it_run_until_it_ends() {
    let host = Host::new();
    host.define("web", &kernel());
    host.redoubt(&["start", "web"]);
    host.redoubt(&["undefine", "web"]);
    assert_eq!(host.state("web"), "running");
    assert!(host.redoubt(&["dominfo", "web"]).contains("Persistent:     no"));
    host.redoubt(&["destroy", "web"]);
    assert_eq!(host.redoubt(&["list", "--all", "--name"]), "");
}

#[test]
fn a_vmm_that_is_killed_is_a_crash_and_can_be_started_again() {
    let host = Host::new();
    host.define("web", &kernel());
    host.redoubt(&["start", "web"]);
    kill(host.pid("web"));
    host.wait_for_state("web", "crashed");
    assert!(host.redoubt(&["list", "--all"]).contains("crashed"));
    assert!(host.reason("web").contains("killed"), "{}", host.reason("web"));
    assert!(!host.path("run/domains/web/api.sock").exists());
    // It says so until it is started again, and starts as if nothing had been.
    assert_eq!(host.state("web"), "crashed");
    host.redoubt(&["start", "web"]);
    assert_eq!(host.state("web"), "running");
}

#[test]
fn a_guest_that_crashes_is_told_from_one_that_powers_off() {
    let host = Host::new();
    host.define("web", &failing("panics"));
    host.redoubt(&["start", "web"]);
    host.wait_for_state("web", "crashed");
    assert!(host.reason("web").contains("guest crashed"), "{}", host.reason("web"));
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing_running() {
    let host = Host::new();
    host.define("web", &failing("boot-fails"));
    let error = host.refusal(&["start", "web"]);
    assert!(error.contains("cannot start") && error.contains("no legs"), "{error}");
    assert!(host.reason("web").contains("no legs"), "{}", host.reason("web"));
    assert_eq!(host.state("web"), "shut off");

    let mut bad = kernel();
    bad["cpus"] = json!({"boot_vcpus": 0});
    host.define("bad", &bad);
    assert!(host.refusal(&["start", "bad"]).contains("cpus.boot_vcpus"));

    host.define("none", &kernel());
    let output = host.command(&["start", "none"]).env("REDOUBT_VMM", "/bin/false").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("/bin/false ended at once"), "{error}");
    let output = host.command(&["start", "none"]).env("REDOUBT_VMM", "/nonexistent").output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("--vmm"));
    assert_eq!(host.state("none"), "shut off");
}

#[test]
fn a_vmm_that_hangs_is_told_and_ended() {
    let host = Host::new();
    host.define("web", &failing("hangs"));
    host.redoubt(&["start", "web"]);
    assert_eq!(host.state("web"), "unresponsive");
    assert!(host.refusal(&["start", "web"]).contains("unresponsive"));
    host.redoubt(&["destroy", "web"]);
    assert_eq!(host.reason("web"), "shut off (it was destroyed)");
}

#[test]
fn destroy_kills_what_does_not_listen_unless_it_is_to_be_graceful() {
    let host = Host::new();
    host.define("web", &failing("deaf"));
    host.redoubt(&["start", "web"]);
    let error = host.refusal(&["shutdown", "web", "--wait", "1"]);
    assert!(error.contains("redoubt destroy"), "{error}");
    let error = host.refusal(&["destroy", "--graceful", "web"]);
    assert!(error.contains("--graceful"), "{error}");
    assert_eq!(host.state("web"), "running");
    assert!(!host.path("run/domains/web/ended.json").exists());
    host.redoubt(&["destroy", "web"]);
    assert_eq!(host.state("web"), "shut off");
    assert!(host.refusal(&["destroy", "web"]).contains("does not run"));
}

#[test]
fn a_reset_ends_a_domain_that_says_so() {
    let host = Host::new();
    let file = host.path("web.json");
    fs::write(&file, json!({"name": "web", "on_reboot": "destroy", "config": kernel()}).to_string()).unwrap();
    host.redoubt(&["define", file.to_str().unwrap()]);
    host.redoubt(&["start", "web"]);
    host.redoubt(&["reboot", "web"]);
    host.wait_for_state("web", "shut off");
}

/// `kill -9` at any moment of a start: what is left is explained, and the next start works.
#[test]
fn a_start_that_is_killed_at_any_moment_is_explained_and_done_anew() {
    let host = Host::new();
    host.define("web", &kernel());
    let mut seen = std::collections::BTreeSet::new();
    // The first moments in fine steps; then, on a machine that is busy, until a start had the time that it needs.
    let fine = (0..30).map(|step| Duration::from_micros(1500 * step));
    let coarse = (6..14).map(|power| Duration::from_millis(1 << power));
    for (round, delay) in fine.chain(coarse).enumerate() {
        if round >= 30 && seen.contains("running") {
            break;
        }
        let mut command = host.command(&["start", "web"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(delay);
        child.kill().unwrap();
        child.wait().unwrap();
        // A child that was just forked holds the command's lock until it executes the VMM.
        wait(|| host.state("web") != "starting", || "the lock of a command that is gone".into());
        let reason = host.reason("web");
        let (state, why) = reason.split_once(" (").unwrap_or_else(|| panic!("{reason}"));
        assert!(["shut off", "interrupted", "running"].contains(&state) && why.len() > 5, "{reason}");
        seen.insert(state.to_owned());
        assert!(host.redoubt(&["list", "--all"]).contains("web"));
        if state == "running" {
            assert!(host.refusal(&["start", "web"]).contains("is running"));
        } else {
            host.redoubt(&["start", "web"]);
        }
        assert_eq!(host.state("web"), "running", "after {delay:?}");
        host.redoubt(&["destroy", "web"]);
    }
    assert!(seen.contains("shut off") && seen.contains("running"), "{seen:?}");
}

/// The same of a definition and of an end.
#[test]
fn other_verbs_that_are_killed_at_any_moment_leave_one_state_or_the_other() {
    let host = Host::new();
    for delay in 0..20 {
        host.define("web", &kernel());
        host.redoubt(&["start", "web"]);
        for verb in ["destroy", "undefine"] {
            let mut child = host.command(&[verb, "web"]).stdout(Stdio::null()).spawn().unwrap();
            sleep(Duration::from_micros(700 * delay));
            child.kill().unwrap();
            child.wait().unwrap();
            let output = host.output(&["list", "--all", "--format", "json"]);
            assert!(output.status.success());
            let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
            for row in rows.as_array().unwrap() {
                let state = row["state"].as_str().unwrap();
                assert!(["running", "in shutdown", "shut off"].contains(&state), "{rows}");
            }
        }
        host.output(&["destroy", "web"]);
        wait(|| !host.redoubt(&["list", "--name"]).contains("web"), || "the end".into());
        host.output(&["undefine", "web"]);
        assert_eq!(host.redoubt(&["list", "--all", "--name"]), "");
    }
}

#[test]
fn commands_at_the_same_time_start_one_vm() {
    let host = Host::new();
    host.define("web", &kernel());
    let children: Vec<_> = (0..6)
        .map(|_| {
            host.command(&["start", "web"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let done = children.into_iter().map(|child| child.wait_with_output().unwrap().status.success());
    assert_eq!(done.filter(|done| *done).count(), 1);
    assert_eq!(host.state("web"), "running");
}

#[test]
fn a_damaged_definition_is_shown_and_can_be_removed() {
    let host = Host::new();
    host.define("web", &kernel());
    fs::write(host.path("state/domains/web/domain.json"), "{").unwrap();
    assert!(host.redoubt(&["list", "--all"]).contains("damaged"));
    assert!(host.reason("web").contains("undefine"));
    assert!(host.refusal(&["start", "web"]).contains("is damaged"));
    host.redoubt(&["undefine", "web"]);
    assert_eq!(host.redoubt(&["list", "--all", "--name"]), "");
}

#[test]
fn mistakes_on_the_command_line_fail_and_help_does_not() {
    let host = Host::new();
    assert!(host.refusal(&["fly", "web"]).contains("fly"));
    assert!(host.refusal(&["start"]).contains("DOMAIN"));
    assert!(host.refusal(&["define", "/nonexistent.xml"]).contains("/nonexistent.xml"));
    assert!(host.redoubt(&["--help"]).contains("Examples:"));
    assert!(host.redoubt(&["list", "--help"]).contains("--format"));
    assert!(host.redoubt(&["version"]).contains("0.0.0-fake"));
    assert!(host.redoubt(&["completions", "bash"]).contains("redoubt"));
    assert!(host.redoubt(&["man"]).contains("autostart"));
}
