//! The Realm Initial Measurement of a launch, with or without a VM.

use evidence::hash::Digest;
use evidence::rmm::{RealmParams, RecParams, Rim, RmmVersion};
use machine::launch::LaunchPlan;

use crate::Error;

/// Flag of a REC that runs from the start (`RmiRecParams.flags`).
const RUNNABLE: u64 = 1;

/// What is measured besides the content of memory.
#[derive(Clone, Debug)]
pub struct LaunchParameters {
    /// Rules by which the monitor measures.
    pub rmm: RmmVersion,
    /// Parameters with which the Realm is created.
    pub realm: RealmParams,
}

/// Measures `plan` as a monitor does when a Realm is launched from it.
///
/// The order is the one that Realm VMMs agree on: parameters, the state of all RAM (RMM 1.0 only), measured pages
/// ascending by address, then the boot vCPU; the others are not runnable and so not measured.
///
/// # Errors
///
/// [`Error::Measure`] when the plan breaks a rule of the RMM specification.
pub fn measure(plan: &LaunchPlan, parameters: &LaunchParameters) -> Result<Digest, Error> {
    let mut rim = Rim::new(parameters.rmm, &parameters.realm)?;
    if parameters.rmm == RmmVersion::V1_0 {
        for region in plan.ram() {
            rim.init_ripas(region.base, region.end())?;
        }
    }
    for (ipa, page) in plan.pages() {
        rim.data(ipa, page)?;
    }
    let entry = plan.entry();
    rim.rec(&RecParams { flags: RUNNABLE, pc: entry.pc, gprs: entry.gprs });
    Ok(rim.value())
}
