//! How nodes are: what came of their last report, and whether the next one is late. Every change of that is an event.

mod watch;

use serde::{Deserialize, Serialize};

use crate::model::AttesterType;
use crate::store::{Kind, Registered, State};

/// Shortest and longest time between reports that a node may announce, in seconds.
pub const INTERVALS: std::ops::RangeInclusive<u32> = 10..=604_800;
/// How much later than announced a report may be, in seconds: networks and restarts take their time.
const GRACE: i64 = 30;

/// How a node is.
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
}

/// What is known of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHealth {
    /// How it is.
    pub status: Health,
    /// Since when, seconds since the Unix epoch.
    pub since: i64,
    /// When it reported last.
    pub reported_at: i64,
    /// How many reports there were.
    pub reports: u64,
    /// What the last report was about.
    pub attester_types: Vec<AttesterType>,
    /// Why it is not accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// How long after a report the next one is to come at the latest, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_interval: Option<u32>,
}

impl NodeHealth {
    /// When the next report is late; never, if none was announced or it is late already.
    #[must_use]
    pub fn deadline(&self) -> Option<i64> {
        let interval = self.report_interval.filter(|_| self.status != Health::Missed)?;
        Some(self.reported_at.saturating_add(interval.into()).saturating_add(GRACE))
    }
}

impl State for NodeHealth {
    const KIND: &'static str = "node_health";

    fn due_at(&self) -> Option<i64> {
        self.deadline()
    }
}

/// What a node has reported.
#[derive(Clone, Debug)]
pub struct Report {
    /// What came of it.
    pub status: Health,
    /// What it was about.
    pub attester_types: Vec<AttesterType>,
    /// Why it was not accepted.
    pub reason: Option<Reason>,
    /// How long after it the next one is to come at the latest, in seconds.
    pub report_interval: Option<u32>,
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

impl Registered for Event {
    const KIND: Kind = Kind::Event;
}

impl NodeHealth {
    fn code(&self) -> Option<&str> {
        self.reason.as_ref().map(|reason| reason.code.as_str())
    }
}

impl Report {
    fn code(&self) -> Option<&str> {
        self.reason.as_ref().map(|reason| reason.code.as_str())
    }
}
