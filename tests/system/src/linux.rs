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
        fs::write(&initrd, self::initrd(script, &[])).expect("the initial RAM disk is written");
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

/// The harness's initial RAM disk with another job, and with further programs by their paths without the first slash.
#[must_use]
pub fn initrd(script: &str, programs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut initrd = fs::read(asset("REDOUBT_GUEST_INITRD")).expect("the initial RAM disk is there");
    let end = initrd.len().next_multiple_of(4);
    initrd.resize(end, 0);
    let mut config: Value = serde_json::from_slice(&json_config(&initrd)).expect("JSON");
    config["commands"] = json!([["/bin/busybox", "--install", "-s", "/bin"]]);
    config["job"] = json!({"run": ["/bin/sh", "-c", script]});
    config["finally"] = json!("reboot");
    append(&mut initrd, "etc/guest-init.json", 0o100_644, config.to_string().as_bytes());
    for (path, content) in programs {
        append(&mut initrd, path, 0o100_755, content);
    }
    newc::trailer(&mut initrd).expect("a vector takes all");
    initrd
}

fn append(archive: &mut Vec<u8>, path: &str, mode: u32, content: &[u8]) {
    // Entries with the same inode number would be links of one file.
    let inode = u32::try_from(archive.len()).expect("a short archive").saturating_add(1 << 20);
    let entry = newc::Builder::new(path).mode(mode).ino(inode);
    let mut writer = entry.write(archive, u32::try_from(content.len()).expect("a short file"));
    writer.write_all(content).expect("a vector takes all");
    writer.finish().expect("a vector takes all");
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
