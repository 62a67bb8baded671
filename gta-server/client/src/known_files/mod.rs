//! Payloads of reference values, made of what an operator has: file trees, packages, logs, policies of keylime.

mod digests;
mod ima_log;
mod packages;
mod sign;
mod tree;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use evidence::bank::Bank;
use serde_json::{Map, Value, json};
use verifier::tpm::boot_references;

use crate::files;
use digests::Digests;

#[derive(Debug, clap::Args)]
pub struct MakeArgs {
    /// The root of a file system: all regular files in it, by SHA-256
    #[arg(long, value_name = "DIRECTORY")]
    tree: Vec<PathBuf>,
    /// Packages of Debian: all regular files in them, by SHA-256; needs dpkg-deb
    #[arg(long, value_name = "FILE", num_args = 1..)]
    deb: Vec<PathBuf>,
    /// What `rpm -qa --dump` or `rpm -qp --dump PACKAGE` prints; `-` is standard input
    #[arg(long, value_name = "FILE")]
    rpm_dump: Vec<PathBuf>,
    /// An IMA log, binary or ASCII, of a machine that you vouch for
    #[arg(long, value_name = "FILE")]
    ima_log: Vec<PathBuf>,
    /// The boot log (binary_bios_measurements) of a machine that you vouch for; register it with --type tpm_boot
    #[arg(long, value_name = "FILE")]
    boot_log: Option<PathBuf>,
    /// What the kernel of the boot log is called in results
    #[arg(long, value_name = "NAME", default_value = "kernel", requires = "boot_log")]
    kernel: String,
    /// A runtime policy of keylime, which is passed on as it is
    #[arg(long, value_name = "FILE")]
    keylime: Option<PathBuf>,
    /// Paths that are not judged: an absolute path, a directory and /*, or regex: and an expression
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// A keyring, or another buffer, that is not judged
    #[arg(long, value_name = "NAME")]
    ignore_buffer: Vec<String>,
    /// The public key (PEM) of somebody whose signed files are known
    #[arg(long, value_name = "FILE")]
    signer: Vec<PathBuf>,
    /// The private key (PEM, PKCS #8) of a registered signer; without it, the payload is printed unsigned
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Where to write; absent is standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Makes a payload, and signs it.
pub fn make(args: &MakeArgs) -> anyhow::Result<()> {
    let payload = payload(args)?;
    let text = match &args.key {
        Some(key) => sign::jwt(&files::text("--key", key)?, &payload)?,
        None => serde_json::to_string_pretty(&payload)?,
    };
    match &args.out {
        Some(path) => fs::write(path, text + "\n").with_context(|| format!("--out {}", path.display())),
        None => {
            println!("{text}");
            Ok(())
        }
    }
}

fn payload(args: &MakeArgs) -> anyhow::Result<Value> {
    let mut known = Digests::default();
    for root in &args.tree {
        tree::add(root, &mut known).with_context(|| format!("--tree {}", root.display()))?;
    }
    for package in &args.deb {
        packages::add_deb(package, &mut known).with_context(|| format!("--deb {}", package.display()))?;
    }
    for list in &args.rpm_dump {
        let text = files::text("--rpm-dump", list)?;
        packages::add_rpm_dump(&text, &mut known)
            .with_context(|| format!("--rpm-dump {}", list.display()))?;
    }
    for log in &args.ima_log {
        let bytes = files::bytes("--ima-log", log)?;
        ima_log::add(&bytes, &mut known).with_context(|| format!("--ima-log {}", log.display()))?;
    }
    let signers =
        args.signer.iter().map(|path| files::text("--signer", path)).collect::<Result<Vec<_>, _>>()?;
    let mut ima = Map::new();
    for (member, value, given) in [
        ("files", known.to_json(), !known.is_empty()),
        ("exclude", json!(args.exclude), !args.exclude.is_empty()),
        ("ignored_buffers", json!(args.ignore_buffer), !args.ignore_buffer.is_empty()),
        ("signers", json!(signers), !signers.is_empty()),
    ] {
        if given {
            ima.insert(member.to_owned(), value);
        }
    }
    let mut payload = Map::new();
    if !ima.is_empty() {
        payload.insert("ima".to_owned(), Value::Object(ima));
    }
    if let Some(path) = &args.boot_log {
        let log = files::bytes("--boot-log", path)?;
        let boot = boot_references(&log, Bank::Sha256, &args.kernel)
            .with_context(|| format!("--boot-log {}", path.display()))?;
        payload.insert("boot".to_owned(), serde_json::to_value(boot)?);
    }
    if let Some(path) = &args.keylime {
        let policy = serde_json::from_str(&files::text("--keylime", path)?)
            .with_context(|| format!("--keylime {}: not JSON", path.display()))?;
        payload.insert("runtimePolicy".to_owned(), policy);
    }
    if payload.is_empty() {
        bail!(
            "nothing is known: give --tree, --deb, --rpm-dump, --ima-log, --boot-log, --keylime or --signer, with something in it"
        );
    }
    Ok(Value::Object(payload))
}
