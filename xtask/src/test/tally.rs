//! Counts of passed and failed tests, and how they are read from other tools' output.

use std::{
    io::{self, IsTerminal, Read, Write},
    ops::AddAssign,
    process::{Command, ExitStatus, Stdio},
    thread,
};

use anyhow::{Context, Result};

use crate::cargo::words;

/// How many tests passed and failed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl Tally {
    /// A step that either went well or counts as one failure; its success is not a test.
    pub fn step(status: ExitStatus) -> Self {
        Self { passed: 0, failed: u64::from(!status.success()) }
    }
}

/// Runs a test tool, its output shown as it comes, and reads the counts from it. A failure that it did not count (of the
/// build, say) counts as one.
pub fn run(command: &mut Command, parse: fn(&str) -> Tally) -> Result<Tally> {
    let line = words(command);
    eprintln!("+ {line}");
    if io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let text = thread::scope(|scope| {
        let error = scope.spawn(|| stderr.map(|from| forward(from, io::stderr())).unwrap_or_default());
        let mut text = stdout.map(|from| forward(from, io::stdout())).unwrap_or_default();
        text.push('\n');
        text.push_str(&error.join().unwrap_or_default());
        text
    });
    let status = child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
    let mut tally = parse(&console::strip_ansi_codes(&text));
    if !status.success() && tally.failed == 0 {
        eprintln!("error: `{line}` failed ({status})");
        tally.failed = 1;
    }
    Ok(tally)
}

fn forward(mut from: impl Read, mut to: impl Write) -> String {
    let (mut all, mut buffer) = (Vec::new(), [0; 8192]);
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let bytes = buffer.get(..length).unwrap_or_default();
        all.extend_from_slice(bytes);
        // What cannot be shown is still counted.
        let _ = to.write_all(bytes).and_then(|()| to.flush());
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Reads nextest's `Summary [ 1.2s] 12 tests run: 11 passed, 1 failed, 0 skipped`.
pub fn parse_nextest(output: &str) -> Tally {
    let summary = output.lines().rev().find(|line| line.trim_start().starts_with("Summary ["));
    let Some((ran, rest)) = summary.and_then(|line| line.split_once(" run: ")) else {
        return Tally::default();
    };
    let ran = number_before(ran, " test").unwrap_or(0);
    let passed = number_before(rest, " passed").unwrap_or(0);
    Tally { passed, failed: ran.saturating_sub(passed) }
}

/// Adds up libtest's `test result: ok. 3 passed; 0 failed; ...` lines.
pub fn parse_libtest(output: &str) -> Tally {
    let mut tally = Tally::default();
    for line in output.lines().filter(|line| line.starts_with("test result: ")) {
        tally.passed += number_before(line, " passed").unwrap_or(0);
        tally.failed += number_before(line, " failed").unwrap_or(0);
    }
    tally
}

/// The number that ends where `marker` begins.
fn number_before(text: &str, marker: &str) -> Option<u64> {
    let (before, _) = text.split_once(marker)?;
    before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_nextest_summaries() {
        let text = "    Starting 3 tests\n     Summary [   0.1s] 213 tests run: 210 passed (1 leaky), 2 failed, 1 timed out, 0 skipped\nx";
        assert_eq!(parse_nextest(text), Tally { passed: 210, failed: 3 });
        assert_eq!(
            parse_nextest("     Summary [   0.1s] 1 test run: 1 passed, 4 skipped\n"),
            Tally { passed: 1, failed: 0 }
        );
        assert_eq!(parse_nextest("error: could not compile"), Tally::default());
        assert_eq!(
            parse_nextest("     Summary [   0.1s] 5/9 tests run: 4 passed, 1 failed, 0 skipped\n"),
            Tally { passed: 4, failed: 5 }
        );
    }

    #[test]
    fn adds_up_libtest_results() {
        let text = "test result: ok. 3 passed; 0 failed; 0 ignored\nx\ntest result: FAILED. 1 passed; 2 failed; 0 ignored\n";
        assert_eq!(parse_libtest(text), Tally { passed: 4, failed: 2 });
    }

    #[test]
    fn a_failure_that_no_test_explains_counts() {
        let tally = run(Command::new("sh").args(["-c", "exit 1"]), |_| Tally { passed: 3, failed: 0 });
        assert_eq!(tally.unwrap(), Tally { passed: 3, failed: 1 });
    }
}
