//! Public areas of keys (`TPMT_PUBLIC`, Part 2, 12.2.4), and the names that follow from them (Part 1, 16).

use super::fields::{Fields, put_sized};
use super::{ALG_NULL, SignatureScheme, TpmError};
use crate::bank::Bank;

const STRUCTURE: &str = "TPMT_PUBLIC";

const ALG_RSA: u16 = 0x0001;
const ALG_AES: u16 = 0x0006;
const ALG_ECC: u16 = 0x0023;
const ALG_CFB: u16 = 0x0043;

/// Longest modulus in bytes: RSA of 4096 bits.
const MAX_MODULUS: usize = 512;
/// The exponent that a public area means by zero.
const DEFAULT_EXPONENT: u32 = 65_537;

/// What a key may do (`TPMA_OBJECT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes(pub u32);

impl Attributes {
    /// It never leaves its TPM.
    pub const FIXED_TPM: Self = Self(1 << 1);
    /// It never leaves its parent.
    pub const FIXED_PARENT: Self = Self(1 << 4);
    /// The TPM made it.
    pub const SENSITIVE_DATA_ORIGIN: Self = Self(1 << 5);
    /// It is used with its authorisation value.
    pub const USER_WITH_AUTH: Self = Self(1 << 6);
    /// It is administered by policy only.
    pub const ADMIN_WITH_POLICY: Self = Self(1 << 7);
    /// It uses what the TPM made only: signs no digest from outside, decrypts no data.
    pub const RESTRICTED: Self = Self(1 << 16);
    /// It decrypts.
    pub const DECRYPT: Self = Self(1 << 17);
    /// It signs.
    pub const SIGN: Self = Self(1 << 18);

    /// Whether all of `others` are among them.
    #[must_use]
    pub const fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

/// The cipher that protects what a decryption key is given (`TPMT_SYM_DEF_OBJECT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symmetric {
    /// None: the key is no parent.
    Null,
    /// AES in CFB mode.
    AesCfb {
        /// Bits of its key: 128, 192 or 256.
        bits: u16,
    },
}

/// What a key does by itself (`TPMT_RSA_SCHEME`, `TPMT_ECC_SCHEME`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Whatever it is asked to.
    Null,
    /// It signs.
    Sign(SignatureScheme, Bank),
}

/// A curve (`TPM_ECC_CURVE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EccCurve {
    /// P-256.
    P256,
    /// P-384.
    P384,
    /// P-521.
    P521,
}

impl EccCurve {
    const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    const fn tcg(self) -> u16 {
        match self {
            Self::P256 => 3,
            Self::P384 => 4,
            Self::P521 => 5,
        }
    }

    /// Bytes in a coordinate.
    #[must_use]
    pub const fn coordinate_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsymmetricKey {
    /// RSA.
    Rsa {
        /// Bits of the modulus.
        bits: u16,
        /// The exponent as it is written; 0 means 65537.
        exponent: u32,
        /// The modulus.
        modulus: Vec<u8>,
    },
    /// A point on a curve.
    Ecc {
        /// The curve.
        curve: EccCurve,
        /// Its x coordinate, with or without leading zeros.
        x: Vec<u8>,
        /// Its y coordinate.
        y: Vec<u8>,
    },
}

impl AsymmetricKey {
    /// The exponent of an RSA key.
    #[must_use]
    pub const fn exponent(exponent: u32) -> u32 {
        if exponent == 0 { DEFAULT_EXPONENT } else { exponent }
    }

    /// The uncompressed SEC1 point of a key on a curve.
    #[must_use]
    pub fn sec1_point(&self) -> Option<Vec<u8>> {
        let Self::Ecc { curve, x, y } = self else { return None };
        let len = curve.coordinate_len();
        let mut point = vec![4];
        for coordinate in [x, y] {
            point.resize(point.len() + len.checked_sub(coordinate.len())?, 0);
            point.extend_from_slice(coordinate);
        }
        Some(point)
    }
}

/// The name of an object: the identifier of a hash function and a digest of the public area.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(Vec<u8>);

impl Name {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Lower-case hexadecimal, as `tpm2_readpublic` prints it.
impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The public area of an asymmetric key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    /// The hash function of its name.
    pub name_algorithm: Bank,
    /// What it may do.
    pub attributes: Attributes,
    /// Digest of the policy by which it may be used.
    pub auth_policy: Vec<u8>,
    /// The cipher, of a decryption key.
    pub symmetric: Symmetric,
    /// What it does.
    pub scheme: Scheme,
    /// The key.
    pub key: AsymmetricKey,
}

impl Public {
    /// Reads a `TPMT_PUBLIC` of an RSA or elliptic-curve key.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, TpmError> {
        let mut fields = Fields::new(STRUCTURE, bytes)?;
        let kind = fields.u16("type")?;
        if ![ALG_RSA, ALG_ECC].contains(&kind) {
            return Err(fields.algorithm("type", kind));
        }
        let name_algorithm = fields.hash("nameAlg")?;
        let attributes = Attributes(fields.u32("objectAttributes")?);
        let auth_policy = fields.sized("authPolicy")?.to_vec();
        let symmetric = symmetric(&mut fields)?;
        let scheme = scheme(&mut fields, kind)?;
        let key = if kind == ALG_RSA { rsa(&mut fields)? } else { ecc(&mut fields)? };
        fields.end()?;
        Ok(Self { name_algorithm, attributes, auth_policy, symmetric, scheme, key })
    }

