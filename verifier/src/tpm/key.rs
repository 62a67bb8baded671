//! Keys that sign quotes.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, EcdsaVerificationAlgorithm,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPssSaltLength, UnparsedPublicKey,
};
use evidence::bank::Bank;
use evidence::token::Curve;
use evidence::tpm::{
    AsymmetricKey, Attributes, EccCurve, Public, Scheme, Signature, SignatureScheme, SignatureValue,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey as X509Key;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::chain::DeviceKey;
use crate::refusal::{Code, Refusal, Step};
use crate::signature::BadSignature;

/// What an attestation key must be: made by its TPM, never to leave it, and good for nothing but what the TPM itself says.
const ATTESTATION: Attributes = Attributes::RESTRICTED
    .and(Attributes::SIGN)
    .and(Attributes::FIXED_TPM)
    .and(Attributes::FIXED_PARENT)
    .and(Attributes::SENSITIVE_DATA_ORIGIN);

/// Shortest RSA key that is believed, in bits.
const MIN_RSA_BITS: usize = 2048;

/// A public key that verifies quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationKey {
    key: KeyMaterial,
    /// How it signs, if it was bound to one way.
    scheme: Option<(SignatureScheme, Bank)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum KeyMaterial {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    Ec {
        curve: EccCurve,
        /// Uncompressed SEC1 point.
        point: Vec<u8>,
    },
}

impl AttestationKey {
    /// Takes the public area of a key. Whether it is in a TPM at all, its attributes cannot tell: see
    /// [`super::credential`].
    ///
    /// # Errors
    /// [`Code::TpmKeyUnsuitable`] if it could have been made outside, could sign anything, or signs with SHA-1 or SM3.
    pub fn from_public(public: &Public) -> Result<Self, Refusal> {
        if !public.attributes.has(ATTESTATION) || public.attributes.has(Attributes::DECRYPT) {
            return Err(unsuitable(
                "it must be restricted, sign and not decrypt, be fixed to its TPM and parent, and be made by the TPM \
                 (tpm2_createak makes such keys)",
            ));
        }
        let Scheme::Sign(scheme, hash) = public.scheme else {
            return Err(unsuitable("its public area does not bind it to a way of signing"));
        };
        if matches!(hash, Bank::Sha1 | Bank::Sm3) || public.name_algorithm == Bank::Sha1 {
            return Err(unsuitable("SHA-1 and SM3 are not accepted: make one that signs with SHA-256"));
        }
        Ok(Self { key: KeyMaterial::from_tpm(&public.key)?, scheme: Some((scheme, hash)) })
    }

    /// Takes the key of a certificate that was validated for this purpose.
    ///
    /// # Errors
    /// [`Code::TpmKeyUnsuitable`] for a key that signs no quotes.
    pub fn from_certified(key: &DeviceKey) -> Result<Self, Refusal> {
        Ok(Self { key: KeyMaterial::from_certified(key)?, scheme: None })
    }

    /// Whether the key of a certificate is this one.
    #[must_use]
    pub fn is_certified(&self, key: &DeviceKey) -> bool {
        KeyMaterial::from_certified(key).is_ok_and(|key| key == self.key)
    }

    /// Whether a certificate's key is that of `public`.
    pub(super) fn same(public: &Public, certified: &DeviceKey) -> bool {
        match (KeyMaterial::from_tpm(&public.key), KeyMaterial::from_certified(certified)) {
            (Ok(public), Ok(certified)) => public == certified,
            _ => false,
        }
    }

    /// Verifies a signature over `message`.
    ///
    /// # Errors
    /// [`BadSignature`] if it does not verify, or is made in another way than the key was bound to.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        if self.scheme.is_some_and(|scheme| scheme != (signature.scheme(), signature.hash)) {
            return Err(BadSignature);
        }
        match (&self.key, &signature.value) {
            (KeyMaterial::Ec { curve, point }, SignatureValue::Ecdsa { r, s }) => {
                let fixed = fixed(*curve, r, s).ok_or(BadSignature)?;
                let algorithm = ecdsa(*curve, signature.hash).ok_or(BadSignature)?;
                UnparsedPublicKey::new(algorithm, point).verify(message, &fixed).map_err(|_| BadSignature)
            }
            (KeyMaterial::Rsa { modulus, exponent }, SignatureValue::RsaSsa(value)) => {
                let parameters = pkcs1(signature.hash).ok_or(BadSignature)?;
                let key = PublicKeyComponents { n: modulus, e: exponent };
                key.verify(parameters, message, value).map_err(|_| BadSignature)
            }
            (KeyMaterial::Rsa { modulus, exponent }, SignatureValue::RsaPss(value)) => {
                let key = PublicKeyComponents { n: modulus, e: exponent };
                // TPMs take the longest salt that there is room for, or one of the digest's length (Part 1, B.7).
                let salts = pss(signature.hash).ok_or(BadSignature)?;
                let good = salts.iter().any(|parameters| key.verify(parameters, message, value).is_ok());
                if good { Ok(()) } else { Err(BadSignature) }
            }
            _ => Err(BadSignature),
        }
    }

    /// A name for the key in listings and tokens: SHA-256 of what it is made of, in hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let parts = match &self.key {
            KeyMaterial::Rsa { modulus, exponent } => [&b"rsa"[..], modulus, exponent],
            KeyMaterial::Ec { curve, point } => [
                &b"ec"[..],
                point,
                match curve {
                    EccCurve::P256 => b"256",
                    EccCurve::P384 => b"384",
                    EccCurve::P521 => b"521",
                },
            ],
        };
        let sized: Vec<[u8; 4]> =
            parts.iter().map(|part| u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes()).collect();
        let hashed = sized.iter().zip(parts).flat_map(|(len, part)| [&len[..], part]);
        Bank::Sha256.hash(hashed).to_string()
    }
}

