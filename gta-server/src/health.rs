//! How nodes are: what came of their last report, and whether the next one is late. Every change of that is an event.

use std::cmp::max;

use serde::{Deserialize, Serialize};

use crate::model::AttesterType;
use crate::service::Service;
use crate::store::{State, StoreError, Stored};

/// Shortest and longest time between reports that a node may announce, in seconds.
pub const INTERVALS: std::ops::RangeInclusive<u32> = 10..=604_800;
/// How much later than announced a report may be, in seconds: networks and restarts take their time.
const GRACE: i64 = 30;
/// How often a report is tried again that another one of the same node has overtaken.
const TRIES: usize = 3;
/// Who notes that a report is late.
const ACTOR: &str = "service";

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

impl Service {
    /// Notes what a node has reported.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn note_report(&self, tenant: &str, node: &str, report: &Report) -> Result<(), StoreError> {
        self.metrics.report(report.status);
        for _ in 1..TRIES {
            match self.try_note(tenant, node, report).await {
                Err(StoreError::Conflict(_)) => {}
                done => return done,
            }
        }
        self.try_note(tenant, node, report).await
    }

    async fn try_note(&self, tenant: &str, node: &str, report: &Report) -> Result<(), StoreError> {
        let before = self.store.state::<NodeHealth>(tenant, node).await?;
        let now = self.now();
        let known = before.as_ref().map(|stored| &stored.state);
        let same = known.filter(|known| known.status == report.status && known.code() == report.code());
        let health = NodeHealth {
            status: report.status,
            since: same.map_or(now, |known| known.since),
            // Another instance's clock may be behind.
            reported_at: max(now, known.map_or(0, |known| known.reported_at)),
            reports: known.map_or(0, |known| known.reports).saturating_add(1),
            attester_types: report.attester_types.clone(),
            reason: report.reason.clone(),
            report_interval: report.report_interval,
        };
        self.set_health(tenant, node, before.as_ref(), &health, same.is_none(), tenant).await
    }

    /// Notes which reports are late; gives how many.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn note_missed(&self) -> Result<usize, StoreError> {
        let mut missed = 0;
        for (tenant, node, before) in self.store.due_states::<NodeHealth>().await? {
            let known = &before.state;
            let late = self.now().saturating_sub(known.reported_at);
            let health = NodeHealth {
                status: Health::Missed,
                since: self.now(),
                reason: Some(Reason {
                    attester_type: None,
                    code: "report_missed".to_owned(),
                    detail: format!(
                        "the last report came {late} s ago, and the next was announced for {} s after it",
                        known.report_interval.unwrap_or_default()
                    ),
                }),
                ..known.clone()
            };
            match self.set_health(&tenant, &node, Some(&before), &health, true, ACTOR).await {
                Ok(()) => {
                    self.metrics.report(Health::Missed);
                    missed += 1;
                }
                // It has reported in this moment, or another instance was faster.
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(missed)
    }

    async fn set_health(
        &self,
        tenant: &str,
        node: &str,
        before: Option<&Stored<NodeHealth>>,
        health: &NodeHealth,
        changed: bool,
        actor: &str,
    ) -> Result<(), StoreError> {
        if !changed {
            return self.store.set_state(tenant, node, before, health).await;
        }
        let event = Event {
            node_id: node.to_owned(),
            at: health.since,
            status: health.status,
            before: before.map(|before| before.state.status),
            reason: health.reason.clone(),
        };
        let id = hex::encode(self.environment.random::<16>().map_err(|_| StoreError::Key)?);
        let mut change = self.store.change(actor).await?;
        change.set_state(tenant, node, before, health).await?;
        change.add(tenant, &id, &format!("{node}/{id}"), &event).await?;
        change.commit().await
    }
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
