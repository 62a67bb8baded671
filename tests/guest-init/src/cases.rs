//! Runs Rust test binaries case by case and reports each as it ends.

use std::{
    fs::{self, File},
    io::{self, Write},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use guest_init::{
    config::{Config, Job, TestBinary, Tests},
    report::{Case, Message},
};

use crate::{process, read_config, relay};

struct Planned<'a> {
    binary: &'a TestBinary,
    test: String,
    full_name: String,
}

/// Runs the tests that the configuration file describes; fails when a case failed.
pub fn run(config: &str) -> Result<()> {
    let Config { job, relays, .. } = read_config(config)?;
    let Job::Tests(tests) = job else { bail!("{config}: the job is not `tests`") };
    relay::start_all(&relays)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("cannot become the reaper of what tests leave behind")?;
    let mut sink: Box<dyn Write> = match &tests.report_port {
        Some(name) => Box::new(open_port(name)?),
        None => Box::new(io::stdout()),
    };
    let failed = run_all(&tests, &mut sink).context("cannot report")?;
    if failed > 0 {
        bail!("{failed} cases failed");
    }
    Ok(())
}

fn run_all(tests: &Tests, sink: &mut dyn Write) -> io::Result<usize> {
    let limit = Duration::from_secs(tests.timeout_s);
    let (planned, unlisted) = plan(tests, limit);
    let plan =
        planned.iter().map(|p| &p.full_name).chain(unlisted.iter().map(|c| &c.case)).cloned().collect();
    send(sink, &Message::Plan { plan })?;
    let mut failed = unlisted.len();
    for case in unlisted {
        send(sink, &Message::Case(case))?;
    }
    for case in planned {
        send(sink, &Message::Started { started: case.full_name.clone() })?;
        let outcome = run_case(&case, limit);
        failed += usize::from(!outcome.ok);
        send(sink, &Message::Case(outcome))?;
    }
    Ok(failed)
}

/// All cases to run, and a failed case for each binary that does not tell its own.
fn plan(tests: &Tests, limit: Duration) -> (Vec<Planned<'_>>, Vec<Case>) {
    let (mut planned, mut unlisted) = (Vec::new(), Vec::new());
    for binary in &tests.binaries {
        match list(binary, limit) {
            Ok(names) => planned.extend(names.into_iter().map(|test| Planned {
                full_name: format!("{}::{test}", binary.name),
                binary,
                test,
            })),
            Err(error) => unlisted.push(Case {
                case: format!("{}::(list of tests)", binary.name),
                ok: false,
                millis: 0,
                output: format!("{error:#}"),
            }),
        }
    }
    if let Some(filter) = &tests.filter {
        planned.retain(|case| case.full_name.contains(filter.as_str()));
    }
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

fn run_case(case: &Planned<'_>, limit: Duration) -> Case {
    let started = Instant::now();
    let mut command = Command::new(&case.binary.path);
    command.args(["--exact", &case.test, "--nocapture", "--test-threads=1"]);
    let (ok, output) = match process::run(&mut command, limit) {
        Ok(ended) => match ended.status {
            Some(status) if status.success() && ran_one(&ended.output) => (true, ended.output),
            Some(status) => (false, format!("{}\n[{status}]", ended.output)),
            None => (false, format!("{}\n[killed: no end after {} s]", ended.output, limit.as_secs())),
        },
        Err(error) => (false, format!("cannot run {}: {error}", case.binary.path.display())),
    };
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Case { case: case.full_name.clone(), ok, millis, output }
}

/// A case that was ignored, or whose name matched nothing, also ends with success; it has not passed.
fn ran_one(output: &str) -> bool {
    output
        .lines()
        .rev()
        .find(|line| !line.is_empty())
        .is_some_and(|line| line.starts_with("test result: ok. 1 passed;"))
}

fn send(sink: &mut dyn Write, message: &Message) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    sink.write_all(&line)?;
    sink.flush()
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
    use std::{os::unix::fs::PermissionsExt, path::Path};

    use super::*;

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

    fn report(tests: &Tests) -> Vec<Message> {
        let mut sink = Vec::new();
        run_all(tests, &mut sink).unwrap();
        String::from_utf8(sink).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn reports_each_case_and_counts_an_ignored_one_as_failed() {
        let directory = tempfile::tempdir().unwrap();
        let binaries = vec![fake_binary(directory.path())];
        let messages = report(&Tests { binaries, timeout_s: 1, filter: None, report_port: None });
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
        let messages =
            report(&Tests { binaries, timeout_s: 1, filter: Some("other".into()), report_port: None });
        assert!(
            matches!(&messages[1], Message::Case(case) if !case.ok && case.case == "gone::(list of tests)")
        );
    }

    #[test]
    fn runs_only_what_the_filter_names() {
        let directory = tempfile::tempdir().unwrap();
        let binaries = vec![fake_binary(directory.path())];
        let messages =
            report(&Tests { binaries, timeout_s: 5, filter: Some("::good".into()), report_port: None });
        assert_eq!(messages[0], Message::Plan { plan: vec!["fake::good".into()] });
    }
}
