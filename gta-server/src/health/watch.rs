//! Notes how nodes are, and which of them are late.

use super::{Event, Health, NodeHealth, Report};
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
        if let Some(status) = report.status() {
            self.metrics.report(status);
        }
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
        let health = NodeHealth::after(before.as_ref().map(|stored| &stored.state), report, self.now());
        self.set_health(tenant, node, before.as_ref(), &health, tenant).await
    }

    /// Notes which reports are late; gives of how many nodes.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn note_missed(&self) -> Result<usize, StoreError> {
        let mut missed = 0;
        for (tenant, node, before) in self.store.due_states::<NodeHealth>().await? {
            let health = before.state.overdue(self.now());
            match self.set_health(&tenant, &node, Some(&before), &health, ACTOR).await {
                Ok(()) if health.is_like(&before.state) => {}
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
        actor: &str,
    ) -> Result<(), StoreError> {
        if before.is_some_and(|before| before.state.is_like(health)) {
            return self.store.set_state(tenant, node, before, health).await;
        }
        let event = Event {
            node_id: node.to_owned(),
            at: health.since,
            status: health.status(),
            before: before.map(|before| before.state.status()),
            reason: health.reason().cloned(),
        };
        let id = hex::encode(self.environment.random::<16>().map_err(|_| StoreError::Key)?);
        let mut change = self.store.change(actor).await?;
        change.set_state(tenant, node, before, health).await?;
        change.add(tenant, &id, &format!("{node}/{id}"), &event).await?;
        change.commit().await
    }
}
