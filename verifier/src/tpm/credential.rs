//! Credential activation: a secret that comes back only if the attestation key is in the TPM with the endorsement key
//! (TPM 2.0 Part 1, 24, and Annexes B.10.4 and C.6.4 for how the seed is protected).

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use evidence::bank::Bank;
use evidence::tpm::{AsymmetricKey, EccCurve, EncryptedSecret, IdObject, Name, Public, Symmetric};
use p384::elliptic_curve::sec1::{FromSec1Point, ModulusSize, ToSec1Point};
use p384::elliptic_curve::{CurveArithmetic, Generate as _, PublicKey, SecretKey};
use rand_core::CryptoRng;
use rsa::BoxedUint;
use rsa::oaep::EncryptingKey as OaepKey;
use rsa::traits::RandomizedEncryptor as _;
use zeroize::Zeroizing;

/// Label of the seed. RSA takes it with the NUL at its end.
const IDENTITY: &[u8] = b"IDENTITY\0";
/// Label of the key that encrypts the credential.
pub(crate) const STORAGE: &[u8] = b"STORAGE\0";
/// Label of the key that authenticates it.
pub(crate) const INTEGRITY: &[u8] = b"INTEGRITY\0";

/// Longest credential in bytes: one digest of the endorsement key's name algorithm.
const MAX_CREDENTIAL: usize = 32;

/// The credential cannot be protected with this endorsement key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Algorithms that this crate does not have.
    #[error(
        "the endorsement key must be RSA, or on P-256 or P-384, with SHA-256, SHA-384 or SHA-512 as its name algorithm, and \
         AES-128 or AES-256"
    )]
    Unsupported,
    /// Numbers that are no key.
    #[error("the endorsement key is not a valid public key")]
    Key,
    /// Longer than any TPM takes.
    #[error("a credential has at most {MAX_CREDENTIAL} bytes")]
    TooLong,
}

/// Protects `credential`, so that only the TPM that holds the private half of `endorsement` opens it, and only if it also
/// holds the key that is called `name` (`TPM2_MakeCredential`).
///
/// # Errors
/// [`CredentialError`].
pub fn make_credential(
    endorsement: &Public,
    name: &Name,
    credential: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<(IdObject, EncryptedSecret), CredentialError> {
    if credential.len() > MAX_CREDENTIAL {
        return Err(CredentialError::TooLong);
    }
    let hash = endorsement.name_algorithm;
    let Symmetric::AesCfb { bits } = endorsement.symmetric else { return Err(CredentialError::Unsupported) };
    let (seed, secret) = seed(endorsement, hash, rng)?;

    let key = kdfa(hash, &seed, STORAGE, name.as_bytes(), usize::from(bits))?;
    let mut encrypted = u16::try_from(credential.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
    encrypted.extend_from_slice(credential);
    encrypt(&key, &mut encrypted)?;

    let key = kdfa(hash, &seed, INTEGRITY, &[], hash.len() * 8)?;
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac_algorithm(hash)?, &key));
    mac.update(&encrypted);
    mac.update(name.as_bytes());
    Ok((IdObject { integrity: mac.sign().as_ref().to_vec(), encrypted }, secret))
}

/// A new seed, and what tells it to the endorsement key's holder.
fn seed(
    endorsement: &Public,
    hash: Bank,
    rng: &mut impl CryptoRng,
) -> Result<(Zeroizing<Vec<u8>>, EncryptedSecret), CredentialError> {
    match &endorsement.key {
        AsymmetricKey::Rsa { modulus, exponent, .. } => {
            let mut seed = Zeroizing::new(vec![0; hash.len()]);
            rng.fill_bytes(&mut seed);
            let exponent = u64::from(AsymmetricKey::exponent(*exponent));
            let key = rsa::PublicKey::new(BoxedUint::from_be_slice_vartime(modulus), exponent.into())
                .map_err(|_| CredentialError::Key)?;
            let secret = match hash {
                Bank::Sha256 => {
                    OaepKey::<sha2::Sha256>::new_with_label(key, IDENTITY).encrypt_with_rng(rng, &seed)
                }
                Bank::Sha384 => {
                    OaepKey::<sha2::Sha384>::new_with_label(key, IDENTITY).encrypt_with_rng(rng, &seed)
                }
                Bank::Sha512 => {
                    OaepKey::<sha2::Sha512>::new_with_label(key, IDENTITY).encrypt_with_rng(rng, &seed)
                }
                Bank::Sha1 | Bank::Sm3 => return Err(CredentialError::Unsupported),
            };
            Ok((seed, EncryptedSecret { secret: secret.map_err(|_| CredentialError::Key)? }))
        }
        AsymmetricKey::Ecc { curve, .. } => {
            let point = endorsement.key.sec1_point().ok_or(CredentialError::Key)?;
            let agreed = match curve {
                EccCurve::P256 => agree::<p256::NistP256>(&point, rng)?,
                EccCurve::P384 => agree::<p384::NistP384>(&point, rng)?,
                EccCurve::P521 => return Err(CredentialError::Unsupported),
            };
            let (x, y) = split(&agreed.ephemeral, curve.coordinate_len())?;
            let (theirs, _) = split(&point, curve.coordinate_len())?;
            let seed = kdfe(hash, &agreed.shared, x, theirs);
            Ok((seed, EncryptedSecret::of_point(x, y)))
        }
    }
}

