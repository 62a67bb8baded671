//! Realm measurements as a Realm Management Monitor (RMM) computes them: RMM specification 1.0 and 2.0, A7.1.

use thiserror::Error;

use crate::hash::{Digest, HashAlgorithm};

const PAGE_SIZE: u64 = 4096;
const DESCRIPTOR_SIZE: u64 = 256;

/// Largest amount of data that one extension takes, in bytes (`RSI_MEASUREMENT_EXTEND`).
pub const MAX_EXTENSION: usize = 64;

/// A launch that no RMM of this version would measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The RMM version cannot measure with this hash algorithm.
    #[error("RMM {version} cannot measure with {algorithm}: choose sha-256 or sha-512")]
    HashAlgorithm {
        /// The RMM version.
        version: RmmVersion,
        /// What was asked for.
        algorithm: HashAlgorithm,
    },
    /// The IPA width is outside what a Realm may have.
    #[error("IPA width (s2sz) is {found} bits: a Realm has 32 to 52")]
    IpaWidth {
        /// What was asked for, in bits.
        found: u8,
    },
    /// No breakpoints or no watchpoints.
    #[error("num_bps is {num_bps} and num_wps is {num_wps}: both count from one less, and 0 is reserved")]
    DebugRegisters {
        /// Breakpoints minus one.
        num_bps: u8,
        /// Watchpoints minus one.
        num_wps: u8,
    },
    /// An address that is not the start of a 4 KiB page.
    #[error("address {address:#x} is not aligned to 4 KiB")]
    Unaligned {
        /// The address.
        address: u64,
    },
    /// Memory outside the protected half of the address space.
    #[error(
        "memory {base:#x}..{top:#x} is empty or ends above {limit:#x}, where a Realm of this IPA width has shared memory"
    )]
    Range {
        /// First byte.
        base: u64,
        /// First byte after.
        top: u64,
        /// First byte of the unprotected half.
        limit: u64,
    },
    /// The current value does not belong to the algorithm.
    #[error("the measurement to extend has {found} bytes; {algorithm} values have {}", .algorithm.len())]
    ValueLength {
        /// The Realm's algorithm.
        algorithm: HashAlgorithm,
        /// Bytes in the value.
        found: usize,
    },
    /// More data than one extension takes.
    #[error("one extension takes at most 64 bytes; found {found}")]
    ExtensionLength {
        /// Bytes given.
        found: usize,
    },
}

/// The rules by which an RMM measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RmmVersion {
    /// RMM 1.0: the initial state of memory (RIPAS) is measured.
    V1_0,
    /// RMM 2.0: RIPAS is not measured.
    V2_0,
}

impl std::fmt::Display for RmmVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V1_0 => "1.0",
            Self::V2_0 => "2.0",
        })
    }
}

/// The measured fields of `RmiRealmParams`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealmParams {
    /// Bit 0 LPA2, 1 SVE, 2 PMU.
    pub flags: u64,
    /// IPA width in bits.
    pub s2sz: u8,
    /// SVE vector length in 128-bit units, minus one.
    pub sve_vl: u8,
    /// Breakpoints minus one.
    pub num_bps: u8,
    /// Watchpoints minus one.
    pub num_wps: u8,
    /// PMU counters.
    pub pmu_num_ctrs: u8,
    /// Algorithm of the RIM and the REMs.
    pub hash: HashAlgorithm,
}

/// The measured fields of `RmiRecParams`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecParams {
    /// Bit 0 RUNNABLE.
    pub flags: u64,
    /// Entry point.
    pub pc: u64,
    /// X0 to X7 at entry.
    pub gprs: [u64; 8],
}

impl RecParams {
    /// The vCPU runs from the start, instead of waiting for PSCI `CPU_ON`.
    pub const RUNNABLE: u64 = 1;
}

/// A Realm Initial Measurement in the making.
///
/// Call order is part of the measurement. The order that Realm VMMs agree on: RIPAS of all RAM, measured data ascending
/// by address, the vCPUs.
#[derive(Clone, Debug)]
pub struct Rim {
    version: RmmVersion,
    hash: HashAlgorithm,
    s2sz: u8,
    value: Digest,
}

impl Rim {
    /// Starts with the parameters with which the Realm is created.
    ///
    /// # Errors
    ///
    /// Parameters that an RMM of this version refuses.
    pub fn new(version: RmmVersion, params: &RealmParams) -> Result<Self, Error> {
        let hash_algo = match (version, params.hash) {
            (_, HashAlgorithm::Sha256) => 0,
            (_, HashAlgorithm::Sha512) => 1,
            (RmmVersion::V2_0, HashAlgorithm::Sha384) => 2,
            (RmmVersion::V1_0, HashAlgorithm::Sha384) => {
                return Err(Error::HashAlgorithm { version, algorithm: params.hash });
            }
        };
        if !(32..=52).contains(&params.s2sz) {
            return Err(Error::IpaWidth { found: params.s2sz });
        }
        if params.num_bps == 0 || params.num_wps == 0 {
            return Err(Error::DebugRegisters { num_bps: params.num_bps, num_wps: params.num_wps });
        }
        let mut page = [0u8; 4096];
        page[0x00..0x08].copy_from_slice(&params.flags.to_le_bytes());
        page[0x08] = params.s2sz;
        page[0x10] = params.sve_vl;
        page[0x18] = params.num_bps;
        page[0x20] = params.num_wps;
        page[0x28] = params.pmu_num_ctrs;
        page[0x30] = hash_algo;
        Ok(Self { version, hash: params.hash, s2sz: params.s2sz, value: params.hash.digest(&page) })
    }

