//! Webhooks: what happens to the nodes of a tenant is posted to where the tenant wants it.
//!
//! - [`target`]: where that may be; [`address`]: which addresses are somebody else's and not of the server's own
//!   network
//! - [`message`]: what is posted, and its signature
//! - [`line`]: the connection
//! - [`postman`]: who brings it, at least once and in order, whichever instance that is
//!
//! Nothing waits in memory: events are in the journal, and of each webhook there is a [`Delivery`], which says up to
//! which one they were taken.

mod address;
mod line;
mod message;
pub mod postman;
pub mod target;

use serde::{Deserialize, Serialize};

use crate::store::State;

pub(crate) use line::authorities;
pub(crate) use message::Secret;

/// Wait after the first failure, in seconds; it doubles.
const FIRST_WAIT: i64 = 10;
const LONGEST_WAIT: i64 = 3600;
/// Doublings after which the wait no longer grows.
const DOUBLINGS: u32 = 9;

/// How far a webhook is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The number of the last event that is done with.
    pub cursor: i64,
    /// How often in a row the receiver has not taken what comes after it.
    pub failures: u32,
    /// Why not, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// When it goes on, or when whoever is at work has given up, seconds since the Unix epoch. Absent if all was
    /// delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<i64>,
}

impl Delivery {
    /// Of a webhook that gets what comes after the event number `cursor`.
    #[must_use]
    pub const fn new(cursor: i64) -> Self {
        Self { cursor, failures: 0, problem: None, next_at: None }
    }

    /// The same, to be gone on with at this time.
    #[must_use]
    pub fn at(self, next_at: i64) -> Self {
        Self { next_at: Some(next_at), ..self }
    }

    /// After a failure at `now`; `random` is a random number.
    #[must_use]
    pub fn failed(self, problem: String, now: i64, random: u64) -> Self {
        let failures = self.failures.saturating_add(1);
        let wait = (FIRST_WAIT << failures.saturating_sub(1).min(DOUBLINGS)).min(LONGEST_WAIT);
        // Half to all of it, so that what has failed together does not come together.
        let span = u64::try_from(wait / 2).unwrap_or(0).saturating_add(1);
        let wait = (wait / 2).saturating_add(i64::try_from(random % span).unwrap_or(0));
        Self { failures, problem: Some(problem), next_at: Some(now.saturating_add(wait)), ..self }
    }
}

impl State for Delivery {
    const KIND: &'static str = "webhook";

    fn due_at(&self) -> Option<i64> {
        self.next_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_make_it_wait_longer_up_to_an_hour() {
        let wait = |failures, random| {
            let before = Delivery { failures, ..Delivery::new(7) };
            let failed = before.failed("no".to_owned(), 1000, random);
            assert_eq!((failed.cursor, failed.failures), (7, failures + 1));
            failed.next_at.unwrap() - 1000
        };
        // The largest remainder that is asked for.
        let longest = |failures| wait(failures, u64::try_from(wait(failures, 0)).unwrap());
        assert_eq!([0, 1, 2, 8, 9, 60, u32::MAX - 1].map(longest), [10, 20, 40, 2560, 3600, 3600, 3600]);
        assert_eq!([0, 1, 60].map(|failures| wait(failures, 0)), [5, 10, 1800]);
    }
}
