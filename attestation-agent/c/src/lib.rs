//! C library of the attestation agent, with the ABI of secGear's `libattestation_agent`.
//!
//! It asks the agent that runs in the same guest, at the address in the environment variable `ATTESTATION_AGENT`
//! (`unix:PATH` or `http://127.0.0.1:PORT`; by default `http://127.0.0.1:8081`), so programs need no rights on devices and
//! take turns at them. Functions with secGear's names take and return what secGear's do; the ones that begin with
//! `redoubt_` take lengths with every pointer and say in words what failed.
//!
//! `unsafe` is at this boundary only: what C passes is read in [`memory`], and panics end in [`guarded`].
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod ask;
mod compatible;
mod memory;
mod safe;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`; a panic, which must not unwind into C, becomes `failure`.
fn guarded<T>(failure: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_does_not_leave_the_library() {
        assert_eq!(guarded(7, || panic!("on purpose")), 7);
        assert_eq!(guarded(7, || 1), 1);
    }
}
