//! What came of a scenario, held against what had to come of it.

use comfy_table::{Table, presets};
use guest_init::report::Case;
use serde::Deserialize;

use super::scenario::Scenario;
use super::stage::{Measurement, Stage};

/// What the guest's agent reported.
#[derive(Debug, Deserialize)]
struct Report {
    verdict: String,
    code: Option<String>,
    step: Option<String>,
    detail: Option<String>,
    rim: Option<String>,
    #[serde(default)]
    rems: Vec<String>,
    lifecycle: Option<String>,
    secret: Option<String>,
}

/// Prints what happened; whether it is what had to happen.
pub fn show(scenario: Scenario, stage: &Stage, case: &Case) -> bool {
    let title = &scenario.name();
    let Some(report) = report(&case.output) else {
        println!("{title}: the guest did not report\n{}", case.output);
        return false;
    };
    let measured = stage.measured(scenario);
    let differences = measured.differences(&stage.reference);
    println!("{}", table(title, stage, &report, &differences));
    let problems = problems(scenario, stage, measured, &report, &differences);
    for problem in &problems {
        println!("WRONG: {problem}");
    }
    let right = problems.is_empty() && case.ok;
    if !case.ok {
        println!("WRONG: the host's side of the demo failed\n{}", case.output);
    }
    right
}

fn report(output: &str) -> Option<Report> {
    // The test harness has begun the line with the name of the test.
    let line =
        output.lines().find_map(|line| line.split_once("report {").map(|(_, rest)| format!("{{{rest}")))?;
    serde_json::from_str(&line).ok()
}

fn table(title: &str, stage: &Stage, report: &Report, differences: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let mut row = |name: &str, value: &str| {
        table.add_row([name, value]);
    };
    row("scenario", title);
    row("expected RIM", &stage.reference.rim);
    row("attested RIM", report.rim.as_deref().unwrap_or("-"));
    for (index, rem) in report.rems.iter().enumerate() {
        row(&format!("REM[{index}]"), rem);
    }
    row("lifecycle", report.lifecycle.as_deref().unwrap_or("-"));
    let verdict = match (&report.code, &report.step) {
        (Some(code), Some(step)) => format!("{}: {code} (step {step})", report.verdict),
        (Some(code), None) => format!("{}: {code}", report.verdict),
        _ => report.verdict.clone(),
    };
    row("policy verdict", &verdict);
    if let Some(detail) = &report.detail {
        row("why", detail);
    }
    if !differences.is_empty() {
        row("differs in", &differences.join(", "));
    }
    row("secret released", report.secret.as_deref().unwrap_or("no"));
    table
}

fn problems(
    scenario: Scenario,
    stage: &Stage,
    measured: &Measurement,
    report: &Report,
    differences: &[&str],
) -> Vec<String> {
    let mut problems = Vec::new();
    let mut must = |holds: bool, problem: String| {
        if !holds {
            problems.push(problem);
        }
    };
    let expected = scenario.expected();
    must(
        report.rim.as_ref() == Some(&measured.rim),
        format!("the attested RIM is not the one computed offline, {}", measured.rim),
    );
    let segments: Vec<&str> = expected.segment.into_iter().collect();
    must(differences == segments, format!("the launch differs in {differences:?}, not in {segments:?}"));
    match expected.code {
        None => {
            must(report.verdict == "affirming", "the service did not affirm".into());
            must(report.secret.as_ref() == Some(&stage.secret), "the guest did not get the secret".into());
        }
        Some(code) => {
            must(report.verdict == "refused", "the service did not refuse".into());
            must(report.code.as_deref() == Some(code), format!("the reason is not {code}"));
            must(report.secret.is_none(), "the guest got the secret".into());
        }
    }
    problems
}
