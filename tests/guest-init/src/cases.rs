//! Runs Rust test binaries and reports each case as it ends. Cases of one binary run one after the other; several
//! binaries run side by side.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use guest_init::{
    config::{Config, Job, TestBinary, Tests},
    report::{Case, Message},
};

use crate::{
    lane::{Lane, full_name, send},
    process, read_config, relay,
};

/// Runs the tests that the configuration file describes; fails when a case failed.
pub fn run(config: &str) -> Result<()> {
    let Config { job, relays, .. } = read_config(config)?;
    let Job::Tests(tests) = job else { bail!("{config}: the job is not `tests`") };
    relay::start_all(&relays)?;
    let mut sink: Box<dyn Write + Send> = match &tests.report_port {
        Some(name) => Box::new(open_port(name)?),
        None => Box::new(io::stdout()),
    };
    let failed = run_all(&tests, &mut sink, &run_apart).context("cannot report")?;
    if failed > 0 {
        bail!("{failed} cases failed");
    }
    Ok(())
}

/// Runs one binary's cases and gives each of its messages to the second argument.
type RunLane = dyn Fn(&Lane, &mut dyn FnMut(&Message) -> io::Result<()>) -> io::Result<()> + Sync;

fn run_all(tests: &Tests, sink: &mut (dyn Write + Send), run_lane: &RunLane) -> io::Result<usize> {
    let (planned, unlisted) = plan(tests);
    let names = planned
        .iter()
        .flat_map(|lane| lane.tests.iter().map(|test| full_name(&lane.binary, test)))
        .chain(unlisted.iter().map(|case| case.case.clone()));
    send(sink, &Message::Plan { plan: names.collect() })?;
    let planned_cases: usize = planned.iter().map(|lane| lane.tests.len()).sum();
    let mut failed = unlisted.len();
    for case in unlisted {
        send(sink, &Message::Case(case))?;
    }
    let (waiting, report) = (Mutex::new(planned.into_iter()), Mutex::new((sink, 0)));
    let work = || -> io::Result<()> {
        loop {
            let Some(lane) = waiting.lock().unwrap_or_else(PoisonError::into_inner).next() else {
                return Ok(());
            };
            run_lane(&lane, &mut |message| {
                let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                let (sink, passed) = &mut *report;
                *passed += usize::from(matches!(message, Message::Case(case) if case.ok));
                send(sink, message)
            })?;
        }
    };
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..tests.lanes.get()).map(|_| scope.spawn(work)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().map_err(|_| io::Error::other("a lane panicked"))?)
    })?;
    let (_, passed) = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed += planned_cases.saturating_sub(passed);
    Ok(failed)
}