    /// Reads a `TPM2B_PUBLIC`, as TPMs return it and `tpm2_readpublic` writes it.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn decode_sized(bytes: &[u8]) -> Result<Self, TpmError> {
        let mut fields = Fields::new("TPM2B_PUBLIC", bytes)?;
        let content = fields.sized("content")?;
        fields.end()?;
        Self::decode(content)
    }

    /// Writes the `TPMT_PUBLIC`. What was read is written alike: the name depends on it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let kind = match self.key {
            AsymmetricKey::Rsa { .. } => ALG_RSA,
            AsymmetricKey::Ecc { .. } => ALG_ECC,
        };
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&self.name_algorithm.tcg().to_be_bytes());
        bytes.extend_from_slice(&self.attributes.0.to_be_bytes());
        put_sized(&mut bytes, &self.auth_policy);
        match self.symmetric {
            Symmetric::Null => bytes.extend_from_slice(&ALG_NULL.to_be_bytes()),
            Symmetric::AesCfb { bits } => {
                bytes.extend([ALG_AES, bits, ALG_CFB].map(u16::to_be_bytes).as_flattened());
            }
        }
        match self.scheme {
            Scheme::Null => bytes.extend_from_slice(&ALG_NULL.to_be_bytes()),
            Scheme::Sign(scheme, hash) => {
                bytes.extend([scheme.tcg(), hash.tcg()].map(u16::to_be_bytes).as_flattened());
            }
        }
        match &self.key {
            AsymmetricKey::Rsa { bits, exponent, modulus } => {
                bytes.extend_from_slice(&bits.to_be_bytes());
                bytes.extend_from_slice(&exponent.to_be_bytes());
                put_sized(&mut bytes, modulus);
            }
            AsymmetricKey::Ecc { curve, x, y } => {
                bytes.extend([curve.tcg(), ALG_NULL].map(u16::to_be_bytes).as_flattened());
                put_sized(&mut bytes, x);
                put_sized(&mut bytes, y);
            }
        }
        bytes
    }

    /// Writes the `TPM2B_PUBLIC`.
    #[must_use]
    pub fn encode_sized(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_sized(&mut bytes, &self.encode());
        bytes
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> Name {
        let digest = self.name_algorithm.hash([&self.encode()[..]]);
        Name([&self.name_algorithm.tcg().to_be_bytes()[..], digest.as_bytes()].concat())
    }
}

fn symmetric(fields: &mut Fields<'_>) -> Result<Symmetric, TpmError> {
    match fields.u16("symmetric")? {
        ALG_NULL => Ok(Symmetric::Null),
        ALG_AES => {
            let bits = fields.u16("symmetric key bits")?;
            let mode = fields.u16("symmetric mode")?;
            if mode != ALG_CFB {
                return Err(fields.algorithm("symmetric mode", mode));
            }
            if ![128, 192, 256].contains(&bits) {
                return Err(fields.value("an AES key has 128, 192 or 256 bits"));
            }
            Ok(Symmetric::AesCfb { bits })
        }
        found => Err(fields.algorithm("symmetric", found)),
    }
}

fn scheme(fields: &mut Fields<'_>, kind: u16) -> Result<Scheme, TpmError> {
    let found = fields.u16("scheme")?;
    if found == ALG_NULL {
        return Ok(Scheme::Null);
    }
    let fits = |scheme: &SignatureScheme| (*scheme == SignatureScheme::Ecdsa) == (kind == ALG_ECC);
    let scheme = SignatureScheme::from_tcg(found).filter(fits);
    let scheme = scheme.ok_or_else(|| fields.algorithm("scheme", found))?;
    Ok(Scheme::Sign(scheme, fields.hash("scheme's hash")?))
}

fn rsa(fields: &mut Fields<'_>) -> Result<AsymmetricKey, TpmError> {
    let bits = fields.u16("key bits")?;
    let exponent = fields.u32("exponent")?;
    let modulus = fields.sized("modulus")?.to_vec();
    if modulus.len() > MAX_MODULUS || modulus.len() != usize::from(bits).div_ceil(8) {
        return Err(fields.value("its modulus has not as many bits as it says, or more than 4096"));
    }
    Ok(AsymmetricKey::Rsa { bits, exponent, modulus })
}

fn ecc(fields: &mut Fields<'_>) -> Result<AsymmetricKey, TpmError> {
    let found = fields.u16("curve")?;
    let curve = EccCurve::ALL.into_iter().find(|curve| curve.tcg() == found);
    let curve = curve.ok_or_else(|| fields.algorithm("curve", found))?;
    let kdf = fields.u16("kdf")?;
    if kdf != ALG_NULL {
        return Err(fields.algorithm("kdf", kdf));
    }
    let (x, y) = (fields.sized("x")?.to_vec(), fields.sized("y")?.to_vec());
    if x.len().max(y.len()) > curve.coordinate_len() {
        return Err(fields.value("a coordinate is longer than its curve"));
    }
    Ok(AsymmetricKey::Ecc { curve, x, y })
}
