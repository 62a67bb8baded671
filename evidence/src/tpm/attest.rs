//! What a TPM says of itself and signs (`TPMS_ATTEST`, Part 2, 10.12.12).

use super::fields::{Fields, put_sized};
use super::{PcrSelection, TpmError};

/// `TPM_GENERATED_VALUE`. A TPM signs nothing from outside that begins with it.
const MAGIC: u32 = 0xff54_4347;
const TYPE_CERTIFY: u16 = 0x8017;
const TYPE_QUOTE: u16 = 0x8018;

/// What a TPM says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attest {
    /// The qualified name of the key that signs it.
    pub qualified_signer: Vec<u8>,
    /// What was asked to be in it: the nonce, or a digest of it and more.
    pub extra_data: Vec<u8>,
    /// The time.
    pub clock: ClockInfo,
    /// The version of the TPM's firmware.
    pub firmware_version: u64,
    /// What is attested.
    pub attested: Attested,
}

/// What is attested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attested {
    /// The values of registers (`TPMS_QUOTE_INFO`).
    Quote {
        /// Which registers.
        selection: Vec<PcrSelection>,
        /// Digest of their values.
        pcr_digest: Vec<u8>,
    },
    /// That a key is in the TPM (`TPMS_CERTIFY_INFO`).
    Certify {
        /// Its name.
        name: Vec<u8>,
        /// Its qualified name.
        qualified_name: Vec<u8>,
    },
}

/// Time as a TPM counts it (`TPMS_CLOCK_INFO`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockInfo {
    /// Milliseconds that the TPM has had power, since its owner was removed.
    pub clock: u64,
    /// How often the TPM was reset.
    pub reset_count: u32,
    /// How often it was restarted or resumed since the last reset.
    pub restart_count: u32,
    /// Whether the clock never had a higher value: it may after it has lost power unexpectedly.
    pub safe: bool,
}

impl Attest {
    /// Reads a `TPMS_ATTEST` of the types quote and certify.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, TpmError> {
        let mut fields = Fields::new("TPMS_ATTEST", bytes)?;
        let magic = fields.u32("magic")?;
        if magic != MAGIC {
            return Err(TpmError::Magic { found: magic });
        }
        let kind = fields.u16("type")?;
        if ![TYPE_QUOTE, TYPE_CERTIFY].contains(&kind) {
            return Err(TpmError::Type { found: kind });
        }
        let qualified_signer = fields.sized("qualifiedSigner")?.to_vec();
        let extra_data = fields.sized("extraData")?.to_vec();
        let clock = ClockInfo {
            clock: fields.u64("clock")?,
            reset_count: fields.u32("resetCount")?,
            restart_count: fields.u32("restartCount")?,
            safe: match fields.u8("safe")? {
                0 => false,
                1 => true,
                _ => return Err(fields.value("safe is neither YES nor NO")),
            },
        };
        let firmware_version = fields.u64("firmwareVersion")?;
        let attested = if kind == TYPE_QUOTE {
            Attested::Quote {
                selection: PcrSelection::decode_list(&mut fields)?,
                pcr_digest: fields.sized("pcrDigest")?.to_vec(),
            }
        } else {
            Attested::Certify {
                name: fields.sized("name")?.to_vec(),
                qualified_name: fields.sized("qualifiedName")?.to_vec(),
            }
        };
        fields.end()?;
        Ok(Self { qualified_signer, extra_data, clock, firmware_version, attested })
    }

    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_be_bytes().to_vec();
        let kind = match self.attested {
            Attested::Quote { .. } => TYPE_QUOTE,
            Attested::Certify { .. } => TYPE_CERTIFY,
        };
        bytes.extend_from_slice(&kind.to_be_bytes());
        put_sized(&mut bytes, &self.qualified_signer);
        put_sized(&mut bytes, &self.extra_data);
        bytes.extend_from_slice(&self.clock.clock.to_be_bytes());
        bytes.extend_from_slice(&self.clock.reset_count.to_be_bytes());
        bytes.extend_from_slice(&self.clock.restart_count.to_be_bytes());
        bytes.push(self.clock.safe.into());
        bytes.extend_from_slice(&self.firmware_version.to_be_bytes());
        match &self.attested {
            Attested::Quote { selection, pcr_digest } => {
                PcrSelection::encode_list(selection, &mut bytes);
                put_sized(&mut bytes, pcr_digest);
            }
            Attested::Certify { name, qualified_name } => {
                put_sized(&mut bytes, name);
                put_sized(&mut bytes, qualified_name);
            }
        }
        bytes
    }
}
