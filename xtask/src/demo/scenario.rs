//! The demo's variants: nothing changed, or one thing changed that somebody must notice.

use std::path::Path;

use clap::ValueEnum as _;
use serde_json::{Value, json};

/// Command line of the demo's guest. All of a Realm's I/O goes through bounce buffers, and by itself Linux reserves so few
/// (1 MiB for each GiB of RAM) that vsock's receive buffers take them all: 16384 slots are 32 MiB.
const CMDLINE: &str = "console=ttyAMA0 quiet panic=-1 swiotlb=16384";

/// Port of the attestation service, as the guest sees it on its host.
pub const SERVICE_PORT: u16 = 8443;

/// The kind of Realm, by the evidence that it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RealmKind {
    /// A software Realm with tokens of Arm CCA.
    Soft,
    /// A software Realm with tokens of virtCCA and a device certificate.
    SoftVirtcca,
}

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
    /// A platform that certifies itself, under the names of the authorities (soft-virtcca).
    DeviceCertificate,
    /// No Platform Token, so that nothing is said of the platform (soft-virtcca).
    PlatformToken,
}

/// One launch of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// The Realm.
    pub realm: RealmKind,
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

impl RealmKind {
    /// The technology whose evidence it gives: in names of files and test cases.
    pub fn technology(self) -> &'static str {
        match self {
            Self::Soft => "cca",
            Self::SoftVirtcca => "virtcca",
        }
    }

    /// Name of the file with the key of the platform that the service trusts.
    pub fn platform_key(self) -> &'static str {
        match self {
            Self::Soft => "cca-platform.pem",
            Self::SoftVirtcca => "virtcca-platform.pem",
        }
    }

    /// Name of the file with the key of another platform.
    pub fn impostor_key(self) -> &'static str {
        match self {
            Self::Soft => "cca-impostor.pem",
            Self::SoftVirtcca => "virtcca-impostor.pem",
        }
    }
}

impl Tamper {
    /// What the demo calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Cmdline => "cmdline",
            Self::Nonce => "nonce",
            Self::Token => "token",
            Self::PlatformKey => "platform_key",
            Self::DeviceCertificate => "device_certificate",
            Self::PlatformToken => "platform_token",
        }
    }

    /// Whether evidence of this kind has such a part.
    pub fn applies_to(self, realm: RealmKind) -> bool {
        realm == RealmKind::SoftVirtcca || !matches!(self, Self::DeviceCertificate | Self::PlatformToken)
    }
}

impl Scenario {
    /// Every variant, of each kind the honest one first.
    pub fn all() -> Vec<Self> {
        let of = |realm: RealmKind| {
            let tampers = Tamper::value_variants().iter().copied().filter(move |it| it.applies_to(realm));
            let tampers = std::iter::once(None).chain(tampers.map(Some));
            tampers.map(move |tamper| Self { realm, tamper })
        };
        RealmKind::value_variants().iter().copied().flat_map(of).collect()
    }

    fn variant(self) -> &'static str {
        self.tamper.map_or("honest", Tamper::name)
    }

    /// Name of its files.
    pub fn name(self) -> String {
        format!("{}_{}", self.realm.technology(), self.variant())
    }

    /// Name of its test case in the player.
    pub fn case(self) -> String {
        format!("{}::{}", self.realm.technology(), self.variant())
    }

    /// How it has to end. Kernel, RAM disk and command line are one measurement: the code is the same, and the launch
    /// log tells which of them differs (the command line is part of the device tree). The device certificate is a file
    /// in the RAM disk.
    pub fn expected(self) -> Expected {
        let (code, segment) = match self.tamper {
            None => (None, None),
            Some(Tamper::Kernel) => (Some("rim_mismatch"), Some("kernel")),
            Some(Tamper::Initrd) => (Some("rim_mismatch"), Some("initrd")),
            Some(Tamper::Cmdline) => (Some("rim_mismatch"), Some("dtb")),
            Some(Tamper::Nonce) => (Some("nonce_mismatch"), None),
            Some(Tamper::Token) if self.realm == RealmKind::Soft => (Some("realm_signature_invalid"), None),
            Some(Tamper::Token) => (Some("cvm_signature_invalid"), None),
            Some(Tamper::PlatformKey) => (Some("platform_signature_invalid"), None),
            Some(Tamper::DeviceCertificate) => (Some("certificate_untrusted"), Some("initrd")),
            Some(Tamper::PlatformToken) => (Some("platform_token_missing"), None),
        };
        Expected { code, segment }
    }

    /// Name of its kernel file.
    pub fn kernel(self) -> &'static str {
        if self.tamper == Some(Tamper::Kernel) { "Image.tampered" } else { "Image" }
    }

    /// Name of its initial RAM disk.
    pub fn initrd(self) -> &'static str {
        match self.tamper {
            Some(Tamper::Initrd) => "initrd.tampered.cpio",
            Some(Tamper::DeviceCertificate) => "initrd.self-certified.cpio",
            _ => "initrd.cpio",
        }
    }

    /// The VM, with its files under `base` and its socket at `vsock`. Impostors have a key of their own and the identity of
    /// the platform that the service knows.
    pub fn config(self, base: &Path, vsock: &Path, instance_id: &str) -> Value {
        let cmdline = match self.tamper {
            Some(Tamper::Cmdline) => format!("{CMDLINE} tampered=1"),
            _ => CMDLINE.to_owned(),
        };
        let key = match self.tamper {
            Some(Tamper::PlatformKey | Tamper::DeviceCertificate) => self.realm.impostor_key(),
            _ => self.realm.platform_key(),
        };
        let fault = match self.tamper {
            Some(Tamper::Nonce) => json!("challenge"),
            Some(Tamper::Token) => json!("signature"),
            Some(Tamper::PlatformToken) => json!("no_platform_token"),
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