/// A key that was agreed on.
struct Agreed {
    /// The x coordinate of the shared point.
    shared: Zeroizing<Vec<u8>>,
    /// Our half, an uncompressed SEC1 point.
    ephemeral: Vec<u8>,
}

fn agree<C>(point: &[u8], rng: &mut impl CryptoRng) -> Result<Agreed, CredentialError>
where
    C: CurveArithmetic,
    C::FieldBytesSize: ModulusSize,
    C::AffinePoint: FromSec1Point<C> + ToSec1Point<C>,
{
    let theirs = PublicKey::<C>::from_sec1_bytes(point).map_err(|_| CredentialError::Key)?;
    let ours = SecretKey::<C>::generate_from_rng(rng);
    let shared = Zeroizing::new(ours.diffie_hellman(&theirs).raw_secret_bytes().to_vec());
    Ok(Agreed { shared, ephemeral: ours.public_key().to_sec1_point(false).as_bytes().to_vec() })
}

/// KDFe (Part 1, 11.4.10.3) of the seed, with the x coordinates of the ephemeral and the endorsement key as party
/// information; one round is enough for a seed of the hash's own length.
pub(crate) fn kdfe(hash: Bank, shared: &[u8], ephemeral: &[u8], endorsement: &[u8]) -> Zeroizing<Vec<u8>> {
    let parts = [&1_u32.to_be_bytes()[..], shared, IDENTITY, ephemeral, endorsement];
    Zeroizing::new(hash.hash(parts).as_bytes().to_vec())
}

/// The coordinates of an uncompressed SEC1 point.
fn split(point: &[u8], len: usize) -> Result<(&[u8], &[u8]), CredentialError> {
    point.get(1..).and_then(|xy| xy.split_at_checked(len)).ok_or(CredentialError::Key)
}

/// KDFa (Part 1, 11.4.10.2): NIST SP 800-108 in counter mode. `label` ends with NUL.
pub(crate) fn kdfa(
    hash: Bank,
    key: &[u8],
    label: &[u8],
    context: &[u8],
    bits: usize,
) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let key = hmac::Key::new(hmac_algorithm(hash)?, key);
    let mut out = Zeroizing::new(Vec::with_capacity(hash.len() * 2));
    for counter in 1_u32.. {
        if out.len() >= bits / 8 {
            break;
        }
        let mut mac = hmac::Context::with_key(&key);
        mac.update(&counter.to_be_bytes());
        mac.update(label);
        mac.update(context);
        mac.update(&u32::try_from(bits).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(mac.sign().as_ref());
    }
    out.truncate(bits / 8);
    Ok(out)
}

/// AES in CFB mode; the first block is all zero, for each key encrypts once.
fn encrypt(key: &[u8], in_out: &mut [u8]) -> Result<(), CredentialError> {
    let algorithm = match key.len() {
        16 => &AES_128,
        32 => &AES_256,
        _ => return Err(CredentialError::Unsupported),
    };
    let key = UnboundCipherKey::new(algorithm, key).map_err(|_| CredentialError::Key)?;
    let key = EncryptingKey::cfb128(key).map_err(|_| CredentialError::Key)?;
    let zero = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    key.less_safe_encrypt(in_out, zero).map(drop).map_err(|_| CredentialError::Key)
}

fn hmac_algorithm(hash: Bank) -> Result<hmac::Algorithm, CredentialError> {
    match hash {
        Bank::Sha256 => Ok(hmac::HMAC_SHA256),
        Bank::Sha384 => Ok(hmac::HMAC_SHA384),
        Bank::Sha512 => Ok(hmac::HMAC_SHA512),
        Bank::Sha1 | Bank::Sm3 => Err(CredentialError::Unsupported),
    }
}
