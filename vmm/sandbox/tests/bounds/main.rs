//! Bounds, as the kernel enforces them.
//!
//! What one test gives up the next would lack, and most bounds want a process that has one thread. So each test runs
//! in a process of its own: this program, started again with the name of the test in its environment.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod filters;
mod landlock;
mod process;

use std::env;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

const CASE: &str = "SANDBOX_TEST_CASE";
const DIRECTORY: &str = "SANDBOX_TEST_DIRECTORY";

/// A test.
struct Case {
    name: String,
    /// Given an empty directory, which the parent removes: the process may have lost the right to.
    body: Box<dyn Fn(&Path)>,
    expected: End,
}

/// How the process of a test must end.
#[derive(Clone, Copy)]
enum End {
    /// All that it checked held.
    Success,
    /// The kernel ended it for a system call.
    Killed,
}

impl Case {
    fn holds(name: &str, body: impl Fn(&Path) + 'static) -> Self {
        Self { name: name.into(), body: Box::new(body), expected: End::Success }
    }

    fn is_killed(name: &str, body: impl Fn(&Path) + 'static) -> Self {
        Self { name: name.into(), body: Box::new(body), expected: End::Killed }
    }
}

fn main() -> ExitCode {
    let cases = [filters::cases(), landlock::cases(), process::cases()].into_iter().flatten();
    if let Ok(wanted) = env::var(CASE) {
        let case = { cases }.find(|case| case.name == wanted).unwrap();
        (case.body)(Path::new(&env::var_os(DIRECTORY).unwrap()));
        return ExitCode::SUCCESS;
    }
    let trials = cases.map(|Case { name, expected, .. }| {
        let case = name.clone();
        Trial::test(name, move || run(&case, expected))
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn run(case: &str, expected: End) -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let mut command = Command::new(env::current_exe()?);
    let output = command.env(CASE, case).env(DIRECTORY, directory.path()).output()?;
    let (expectation, holds) = match expected {
        End::Success => ("success", output.status.success()),
        End::Killed => ("an end by SIGSYS", output.status.signal() == Some(libc::SIGSYS)),
    };
    if holds {
        return Ok(());
    }
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat();
    Err(format!("expected {expectation}, found {}:\n{text}", output.status).into())
}
