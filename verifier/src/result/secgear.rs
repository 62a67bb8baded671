//! secGear's form of a result: `evaluation_reports`, and its names for the kinds of TEE.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::appraisal::Appraisal;

/// How virtCCA is called in results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spelling {
    /// `virtcca`, as secGear writes since 2026.
    #[default]
    Virtcca,
    /// `vcca`, as secGear wrote up to openEuler 25.09.
    Vcca,
}

impl Spelling {
    /// The name for evidence of the kind `tee`.
    #[must_use]
    pub fn name(self, tee: &'static str) -> &'static str {
        match (tee, self) {
            ("virtcca", Self::Vcca) => "vcca",
            (tee, _) => tee,
        }
    }
}

/// secGear's verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationReports {
    /// Whether the evidence was accepted.
    pub eval_result: bool,
    /// The policies that the requester named; empty when only the default one applied.
    pub policy: Vec<String>,
    /// Policy name to its output as JSON text, and the results of the logs: an object of file or component to whether it
    /// was expected, or null where there was no such log.
    pub report: Map<String, Value>,
}

impl EvaluationReports {
    /// The verdict of an appraisal for a requester who named the policies `requested`.
    #[must_use]
    pub fn new(appraisal: &Appraisal, requested: Vec<String>) -> Self {
        let mut report: Map<String, Value> = appraisal
            .policies
            .iter()
            .map(|policy| (policy.id.clone(), json!(policy.output.to_string())))
            .collect();
        let logs = &appraisal.logs;
        let ima = logs.ima.as_ref().map(|ima| Value::Object(ima.secgear()));
        let uefi = logs.boot.as_ref().map(|boot| Value::Object(boot.secgear()));
        for (log, result) in [("ima", ima), ("event", None), ("uefi", uefi)] {
            report.insert(log.to_owned(), result.unwrap_or_default());
        }
        Self { eval_result: true, policy: requested, report }
    }
}
