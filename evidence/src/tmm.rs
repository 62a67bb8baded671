//! Measurements of a virtCCA confidential VM as its TMM (Trusted Management Monitor) computes them.
//!
//! The descriptors are those of RMM 1.0 ([`crate::rmm`]); what goes into them is not: the address space is always 40 bits
//! wide, there are no breakpoints, the state of memory is not measured, and every vCPU is.
//! Source: the reference value tool of the virtCCA SDK (`attestation/rim_ref`).

use thiserror::Error;

use crate::hash::{Digest, HashAlgorithm};

const PAGE_SIZE: u64 = 4096;
const DESCRIPTOR_SIZE: u64 = 256;
/// Width of the address space that is measured, in bits.
const IPA_BITS: u8 = 40;

const FLAG_SVE: u64 = 1 << 1;
const FLAG_PMU: u64 = 1 << 2;

/// A launch that no TMM would measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The hash algorithm is not one of a TMM.
    #[error("a TMM cannot measure with {0}: choose sha-256 or sha-512")]
    HashAlgorithm(HashAlgorithm),
    /// An address that is not the start of a 4 KiB page of the address space.
    #[error("address {0:#x} is not that of a 4 KiB page below 2^40")]
    Address(u64),
}

/// What a confidential VM is created with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CvmParams {
    /// SVE vector length in units of 128 bits; 0 without SVE.
    pub sve_vq: u8,
    /// PMU counters; `None` without a PMU.
    pub pmu_counters: Option<u8>,
    /// Algorithm of the measurement registers.
    pub hash: HashAlgorithm,
}

/// A vCPU (TEC) as it is created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TecParams {
    /// X0 to X7 at entry.
    pub gprs: [u64; 8],
    /// Entry point.
    pub pc: u64,
    /// Bit 0: it runs from the start.
    pub flags: u64,
}

/// The initial measurement of a confidential VM in the making. The order of calls is part of it: pages ascending by
/// address, then all vCPUs.
#[derive(Clone, Debug)]
pub struct CvmRim {
    hash: HashAlgorithm,
    value: Digest,
}

impl CvmRim {
    /// Starts with the parameters.
    ///
    /// # Errors
    ///
    /// [`Error::HashAlgorithm`].
    pub fn new(params: &CvmParams) -> Result<Self, Error> {
        let algorithm = match params.hash {
            HashAlgorithm::Sha256 => 0,
            HashAlgorithm::Sha512 => 1,
            HashAlgorithm::Sha384 => return Err(Error::HashAlgorithm(params.hash)),
        };
        let sve = if params.sve_vq > 0 { FLAG_SVE } else { 0 };
        let pmu = if params.pmu_counters.is_some() { FLAG_PMU } else { 0 };
        let mut page = [0_u8; 4096];
        page[..0x08].copy_from_slice(&(sve | pmu).to_le_bytes());
        page[0x08] = IPA_BITS;
        // The number of units itself, where an RMM has one less.
        page[0x10] = params.sve_vq;
        page[0x28] = params.pmu_counters.unwrap_or(0);
        page[0x30] = algorithm;
        Ok(Self { hash: params.hash, value: params.hash.digest(&page) })
    }

    /// Loads a page at `ipa` and measures its content.
    ///
    /// # Errors
    ///
    /// [`Error::Address`].
    pub fn data(&mut self, ipa: u64, page: &[u8; 4096]) -> Result<(), Error> {
        if !ipa.is_multiple_of(PAGE_SIZE) || ipa >= 1 << IPA_BITS {
            return Err(Error::Address(ipa));
        }
        let mut descriptor = self.descriptor(0);
        descriptor[0x50..0x58].copy_from_slice(&ipa.to_le_bytes());
        descriptor[0x58..0x60].copy_from_slice(&1_u64.to_le_bytes());
        descriptor[0x60..0xa0].copy_from_slice(&self.hash.digest(page).padded());
        self.value = self.hash.digest(&descriptor);
        Ok(())
    }

