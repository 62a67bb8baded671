//! Directories of the host that a Linux guest mounts, served by Debian's virtiofsd.

#![cfg(target_arch = "aarch64")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use system_tests::{TestVm, linux};

const VIRTIOFSD: &str = "/usr/libexec/virtiofsd";

/// Reads and writes both directories: one is there from the start, one comes later.
const SCRIPT: &str = r#"
exec > /dev/hvc0 2>&1
mkdir -p /first /late
mount -t virtiofs first /first && echo "mounted first"
echo "read $(cat /first/question)"
echo "from the guest" > /first/answer
dd if=/dev/urandom of=/first/big bs=64k count=64 2> /dev/null
echo "sum $(md5sum < /first/big | cut -d' ' -f1)"
until mount -t virtiofs late /late 2> /dev/null; do usleep 50000; done
echo "late $(cat /late/question)"
umount /late
echo "unmounted yes"
until [ -e /first/go ]; do usleep 50000; done
umount /first
"#;

/// A server of one directory.
struct Server {
    child: Child,
    socket: PathBuf,
    directory: PathBuf,
}

impl Server {
    fn start(vm: &TestVm, name: &str) -> Self {
        assert!(Path::new(VIRTIOFSD).exists(), "{VIRTIOFSD} is missing; install the package virtiofsd");
        let (socket, directory) = (vm.path(&format!("{name}.sock")), vm.path(name));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("question"), name).unwrap();
        let child = Command::new(VIRTIOFSD)
            .arg(format!("--socket-path={}", socket.display()))
            .arg(format!("--shared-dir={}", directory.display()))
            .args(["--sandbox=none", "--cache=never", "--announce-submounts"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, socket, directory }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn virtiofs_shares_directories_from_the_start_and_later() {
    let vm = TestVm::plain("linux");
    let (first, mut late) = (Server::start(&vm, "first"), Server::start(&vm, "late"));
    let console = vm.path("console.log");
    let mut running = vm
        .boot_linux(SCRIPT)
        .with("/memory/shared", json!(true))
        .with("/console", json!({"mode": "File", "file": console}))
        .with("/fs", json!([{"tag": "first", "socket": first.socket}]))
        .serve_with_vm();
    let api = running.api();
    let text = running.wait_for_file("console.log", |text| linux::answer(text, "sum").is_some());
    assert_eq!(linux::answer(&text, "read").as_deref(), Some("first"), "{text}");
    assert_eq!(fs::read_to_string(first.directory.join("answer")).unwrap(), "from the guest\n");
    let sum = Command::new("md5sum").arg(first.directory.join("big")).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert_eq!(sum.split(' ').next(), linux::answer(&text, "sum").as_deref());

    let json = json!({"id": "late", "tag": "late", "socket": late.socket});
    let place = api.add_fs(&serde_json::from_value(json).unwrap()).unwrap().unwrap();
    assert!(!place.bdf.starts_with("0000:00:"), "{}", place.bdf);
    let text = running.wait_for_file("console.log", |text| text.contains("unmounted yes"));
    assert_eq!(linux::answer(&text, "late").as_deref(), Some("late"), "{text}");
    api.remove_device("late").unwrap();
    running.wait_for_file("events", |text| text.contains("device-removed"));
    // It serves one VMM, and ends with the connection.
    assert!(late.child.wait().unwrap().success());

    fs::write(first.directory.join("go"), "").unwrap();
    running.wait_until_ended(4);
}
