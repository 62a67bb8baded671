//! Gathers the report lines of a run into one outcome per case.

use std::collections::{BTreeMap, BTreeSet};

use guest_init::report::{Case, Message};

/// Collects a report. What was planned and never reported comes out as failed.
#[derive(Debug, Default)]
pub struct Collector {
    plan: Option<Vec<String>>,
    running: BTreeSet<String>,
    cases: BTreeMap<String, Case>,
}

impl Collector {
    /// Takes one line; gives what it says, or nothing for a line that is no report.
    pub fn feed(&mut self, line: &str) -> Option<Message> {
        let message: Message = serde_json::from_str(line).ok()?;
        match &message {
            Message::Plan { plan } => self.plan = Some(plan.clone()),
            Message::Started { started } => {
                self.running.insert(started.clone());
            }
            Message::Case(case) => {
                self.running.remove(&case.case);
                self.cases.insert(case.case.clone(), case.clone());
            }
        }
        Some(message)
    }

    /// Whether every planned case has been reported.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.iter().all(|name| self.cases.contains_key(name)))
    }

    /// The outcome of every planned case; `why` tells why the report ended, for those that it does not contain.
    #[must_use]
    pub fn finish(mut self, why: &str) -> Vec<Case> {
        let lost = |case: String, output: String| Case { case, ok: false, millis: 0, output };
        let Some(plan) = self.plan else {
            return vec![lost("(report)".into(), format!("no report came: {why}"))];
        };
        plan.into_iter()
            .map(|name| {
                let reported = self.cases.remove(&name);
                reported.unwrap_or_else(|| {
                    let when = if self.running.contains(&name) { "while it ran" } else { "before it ran" };
                    lost(name, format!("the report ended {when}: {why}"))
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(lines: &[&str]) -> Collector {
        let mut collector = Collector::default();
        for line in lines {
            collector.feed(line);
        }
        collector
    }

    #[test]
    fn a_case_that_was_never_reported_has_failed() {
        let collector = collect(&[
            r#"{"plan":["t::a","t::b","t::c"]}"#,
            r#"{"case":"t::a","ok":true,"millis":5,"output":""}"#,
            r#"{"started":"t::b"}"#,
        ]);
        assert!(!collector.is_complete());
        let cases = collector.finish("kernel panic");
        assert_eq!(cases.iter().map(|case| case.ok).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(cases[1].output, "the report ended while it ran: kernel panic");
        assert_eq!(cases[2].output, "the report ended before it ran: kernel panic");
    }

    #[test]
    fn no_report_at_all_is_a_failure() {
        let cases = collect(&["garbage", ""]).finish("it did not boot");
        assert_eq!(cases.len(), 1);
        assert!(!cases[0].ok);
    }
}
