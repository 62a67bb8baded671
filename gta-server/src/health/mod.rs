//! How nodes are: what came of their last report, and whether the next one is late. Every change of that is an event.

mod node;
mod watch;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use verifier::Subject;

use crate::json::with;
use crate::model::AttesterType;
use crate::store::{Kind, Registered};

pub use node::{EvidenceHealth, NodeHealth};

/// Shortest and longest time between reports that a node may announce, in seconds.
pub const INTERVALS: std::ops::RangeInclusive<u32> = 10..=604_800;

/// How a node is, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// The last report was accepted.
    Passed,
    /// The last report was true and not accepted.
    Failed,
    /// The last report may be untrue.
    Refused,
    /// A report that was announced did not come.
    Missed,
}

impl Health {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Passed, Self::Failed, Self::Refused, Self::Missed];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Missed => "missed",
        }
    }
}

/// Why a report was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The evidence that it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attester_type: Option<AttesterType>,
    /// The machine code.
    pub code: String,
    /// In words.
    pub detail: String,
    /// What it points at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// Something that a reason points at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    /// A policy that did not accept the evidence.
    Policy {
        /// Its id; `default` for the built-in one.
        id: String,
        /// Its name then.
        name: String,
        /// Its version then.
        version: i64,
        /// The lines at which its rules stopped, from 1, those of `result` first.
        lines: Vec<u32>,
    },
    /// Something in the evidence: a register, an event of the boot, a file.
    #[serde(untagged)]
    Evidence(Subject),
}

impl Reason {
    /// Longest words, in characters: they are kept with every node and in every event, and a machine can choose them.
    const MAX_DETAIL: usize = 1024;
    /// Most findings.
    const MAX_FINDINGS: usize = 32;

    /// A reason, with as much of its words and findings as is kept.
    #[must_use]
    pub fn new(
        attester_type: Option<AttesterType>,
        code: &str,
        detail: &str,
        findings: impl IntoIterator<Item = Finding>,
    ) -> Self {
        Self {
            attester_type,
            code: code.to_owned(),
            detail: detail.chars().take(Self::MAX_DETAIL).collect(),
            findings: findings.into_iter().take(Self::MAX_FINDINGS).collect(),
        }
    }
}

/// What a node has reported: by type of evidence what came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Of each piece of evidence.
    pub evidences: BTreeMap<AttesterType, Verdict>,
    /// How long after it the next one is to come at the latest, in seconds; absent leaves what was announced before.
    pub report_interval: Option<u32>,
}

/// What came of a piece of evidence.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Whether it was accepted.
    pub status: Health,
    /// Why not.
    pub reason: Option<Reason>,
}

impl Verdict {
    /// On evidence that is true, which is not accepted if there is a reason.
    #[must_use]
    pub fn of(reason: Option<Reason>) -> Self {
        Self { status: if reason.is_none() { Health::Passed } else { Health::Failed }, reason }
    }
}

impl Report {
    /// The worst of it.
    #[must_use]
    pub fn status(&self) -> Option<Health> {
        self.evidences.values().map(|verdict| verdict.status).max()
    }
}

/// A change of how a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The node.
    pub node_id: String,
    /// When, seconds since the Unix epoch.
    pub at: i64,
    /// How it is now.
    pub status: Health,
    /// How it was before; absent if it had never reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Health>,
    /// Why it is not accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

impl Event {
    /// As clients see it, with the number by which they name it.
    pub(crate) fn shown(&self, seq: i64) -> Value {
        with(json!(self), "seq", seq)
    }
}

impl Registered for Event {
    const KIND: Kind = Kind::Event;
}
