//! Step `clock`: a TPM never goes back to an earlier time, so a quote that does is an old one, or another TPM's.

use evidence::tpm::ClockInfo;

use crate::refusal::{Code, Refusal, Step};

/// What has happened since the last quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Time went on: the registers that were quoted then were extended and never reset.
    Running,
    /// The machine was suspended and resumed. Its registers are those from before.
    Resumed,
    /// The machine was started anew: its registers began anew, too.
    Reset,
}

/// Compares two quotes of one attestation key.
///
/// # Errors
/// [`Code::ClockRollback`] if `current` was made before `previous`.
pub fn progress(previous: &ClockInfo, current: &ClockInfo) -> Result<Progress, Refusal> {
    let (resets, restarts) = (
        since(previous.reset_count, current.reset_count),
        since(previous.restart_count, current.restart_count),
    );
    match (resets, restarts) {
        (Some(0), Some(restarts)) => {
            if current.clock < previous.clock {
                return Err(refuse(&format!(
                    "its clock is {} ms, and was {} ms in the last quote",
                    current.clock, previous.clock
                )));
            }
            Ok(if restarts == 0 { Progress::Running } else { Progress::Resumed })
        }
        (Some(0), None) => Err(refuse(&format!(
            "its restartCount is {}, and was {} in the last quote",
            current.restart_count, previous.restart_count
        ))),
        (Some(_), _) => Ok(Progress::Reset),
        (None, _) => Err(refuse(&format!(
            "its resetCount is {}, and was {} in the last quote",
            current.reset_count, previous.reset_count
        ))),
    }
}

/// How far a counter went, if it went on. Of keys outside the endorsement hierarchy a TPM tells counters with a secret
/// constant added (Part 1, 36.7), so that they may wrap around.
fn since(previous: u32, current: u32) -> Option<u32> {
    let steps = current.wrapping_sub(previous);
    (steps <= i32::MAX.unsigned_abs()).then_some(steps)
}

fn refuse(detail: &str) -> Refusal {
    Refusal::new(
        Step::Clock,
        Code::ClockRollback,
        format!("the TPM went back in time: {detail}; enrol the node again if its TPM was cleared"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(reset_count: u32, restart_count: u32, clock: u64) -> ClockInfo {
        ClockInfo { clock, reset_count, restart_count, safe: true }
    }

    #[test]
    fn time_goes_on() {
        let before = at(7, 2, 1000);
        for (now, expected) in [
            (at(7, 2, 1000), Progress::Running),
            (at(7, 2, 1001), Progress::Running),
            (at(7, 3, 1000), Progress::Resumed),
            (at(8, 0, 1000), Progress::Reset),
            // After an unexpected loss of power the clock may lag behind.
            (at(9, 0, 10), Progress::Reset),
        ] {
            assert_eq!(progress(&before, &now), Ok(expected), "{now:?}");
        }
        assert_eq!(progress(&at(u32::MAX, 0, 5), &at(1, 0, 0)), Ok(Progress::Reset));
        assert_eq!(progress(&at(0, u32::MAX, 5), &at(0, 0, 5)), Ok(Progress::Resumed));
    }

    #[test]
    fn time_never_goes_back() {
        let before = at(7, 2, 1000);
        for now in [at(6, 2, 2000), at(7, 1, 2000), at(7, 2, 999), at(7, 3, 999)] {
            assert_eq!(progress(&before, &now).unwrap_err().code, Code::ClockRollback, "{now:?}");
        }
    }
}
