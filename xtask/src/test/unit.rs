//! Unit, integration and documentation tests on this machine.

use std::{process::Stdio, thread};

use anyhow::Result;

use super::{
    Plan, system,
    tally::{Tally, parse_libtest, parse_nextest, run as counted},
};
use crate::cargo::Workspace;

/// What is built for these tests, and run.
const TARGETS: [&str; 4] = ["--workspace", "--lib", "--bins", "--tests"];

/// Runs the tests, with nextest where it is installed. They wait for databases, browsers and timers much of their time:
/// meanwhile the next part is built.
pub fn run(workspace: &Workspace, plan: &Plan<'_>) -> Result<Tally> {
    workspace.build(&[&["test", "--no-run"], TARGETS.as_slice()].concat())?;
    thread::scope(|scope| {
        if plan.whole {
            scope.spawn(|| system::build_ahead(workspace));
        }
        run_built(workspace, plan.filter)
    })
}

fn run_built(workspace: &Workspace, filter: Option<&str>) -> Result<Tally> {
    let mut tests = workspace.cargo();
    let mut tally = if has_nextest(workspace) {
        counted(
            tests.args(["nextest", "run", "--workspace", "--no-fail-fast", "--no-tests=pass"]).args(filter),
            parse_nextest,
        )?
    } else {
        counted(tests.args(["test", "--no-fail-fast"]).args(TARGETS).args(filter), parse_libtest)?
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
