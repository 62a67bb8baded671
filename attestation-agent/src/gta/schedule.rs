//! Attestation again and again: when, so that a fleet does not ask in the same second, and patiently after failures.

use std::time::Duration;

use super::attest::{Attester, Outcome};
use crate::environment::Environment;
use crate::report::chain;
use crate::{Error, Result};

/// Wait after the first failure; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(10);
/// Longest wait after failures, but for an interval that is shorter.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// What the authority takes as an announcement of the next report, in seconds.
const ANNOUNCED: std::ops::RangeInclusive<u64> = 10..=604_800;
/// Doublings after which the wait no longer grows.
const DOUBLINGS: u32 = 5;

/// When to attest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Between two attestations, give or take a tenth.
    pub interval: Duration,
    /// Over which the first is spread.
    pub spread: Duration,
}

impl Schedule {
    /// How long to wait before the first attestation; `random` is a random number.
    fn first(&self, random: u64) -> Duration {
        fraction(self.spread, random)
    }

    /// How long to wait before the next: nine to eleven tenths of the interval.
    fn next(&self, random: u64) -> Duration {
        self.interval.saturating_sub(self.interval / 10) + fraction(self.interval / 5, random)
    }

    /// How long after one attestation the next one comes at the latest, in seconds, as it is announced: it may take
    /// `timeout`, and fail a few times before it succeeds.
    #[must_use]
    pub fn longest_silence(&self, timeout: Duration) -> u32 {
        let retries = LONGEST_WAIT.min(self.interval);
        let longest = self.next(u64::MAX).saturating_add(timeout).saturating_add(retries);
        let seconds = longest.as_secs().saturating_add(u64::from(longest.subsec_nanos() > 0));
        u32::try_from(seconds.clamp(*ANNOUNCED.start(), *ANNOUNCED.end())).unwrap_or(u32::MAX)
    }

    /// How long to wait after so many failures in a row: half to all of 10, 20, 40, .. seconds, at most 300.
    fn after_failure(&self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(DOUBLINGS);
        let wait = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT).min(self.interval);
        wait / 2 + fraction(wait / 2, random)
    }
}

/// `whole` times a random number from 0 to 1.
fn fraction(whole: Duration, random: u64) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "53 bits are random enough")]
    whole.mul_f64(random as f64 / u64::MAX as f64)
}

/// Attests until this is dropped; `report` is told what comes of each attestation.
pub async fn run(
    attester: &Attester,
    schedule: Schedule,
    environment: &dyn Environment,
    report: &mut dyn FnMut(&Result<Outcome>),
) {
    let random = || {
        let mut bytes = [0; 8];
        environment.random(&mut bytes);
        u64::from_le_bytes(bytes)
    };
    let mut failures: u32 = 0;
    let mut wait = schedule.first(random());
    loop {
        tracing::debug!(seconds = wait.as_secs(), "waiting");
        tokio::time::sleep(wait).await;
        let result = attester.enrol_and_attest(None).await;
        report(&result);
        wait = match result {
            Ok(outcome) => {
                failures = 0;
                if !outcome.accepted {
                    tracing::warn!(node_id = outcome.node_id, reasons = ?outcome.reasons, "refused");
                }
                schedule.next(random())
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::warn!(error = chain(&error), failures, "not attested");
                schedule.after_failure(failures, random())
            }
        };
    }
}

/// What a report of a failure says.
#[must_use]
pub fn failure(error: &Error) -> serde_json::Value {
    let code = error.reason().map(|reason| reason.code.as_str());
    serde_json::json!({ "accepted": false, "error": chain(error), "code": code })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule =
        Schedule { interval: Duration::from_secs(1000), spread: Duration::from_secs(60) };

    #[test]
    fn a_fleet_does_not_ask_in_the_same_second() {
        let at = |random| (SCHEDULE.first(random).as_secs(), SCHEDULE.next(random).as_secs());
        assert_eq!(at(0), (0, 900));
        assert_eq!(at(u64::MAX), (60, 1100));
        assert_eq!(at(u64::MAX / 2), (30, 1000));
    }

    #[test]
    fn what_is_announced_leaves_room_for_failures_and_is_what_the_authority_takes() {
        let announced = |millis| {
            let interval = Duration::from_millis(millis);
            Schedule { interval, ..SCHEDULE }.longest_silence(Duration::from_secs(30))
        };
        // 1100 s at the latest, 30 for the exchange, 300 after failures.
        assert_eq!(announced(1_000_000), 1430);
        // 11.1 s, 30 and 10.1, rounded up.
        assert_eq!(announced(10_090), 52);
        assert_eq!(announced(1_000_000_000), 604_800);
        assert_eq!(Schedule { interval: Duration::ZERO, ..SCHEDULE }.longest_silence(Duration::ZERO), 10);
    }

    #[test]
    fn failures_make_it_wait_longer_but_never_longer_than_usual() {
        let longest = |failures| SCHEDULE.after_failure(failures, u64::MAX).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 6, 60].map(longest), [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(SCHEDULE.after_failure(3, 0).as_secs(), 20);
        let short = Schedule { interval: Duration::from_secs(15), ..SCHEDULE };
        assert_eq!(short.after_failure(9, u64::MAX).as_secs(), 15);
    }
}
