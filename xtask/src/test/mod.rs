//! `cargo xtask test`.

mod checks;
mod system;
mod tally;
mod unit;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use arm_host::{Host, prerequisites};

use crate::cargo::Workspace;
use tally::Tally;

/// Options of `test`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Run one part only.
    #[arg(long)]
    only: Option<Part>,
    /// Only tests whose name contains this; the checks are left out.
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
}

/// A part of the test run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Formatting and lints.
    Checks,
    /// Unit, integration and documentation tests on this machine.
    Unit,
    /// Tests on the Arm host.
    System,
}

/// What is to be run.
struct Plan<'a> {
    /// Only tests whose name contains this.
    filter: Option<&'a str>,
    /// Whether all parts are run, one after the other.
    whole: bool,
}

type Run = fn(&Workspace, &Plan<'_>) -> Result<Tally>;

const PARTS: [(Part, Run); 3] =
    [(Part::Checks, checks::run), (Part::Unit, unit::run), (Part::System, system::run)];

/// Runs the tests. The last line on standard output is `N passed, N failed`, whatever happens.
pub fn run(arguments: &Arguments) -> ExitCode {
    let mut total = Tally::default();
    let mut times = Vec::new();
    if let Err(error) = run_parts(arguments, &mut total, &mut times) {
        eprintln!("error: {error:#}");
        total.failed += 1;
    }
    if total.passed + total.failed == 0 && arguments.only != Some(Part::Checks) {
        eprintln!("error: no test ran; does --filter name one?");
        total.failed += 1;
    }
    for (part, time) in times {
        eprintln!("{part:?}: {} s", time.as_secs());
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_parts(arguments: &Arguments, total: &mut Tally, times: &mut Vec<(Part, Duration)>) -> Result<()> {
    let workspace = Workspace::find()?;
    prerequisites::ensure(Host::detect(), &workspace.arm_host_cache())?;
    prerequisites::ensure_services(&workspace.arm_host_cache())?;
    // The fuzz targets are linted, too.
    prerequisites::ensure_cxx(&workspace.arm_host_cache())?;
    let plan = Plan { filter: arguments.filter.as_deref(), whole: arguments.only.is_none() };
    for (part, run) in PARTS {
        let named = arguments.only.is_none_or(|only| only == part);
        if !named || (part == Part::Checks && arguments.filter.is_some()) {
            continue;
        }
        let started = Instant::now();
        // One part's failure must not hide the others'.
        match run(&workspace, &plan) {
            Ok(tally) => *total += tally,
            Err(error) => {
                eprintln!("error: {error:#}");
                total.failed += 1;
            }
        }
        times.push((part, started.elapsed()));
    }
    Ok(())
}
