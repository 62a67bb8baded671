//! From the configuration of a Realm to a back-end, and to what a verifier must expect of it.

use std::sync::Arc;

use api::config::{
    FaultName, GuestMemfdName, HashName, RealmBackendName, RealmConfig, RmmName, UserDataName, VirtCcaConfig,
};
use evidence::hash::HashAlgorithm;
use evidence::rmm::RmmVersion;
use hypervisor::realm::RealmHost;
use machine::layout::{Layout, Region};
use realm::cca::{Backing, Generation, Legacy, Rmi};
use realm::soft::{Fault, SoftRealm};
use realm::virtcca::{self, UserDataLayout, VirtCca};
use realm::{LaunchParameters, RealmBackend, cca, soft};

use crate::config::personalization_value;
use crate::launch::PrepareError;
use crate::{Error, platform};

/// Width of a Realm's address space in bits, unless the configuration says another: it is measured, so it must not
/// depend on the host.
const IPA_BITS: u8 = 40;

/// Width of the address space in bits.
pub fn ipa_bits(config: &RealmConfig) -> u8 {
    match config.backend {
        RealmBackendName::Soft => soft::IPA_BITS,
        RealmBackendName::Cca => config.ipa_bits.unwrap_or(IPA_BITS),
        RealmBackendName::VirtCca => virtcca::IPA_BITS,
    }
}

/// What is measured besides the content of memory. `layout` has the vCPUs.
///
/// # Errors
///
/// [`PrepareError`] for what such a Realm cannot have.
pub fn launch_parameters(config: &RealmConfig, layout: &Layout) -> Result<LaunchParameters, PrepareError> {
    match config.backend {
        RealmBackendName::Soft => Ok(soft_parameters(config)?.launch()),
        RealmBackendName::Cca => {
            let (rmm, parameters) = (rmm(config), cca_parameters(config)?);
            cca::check(rmm, &parameters)?;
            Ok(cca::launch_parameters(parameters.hash, rmm, layout.ipa_bits))
        }
        RealmBackendName::VirtCca => Ok(virtcca_parameters(config, layout).launch()),
    }
}

/// A Realm that is not created yet.
///
/// # Errors
///
/// [`Error`] when the host cannot have it, or it cannot have what the configuration asks for.
pub fn backend(
    host: &dyn RealmHost,
    config: &RealmConfig,
    layout: &Layout,
) -> Result<Arc<dyn RealmBackend>, Error> {
    match config.backend {
        RealmBackendName::Soft => {
            let fault = config.fault.map(|fault| match fault {
                FaultName::Challenge => Fault::Challenge,
                FaultName::Signature => Fault::Signature,
                FaultName::NoPlatformToken => Fault::NoPlatformToken,
            });
            let platform = platform::load(config.platform.as_ref())?;
            let parameters = soft_parameters(config)?;
            Ok(Arc::new(SoftRealm::new(parameters, platform, fault, layout.vcpus, &mut rand::rng())?))
        }
        RealmBackendName::Cca => {
            let parameters = cca_parameters(config)?;
            let generation = Generation::probe(host, layout.ipa_bits)?;
            tracing::info!(?generation, "the host's interface for Realms");
            if config.rmm.is_some() && rmm(config) != generation.rmm() {
                return Err(Error::Realm(realm::Error::Refused {
                    backend: "cca",
                    field: "rmm",
                    reason: "this host's monitor measures by the rules of another version; leave it out, or choose \
                             another host",
                }));
            }
            let backing = match config.guest_memfd.unwrap_or_default() {
                GuestMemfdName::Separate => Backing::Separate,
                GuestMemfdName::InPlace => Backing::InPlace,
            };
            Ok(match generation {
                Generation::Rmi => Arc::new(Rmi::new(layout.ipa_bits, parameters, backing)?),
                Generation::Legacy { capability } if backing == Backing::Separate => {
                    Arc::new(Legacy::new(capability, layout.ipa_bits, parameters))
                }
                Generation::Legacy { .. } => {
                    return Err(Error::Realm(realm::Error::Refused {
                        backend: "cca",
                        field: "guest_memfd",
                        reason: "kernels up to v10 of the patches have no guest_memfd; leave it out",
                    }));
                }
            })
        }
        RealmBackendName::VirtCca => Ok(Arc::new(VirtCca::new(host, virtcca_parameters(config, layout))?)),
    }
}

/// What the configuration says of virtCCA alone.
pub fn virtcca_config(config: &RealmConfig) -> VirtCcaConfig {
    config.virtcca.clone().unwrap_or_default()
}

fn hash(config: &RealmConfig) -> HashAlgorithm {
    match config.measurement_algorithm {
        HashName::Sha256 => HashAlgorithm::Sha256,
        HashName::Sha512 => HashAlgorithm::Sha512,
    }
}

fn rmm(config: &RealmConfig) -> RmmVersion {
    match config.rmm.unwrap_or_default() {
        RmmName::V1_0 => RmmVersion::V1_0,
        RmmName::V2_0 => RmmVersion::V2_0,
    }
}

fn soft_parameters(config: &RealmConfig) -> Result<soft::Parameters, PrepareError> {
    Ok(soft::Parameters { hash: hash(config), rmm: rmm(config), rpv: personalization_value(config)? })
}

fn cca_parameters(config: &RealmConfig) -> Result<cca::Parameters, PrepareError> {
    Ok(cca::Parameters { hash: hash(config), rpv: personalization_value(config)? })
}

fn virtcca_parameters(config: &RealmConfig, layout: &Layout) -> virtcca::Parameters {
    let own = virtcca_config(config);
    let node = |node: &machine::topology::NumaNode| {
        let mut vcpus = [0_u64; 4];
        for &vcpu in &node.vcpus {
            if let Some(word) = vcpus.get_mut(usize::from(vcpu / 64)) {
                *word |= 1 << (vcpu % 64);
            }
        }
        let memory = node.memory.first().copied().unwrap_or(layout.ram);
        // Where the host takes the memory from is its own business.
        virtcca::NumaNode { id: node.id.into(), memory, host_nodes: [0; 2], vcpus }
    };
    let devices = layout.gic.distributor.base;
    virtcca::Parameters {
        hash: hash(config),
        sve_vq: u8::try_from(own.sve_vector_length.unwrap_or(0) / 128).unwrap_or(u8::MAX),
        pmu_counters: own.pmu_counters,
        user_data: match own.user_data {
            UserDataName::Legacy => UserDataLayout::Legacy,
            UserDataName::Uefi => UserDataLayout::Uefi,
        },
        nodes: layout.nodes.iter().map(node).collect(),
        vcpus: layout.vcpus,
        mmio: Region::new(devices, layout.pcie.ecam.end() - devices),
    }
}
