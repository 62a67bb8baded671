//! Realms on KVM with Arm CCA.
//!
//! KVM's interface for Realms came in generations that have nothing in common but the name. Two are of use: [`Legacy`]
//! (patch series up to v10: every step is a sub-operation of a capability) and [`Rmi`] (v14 and later: memory is
//! populated, the rest happens at the first run). Which one a kernel has is found out by trying: numbers of capabilities
//! moved with every rebase, and some mean something else on other kernels.

mod legacy;
mod rmi;
#[cfg(test)]
mod tests;

use evidence::hash::HashAlgorithm;
use evidence::rmm::{RealmParams, RmmVersion};
use hypervisor::realm::RealmHost;

pub use legacy::Legacy;
pub use rmi::{Backing, Rmi};

use crate::{Error, LaunchParameters};

/// Narrowest address space of a Realm in bits (`RMI_FEATURE_MIN_IPA_SIZE`).
const MIN_IPA_BITS: u8 = 32;

/// What a Realm is created with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Hash of the measurement registers.
    pub hash: HashAlgorithm,
    /// Realm personalisation value, chosen by the owner.
    pub rpv: [u8; 64],
}

/// A generation of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// Sub-operations of `KVM_CAP_ARM_RME`, on an RMM 1.0.
    Legacy {
        /// Number of the capability.
        capability: u32,
    },
    /// `KVM_ARM_RMI_POPULATE`, on an RMM 2.0.
    Rmi,
}

impl Generation {
    /// Rules by which its RMM measures.
    #[must_use]
    pub const fn rmm(self) -> RmmVersion {
        match self {
            Self::Legacy { .. } => RmmVersion::V1_0,
            Self::Rmi => RmmVersion::V2_0,
        }
    }

    /// The generation that this host has, for an address space of `ipa_bits` bits.
    ///
    /// # Errors
    ///
    /// [`Error::NoHost`], or [`Error::IpaWidth`] when only narrower address spaces can be had.
    pub fn probe(host: &dyn RealmHost, ipa_bits: u8) -> Result<Self, Error> {
        let rmi = |bits| host.can_create(rmi::vm_type(bits));
        let capability = legacy::CAPABILITIES.into_iter().find(|&number| host.check_extension(number) > 0);
        let legacy = |bits| capability.filter(|_| host.can_create(legacy::vm_type(bits)));
        if rmi(ipa_bits) {
            return Ok(Self::Rmi);
        }
        if let Some(capability) = legacy(ipa_bits) {
            return Ok(Self::Legacy { capability });
        }
        let widest = (MIN_IPA_BITS..ipa_bits).rev().find(|&bits| rmi(bits) || legacy(bits).is_some());
        Err(match widest {
            Some(widest) => Error::IpaWidth { asked: ipa_bits, widest },
            None => Error::NoHost {
                backend: "cca",
                needed: "a kernel with the Arm CCA patches (v10 and earlier, or v14 and later) on a machine with RME",
            },
        })
    }
}

/// What is measured of a Realm with these parameters.
#[must_use]
pub const fn launch_parameters(hash: HashAlgorithm, rmm: RmmVersion, ipa_bits: u8) -> LaunchParameters {
    /// Two each, the fewest that the architecture allows; the field holds one less.
    const BREAKPOINTS: u8 = 1;
    LaunchParameters::Rmm {
        version: rmm,
        realm: RealmParams {
            flags: 0,
            s2sz: ipa_bits,
            sve_vl: 0,
            num_bps: BREAKPOINTS,
            num_wps: BREAKPOINTS,
            pmu_num_ctrs: 0,
            hash,
        },
    }
}

/// Refuses what a Realm on an RMM of this version cannot have.
///
/// # Errors
///
/// [`Error::Refused`] with the reason.
pub fn check(rmm: RmmVersion, parameters: &Parameters) -> Result<(), Error> {
    if rmm == RmmVersion::V1_0 {
        return Ok(());
    }
    let refuse = |field, reason| Err(Error::Refused { backend: "cca", field, reason });
    if parameters.hash != HashAlgorithm::Sha256 {
        return refuse("measurement_algorithm", "KVM from v14 on measures with SHA-256 only; leave it out");
    }
    if parameters.rpv != [0; 64] {
        return refuse("personalization_value", "KVM from v14 on has no call that sets it; leave it out");
    }
    Ok(())
}