    /// Makes `base..top` (IPA, 4 KiB aligned) memory of the Realm. Only RMM 1.0 measures this.
    ///
    /// # Errors
    ///
    /// An unaligned or empty range, or one that leaves the protected half of the address space.
    pub fn init_ripas(&mut self, base: u64, top: u64) -> Result<(), Error> {
        self.check_range(base, top)?;
        if self.version == RmmVersion::V2_0 {
            return Ok(());
        }
        // One descriptor per translation table entry: an entry covers the largest aligned block that fits.
        let mut base = base;
        while base < top {
            let size = self
                .block_sizes()
                .iter()
                .copied()
                .find(|size| base.is_multiple_of(*size) && top - base >= *size)
                .unwrap_or(PAGE_SIZE);
            let mut descriptor = self.descriptor(2);
            descriptor[0x50..0x58].copy_from_slice(&base.to_le_bytes());
            descriptor[0x58..0x60].copy_from_slice(&(base + size).to_le_bytes());
            self.value = self.hash.digest(&descriptor);
            base += size;
        }
        Ok(())
    }

    /// Loads a page at `ipa` and measures its content.
    ///
    /// # Errors
    ///
    /// An unaligned address, or one outside the protected half of the address space.
    pub fn data(&mut self, ipa: u64, page: &[u8; 4096]) -> Result<(), Error> {
        let content = self.hash.digest(page).padded();
        self.data_page(ipa, 1, &content)
    }

    /// Loads a page at `ipa` and measures only that it was loaded, not its content.
    ///
    /// # Errors
    ///
    /// As [`Self::data`].
    pub fn data_unmeasured(&mut self, ipa: u64) -> Result<(), Error> {
        self.data_page(ipa, 0, &[0; 64])
    }

    /// Creates a vCPU (REC). Those that are not runnable are not measured.
    pub fn rec(&mut self, params: &RecParams) {
        if params.flags & RecParams::RUNNABLE == 0 {
            return;
        }
        let mut page = [0u8; 4096];
        page[0x000..0x008].copy_from_slice(&params.flags.to_le_bytes());
        page[0x200..0x208].copy_from_slice(&params.pc.to_le_bytes());
        let (gprs, _) = page[0x300..0x340].as_chunks_mut();
        for (slot, gpr) in gprs.iter_mut().zip(params.gprs) {
            *slot = gpr.to_le_bytes();
        }
        let mut descriptor = self.descriptor(1);
        descriptor[0x50..0x90].copy_from_slice(&self.hash.digest(&page).padded());
        self.value = self.hash.digest(&descriptor);
    }

    /// The measurement so far.
    pub fn value(&self) -> Digest {
        self.value
    }

    fn data_page(&mut self, ipa: u64, flags: u64, content: &[u8; 64]) -> Result<(), Error> {
        self.check_range(ipa, ipa.saturating_add(PAGE_SIZE))?;
        let mut descriptor = self.descriptor(0);
        descriptor[0x50..0x58].copy_from_slice(&ipa.to_le_bytes());
        descriptor[0x58..0x60].copy_from_slice(&flags.to_le_bytes());
        descriptor[0x60..0xa0].copy_from_slice(content);
        self.value = self.hash.digest(&descriptor);
        Ok(())
    }

    /// A measurement descriptor of this type over the current value (`RmmMeasurementDescriptor*`).
    fn descriptor(&self, kind: u8) -> [u8; 256] {
        let mut descriptor = [0u8; 256];
        descriptor[0x00] = kind;
        descriptor[0x08..0x10].copy_from_slice(&DESCRIPTOR_SIZE.to_le_bytes());
        descriptor[0x10..0x50].copy_from_slice(&self.value.padded());
        descriptor
    }

    fn check_range(&self, base: u64, top: u64) -> Result<(), Error> {
        let limit = 1 << (self.s2sz - 1);
        if base >= top || top > limit {
            return Err(Error::Range { base, top, limit });
        }
        for address in [base, top] {
            if !address.is_multiple_of(PAGE_SIZE) {
                return Err(Error::Unaligned { address });
            }
        }
        Ok(())
    }

    /// Sizes that a translation table entry may cover, largest first, where root tables are concatenated, as KVM does.
    fn block_sizes(&self) -> &'static [u64] {
        const SIZES: [u64; 4] = [512 << 30, 1 << 30, 2 << 20, 4 << 10];
        match self.s2sz {
            44.. => &SIZES,
            35..=43 => SIZES.split_at(1).1,
            _ => SIZES.split_at(2).1,
        }
    }
}

/// Extends a Realm Extensible Measurement: `H(current || data)`, the data taken verbatim.
///
/// # Errors
///
/// A value of another algorithm, or more than [`MAX_EXTENSION`] bytes.
pub fn extend(algorithm: HashAlgorithm, current: &Digest, data: &[u8]) -> Result<Digest, Error> {
    let found = current.as_bytes().len();
    if found != algorithm.len() {
        return Err(Error::ValueLength { algorithm, found });
    }
    if data.len() > MAX_EXTENSION {
        return Err(Error::ExtensionLength { found: data.len() });
    }
    Ok(algorithm.digest_parts([current.as_bytes(), data]))
}

#[cfg(test)]
mod tests;
