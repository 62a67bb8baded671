//! `cargo xtask dist`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use arm_host::prerequisites;
use sha2::{Digest, Sha256};

use crate::cargo::{ARM, Executable, Workspace};

/// Packages whose programs are shipped.
const SHIPPED: [&str; 6] =
    ["vmm", "cli", "attestation-agent", "attestation-service", "gta-server", "gta-client"];

/// Options of `dist`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Rust target triple of the programs.
    #[arg(long, default_value = ARM)]
    target: String,
}

/// Builds the shipped programs into `target/dist/<triple>`, with a `SHA256SUMS` that `sha256sum --check` reads.
pub fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    prerequisites::ensure_build(&workspace.arm_host_cache())?;
    let mut command = vec!["build", "--profile", "shipped", "--bins", "--target", &arguments.target];
    for package in SHIPPED {
        command.extend(["-p", package]);
    }
    let built = workspace.build(&command)?;
    let directory = workspace.target.join("dist").join(&arguments.target);
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let sums = collect(&built, &directory)?;
    print!("{sums}");
    println!("{}", directory.display());
    Ok(())
}

fn collect(built: &[Executable], directory: &Path) -> Result<String> {
    let mut lines = Vec::new();
    for Executable { name, path, .. } in built {
        let to: PathBuf = directory.join(name);
        fs::copy(path, &to).with_context(|| format!("cannot copy {} to {}", path.display(), to.display()))?;
        let bytes = fs::read(&to).with_context(|| format!("cannot read {}", to.display()))?;
        lines.push(format!("{}  {name}\n", hex::encode(Sha256::digest(bytes))));
    }
    lines.sort();
    let (sums, path) = (lines.concat(), directory.join("SHA256SUMS"));
    fs::write(&path, &sums).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(sums)
}