impl KeyMaterial {
    fn from_tpm(key: &AsymmetricKey) -> Result<Self, Refusal> {
        match key {
            AsymmetricKey::Rsa { modulus, exponent, .. } => {
                Self::rsa(modulus, &AsymmetricKey::exponent(*exponent).to_be_bytes())
            }
            AsymmetricKey::Ecc { curve, .. } => {
                let point = key.sec1_point().ok_or_else(|| unsuitable("it is no point"))?;
                Ok(Self::Ec { curve: *curve, point })
            }
        }
    }

    fn from_certified(key: &DeviceKey) -> Result<Self, Refusal> {
        match key {
            DeviceKey::Ec { curve, point } => {
                let curve = match curve {
                    Curve::P256 => EccCurve::P256,
                    Curve::P384 => EccCurve::P384,
                    Curve::P521 => EccCurve::P521,
                };
                Ok(Self::Ec { curve, point: point.clone() })
            }
            DeviceKey::Rsa { spki } => {
                let broken = || unsuitable("the certificate's RSA key cannot be read");
                let (_, spki) = SubjectPublicKeyInfo::from_der(spki).map_err(|_| broken())?;
                match spki.parsed() {
                    Ok(X509Key::RSA(key)) => Self::rsa(key.modulus, key.exponent),
                    _ => Err(broken()),
                }
            }
        }
    }

    /// Numbers without leading zeros, so that equal keys are equal bytes.
    fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, Refusal> {
        let number = |bytes: &[u8]| -> Vec<u8> { bytes.iter().copied().skip_while(|b| *b == 0).collect() };
        let modulus = number(modulus);
        if modulus.len() * 8 < MIN_RSA_BITS {
            return Err(unsuitable("RSA keys must have 2048 bits or more"));
        }
        Ok(Self::Rsa { modulus, exponent: number(exponent) })
    }
}

fn ecdsa(curve: EccCurve, hash: Bank) -> Option<&'static EcdsaVerificationAlgorithm> {
    match (curve, hash) {
        (EccCurve::P256, Bank::Sha256) => Some(&ECDSA_P256_SHA256_FIXED),
        (EccCurve::P384, Bank::Sha384) => Some(&ECDSA_P384_SHA384_FIXED),
        (EccCurve::P521, Bank::Sha512) => Some(&ECDSA_P521_SHA512_FIXED),
        _ => None,
    }
}

fn pkcs1(hash: Bank) -> Option<&'static RsaParameters> {
    match hash {
        Bank::Sha256 => Some(&RSA_PKCS1_2048_8192_SHA256),
        Bank::Sha384 => Some(&RSA_PKCS1_2048_8192_SHA384),
        Bank::Sha512 => Some(&RSA_PKCS1_2048_8192_SHA512),
        Bank::Sha1 | Bank::Sm3 => None,
    }
}

fn pss(hash: Bank) -> Option<[&'static RsaParameters; 2]> {
    static MAX_SHA256: RsaParameters = RSA_PSS_2048_8192_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);
    static MAX_SHA384: RsaParameters = RSA_PSS_2048_8192_SHA384.with_pss_salt_length(RsaPssSaltLength::Max);
    static MAX_SHA512: RsaParameters = RSA_PSS_2048_8192_SHA512.with_pss_salt_length(RsaPssSaltLength::Max);
    match hash {
        Bank::Sha256 => Some([&RSA_PSS_2048_8192_SHA256, &MAX_SHA256]),
        Bank::Sha384 => Some([&RSA_PSS_2048_8192_SHA384, &MAX_SHA384]),
        Bank::Sha512 => Some([&RSA_PSS_2048_8192_SHA512, &MAX_SHA512]),
        Bank::Sha1 | Bank::Sm3 => None,
    }
}

/// r and s at the length of the curve.
fn fixed(curve: EccCurve, r: &[u8], s: &[u8]) -> Option<Vec<u8>> {
    let len = curve.coordinate_len();
    let mut fixed = Vec::with_capacity(2 * len);
    for number in [r, s] {
        fixed.resize(fixed.len() + len.checked_sub(number.len())?, 0);
        fixed.extend_from_slice(number);
    }
    Some(fixed)
}

fn unsuitable(reason: &str) -> Refusal {
    Refusal::new(Step::AttestationKey, Code::TpmKeyUnsuitable, format!("the attestation key: {reason}"))
}
