//! The demo's variants: nothing changed, or one thing changed that somebody must notice.

use std::path::Path;

use serde_json::{Value, json};

/// Command line of the demo's guest. All of a Realm's I/O goes through bounce buffers, and by itself Linux reserves so few
/// (1 MiB for each GiB of RAM) that vsock's receive buffers take them all: 16384 slots are 32 MiB.
const CMDLINE: &str = "console=ttyAMA0 quiet panic=-1 swiotlb=16384";

/// Port of the attestation service, as the guest sees it on its host.
pub const SERVICE_PORT: u16 = 8443;

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Tamper {
    /// A byte of the kernel's version banner.
    Kernel,
    /// A byte of a file in the initial RAM disk.
    Initrd,
    /// A word more on the kernel command line.
    Cmdline,
    /// The Realm answers another challenge than the service's.
    Nonce,
    /// A bit of the Realm token's signature.
    Token,
    /// A platform that claims the identity of another one.
    PlatformKey,
}

/// One launch of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// What is changed, if anything.
    pub tamper: Option<Tamper>,
}

/// How a launch has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Machine code of the refusal; nothing for a release.
    pub code: Option<&'static str>,
    /// The launch segment that differs from the reference, where one does.
    pub segment: Option<&'static str>,
}

impl Scenario {
    /// Every variant, the honest one first.
    pub const ALL: [Self; 7] = [
        Self { tamper: None },
        Self { tamper: Some(Tamper::Kernel) },
        Self { tamper: Some(Tamper::Initrd) },
        Self { tamper: Some(Tamper::Cmdline) },
        Self { tamper: Some(Tamper::Nonce) },
        Self { tamper: Some(Tamper::Token) },
        Self { tamper: Some(Tamper::PlatformKey) },
    ];

    /// Name of its files, and of its test case.
    pub fn name(self) -> &'static str {
        match self.tamper {
            None => "honest",
            Some(Tamper::Kernel) => "kernel",
            Some(Tamper::Initrd) => "initrd",
            Some(Tamper::Cmdline) => "cmdline",
            Some(Tamper::Nonce) => "nonce",
            Some(Tamper::Token) => "token",
            Some(Tamper::PlatformKey) => "platform_key",
        }
    }

    /// How it has to end. Kernel, RAM disk and command line are one measurement: the code is the same, and the launch
    /// log tells which of them differs (the command line is part of the device tree).
    pub fn expected(self) -> Expected {
        let (code, segment) = match self.tamper {
            None => (None, None),
            Some(Tamper::Kernel) => (Some("rim_mismatch"), Some("kernel")),
            Some(Tamper::Initrd) => (Some("rim_mismatch"), Some("initrd")),
            Some(Tamper::Cmdline) => (Some("rim_mismatch"), Some("dtb")),
            Some(Tamper::Nonce) => (Some("nonce_mismatch"), None),
            Some(Tamper::Token) => (Some("realm_signature_invalid"), None),
            Some(Tamper::PlatformKey) => (Some("platform_signature_invalid"), None),
        };
        Expected { code, segment }
    }

    /// Name of its kernel file.
    pub fn kernel(self) -> &'static str {
        if self.tamper == Some(Tamper::Kernel) { "Image.tampered" } else { "Image" }
    }

    /// Name of its initial RAM disk.
    pub fn initrd(self) -> &'static str {
        if self.tamper == Some(Tamper::Initrd) { "initrd.tampered.cpio" } else { "initrd.cpio" }
    }

    /// The VM, with its files under `base` and its socket at `vsock`. The impostor of [`Tamper::PlatformKey`] has a key
    /// of its own and the identity of the platform that the service knows.
    pub fn config(self, base: &Path, vsock: &Path, instance_id: &str) -> Value {
        let cmdline = match self.tamper {
            Some(Tamper::Cmdline) => format!("{CMDLINE} tampered=1"),
            _ => CMDLINE.to_owned(),
        };
        let key = if self.tamper == Some(Tamper::PlatformKey) { "impostor.pem" } else { "platform.pem" };
        let fault = match self.tamper {
            Some(Tamper::Nonce) => json!("challenge"),
            Some(Tamper::Token) => json!("signature"),
            _ => Value::Null,
        };
        json!({
            "payload": {
                "kernel": base.join(self.kernel()),
                "initramfs": base.join(self.initrd()),
                "cmdline": cmdline,
            },
            "cpus": {"boot_vcpus": 2},
            "memory": {"size": 512 << 20},
            "vsock": {"cid": 3, "socket": vsock},
            "realm": {
                "backend": "soft",
                "platform": {"key": base.join(key), "instance_id": instance_id},
                "fault": fault,
            },
        })
    }
}
