//! The software Realm: a small RMM in the VMM, for machines without Arm CCA.
//!
//! The guest runs on plain KVM. Its calls to the Realm Services Interface reach us through the SMCCC filter, and the
//! unprotected half of its address space is a second mapping of the same memory. The guest notices no difference; the
//! host could read everything. Its tokens therefore carry a non-secured lifecycle and a development key.

mod measurements;
mod ripas;
mod rsi;
#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "sizes in tests are small")]
mod tests;
mod token;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use evidence::hash::{Digest, HashAlgorithm};
use evidence::rmm::{RealmParams, RmmVersion};
use hypervisor::{MemoryFault, SmcccRange, Vcpu, Vm, VmType};
use machine::launch::LaunchPlan;
use rand::CryptoRng;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap};

use crate::{Error, LaunchParameters, MonitorCall, RealmBackend, Registers, measure};
use measurements::Measurements;
use ripas::{Ripas, RipasMap};
use rsi::{ConfigPage, Realm};
use token::{Mint, TokenSession};

pub use token::{LIFECYCLE, Platform, PlatformKey};

/// Width of the address space: 512 GiB for the Realm, as much again for what it shares.
pub const IPA_BITS: u8 = 40;

/// What the Realm is created with.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// Hash of the measurement registers.
    pub hash: HashAlgorithm,
    /// Rules by which the launch is measured.
    pub rmm: RmmVersion,
    /// Realm personalisation value, chosen by the owner.
    pub rpv: [u8; 64],
}

impl Parameters {
    /// What is measured of these parameters.
    #[must_use]
    pub fn launch(&self) -> LaunchParameters {
        /// Two each, the fewest that the architecture allows; the field holds one less.
        const BREAKPOINTS: u8 = 1;
        LaunchParameters::Rmm {
            version: self.rmm,
            realm: RealmParams {
                flags: 0,
                s2sz: IPA_BITS,
                sve_vl: 0,
                num_bps: BREAKPOINTS,
                num_wps: BREAKPOINTS,
                pmu_num_ctrs: 0,
                hash: self.hash,
            },
        }
    }
}

/// A lie that the software RMM can be told to tell, so that verifiers can be seen to catch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Tokens answer another challenge than the one asked.
    Challenge,
    /// The Realm token's signature has a flipped bit.
    Signature,
    /// Tokens of virtCCA come without the Platform Token.
    NoPlatformToken,
}

/// A Realm on plain KVM.
pub struct SoftRealm {
    parameters: Parameters,
    config: ConfigPage,
    mint: Mint,
    launched: OnceLock<Launched>,
    sessions: Vec<Mutex<TokenSession>>,
}

/// What exists from the load on.
struct Launched {
    memory: GuestMemoryMmap,
    ripas: RipasMap,
    measurements: Mutex<Measurements>,
}

impl fmt::Debug for SoftRealm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SoftRealm").field("parameters", &self.parameters).finish_non_exhaustive()
    }
}

