//! Brings events to webhooks. Every instance looks for what there is to do; who replaces the state of a webhook first
//! does it, and has it for as long as a message takes. If an instance dies, another one goes on from the last event
//! that was noted as taken: what was sent and not noted is sent again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Delivery;
use super::line::Line;
use super::message::{Message, Secret};
use crate::health::Event;
use crate::model::Webhook;
use crate::service::{Service, Shared};
use crate::store::{Direction, Document, Numbered, StoreError, Stored};

/// How often it is looked whether there is something to deliver.
const PAUSE: Duration = Duration::from_secs(1);
/// How often webhooks are looked at whose tenants seem to have nothing new.
const FULL_ROUND: Duration = Duration::from_secs(60);
/// For how long an instance has a webhook to itself without having written that it goes on, in seconds: longer than a
/// message may take.
const LEASE: i64 = 60;
/// Most webhooks at once, of all tenants and of one.
const MAX_RUNS: usize = 32;
const MAX_RUNS_OF_TENANT: usize = 4;
/// How long one goes on before others get their turn.
const TURN: Duration = Duration::from_secs(20);
/// Events that are read at a time.
const PAGE: usize = 100;

/// Whose webhook is being served.
type Served = (String, String);

/// Brings events to webhooks.
pub struct Postman {
    service: Shared,
    stopped: watch::Receiver<bool>,
    running: JoinSet<Served>,
    served: BTreeSet<Served>,
    /// The number of the last event that was looked at, whosever it is.
    seen: i64,
    last_round: Option<Instant>,
}

impl Postman {
    /// One who works until it is `stopped`.
    #[must_use]
    pub fn new(service: Shared, stopped: watch::Receiver<bool>) -> Self {
        let (running, served) = (JoinSet::new(), BTreeSet::new());
        Self { service, stopped, running, served, seen: 0, last_round: None }
    }