    /// Creates a vCPU.
    pub fn tec(&mut self, params: &TecParams) {
        let mut record = [0_u8; 80];
        let words = params.gprs.into_iter().chain([params.pc, params.flags]);
        let (slots, _) = record.as_chunks_mut();
        for (slot, word) in slots.iter_mut().zip(words) {
            *slot = word.to_le_bytes();
        }
        let mut descriptor = self.descriptor(1);
        descriptor[0x50..0x90].copy_from_slice(&self.hash.digest(&record).padded());
        self.value = self.hash.digest(&descriptor);
    }

    /// The measurement so far.
    #[must_use]
    pub const fn value(&self) -> Digest {
        self.value
    }

    fn descriptor(&self, kind: u8) -> [u8; 256] {
        let mut descriptor = [0_u8; 256];
        descriptor[0x00] = kind;
        descriptor[0x08..0x10].copy_from_slice(&DESCRIPTOR_SIZE.to_le_bytes());
        descriptor[0x10..0x50].copy_from_slice(&self.value.padded());
        descriptor
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    const PARAMS: CvmParams = CvmParams { sve_vq: 0, pmu_counters: None, hash: HashAlgorithm::Sha256 };

    /// The rules once more, written down byte by byte without anything of this module.
    #[test]
    fn measurement_follows_the_reference_tool() {
        let params = CvmParams { sve_vq: 1, pmu_counters: Some(1), hash: HashAlgorithm::Sha256 };
        let mut page = vec![0_u8; 4096];
        (page[0], page[8], page[0x10], page[0x28]) = (0b110, 40, 1, 1);
        let mut expected = Sha256::digest(&page).to_vec();
        let mut rim = CvmRim::new(&params).unwrap();
        assert_eq!(rim.value().as_bytes(), expected);

        let content = [0x5a; 4096];
        let mut data = vec![0_u8; 256];
        (data[9], data[0x58]) = (1, 1);
        data[0x10..0x30].copy_from_slice(&expected);
        data[0x50..0x58].copy_from_slice(&[0, 0, 0, 0x40, 0, 0, 0, 0]);
        data[0x60..0x80].copy_from_slice(&Sha256::digest(content));
        expected = Sha256::digest(&data).to_vec();
        rim.data(0x4000_0000, &content).unwrap();
        assert_eq!(rim.value().as_bytes(), expected);

        for (pc, flags) in [(0x4000_0000_u64, 1_u8), (0, 0)] {
            let mut record = vec![0_u8; 80];
            record[64..72].copy_from_slice(&pc.to_le_bytes());
            record[72] = flags;
            let mut tec = vec![0_u8; 256];
            (tec[0], tec[9]) = (1, 1);
            tec[0x10..0x30].copy_from_slice(&expected);
            tec[0x50..0x70].copy_from_slice(&Sha256::digest(&record));
            expected = Sha256::digest(&tec).to_vec();
            rim.tec(&TecParams { pc, flags: flags.into(), ..TecParams::default() });
            assert_eq!(rim.value().as_bytes(), expected);
        }
    }

    #[test]
    fn every_vcpu_counts_even_one_that_waits() {
        let mut rim = CvmRim::new(&PARAMS).unwrap();
        let before = rim.value();
        rim.tec(&TecParams::default());
        assert_ne!(rim.value(), before);
    }

    #[test]
    fn what_a_tmm_refuses_is_refused() {
        let sha384 = CvmParams { hash: HashAlgorithm::Sha384, ..PARAMS };
        assert_eq!(CvmRim::new(&sha384).unwrap_err(), Error::HashAlgorithm(HashAlgorithm::Sha384));
        let mut rim = CvmRim::new(&PARAMS).unwrap();
        for ipa in [1, 0x800, 1 << 40, !0xfff_u64] {
            assert_eq!(rim.data(ipa, &[0; 4096]), Err(Error::Address(ipa)));
        }
    }
}
