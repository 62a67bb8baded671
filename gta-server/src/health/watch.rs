//! Notes how nodes are, and which of them are late.

use std::cmp::max;

use super::{Event, Health, NodeHealth, Reason, Report};
use crate::service::Service;
use crate::store::{StoreError, Stored};

/// How often a report is tried again that another one of the same node has overtaken.
const TRIES: usize = 3;
/// Who notes that a report is late.
const ACTOR: &str = "service";

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
