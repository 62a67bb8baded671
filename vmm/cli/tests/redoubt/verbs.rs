//! The verbs that show and change domains.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Host, wait};

const XML: &str = "
<domain type='kvm'>
  <name>web</name>
  <uuid>5f6d1c9e-40c5-4c36-9d7b-0f1f6a1d2c11</uuid>
  <memory unit='MiB'>512</memory>
  <vcpu current='2'>4</vcpu>
  <os><kernel>/boot/vmlinuz</kernel></os>
  <devices>
    <disk type='file' device='disk'><source file='/srv/root.img'/><target dev='vda'/></disk>
    <interface type='ethernet'><mac address='52:54:00:00:00:01'/><target dev='tap0'/></interface>
    <serial type='unix'><source mode='bind' path='@SERIAL@'/></serial>
    <console type='pty'><target type='virtio'/></console>
    <memballoon model='virtio'/>
  </devices>
</domain>";

fn web() -> Host {
    let host = Host::new();
    let serial = host.path("serial.sock");
    fs::write(host.path("web.xml"), XML.replace("@SERIAL@", serial.to_str().unwrap())).unwrap();
    host.redoubt(&["define", host.path("web.xml").to_str().unwrap()]);
    host
}

fn running() -> Host {
    let host = web();
    host.redoubt(&["start", "web"]);
    host
}

fn config(host: &Host, arguments: &[&str]) -> Value {
    let text = host.redoubt(&[&["dumpxml", "web", "--format", "json"], arguments].concat());
    serde_json::from_str::<Value>(&text).unwrap()["config"].clone()
}

