//! What is known of one node, for each type of evidence apart: what has passed says nothing about what was not shown.

use std::cmp::max;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Health, Reason, Report};
use crate::model::AttesterType;
use crate::store::State;

/// How much later than announced a report may be, in seconds: networks and restarts take their time.
const GRACE: i64 = 30;

/// What is known of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Row")]
pub struct NodeHealth {
    /// Since when it is as it is, seconds since the Unix epoch.
    pub since: i64,
    /// When it reported last.
    pub reported_at: i64,
    /// How many reports there were.
    pub reports: u64,
    /// By each type of evidence that it has ever shown. Never empty.
    pub evidences: BTreeMap<AttesterType, EvidenceHealth>,
}

/// What is known of a node by one type of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceHealth {
    /// What came of the last of this type.
    pub status: Health,
    /// When that came.
    pub reported_at: i64,
    /// Why it is not accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// How long after it the next one is to come at the latest, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_interval: Option<u32>,
}

impl EvidenceHealth {
    /// When the next of this type is late; never, if none was announced or it is late already.
    #[must_use]
    pub fn deadline(&self) -> Option<i64> {
        let interval = self.report_interval.filter(|_| self.status != Health::Missed)?;
        Some(self.reported_at.saturating_add(interval.into()).saturating_add(GRACE))
    }
}

impl NodeHealth {
    /// What is known after a report that came at `now`. What it was not about stays as it is, and so does an interval
    /// that it does not announce.
    #[must_use]
    pub fn after(before: Option<&Self>, report: &Report, now: i64) -> Self {
        // Another instance's clock may be behind.
        let reported_at = max(now, before.map_or(0, |before| before.reported_at));
        let mut evidences = before.map(|before| before.evidences.clone()).unwrap_or_default();
        for (&kind, verdict) in &report.evidences {
            let announced = evidences.get(&kind).and_then(|known| known.report_interval);
            let health = EvidenceHealth {
                status: verdict.status,
                reported_at,
                reason: verdict.reason.clone(),
                report_interval: report.report_interval.or(announced),
            };
            evidences.insert(kind, health);
        }
        let reports = before.map_or(0, |before| before.reports).saturating_add(1);
        Self { since: now, reported_at, reports, evidences }.unchanged_since(before)
    }

    /// What is known at `now`, when reports that were announced have not come.
    #[must_use]
    pub fn overdue(&self, now: i64) -> Self {
        let mut overdue = Self { since: now, ..self.clone() };
        for (&kind, known) in &mut overdue.evidences {
            if known.deadline().is_none_or(|deadline| deadline >= now) {
                continue;
            }
            let (late, announced) = (now.saturating_sub(known.reported_at), known.report_interval);
            known.status = Health::Missed;
            let detail = format!(
                "the last report came {late} s ago, and the next was announced for {} s after it",
                announced.unwrap_or_default()
            );
            known.reason = Some(Reason::new(Some(kind), "report_missed", &detail, []));
        }
        overdue.unchanged_since(Some(self))
    }

    fn unchanged_since(self, before: Option<&Self>) -> Self {
        match before {
            Some(before) if before.is_like(&self) => Self { since: before.since, ..self },
            _ => self,
        }
    }

    /// Whether the node is as it was, for the same reason.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let code = |health: &Self| health.reason().map(|reason| (reason.attester_type, reason.code.clone()));
        (self.status(), code(self)) == (other.status(), code(other))
    }

    /// How the node is: as the worst that is known of it.
    #[must_use]
    pub fn status(&self) -> Health {
        // Of whom nothing is known, nothing has come.
        self.worst().map_or(Health::Missed, |known| known.status)
    }

    /// Why it is not accepted.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        self.worst()?.reason.as_ref()
    }

    /// Of several that are equally bad, the first.
    fn worst(&self) -> Option<&EvidenceHealth> {
        self.evidences.values().rev().max_by_key(|known| known.status)
    }

    /// When the next report is late.
    #[must_use]
    pub fn deadline(&self) -> Option<i64> {
        self.evidences.values().filter_map(EvidenceHealth::deadline).min()
    }
}

impl State for NodeHealth {
    const KIND: &'static str = "node_health";

    fn due_at(&self) -> Option<i64> {
        self.deadline()
    }
}

