//! Guests that run a stock Debian kernel and a shell script.

use std::fs;
use std::io::{Read, Write};

use cpio::newc;
use serde_json::{Value, json};

use crate::{TestVm, asset};

/// Kernel command line of a guest. A Realm needs room to bounce its I/O; another guest does not mind.
const COMMAND_LINE: &str = "console=ttyAMA0 quiet panic=-1 swiotlb=16384";

impl TestVm {
    /// Boots Debian's kernel, whose init runs `script` with busybox and resets the machine afterwards. The VM then ends
    /// with code 4.
    #[must_use]
    pub fn boot_linux(self, script: &str) -> Self {
        let initrd = self.path("initrd.cpio");
        fs::write(&initrd, initrd_with_job(script)).expect("the initial RAM disk is written");
        self.with("/payload/kernel", json!(asset("REDOUBT_GUEST_IMAGE")))
            .with("/payload/initramfs", json!(initrd))
            .with("/payload/cmdline", json!(COMMAND_LINE))
            .with("/memory/size", json!(512 << 20))
            .flag("--no-reboot")
    }
}

/// What follows `name` and a space on a line of its own in `output`.
#[must_use]
pub fn answer(output: &str, name: &str) -> Option<String> {
    output.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned)
}

/// The harness's initial RAM disk with another job.
fn initrd_with_job(script: &str) -> Vec<u8> {
    let mut initrd = fs::read(asset("REDOUBT_GUEST_INITRD")).expect("the initial RAM disk is there");
    let end = initrd.len().next_multiple_of(4);
    initrd.resize(end, 0);
    let mut config: Value = serde_json::from_slice(&json_config(&initrd)).expect("JSON");
    config["commands"] = json!([["/bin/busybox", "--install", "-s", "/bin"]]);
    config["job"] = json!({"run": ["/bin/sh", "-c", script]});
    config["finally"] = json!("reboot");
    let config = config.to_string();
    let entry = newc::Builder::new("etc/guest-init.json").mode(0o100_644).ino(1 << 20);
    let mut writer = entry.write(&mut initrd, u32::try_from(config.len()).expect("a short file"));
    writer.write_all(config.as_bytes()).expect("a vector takes all");
    writer.finish().expect("a vector takes all");
    newc::trailer(&mut initrd).expect("a vector takes all");
    initrd
}

/// The configuration that the archive came with, which names the modules.
fn json_config(archive: &[u8]) -> Vec<u8> {
    let mut rest = archive;
    loop {
        let mut reader = newc::Reader::new(rest).expect("an archive");
        assert!(!reader.entry().is_trailer(), "no etc/guest-init.json in the initial RAM disk");
        let wanted = reader.entry().name().trim_start_matches('/') == "etc/guest-init.json";
        let mut content = Vec::new();
        reader.read_to_end(&mut content).expect("a whole entry");
        rest = reader.finish().expect("an archive");
        if wanted {
            return content;
        }
    }
}