fn file(host: &Host, name: &str, text: &str) -> String {
    let path = host.path(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn xml_is_defined_dumped_and_defined_again() {
    let host = web();
    let dumped = host.redoubt(&["dumpxml", "web"]);
    assert!(dumped.contains("<vcpu placement='static' current='2'>4</vcpu>"), "{dumped}");
    let again = file(&host, "again.xml", &dumped);
    host.redoubt(&["define", &again]);
    assert_eq!(host.redoubt(&["dumpxml", "web"]), dumped);
    host.redoubt(&["start", "web"]);
    let live = host.redoubt(&["dumpxml", "web"]);
    assert!(live.contains("<console type='pty' tty='/dev/pts/"), "{live}");
    assert_eq!(host.redoubt(&["dumpxml", "web", "--inactive"]), dumped);
}

#[test]
fn what_xml_has_too_much_is_refused_or_passed_over() {
    let host = Host::new();
    let xml = "<domain><name>a</name><memory>65536</memory><os><kernel>/k</kernel></os>\
               <devices><sound model='ich9'/></devices></domain>";
    let path = file(&host, "a.xml", xml);
    let error = host.refusal(&["define", &path]);
    assert!(error.contains("/domain/devices/sound") && error.contains("--lenient"), "{error}");
    let output = host.output(&["define", "--lenient", &path]);
    assert!(output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("warning: /domain/devices/sound"));
}

#[test]
fn memory_and_processors_change_where_they_are_asked_to() {
    let host = running();
    host.redoubt(&["setmem", "web", "256M"]);
    assert_eq!(config(&host, &[])["balloon"]["size"], json!(256 << 20));
    assert_eq!(config(&host, &["--inactive"])["balloon"]["size"], json!(0));
    host.redoubt(&["setmem", "web", "131072", "--persistent"]);
    assert_eq!(config(&host, &["--inactive"])["balloon"]["size"], json!(384 << 20));
    assert!(host.redoubt(&["dominfo", "web"]).contains("Used memory:    131072 KiB"));
    assert!(host.refusal(&["setmem", "web", "1G"]).contains("at most"));
    assert!(host.refusal(&["setmem", "web", "many"]).contains("512M"));
    host.redoubt(&["setvcpus", "web", "3"]);
    assert_eq!(config(&host, &[])["cpus"]["boot_vcpus"], json!(3));
    assert!(host.refusal(&["setvcpus", "web", "9"]).contains("desired_vcpus"));
    assert!(host.refusal(&["setvcpus", "web", "9", "--config"]).contains("--maximum"));
    host.redoubt(&["setvcpus", "web", "8", "--maximum", "--config"]);
    assert_eq!(config(&host, &["--inactive"])["cpus"]["max_vcpus"], json!(8));
    host.redoubt(&["destroy", "web"]);
    assert!(host.refusal(&["setmem", "web", "256M", "--live"]).contains("does not run"));
}

#[test]
fn vcpus_are_pinned_now_and_for_later() {
    let host = running();
    host.redoubt(&["vcpupin", "web", "1", "0", "--persistent"]);
    let pins: Value = serde_json::from_str(&host.redoubt(&["vcpupin", "web", "--format", "json"])).unwrap();
    assert_eq!(pins[1], json!({"vcpu": 1, "affinity": "0"}));
    let stored = host.redoubt(&["vcpupin", "web", "1", "--config"]);
    assert!(stored.lines().last().is_some() && stored.contains(" 0"), "{stored}");
    assert!(host.refusal(&["vcpupin", "web", "1", "1023"]).contains("processors"));
    assert!(host.refusal(&["vcpupin", "web", "7", "0"]).contains("vcpu7"));
    assert!(host.refusal(&["vcpupin", "web", "7", "0", "--config"]).contains("0 to 3"));
    assert!(host.refusal(&["vcpupin", "web", "0", "x"]).contains("0-3"));
}

#[test]
fn disks_come_and_go() {
    let host = running();
    let image = file(&host, "data.img", "data");
    assert_eq!(
        host.redoubt(&["attach-disk", "web", &image, "vdb", "--persistent"]).trim(),
        "Disk attached successfully"
    );
    let list = host.redoubt(&["domblklist", "web"]);
    assert!(list.contains("vdb") && list.contains("data.img"), "{list}");
    assert!(host.redoubt(&["domblklist", "web", "--inactive"]).contains("vdb"));
    assert!(host.refusal(&["attach-disk", "web", &image, "vdb", "--live"]).contains("409"));
    let error = host.refusal(&["attach-disk", "web", &image, "vdb", "--config"]);
    assert!(error.contains("two devices"), "{error}");
    assert!(host.refusal(&["attach-disk", "web", "/nonexistent", "vdc"]).contains("/nonexistent"));
    host.redoubt(&["detach-disk", "web", &image, "--live"]);
    assert!(!host.redoubt(&["domblklist", "web"]).contains("vdb"));
    host.redoubt(&["detach-disk", "web", "vdb", "--config"]);
    assert!(!host.redoubt(&["domblklist", "web", "--inactive"]).contains("vdb"));
    assert!(host.refusal(&["detach-disk", "web", "vdb"]).contains("domblklist"));
}

#[test]
fn interfaces_come_and_go_with_descriptors_too() {
    let host = running();
    host.redoubt(&[
        "attach-interface",
        "web",
        "--target",
        "tap1",
        "--mac",
        "52:54:00:00:00:02",
        "--persistent",
    ]);
    let list: Value = serde_json::from_str(&host.redoubt(&["domiflist", "web", "--format", "json"])).unwrap();
    assert_eq!(list[1]["mac"], json!("52:54:00:00:00:02"));
    assert_eq!(list[1]["interface"], json!("net1"));
    host.redoubt(&["attach-interface", "web", "--tap-device", "/dev/null", "--live"]);
    assert!(host.refusal(&["detach-interface", "web"]).contains("more than one"));
    host.redoubt(&["detach-interface", "web", "ethernet", "--mac", "52:54:00:00:00:02", "--persistent"]);
    assert!(!host.redoubt(&["domiflist", "web", "--inactive"]).contains("tap1"));
    assert!(host.refusal(&["detach-interface", "web", "--mac", "00:00:00:00:00:00"]).contains("domiflist"));
}

#[test]
fn devices_come_and_go_by_xml() {
    let host = running();
    let fs = file(&host, "fs.xml", "<filesystem><source socket='/s'/><target dir='share'/></filesystem>");
    host.redoubt(&["attach-device", "web", &fs, "--persistent"]);
    assert_eq!(config(&host, &[])["fs"][0]["id"], json!("fs0"));
    host.redoubt(&["detach-device", "web", &fs, "--persistent"]);
    assert!(config(&host, &["--inactive"]).get("fs").is_none());
    let relative = file(&host, "r.xml", "<disk><source file='r.img'/><target dev='vdx'/></disk>");
    assert!(host.refusal(&["attach-device", "web", &relative]).contains("absolute"));
    let wrong = file(&host, "w.xml", "<sound/>");
    assert!(host.refusal(&["attach-device", "web", &wrong]).contains("disk, interface"));
}

#[test]
fn figures_are_virshs() {
    let host = running();
    let text = host.redoubt(&["domstats"]);
    for line in [
        "Domain: 'web'",
        "state.state=running",
        "vcpu.maximum=4",
        "block.0.name=vda",
        "block.0.read_bytes=512",
        "net.0.rx_frames=7",
        "balloon.maximum=524288",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let json: Value = serde_json::from_str(&host.redoubt(&["domstats", "web", "--format", "json"])).unwrap();
    assert!(json[0]["cpu.time"].is_u64() && json[0]["balloon.rss"].as_u64().unwrap() > 0);
}

#[test]
fn events_are_told_as_they_come_also_of_a_domain_that_starts_later() {
    let host = web();
    let mut command = host.command(&["event", "--loop", "--timeout", "6"]);
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    sleep(Duration::from_millis(500));
    host.redoubt(&["start", "web"]);
    host.redoubt(&["suspend", "web"]);
    host.redoubt(&["resume", "web"]);
    host.redoubt(&["reboot", "web"]);
    sleep(Duration::from_millis(200));
    host.redoubt(&["destroy", "web"]);
    let told = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let wanted = [
        "Started Booted",
        "Suspended Paused",
        "Resumed Unpaused",
        "event 'reboot'",
        "Stopped Shutdown",
        "timed out",
    ];
    let mut rest = told.as_str();
    for text in wanted {
        let at = rest.find(text).unwrap_or_else(|| panic!("no {text:?} in:\n{told}"));
        rest = &rest[at..];
    }
    assert!(host.refusal(&["event", "--domain", "nobody"]).contains("nobody"));
}

#[test]
fn one_event_is_enough_without_loop() {
    let host = running();
    let arguments = ["event", "--domain", "web", "--event", "lifecycle", "--format", "json"];
    let child = host.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    sleep(Duration::from_millis(400));
    host.redoubt(&["suspend", "web"]);
    let told: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!((&told["domain"], &told["event"]), (&json!("web"), &json!("paused")));
}

/// What comes of a console after `hello` and before Ctrl-].
fn talk(host: &Host, arguments: &[&str]) -> String {
    let mut command = host.command(&[&["console", "web"], arguments].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"hello").unwrap();
    let mut heard = [0; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut heard).unwrap();
    child.stdin.as_mut().unwrap().write_all(b"\x1d not for the guest").unwrap();
    assert!(child.wait().unwrap().success());
    String::from_utf8(heard.to_vec()).unwrap()
}

#[test]
fn consoles_are_talked_to_and_left() {
    let host = running();
    assert_eq!(talk(&host, &[]), "HELLO");
    assert_eq!(talk(&host, &["--devname", "serial0"]), "HELLO");
    assert_eq!(talk(&host, &["--devname", "console0"]), "HELLO");

    let mut first =
        host.command(&["console", "web"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    wait(|| host.path("run/domains/web/console0.lock").exists(), || "the lock".into());
    sleep(Duration::from_millis(200));
    assert!(host.refusal(&["console", "web"]).contains("somebody else"));
    drop(first.stdin.take());
    assert!(first.wait().unwrap().success());
    host.redoubt(&["destroy", "web"]);
    assert!(host.refusal(&["console", "web"]).contains("does not run"));
}

#[test]
fn definitions_are_edited_and_mistakes_kept() {
    let host = web();
    let edit = |script: &str| {
        let editor = host.path("editor");
        fs::write(&editor, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
        host.command(&["edit", "web"]).env_remove("VISUAL").env("EDITOR", editor).output().unwrap()
    };
    let said = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert!(said(edit("true").stdout).contains("not changed"));
    assert!(said(edit("sed -i 's/>4</>6</' \"$1\"").stdout).contains("edited"));
    assert_eq!(config(&host, &[])["cpus"]["max_vcpus"], json!(6));
    let error = said(edit("sed -i 's/>6</>six</' \"$1\"").stderr);
    assert!(error.contains("/domain/vcpu") && error.contains("your text is in"), "{error}");
    let kept = error.split("your text is in ").nth(1).unwrap().split(": ").next().unwrap();
    assert!(fs::read_to_string(kept).unwrap().contains("six"));
    fs::remove_file(kept).unwrap();
    let error = said(edit("sed -i 's/>web</>other</' \"$1\"").stderr);
    assert!(error.contains("name cannot be changed"), "{error}");
    fs::remove_file(error.split("your text is in ").nth(1).unwrap().split(": ").next().unwrap()).unwrap();
    assert!(said(edit("exit 3").stderr).contains("set EDITOR"));
}

#[test]
fn configurations_and_command_lines_become_definitions() {
    let host = Host::new();
    let vm = json!({"payload": {"kernel": "/k"}, "serial": {"mode": "Tty"}, "disks": [{"path": "/d"}], "net": [{"tap": "t"}]});
    let path = file(&host, "vm.json", &vm.to_string());
    let output = host.output(&["import", "--name", "a", "--config", &path]);
    let xml = String::from_utf8(output.stdout).unwrap();
    assert!(xml.contains("<serial type='pty'>") && xml.contains("<target dev='vda'"), "{xml}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("becomes a pty"));
    let path = file(&host, "a.xml", &xml);
    host.redoubt(&["define", &path]);
    host.redoubt(&["import", "--name", "b", "--define", "--", "--kernel", "relative"]);
    let b = host.redoubt(&["dumpxml", "b"]);
    let here = std::env::current_dir().unwrap();
    assert!(b.contains(&format!("<kernel>{}/relative</kernel>", here.display())), "{b}");
    assert!(host.refusal(&["import", "--name", "c"]).contains("--config"));
    let wrong = file(&host, "wrong.json", r#"{"payload":{"kernel":"/k"},"surprise":1}"#);
    assert!(host.refusal(&["import", "--name", "c", "--config", &wrong]).contains("surprise"));
}

#[test]
fn measurements_are_the_vmms() {
    let host = web();
    let told = host.redoubt(&["measure", "web", "--", "--backend", "cca-2.0"]);
    assert!(told.starts_with("RIM sha256:ab12") && told.contains("--backend cca-2.0"), "{told}");
    let told = host.redoubt(&["measure", "web", "--", "--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap()["rim"], json!("ab12"));
    let xml = host.path("web.xml");
    host.redoubt(&["measure", "--config", xml.to_str().unwrap()]);
    let vm = file(&host, "vm.json", r#"{"payload":{"kernel":"/k"}}"#);
    host.redoubt(&["measure", "--config", &vm]);
    assert!(host.refusal(&["measure", "nobody"]).contains("nobody"));
}

/// A real terminal passes on every key while it is connected, and is as before afterwards.
#[test]
fn a_terminal_is_raw_while_it_is_a_console_and_as_before_afterwards() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{LocalModes, tcgetattr};
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let host = running();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = fs::File::options().read(true).write(true).open(OsStr::from_bytes(name.as_bytes())).unwrap();
    let cooked = || tcgetattr(&slave).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ISIG);
    assert!(cooked());
    let mut command = host.command(&["console", "web"]);
    let mut child = command.stdin(slave.try_clone().unwrap()).stdout(Stdio::piped()).spawn().unwrap();
    wait(|| !cooked(), || "the terminal to be raw".into());
    let mut keys = fs::File::from(master);
    // Ctrl-C goes to the guest.
    keys.write_all(b"a\x03b").unwrap();
    let mut said = child.stdout.take().unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"A\x03B") {
        let mut byte = [0];
        said.read_exact(&mut byte).unwrap();
        text.extend(byte);
    }
    assert!(text.starts_with(b"Connected to domain 'web'\nEscape character is ^]"));
    keys.write_all(b"\x1d").unwrap();
    assert!(child.wait().unwrap().success());
    assert!(cooked());
}
