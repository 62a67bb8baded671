//! What a verification costs, natively: in the verifier, and as a request of the service.

use anyhow::{Context, Result, bail};

use crate::cargo::Workspace;

/// Runs the benchmarks of verifier and service.
pub fn run(workspace: &Workspace) -> Result<()> {
    for package in ["verifier", "attestation-service"] {
        let status =
            workspace.cargo().args(["bench", "-p", package]).status().context("cannot start cargo")?;
        if !status.success() {
            bail!("the benchmark of {package} failed ({status})");
        }
    }
    Ok(())
}
