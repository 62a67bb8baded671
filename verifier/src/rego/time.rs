//! The interpreter's timer looks at the wall clock: on a busy machine it also stops an evaluation that has hardly had the
//! processor. Such an end says nothing of the policy, so the evaluation is begun anew.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::TIME_LIMIT;

/// How often an evaluation is begun, at most.
const ATTEMPTS: usize = 5;

/// Why an evaluation gave nothing.
pub(super) enum Failure {
    /// The timer stopped it.
    Stopped(String),
    /// It would end like this again.
    Final(String),
}

/// What `evaluate` gives, which is asked again if the timer stopped it before it had half of its time on the processor.
pub(super) fn with_its_share<T>(evaluate: impl Fn() -> Result<T, Failure>) -> Result<T, String> {
    let mut attempt = 1;
    loop {
        let before = processor_time();
        match evaluate() {
            Ok(value) => return Ok(value),
            Err(Failure::Stopped(_))
                if attempt < ATTEMPTS && processor_time().saturating_sub(before) < TIME_LIMIT / 2 =>
            {
                attempt += 1;
            }
            Err(Failure::Stopped(reason) | Failure::Final(reason)) => return Err(reason),
        }
    }
}

/// What this thread has had of the processor.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}