    /// Works until it is stopped, and then puts down what it has begun.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = told(&mut self.stopped) => break,
            }
            if let Err(error) = self.look().await {
                tracing::error!(error = &error as &dyn std::error::Error, "webhooks");
            }
        }
        self.finish().await;
    }

    /// Begins with what there is to deliver; gives of how many webhooks.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used, or is not what the service made of it.
    pub async fn look(&mut self) -> Result<usize, StoreError> {
        while let Some(done) = self.running.try_join_next() {
            self.forget(done.ok());
        }
        self.wake().await?;
        let mut began = 0;
        for (tenant, id, due) in self.service.store.due_states::<Delivery>().await? {
            if self.served.len() >= MAX_RUNS {
                break;
            }
            let of_tenant = self.served.iter().filter(|(other, _)| *other == tenant).count();
            let served = (tenant.clone(), id.clone());
            if of_tenant >= MAX_RUNS_OF_TENANT || self.served.contains(&served) {
                continue;
            }
            let mine = due.state.clone().at(self.service.now().saturating_add(LEASE));
            match self.service.store.advance_state(&tenant, &id, &due, mine).await {
                Ok(state) => {
                    let run = Run { service: Arc::clone(&self.service), tenant, id, state };
                    self.running.spawn(run.serve(self.stopped.clone()));
                    self.served.insert(served);
                    began += 1;
                }
                // Another instance was faster.
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(began)
    }

    /// Waits for what was begun.
    pub async fn finish(&mut self) {
        while let Some(done) = self.running.join_next().await {
            self.forget(done.ok());
        }
    }

    fn forget(&mut self, done: Option<Served>) {
        match done {
            Some(served) => drop(self.served.remove(&served)),
            // It has panicked, nobody knows which: what is left is known when none is running.
            None if self.running.is_empty() => self.served.clear(),
            None => {}
        }
    }

    /// Makes webhooks due for which something has happened.
    async fn wake(&mut self) -> Result<(), StoreError> {
        let store = &self.service.store;
        let head = store.last_number::<Event>().await?;
        if self.last_round.is_none_or(|round| round.elapsed() >= FULL_ROUND) {
            let mut mark = (String::new(), String::new());
            loop {
                let page = store.idle_states::<Delivery>(&mark.0, &mark.1).await?;
                let Some((tenant, id, _)) = page.last() else { break };
                mark = (tenant.clone(), id.clone());
                for (tenant, id, idle) in &page {
                    if idle.state.cursor < head && has_more(&self.service, tenant, idle).await? {
                        self.make_due(tenant, id, idle).await?;
                    }
                }
            }
            self.last_round = Some(Instant::now());
        } else if head > self.seen {
            for (tenant, last) in store.changed_after::<Event>(self.seen).await? {
                for (id, state) in store.states::<Delivery>(&tenant).await? {
                    if state.state.next_at.is_none() && state.state.cursor < last {
                        self.make_due(&tenant, &id, &state).await?;
                    }
                }
            }
        }
        self.seen = head;
        Ok(())
    }

    async fn make_due(&self, tenant: &str, id: &str, idle: &Stored<Delivery>) -> Result<(), StoreError> {
        let due = idle.state.clone().at(self.service.now().saturating_sub(1));
        match self.service.store.set_state(tenant, id, Some(idle), &due).await {
            // Another instance has, or is at work already.
            Err(StoreError::Conflict(_)) => Ok(()),
            done => done,
        }
    }
}

/// The turn of one webhook.
struct Run {
    service: Shared,
    tenant: String,
    id: String,
    state: Stored<Delivery>,
}

impl Run {
    async fn serve(mut self, stopped: watch::Receiver<bool>) -> Served {
        match self.deliver(stopped).await {
            Ok(()) => {}
            // It was changed or deleted, or took so long that another instance has taken over.
            Err(StoreError::Conflict(_)) => {
                tracing::debug!(tenant = self.tenant, webhook = self.id, "webhook taken over");
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, tenant = self.tenant, webhook = self.id, "webhook");
            }
        }
        (self.tenant, self.id)
    }

    async fn deliver(&mut self, mut stopped: watch::Receiver<bool>) -> Result<(), StoreError> {
        let store = &self.service.store;
        let Some(webhook) = store.get::<Webhook>(&self.tenant, &self.id).await? else {
            return store.forget_state::<Delivery>(&self.tenant, &self.id).await;
        };
        let context = Webhook::context(&self.tenant, &self.id);
        let secret = Secret::from_bytes(store.keys().open_secret(&context, &webhook.body.secret).await?);
        let Webhook { url, ca, .. } = &webhook.body;
        let settings = &self.service.settings;
        let line = Line::new(url, ca.as_deref(), settings.webhook_allow_private, settings.webhook_timeout);
        let mut line = match line {
            Ok(line) => line,
            Err(error) => return self.fail(error.to_string()).await,
        };
        let begun = Instant::now();
        while let Some(page) = self.next_page().await? {
            for event in page {
                if *stopped.borrow() || begun.elapsed() >= TURN {
                    return self.put_down().await;
                }
                if !wants(&webhook, &event) {
                    self.state.state.cursor = event.seq;
                    continue;
                }
                let message = Message::new(&self.tenant, &event, &secret, self.service.now());
                let sent = tokio::select! {
                    sent = line.send(&message) => sent,
                    () = told(&mut stopped) => return self.put_down().await,
                };
                self.service.metrics.webhook(sent.is_ok());
                match sent {
                    Ok(()) => {
                        self.write(|_, now| Delivery::new(event.seq).at(now.saturating_add(LEASE))).await?;
                    }
                    Err(error) => return self.fail(error.to_string()).await,
                }
            }
        }
        Ok(())
    }

    /// Leaves the rest to whoever looks next.
    async fn put_down(&mut self) -> Result<(), StoreError> {
        self.write(|state, now| state.at(now.saturating_sub(1))).await
    }

    /// The events that come next; `None` if there are none, which is noted.
    async fn next_page(&mut self) -> Result<Option<Vec<Numbered<Event>>>, StoreError> {
        loop {
            let store = &self.service.store;
            // Whoever sees this number sees all events before it.
            let head = store.last_number::<Event>().await?;
            let cursor = self.state.state.cursor;
            let page = store.numbered::<Event>(&self.tenant, cursor, Direction::After, "", PAGE).await?;
            if !page.is_empty() {
                return Ok(Some(page));
            }
            self.write(|_, _| Delivery::new(head.max(cursor))).await?;
            // Who looks for webhooks that have nothing to do may have looked when this one had not yet.
            if !has_more(&self.service, &self.tenant, &self.state).await? {
                return Ok(None);
            }
            self.write(|state, now| state.at(now.saturating_add(LEASE))).await?;
        }
    }

    async fn fail(&mut self, problem: String) -> Result<(), StoreError> {
        tracing::info!(tenant = self.tenant, webhook = self.id, problem, "webhook not delivered");
        let random = self.service.environment.random::<8>().map_err(|_| StoreError::Key)?;
        let random = u64::from_le_bytes(random);
        self.write(|state, now| state.failed(problem, now, random)).await
    }

    /// Replaces the state by what `next` makes of it and the time.
    async fn write(&mut self, next: impl FnOnce(Delivery, i64) -> Delivery) -> Result<(), StoreError> {
        let state = next(self.state.state.clone(), self.service.now());
        self.state = self.service.store.advance_state(&self.tenant, &self.id, &self.state, state).await?;
        Ok(())
    }
}

/// Whether something has happened that a webhook was not told.
async fn has_more(service: &Service, tenant: &str, at: &Stored<Delivery>) -> Result<bool, StoreError> {
    let next = service.store.numbered::<Event>(tenant, at.state.cursor, Direction::After, "", 1).await?;
    Ok(!next.is_empty())
}

async fn told(stopped: &mut watch::Receiver<bool>) {
    // If nobody is left who could tell, it is time to go, too.
    let _ = stopped.wait_for(|stop| *stop).await;
}

fn wants(webhook: &Document<Webhook>, event: &Numbered<Event>) -> bool {
    webhook.body.events.contains(&event.document.body.status)
}
