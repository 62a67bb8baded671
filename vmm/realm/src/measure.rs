//! The initial measurement of a launch, with or without a VM.

use evidence::hash::Digest;
use evidence::rmm::{RealmParams, RecParams, Rim, RmmVersion};
use evidence::tmm::{CvmParams, CvmRim, TecParams};
use machine::launch::LaunchPlan;

use crate::Error;

/// Flag of a vCPU that runs from the start (`RmiRecParams.flags`; a TMM's is the same).
const RUNNABLE: u64 = 1;

/// What is measured besides the content of memory, and by whose rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchParameters {
    /// A Realm Management Monitor.
    Rmm {
        /// Its version.
        version: RmmVersion,
        /// Parameters with which the Realm is created.
        realm: RealmParams,
    },
    /// virtCCA's monitor.
    Tmm {
        /// Parameters with which the confidential VM is created.
        cvm: CvmParams,
        /// Number of vCPUs, all of which are measured.
        vcpus: u16,
    },
}

/// Measures `plan` as a monitor does when a Realm is launched from it.
///
/// The order is the one that Realm VMMs agree on: parameters, the state of all RAM (RMM 1.0 only), measured pages
/// ascending by address, then vCPUs: of an RMM the one that boots, of a TMM all.
///
/// # Errors
///
/// [`Error::Measure`] or [`Error::MeasureTmm`] when the plan breaks a rule of the monitor.
pub fn measure(plan: &LaunchPlan, parameters: &LaunchParameters) -> Result<Digest, Error> {
    match parameters {
        LaunchParameters::Rmm { version, realm } => rmm(plan, *version, realm),
        LaunchParameters::Tmm { cvm, vcpus } => tmm(plan, cvm, *vcpus),
    }
}

fn rmm(plan: &LaunchPlan, version: RmmVersion, realm: &RealmParams) -> Result<Digest, Error> {
    let mut rim = Rim::new(version, realm)?;
    if version == RmmVersion::V1_0 {
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

fn tmm(plan: &LaunchPlan, cvm: &CvmParams, vcpus: u16) -> Result<Digest, Error> {
    let mut rim = CvmRim::new(cvm)?;
    for (ipa, page) in plan.pages() {
        rim.data(ipa, page)?;
    }
    let entry = plan.entry();
    rim.tec(&TecParams { gprs: entry.gprs, pc: entry.pc, flags: RUNNABLE });
    for _ in 1..vcpus {
        rim.tec(&TecParams::default());
    }
    Ok(rim.value())
}
