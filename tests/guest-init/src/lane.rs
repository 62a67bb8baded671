//! One lane of a test run: the cases of one binary, one after the other. It is a process of its own, so that what its
//! cases leave behind is not taken for what those of another lane are doing.

use std::{
    io::{self, Write},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use guest_init::{
    config::TestBinary,
    report::{Case, Message},
};
use serde::{Deserialize, Serialize};

use crate::process;

/// One binary's cases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// The binary.
    pub binary: TestBinary,
    /// Names of the tests in it that are to run.
    pub tests: Vec<String>,
    /// Seconds that one case may take.
    pub timeout_s: u64,
}

/// What a case is called in the report.
pub fn full_name(binary: &TestBinary, test: &str) -> String {
    format!("{}::{test}", binary.name)
}

/// Runs the cases of the lane in `argument`, and reports on standard output.
pub fn main(argument: &str) -> Result<()> {
    let lane: Lane = serde_json::from_str(argument).context("cannot understand the lane")?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("cannot become the reaper of what tests leave behind")?;
    run(&lane, &mut |message| send(&mut io::stdout(), message)).context("cannot report")
}

/// Runs the cases and gives what is to be reported to `report`.
pub fn run(lane: &Lane, report: &mut dyn FnMut(&Message) -> io::Result<()>) -> io::Result<()> {
    let limit = Duration::from_secs(lane.timeout_s);
    for test in &lane.tests {
        report(&Message::Started { started: full_name(&lane.binary, test) })?;
        report(&Message::Case(run_case(&lane.binary, test, limit)))?;
    }
    Ok(())
}

fn run_case(binary: &TestBinary, test: &str, limit: Duration) -> Case {
    let started = Instant::now();
    let mut command = Command::new(&binary.path);
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    let (ok, output) = match process::run(&mut command, limit) {
        Ok(ended) => match ended.status {
            Some(status) if status.success() && ran_one(&ended.output) => (true, ended.output),
            Some(status) => (false, format!("{}\n[{status}]", ended.output)),
            None => (false, format!("{}\n[killed: no end after {} s]", ended.output, limit.as_secs())),
        },
        Err(error) => (false, format!("cannot run {}: {error}", binary.path.display())),
    };
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Case { case: full_name(binary, test), ok, millis, output }
}

/// A case that was ignored, or whose name matched nothing, also ends with success; it has not passed.
fn ran_one(output: &str) -> bool {
    output
        .lines()
        .rev()
        .find(|line| !line.is_empty())
        .is_some_and(|line| line.starts_with("test result: ok. 1 passed;"))
}

/// Writes one line of the report.
pub fn send(sink: &mut dyn Write, message: &Message) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    sink.write_all(&line)?;
    sink.flush()
}
