//! Formatting and lints.

use anyhow::{Context, Result};

use super::{Plan, tally::Tally};
use crate::cargo::{ARM, Workspace, words};

/// Packages with code that only an arm64 build sees.
const ARM_PACKAGES: [&str; 6] = ["hypervisor", "realm", "sandbox", "vmm", "system-tests", "guest-init"];

/// Packages that are workspaces of their own, and the target for which they are checked.
const APART: [(&str, Option<&str>); 2] =
    [("tests/mini-guest", Some("aarch64-unknown-none")), (C_HEADER, None)];

/// The program that writes the header of the C library, and compares it.
const C_HEADER: &str = "attestation-agent/c/header";

/// Checks formatting and lints of everything; each that fails counts as one failure.
pub fn run(workspace: &Workspace, _plan: &Plan<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut check = |directory: &str, arguments: &[&str]| -> Result<()> {
        let mut command = workspace.cargo();
        command.current_dir(workspace.root.join(directory)).args(arguments);
        let line = words(&command);
        eprintln!(
            "+ {line}{}",
            if directory.is_empty() { String::new() } else { format!(" (in {directory})") }
        );
        tally += Tally::step(command.status().with_context(|| format!("cannot start `{line}`"))?);
        Ok(())
    };
    let arm: Vec<&str> = ARM_PACKAGES.iter().flat_map(|package| ["-p", package]).collect();
    check("", &["fmt", "--check"])?;
    let fuzz_targets = ["--features", "redoubt-fuzz/libfuzzer"];
    let everything = [&["clippy", "--workspace", "--all-targets"], fuzz_targets.as_slice()].concat();
    check("", &[everything.as_slice(), &["--", "-D", "warnings"]].concat())?;
    check(
        "",
        &[&["clippy", "--all-targets", "--target", ARM], arm.as_slice(), &["--", "-D", "warnings"]].concat(),
    )?;
    for (directory, target) in APART {
        let target_directory = workspace.target.join(directory.rsplit('/').next().unwrap_or_default());
        let target_directory = target_directory.to_string_lossy();
        let target = target.map(|target| vec!["--target", target]).unwrap_or_default();
        check(directory, &["fmt", "--check"])?;
        let arguments =
            [&["clippy", "--target-dir", &target_directory], target.as_slice(), &["--", "-D", "warnings"]]
                .concat();
        check(directory, &arguments)?;
    }
    let target_directory = workspace.target.join("header");
    let target_directory = target_directory.to_string_lossy();
    check(C_HEADER, &["run", "--quiet", "--target-dir", &target_directory, "--", "--check"])?;
    Ok(tally)
}
