//! `cargo xtask arm-host`.

use anyhow::Result;
use arm_host::{Host, packages::Packages, prerequisites};

use crate::{cargo::Workspace, payload};

/// Opens a shell on the Arm host.
pub fn run() -> Result<()> {
    let workspace = Workspace::find()?;
    let (host, cache) = (Host::detect(), workspace.arm_host_cache());
    prerequisites::ensure(host, &cache)?;
    let packages = Packages::fetch(&cache)?;
    let mut payload = payload::programs(&workspace)?;
    payload::add_guests(&workspace, &packages, &mut payload)?;
    if host == Host::Emulated {
        eprintln!("Starting the emulated Arm host; `exit` or Ctrl-A X leaves it. Guests are in /guest.");
    }
    host.shell(&packages, &payload, &cache.join("shell"))?;
    Ok(())
}
