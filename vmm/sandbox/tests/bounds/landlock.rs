//! Landlock, as the kernel enforces it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Case;
use rustix::process::{getppid, test_kill_process};
use sandbox::landlock::restrict;
use sandbox::{Error, PathAccess, PathRule};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

fn rule(path: &Path, access: PathAccess) -> PathRule {
    PathRule { purpose: "test".into(), path: path.into(), access }
}

/// Makes the files `read`, `write` and `other`, and the directories `sockets` and `open`.
fn files(root: &Path) -> impl Fn(&str) -> PathBuf {
    for name in ["read", "write", "other"] {
        fs::write(root.join(name), name).unwrap();
    }
    for name in ["sockets", "open"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    move |name: &str| root.join(name)
}

#[track_caller]
fn denied<T>(result: io::Result<T>) {
    let kind = result.err().map(|error| error.kind());
    assert_eq!(kind, Some(ErrorKind::PermissionDenied));
}

fn what_is_listed_can_be_used_so_and_nothing_else_can(directory: &Path) {
    let path = files(directory);
    let open_already = File::open(path("other")).unwrap();
    let program = std::env::current_exe().unwrap();
    let report = restrict(&[
        rule(&path("read"), PathAccess::Read),
        rule(&path("write"), PathAccess::ReadWrite),
        rule(&path("sockets"), PathAccess::Sockets),
        rule(&path("open"), PathAccess::ReadWrite),
        rule(&program, PathAccess::Read),
    ])
    .unwrap();
    assert!(report.abi >= 1);

    assert_eq!(fs::read_to_string(path("read")).unwrap(), "read");
    denied(OpenOptions::new().write(true).open(path("read")));
    fs::write(path("write"), "written").unwrap();
    denied(fs::remove_file(path("write")));

    denied(File::open(path("other")));
    denied(File::open("/proc/version"));
    denied(fs::read_dir("/"));
    denied(fs::write(path("new"), ""));
    assert_eq!(io::read_to_string(&open_already).unwrap(), "other");

    drop(UnixListener::bind(path("sockets/socket")).unwrap());
    fs::remove_file(path("sockets/socket")).unwrap();
    denied(fs::write(path("sockets/file"), ""));
    denied(UnixListener::bind(path("socket")));

    fs::write(path("open/new"), "").unwrap();
    fs::rename(path("open/new"), path("open/renamed")).unwrap();
    fs::remove_file(path("open/renamed")).unwrap();

    File::open(&program).unwrap();
}

fn what_the_kernel_cannot_forbid_is_reported_and_the_rest_is_forbidden(_: &Path) {
    let report = restrict(&[]).unwrap();
    let reported = |what: &str| report.not_enforced.iter().any(|missing| missing.contains(what));
    assert_eq!(reported("TCP"), report.abi < 4, "{report:?}");
    assert_eq!(reported("signals"), report.abi < 6, "{report:?}");
    if !reported("TCP") {
        denied(TcpListener::bind("127.0.0.1:0"));
    }
}

fn what_can_be_read_can_still_not_be_executed(_: &Path) {
    restrict(&[rule(Path::new("/"), PathAccess::Read)]).unwrap();
    denied(Command::new(std::env::current_exe().unwrap()).arg("--list").env_clear().output());
}

fn other_processes_are_out_of_reach(_: &Path) {
    // What was made before belongs to the world outside.
    let address = SocketAddr::from_abstract_name(format!("sandbox-test-{}", std::process::id())).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let parent = getppid().unwrap();
    drop(UnixStream::connect_addr(&address).unwrap());
    test_kill_process(parent).unwrap();
    let scoped = restrict(&[]).unwrap().abi >= 6;
    let refused = |result: io::Result<()>| {
        if scoped { denied(result) } else { result.unwrap() }
    };
    refused(UnixStream::connect_addr(&address).map(drop));
    refused(test_kill_process(parent).map_err(io::Error::from));
}

fn started_threads_are_bound(_: &Path) {
    restrict(&[]).unwrap();
    std::thread::spawn(|| denied(File::open("/dev/null"))).join().unwrap();
}

fn path_that_does_not_exist_is_named(_: &Path) {
    let missing =
        PathRule { purpose: "disks.path".into(), path: "/nonexistent/disk".into(), access: PathAccess::Read };
    let error = restrict(&[missing]).unwrap_err();
    assert!(error.to_string().starts_with("disks.path: /nonexistent/disk"), "{error}");
    File::open("/dev/null").unwrap();
}

/// Makes the kernel look as if it had been built, or started, without Landlock.
fn without_landlock(errno: i32) {
    let rules = BTreeMap::from([(libc::SYS_landlock_create_ruleset, Vec::new())]);
    let target = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let answer = SeccompAction::Errno(errno.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, target).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

pub fn cases() -> Vec<Case> {
    let kernels = [("built", libc::ENOSYS), ("started", libc::EOPNOTSUPP)].map(|(how, errno)| {
        Case::holds(&format!("kernel_that_was_{how}_without_landlock_is_an_error_that_says_so"), move |_| {
            without_landlock(errno);
            let error = restrict(&[rule(Path::new("/"), PathAccess::Read)]).unwrap_err();
            assert!(matches!(error, Error::NoLandlock { .. }), "{error}");
            assert!(error.to_string().contains(&format!("was {how} without it")), "{error}");
        })
    });
    let others = [
        Case::holds(
            "what_is_listed_can_be_used_so_and_nothing_else_can",
            what_is_listed_can_be_used_so_and_nothing_else_can,
        ),
        Case::holds(
            "what_the_kernel_cannot_forbid_is_reported_and_the_rest_is_forbidden",
            what_the_kernel_cannot_forbid_is_reported_and_the_rest_is_forbidden,
        ),
        Case::holds("what_can_be_read_can_still_not_be_executed", what_can_be_read_can_still_not_be_executed),
        Case::holds("other_processes_are_out_of_reach", other_processes_are_out_of_reach),
        Case::holds("started_threads_are_bound", started_threads_are_bound),
        Case::holds("path_that_does_not_exist_is_named", path_that_does_not_exist_is_named),
    ];
    kernels.into_iter().chain(others).collect()
}
