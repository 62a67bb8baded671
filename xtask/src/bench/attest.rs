//! What a verification costs, natively.

use anyhow::{Context, Result, bail};

use crate::cargo::Workspace;

/// Runs the verifier's benchmark.
pub fn run(workspace: &Workspace) -> Result<()> {
    let status =
        workspace.cargo().args(["bench", "-p", "verifier"]).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the verifier's benchmark failed ({status})");
    }
    Ok(())
}