/// Runs a lane in a process of its own. A case that the process does not report has failed; whoever reads the report
/// sees that it is missing.
fn run_apart(lane: &Lane, report: &mut dyn FnMut(&Message) -> io::Result<()>) -> io::Result<()> {
    let mut process = Command::new(std::env::current_exe()?)
        .arg("--run-lane")
        .arg(serde_json::to_string(lane)?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(output) = process.stdout.take() {
        for line in BufReader::new(output).lines() {
            if let Ok(message) = serde_json::from_str(&line?) {
                report(&message)?;
            }
        }
    }
    process.wait().map(drop)
}

/// Each binary's cases, and a failed case for each binary that does not tell its own.
fn plan(tests: &Tests) -> (Vec<Lane>, Vec<Case>) {
    let limit = Duration::from_secs(tests.timeout_s);
    let (mut planned, mut unlisted) = (Vec::new(), Vec::new());
    for binary in &tests.binaries {
        match list(binary, limit) {
            Ok(mut names) => {
                if let Some(filter) = &tests.filter {
                    names.retain(|test| full_name(binary, test).contains(filter.as_str()));
                }
                planned.push(Lane { binary: binary.clone(), tests: names, timeout_s: tests.timeout_s });
            }
            Err(error) => unlisted.push(Case {
                case: full_name(binary, "(list of tests)"),
                ok: false,
                millis: 0,
                output: format!("{error:#}"),
            }),
        }
    }
    planned.retain(|lane| !lane.tests.is_empty());
    (planned, unlisted)
}

fn list(binary: &TestBinary, limit: Duration) -> Result<Vec<String>> {
    let mut command = Command::new(&binary.path);
    command.args(["--list", "--format", "terse"]);
    let ended =
        process::run(&mut command, limit).with_context(|| format!("cannot run {}", binary.path.display()))?;
    if !ended.status.is_some_and(|status| status.success()) {
        bail!("{} --list failed: {}", binary.path.display(), ended.output);
    }
    Ok(ended.output.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

fn open_port(name: &str) -> Result<File> {
    let class = "/sys/class/virtio-ports";
    for entry in
        fs::read_dir(class).with_context(|| format!("cannot read {class}: no virtio-serial device"))?
    {
        let entry = entry?;
        if fs::read_to_string(entry.path().join("name")).is_ok_and(|text| text.trim() == name) {
            let device = format!("/dev/{}", entry.file_name().to_string_lossy());
            return File::options()
                .write(true)
                .open(&device)
                .with_context(|| format!("cannot open {device}"));
        }
    }
    bail!("no virtio-serial port is named {name}")
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, os::unix::fs::PermissionsExt, path::Path};

    use super::*;

    const ONE: NonZeroUsize = NonZeroUsize::MIN;

    /// A stand-in for a test binary: `good` passes, `bad` fails, `skipped` is an ignored test, `slow` never ends.
    fn fake_binary(directory: &Path) -> TestBinary {
        let path = directory.join("fake");
        fs::write(
            &path,
            "#!/bin/sh\n\
             [ \"$1\" = --list ] && { for t in good bad skipped slow; do echo $t: test; done; echo x: benchmark; exit; }\n\
             case $2 in\n\
             good) echo 'test result: ok. 1 passed; 0 failed; 0 ignored';;\n\
             bad) echo 'assertion failed'; exit 101;;\n\
             skipped) echo 'test result: ok. 0 passed; 0 failed; 1 ignored';;\n\
             slow) sleep 1000;;\n\
             esac\n",
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        TestBinary { name: "fake".into(), path }
    }

    fn tests(binaries: Vec<TestBinary>, timeout_s: u64, filter: Option<&str>) -> Tests {
        Tests { binaries, lanes: ONE, timeout_s, filter: filter.map(Into::into), report_port: None }
    }

    fn report(tests: &Tests) -> Vec<Message> {
        let mut sink = Vec::new();
        run_all(tests, &mut sink, &crate::lane::run).unwrap();
        String::from_utf8(sink).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn reports_each_case_and_counts_an_ignored_one_as_failed() {
        let directory = tempfile::tempdir().unwrap();
        let binaries = vec![fake_binary(directory.path())];
        let messages = report(&tests(binaries, 1, None));
        let Message::Plan { plan } = &messages[0] else { panic!("the first line is the plan") };
        assert_eq!(plan, &["fake::good", "fake::bad", "fake::skipped", "fake::slow"]);
        let outcomes: Vec<_> = messages
            .iter()
            .filter_map(|message| match message {
                Message::Case(case) => Some((case.case.as_str(), case.ok)),
                _ => None,
            })
            .collect();
        assert_eq!(
            outcomes,
            [("fake::good", true), ("fake::bad", false), ("fake::skipped", false), ("fake::slow", false)]
        );
    }

    #[test]
    fn a_binary_that_cannot_be_listed_is_a_failed_case() {
        let binaries = vec![TestBinary { name: "gone".into(), path: "/nonexistent".into() }];
        let messages = report(&tests(binaries, 1, Some("other")));
        assert!(
            matches!(&messages[1], Message::Case(case) if !case.ok && case.case == "gone::(list of tests)")
        );
    }

    #[test]
    fn lanes_run_side_by_side() {
        let directory = tempfile::tempdir().unwrap();
        let meets = |mine: &str, other: &str| {
            let path = directory.path().join(mine);
            let (here, there) =
                (path.with_extension("here"), directory.path().join(other).with_extension("here"));
            let script = format!(
                "#!/bin/sh\ncase \"$*\" in --list*) echo meets: test; exit;; esac\ntouch {}\n\
                 until [ -e {} ]; do sleep 0.05; done\necho 'test result: ok. 1 passed; 0 failed'\n",
                here.display(),
                there.display()
            );
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            TestBinary { name: mine.into(), path }
        };
        let binaries = vec![meets("a", "b"), meets("b", "a")];
        let lanes = NonZeroUsize::new(2).unwrap();
        let messages = report(&Tests { lanes, ..tests(binaries, 20, None) });
        let passed = messages.iter().filter(|message| matches!(message, Message::Case(case) if case.ok));
        assert_eq!(passed.count(), 2, "{messages:?}");
    }

    #[test]
    fn runs_only_what_the_filter_names() {
        let directory = tempfile::tempdir().unwrap();
        let binaries = vec![fake_binary(directory.path())];
        let messages = report(&tests(binaries, 5, Some("::good")));
        assert_eq!(messages[0], Message::Plan { plan: vec!["fake::good".into()] });
    }
}
