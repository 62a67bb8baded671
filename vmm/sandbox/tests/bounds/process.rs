//! Bounds of the whole process, as the kernel enforces them.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use super::Case;
use rustix::process::{DumpableBehavior, dumpable_behavior};
use sandbox::{Bounds, Error, Limits, Namespace, Namespaces};

/// A field of `/proc/self/status` (proc(5)).
fn status(field: &str) -> String {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap().trim().to_owned()
}

fn capabilities(set: &str) -> u64 {
    u64::from_str_radix(&status(set), 16).unwrap()
}

/// A field of `/proc/self/limits`: soft and hard limit.
fn limit(name: &str) -> [String; 2] {
    let text = fs::read_to_string("/proc/self/limits").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let mut values = line.split_whitespace().map(str::to_owned);
    [values.next().unwrap(), values.next().unwrap()]
}

/// A process in a user namespace has all capabilities in it, whoever started it.
fn in_a_user_namespace() -> Bounds {
    Bounds { namespaces: Namespaces { user: true, ..Namespaces::default() }, ..Bounds::default() }
}

fn no_capability_is_left_and_none_can_be_gained(_: &Path) {
    in_a_user_namespace().enter().unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(capabilities(set), 0, "{set}");
    }
    assert_eq!(status("NoNewPrivs"), "1");
}

fn unhardened_process_keeps_what_its_caller_had(_: &Path) {
    let mask = status("Umask");
    Bounds { unhardened: true, ..in_a_user_namespace() }.enter().unwrap();
    assert_ne!(capabilities("CapEff"), 0);
    assert_eq!(status("NoNewPrivs"), "0");
    assert_eq!(status("Umask"), mask);
}

fn files_and_memory_are_the_users_own(directory: &Path) {
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::Dumpable);
    Bounds::default().enter().unwrap();
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    assert_eq!(limit("Max core file size"), ["0", "0"]);
    let file = File::create(directory.join("file")).unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

fn paths_are_confined_with_the_rest(_: &Path) {
    let report = Bounds { landlock: Some(Vec::new()), ..Bounds::default() }.enter().unwrap();
    assert!(report.unwrap().abi >= 1);
    let error = File::open("/dev/null").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

fn limits_hold_and_a_file_that_is_too_long_is_an_error(directory: &Path) {
    let limits = Limits { nofile: Some(32), fsize: Some(8192), memlock: Some(4096) };
    Bounds { limits, ..Bounds::default() }.enter().unwrap();
    assert_eq!(limit("Max open files"), ["32", "32"]);
    assert_eq!(limit("Max locked memory"), ["4096", "4096"]);
    assert_eq!(limit("Max file size"), ["8192", "8192"]);

    let mut file = File::create(directory.join("file")).unwrap();
    let error = file.write_all(&[0; 8193]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    assert_eq!(file.metadata().unwrap().len(), 8192);
    let files: Vec<_> = (0..40).map(|_| File::open("/dev/null")).collect();
    assert!(files.iter().any(Result::is_err));
}

fn limit_above_the_callers_own_is_refused_with_both(_: &Path) {
    let low = Limits { nofile: Some(64), ..Limits::default() };
    // Without capabilities, which let a process raise its limits.
    Bounds { limits: low, ..in_a_user_namespace() }.enter().unwrap();
    let high = Limits { nofile: Some(128), ..Limits::default() };
    let error = high.apply().unwrap_err();
    assert!(matches!(error, Error::Limit { name: "nofile", value: 128, .. }), "{error}");
    assert!(error.to_string().contains("64"), "{error}");
}

fn namespace(name: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string()
}

fn namespaces_are_others_and_users_keep_their_number(_: &Path) {
    let names = ["user", "mnt", "net", "pid"];
    let before = names.map(namespace);
    let user = rustix::process::geteuid();
    let namespaces = Namespaces { user: true, mount: true, network: true };
    Bounds { namespaces, unhardened: true, ..Bounds::default() }.enter().unwrap();
    let after = names.map(namespace);
    let changed: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before != after).collect();
    assert_eq!(changed, [true, true, true, false]);
    assert_eq!(rustix::process::geteuid(), user);

    let interfaces = fs::read_to_string("/proc/self/net/dev").unwrap();
    assert!(!interfaces.contains("eth"), "{interfaces}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("shared:") && !mounts.contains("master:"), "{mounts}");
}

fn namespace_without_the_right_to_it_is_refused_with_what_gives_it(_: &Path) {
    // A process without capabilities.
    in_a_user_namespace().enter().unwrap();
    let error = Namespaces { mount: true, ..Namespaces::default() }.enter().unwrap_err();
    assert!(matches!(error, Error::Namespace { namespace: Namespace::Mount, .. }), "{error}");
    assert!(error.to_string().contains("CAP_SYS_ADMIN"), "{error}");
}

fn process_with_threads_is_refused_as_they_would_stay_unbound(_: &Path) {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = thread::spawn(move || ended.recv());
    let error = Bounds::default().enter().unwrap_err();
    assert!(matches!(error, Error::Threads { threads: 2 }), "{error}");
    drop(end);
    assert!(thread.join().unwrap().is_err());
}

pub fn cases() -> Vec<Case> {
    vec![
        Case::holds(
            "no_capability_is_left_and_none_can_be_gained",
            no_capability_is_left_and_none_can_be_gained,
        ),
        Case::holds(
            "unhardened_process_keeps_what_its_caller_had",
            unhardened_process_keeps_what_its_caller_had,
        ),
        Case::holds("paths_are_confined_with_the_rest", paths_are_confined_with_the_rest),
        Case::holds("files_and_memory_are_the_users_own", files_and_memory_are_the_users_own),
        Case::holds(
            "limits_hold_and_a_file_that_is_too_long_is_an_error",
            limits_hold_and_a_file_that_is_too_long_is_an_error,
        ),
        Case::holds(
            "limit_above_the_callers_own_is_refused_with_both",
            limit_above_the_callers_own_is_refused_with_both,
        ),
        Case::holds(
            "namespaces_are_others_and_users_keep_their_number",
            namespaces_are_others_and_users_keep_their_number,
        ),
        Case::holds(
            "namespace_without_the_right_to_it_is_refused_with_what_gives_it",
            namespace_without_the_right_to_it_is_refused_with_what_gives_it,
        ),
        Case::holds(
            "process_with_threads_is_refused_as_they_would_stay_unbound",
            process_with_threads_is_refused_as_they_would_stay_unbound,
        ),
    ]
}
