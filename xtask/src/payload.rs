//! What the Arm host is given: our programs, and the guests that tests start in it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use arm_host::{
    image::{Asset, Image, Payload},
    packages::Packages,
    prerequisites,
};
use guest_init::config::Job;

use crate::cargo::{ARM, Executable, Workspace, named};

const PROGRAMS: [&str; 4] = ["vmm", "cli", "attestation-agent", "guest-init"];

/// Builds our programs for arm64 and gives the payload without guests.
pub fn programs(workspace: &Workspace) -> Result<Payload> {
    let built = workspace.build(&build("release", &PROGRAMS))?;
    let mut payload = with_vmm(&built)?;
    let (agent, cli) = (named(&built, "attestation-agent")?, named(&built, "redoubt")?);
    let asset = Asset { variable: "REDOUBT_CLI", path: "/bin/redoubt".into(), source: cli.clone() };
    payload.assets.push(asset);
    payload.programs.extend([agent, cli]);
    Ok(payload)
}

/// Builds what [`programs`] needs, in the background.
pub fn programs_ahead(workspace: &Workspace) {
    workspace.build_ahead(&build("release", &PROGRAMS));
}

/// Builds only what a VM needs, as it is shipped.
pub fn shipped_vmm(workspace: &Workspace) -> Result<Payload> {
    with_vmm(&workspace.build(&build("shipped", &["vmm", "guest-init"]))?)
}

fn build<'a>(profile: &'a str, packages: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["build", "--profile", profile, "--target", ARM, "--bins"];
    arguments.extend(packages.iter().flat_map(|package| ["-p", package]));
    arguments
}

fn with_vmm(built: &[Executable]) -> Result<Payload> {
    let vmm = named(built, "redoubt-vmm")?;
    let asset = Asset { variable: "REDOUBT_VMM", path: "/bin/redoubt-vmm".into(), source: vmm.clone() };
    Ok(Payload { init: named(built, "guest-init")?, programs: vec![vmm], assets: vec![asset] })
}

/// Adds the guests: a stock kernel with an initramfs, and the bare-metal mini guest.
pub fn add_guests(workspace: &Workspace, packages: &Packages, payload: &mut Payload) -> Result<()> {
    let kernel = packages.kernel()?.image;
    require_plain_image(&kernel)?;
    let initrd = guest_initrd(packages, payload, &workspace.arm_host_cache())?;
    let mini_guest = mini_guest(workspace)?;
    let file_system = file_system(&workspace.arm_host_cache())?;
    for (variable, name, source) in [
        ("REDOUBT_GUEST_KERNEL", "vmlinuz", kernel.clone()),
        ("REDOUBT_GUEST_IMAGE", "Image", kernel),
        ("REDOUBT_GUEST_INITRD", "initrd.cpio", initrd),
        ("REDOUBT_MINI_GUEST", "mini-guest.bin", mini_guest),
        ("REDOUBT_EXT4_IMAGE", "empty.ext4", file_system),
    ] {
        payload.assets.push(Asset { variable, path: format!("/guest/{name}"), source });
    }
    Ok(())
}

/// The guest's init prints the kernel's name and powers off; a test that wants another job appends a configuration to
/// the archive.
fn guest_initrd(packages: &Packages, payload: &Payload, cache: &Path) -> Result<PathBuf> {
    let job = Job::Run(["/bin/busybox", "uname", "-a"].map(str::to_owned).into());
    let mut image = Image::for_guest(packages, &payload.init, job)?;
    for program in payload.programs.iter().filter(|path| path.ends_with("attestation-agent")) {
        image.program(program)?;
    }
    let path = cache.join("guest-initrd.cpio");
    image.seal()?.write_to(&path)?;
    Ok(path)
}

/// An empty file system for persistent memory. Blocks as large as pages, so that a guest can map files directly.
fn file_system(cache: &Path) -> Result<PathBuf> {
    let path = cache.join("empty.ext4");
    let _ = fs::remove_file(&path);
    let mke2fs = prerequisites::mke2fs().context("mke2fs is missing; install e2fsprogs")?;
    let made = Command::new(&mke2fs)
        .args(["-q", "-t", "ext4", "-b", "4096", "-J", "size=4"])
        .arg(&path)
        .arg("16M")
        .status()
        .with_context(|| format!("cannot run {}", mke2fs.display()))?;
    if !made.success() {
        bail!("{} could not make {}: {made}", mke2fs.display(), path.display());
    }
    Ok(path)
}

/// Its linker script makes a flat file that starts with an arm64 `Image` header.
fn mini_guest(workspace: &Workspace) -> Result<PathBuf> {
    let built = workspace.build_apart(
        "tests/mini-guest",
        &["build", "--release", "--target", "aarch64-unknown-none"],
        "",
    )?;
    named(&built, "mini-guest")
}

/// Tests of the boot path need to know what they boot: an arm64 `Image`, neither compressed nor an EFI zboot file.
fn require_plain_image(kernel: &Path) -> Result<()> {
    let bytes = fs::read(kernel).with_context(|| format!("cannot read {}", kernel.display()))?;
    if bytes.get(0x38..0x3c) != Some(b"ARM\x64") {
        bail!(
            "{} is not an uncompressed arm64 Image, as Debian's kernel packages have had until now",
            kernel.display()
        );
    }
    Ok(())
}
