//! Unit, integration and documentation tests on this machine.

use std::process::Stdio;

use anyhow::Result;

use super::tally::{Tally, parse_libtest, parse_nextest, run as counted};
use crate::cargo::Workspace;

/// Runs the tests, with nextest where it is installed.
pub fn run(workspace: &Workspace, filter: Option<&str>) -> Result<Tally> {
    let mut tests = workspace.cargo();
    let mut tally = if has_nextest(workspace) {
        counted(
            tests.args(["nextest", "run", "--workspace", "--no-fail-fast", "--no-tests=pass"]).args(filter),
            parse_nextest,
        )?
    } else {
        let targets = ["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"];
        counted(tests.args(targets).args(filter), parse_libtest)?
    };
    let mut documentation = workspace.cargo();
    documentation.args(["test", "--workspace", "--no-fail-fast", "--doc"]).args(filter);
    tally += counted(&mut documentation, parse_libtest)?;
    Ok(tally)
}

fn has_nextest(workspace: &Workspace) -> bool {
    let mut probe = workspace.cargo();
    probe.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}