impl SoftRealm {
    /// A Realm with `vcpus` vCPUs whose tokens `platform` vouches for.
    ///
    /// # Errors
    ///
    /// [`Error::Token`] when the platform cannot sign.
    pub fn new(
        parameters: Parameters,
        platform: Platform,
        fault: Option<Fault>,
        vcpus: u16,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, Error> {
        let hash_algorithm = match parameters.hash {
            HashAlgorithm::Sha256 => 0,
            HashAlgorithm::Sha512 => 1,
            HashAlgorithm::Sha384 => {
                return Err(Error::Platform {
                    field: "hash",
                    problem: "found sha-384; RSI 1.0 knows sha-256 and sha-512".into(),
                });
            }
        };
        let mint = Mint::new(platform, parameters.rpv, parameters.hash, fault, rng)?;
        let config = ConfigPage { hash_algorithm, rpv: parameters.rpv };
        let sessions = (0..vcpus).map(|_| Mutex::default()).collect();
        Ok(Self { parameters, config, mint, launched: OnceLock::new(), sessions })
    }

    fn load_into(&self, memory: &GuestMemoryMmap, plan: &LaunchPlan) -> Result<Digest, Error> {
        for segment in plan.segments() {
            memory
                .write_slice(segment.bytes(), GuestAddress(segment.gpa()))
                .map_err(|source| Error::Load { segment: segment.name(), gpa: segment.gpa(), source })?;
        }
        let ram: Vec<_> = plan.ram().iter().map(|region| region.base..region.end()).collect();
        let ripas = RipasMap::new(&ram);
        for range in &ram {
            ripas.set(range.start, range.end, Ripas::Ram, |_| {});
        }
        let rim = measure(plan, &self.parameters.launch())?;
        let measurements = Mutex::new(Measurements::new(self.parameters.hash, rim));
        self.launched
            .set(Launched { memory: memory.clone(), ripas, measurements })
            .map_err(|_| Error::AlreadyLoaded)?;
        Ok(rim)
    }
}

/// The unprotected half's address bit.
const UNPROTECTED: u64 = 1 << (IPA_BITS - 1);

impl RealmBackend for SoftRealm {
    fn name(&self) -> &'static str {
        "soft"
    }

    fn ipa_bits(&self) -> u8 {
        IPA_BITS
    }

    fn vm_type(&self) -> VmType {
        VmType::normal(IPA_BITS)
    }

    fn launch_parameters(&self) -> LaunchParameters {
        self.parameters.launch()
    }

    fn configure(&self, vm: &Arc<Vm>) -> Result<(), Error> {
        let count = rsi::FUNCTIONS.end - rsi::FUNCTIONS.start;
        Ok(vm.forward_smccc(SmcccRange { base: rsi::FUNCTIONS.start, count })?)
    }

    fn map_ram(&self, vm: &Vm, region: &Arc<GuestRegionMmap>) -> Result<(), Error> {
        let gpa = region.start_addr().0;
        vm.map_memory(gpa, region)?;
        Ok(vm.map_memory(gpa | UNPROTECTED, region)?)
    }

    fn device_address(&self, gpa: u64) -> u64 {
        gpa | UNPROTECTED
    }

    fn board_address(&self, gpa: u64) -> u64 {
        gpa & !UNPROTECTED
    }

    fn load(&self, _vm: &Vm, memory: &GuestMemoryMmap, plan: &LaunchPlan) -> Result<Digest, Error> {
        self.load_into(memory, plan)
    }

    fn finalise_vcpu(&self, _vcpu: &mut Vcpu) -> Result<(), Error> {
        Ok(())
    }

    fn activate(&self, _vm: &Vm) -> Result<(), Error> {
        self.launched.get().map(|_| ()).ok_or(Error::NotLoaded)
    }

    fn call(&self, vcpu: u16, call: MonitorCall, registers: &mut dyn Registers) -> Result<(), Error> {
        let launched = self.launched.get().ok_or(Error::NotLoaded)?;
        let session = self.sessions.get(usize::from(vcpu));
        let (true, Some(session)) = (call.smc, session) else {
            return registers.set(0, rsi::NOT_SUPPORTED);
        };
        let mut measurements = launched.measurements.lock().unwrap_or_else(PoisonError::into_inner);
        let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
        Realm {
            ipa_bits: IPA_BITS,
            config: &self.config,
            memory: &launched.memory,
            ripas: &launched.ripas,
            measurements: &mut measurements,
            session: &mut session,
            mint: &self.mint,
        }
        .call(call.function, registers)
    }

    fn convert(&self, fault: MemoryFault) -> Result<(), Error> {
        Err(Error::Fault { gpa: fault.gpa, size: fault.size })
    }

    fn device_access(&self, iova: u64, len: u64) -> Result<u64, Error> {
        let gpa = self.board_address(iova);
        let shared =
            self.launched.get().is_some_and(|launched| launched.ripas.is_all(gpa, len, Ripas::Empty));
        if shared { Ok(gpa) } else { Err(Error::PrivateMemory { iova, len }) }
    }
}