/// What is in the database.
#[derive(Deserialize)]
#[serde(untagged)]
enum Row {
    ByType {
        since: i64,
        reported_at: i64,
        reports: u64,
        evidences: BTreeMap<AttesterType, EvidenceHealth>,
    },
    /// As it was written when the last report decided alone.
    OfLastReport {
        status: Health,
        since: i64,
        reported_at: i64,
        reports: u64,
        attester_types: Vec<AttesterType>,
        reason: Option<Reason>,
        report_interval: Option<u32>,
    },
}

impl From<Row> for NodeHealth {
    fn from(row: Row) -> Self {
        match row {
            Row::ByType { since, reported_at, reports, evidences } => {
                Self { since, reported_at, reports, evidences }
            }
            Row::OfLastReport {
                status,
                since,
                reported_at,
                reports,
                attester_types,
                reason,
                report_interval,
            } => {
                let health = EvidenceHealth { status, reported_at, reason, report_interval };
                let evidences = attester_types.into_iter().map(|kind| (kind, health.clone())).collect();
                Self { since, reported_at, reports, evidences }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::model::AttesterType::{TpmBoot, TpmIma};

    fn report(evidences: &[(AttesterType, Health)], report_interval: Option<u32>) -> Report {
        let verdict = |&(kind, status): &(AttesterType, Health)| {
            let reason = (status != Health::Passed).then(|| Reason::new(Some(kind), status.name(), "", []));
            (kind, Verdict { status, reason })
        };
        Report { evidences: evidences.iter().map(verdict).collect(), report_interval }
    }

    #[test]
    fn what_passes_lifts_only_what_it_is_about() {
        for bad in [Health::Failed, Health::Refused] {
            let both = report(&[(TpmBoot, Health::Passed), (TpmIma, bad)], None);
            let before = NodeHealth::after(None, &both, 10);
            let after = NodeHealth::after(Some(&before), &report(&[(TpmBoot, Health::Passed)], None), 20);
            assert_eq!((after.status(), after.since, after.reported_at), (bad, 10, 20));
            assert!(after.evidences.contains_key(&TpmIma) && after.is_like(&before));
            let after = NodeHealth::after(Some(&after), &report(&[(TpmIma, Health::Passed)], None), 30);
            assert_eq!((after.status(), after.since, after.reason()), (Health::Passed, 30, None));
        }
    }

    #[test]
    fn each_type_has_its_own_deadline_and_the_first_of_them_counts() {
        let both = report(&[(TpmBoot, Health::Passed), (TpmIma, Health::Passed)], Some(100));
        let node = NodeHealth::after(None, &both, 0);
        // A report that announces nothing takes back nothing, and one of another type does not come for this one.
        let node = NodeHealth::after(Some(&node), &report(&[(TpmBoot, Health::Passed)], None), 50);
        assert_eq!((node.deadline(), node.evidences[&TpmBoot].deadline()), (Some(130), Some(180)));
        assert_eq!(node.overdue(130), node);
        let late = node.overdue(131);
        assert_eq!((late.status(), late.since, late.deadline()), (Health::Missed, 131, Some(180)));
        assert_eq!(late.reason().unwrap().attester_type, Some(TpmIma));
        let late = NodeHealth::after(Some(&late), &report(&[(TpmBoot, Health::Passed)], Some(10)), 140);
        assert_eq!((late.status(), late.deadline()), (Health::Missed, Some(180)));
        let back = NodeHealth::after(Some(&late), &report(&[(TpmIma, Health::Passed)], None), 150);
        assert_eq!((back.status(), back.evidences[&TpmIma].deadline()), (Health::Passed, Some(280)));
    }

    #[test]
    fn the_worst_decides_and_the_first_of_equals_tells_why() {
        let of = |boot, ima| NodeHealth::after(None, &report(&[(TpmBoot, boot), (TpmIma, ima)], None), 0);
        let told = |node: &NodeHealth| (node.status(), node.reason().and_then(|reason| reason.attester_type));
        assert_eq!(told(&of(Health::Failed, Health::Failed)), (Health::Failed, Some(TpmBoot)));
        assert_eq!(told(&of(Health::Failed, Health::Refused)), (Health::Refused, Some(TpmIma)));
        assert_eq!(told(&of(Health::Passed, Health::Passed)), (Health::Passed, None));
    }

    #[test]
    fn a_clock_that_is_behind_takes_no_time_back() {
        let node = NodeHealth::after(None, &report(&[(TpmBoot, Health::Passed)], Some(10)), 100);
        let again = NodeHealth::after(Some(&node), &report(&[(TpmBoot, Health::Passed)], Some(10)), 90);
        assert_eq!((again.reported_at, again.deadline(), again.reports), (100, Some(140), 2));
    }
}
