//! What verifications and requests cost, natively: the benchmarks of packages.

use anyhow::{Context, Result, bail};

use crate::cargo::Workspace;

/// Runs the benchmarks of `packages`.
pub fn run(workspace: &Workspace, packages: &[&str]) -> Result<()> {
    for package in packages {
        let status =
            workspace.cargo().args(["bench", "-p", package]).status().context("cannot start cargo")?;
        if !status.success() {
            bail!("the benchmark of {package} failed ({status})");
        }
    }
    Ok(())
}
