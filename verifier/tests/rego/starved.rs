//! A machine that is too busy to evaluate.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use verifier::rego::{Document, Rego};

/// Makes this test evaluate instead of watching another process do it.
const EVALUATES: &str = "REDOUBT_TEST_EVALUATES";

#[test]
fn an_evaluation_that_has_not_had_the_processor_is_begun_anew() {
    if env::var_os(EVALUATES).is_some() {
        return evaluate();
    }
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "starved::an_evaluation_that_has_not_had_the_processor_is_begun_anew",
            "--nocapture",
        ])
        .env(EVALUATES, "yes")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("evaluates")));
    let pid = Pid::from_child(&child);
    // It is in an evaluation at nearly every moment.
    for _ in 0..4 {
        kill_process(pid, Signal::STOP).unwrap();
        sleep(Duration::from_millis(300));
        kill_process(pid, Signal::CONT).unwrap();
        sleep(Duration::from_millis(100));
    }
    let refused: Vec<String> =
        lines.map(|line| line.unwrap()).filter(|line| line.contains("refused")).collect();
    assert_eq!(refused, [""; 0]);
    assert!(child.wait().unwrap().success());
}

/// Evaluates a policy again and again, for longer than the other process stops this one. It takes few milliseconds, so that
/// nothing but being stopped is in its way.
fn evaluate() {
    let text = "package attestation
        n := numbers.range(1, 25)
        output := {\"allow\": count([1 | some a in n; some b in n; a + b < 0]) == 0}";
    let (policy, input) = (Rego::appraisal("test.rego", text).unwrap(), Document::from(json!({})));
    println!("\nevaluates");
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        count += 1;
        if let Err(reason) = policy.evaluate(&input) {
            println!("\nrefused: {reason}");
        }
    }
    println!("\n{count} evaluations");
}
