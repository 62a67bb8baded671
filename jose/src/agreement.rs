use std::fmt;

use p256::elliptic_curve::Generate as _;
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::jwk::Key;
use crate::{Curve, Error, Jwk, Result};

/// A private key that lives in memory only, for one key release; erased when dropped.
pub struct EphemeralKey {
    secret: Secret,
    public: Jwk,
}

enum Secret {
    P256(p256::SecretKey),
    P384(p384::SecretKey),
    P521(p521::SecretKey),
}

impl EphemeralKey {
    /// Makes a new key pair.
    pub fn generate(curve: Curve, rng: &mut impl CryptoRng) -> Self {
        Self::from_secret(match curve {
            Curve::P256 => Secret::P256(p256::SecretKey::generate_from_rng(rng)),
            Curve::P384 => Secret::P384(p384::SecretKey::generate_from_rng(rng)),
            Curve::P521 => Secret::P521(p521::SecretKey::generate_from_rng(rng)),
        })
    }

    fn from_secret(secret: Secret) -> Self {
        let public = Jwk(match &secret {
            Secret::P256(key) => Key::P256(key.public_key()),
            Secret::P384(key) => Key::P384(key.public_key()),
            Secret::P521(key) => Key::P521(key.public_key()),
        });
        Self { secret, public }
    }

    /// The public half, to be sent to whoever shall seal something to this key.
    #[must_use]
    pub const fn public_jwk(&self) -> &Jwk {
        &self.public
    }

    /// The shared secret Z with another party's public key (RFC 7518 section 4.6).
    pub(crate) fn shared_secret(&self, peer: &Jwk) -> Result<Zeroizing<Vec<u8>>> {
        match (&self.secret, &peer.0) {
            (Secret::P256(secret), Key::P256(public)) => {
                Ok(Zeroizing::new(secret.diffie_hellman(public).raw_secret_bytes().to_vec()))
            }
            (Secret::P384(secret), Key::P384(public)) => {
                Ok(Zeroizing::new(secret.diffie_hellman(public).raw_secret_bytes().to_vec()))
            }
            (Secret::P521(secret), Key::P521(public)) => {
                Ok(Zeroizing::new(secret.diffie_hellman(public).raw_secret_bytes().to_vec()))
            }
            _ => Err(Error::KeyMismatch { found: peer.kind(), expected: self.public.kind() }),
        }
    }

    #[cfg(test)]
    pub(crate) fn from_private_bytes(curve: Curve, d: &[u8]) -> Self {
        Self::from_secret(match curve {
            Curve::P256 => Secret::P256(p256::SecretKey::from_slice(d).unwrap()),
            Curve::P384 => Secret::P384(p384::SecretKey::from_slice(d).unwrap()),
            Curve::P521 => Secret::P521(p521::SecretKey::from_slice(d).unwrap()),
        })
    }
}

impl fmt::Debug for EphemeralKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EphemeralKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// The Concat KDF of RFC 7518 section 4.6.2 for keys of up to 256 bits: one round of SHA-256, of which the caller
/// takes the first `key_bits` bits. The three texts are at most a few kilobytes.
pub(crate) fn concat_kdf(
    shared_secret: &[u8],
    algorithm: &str,
    party_u: &[u8],
    party_v: &[u8],
    key_bits: u32,
) -> Zeroizing<[u8; 32]> {
    let mut hash = Sha256::new();
    hash.update(1u32.to_be_bytes());
    hash.update(shared_secret);
    for text in [algorithm.as_bytes(), party_u, party_v] {
        hash.update(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(text);
    }
    hash.update(key_bits.to_be_bytes());
    Zeroizing::new(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn derives_the_key_of_rfc_7518_appendix_c() {
        let d = URL_SAFE_NO_PAD.decode("0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo").unwrap();
        let alice = EphemeralKey::from_private_bytes(Curve::P256, &d);
        let bob = Jwk::from_json(
            br#"{"kty":"EC","crv":"P-256","x":"weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ",
                 "y":"e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck"}"#,
        )
        .unwrap();
        let z = alice.shared_secret(&bob).unwrap();
        assert_eq!(hex::encode(&z), "9e56d91d817135d372834283bf84269cfb316ea3da806a48f6daa7798cfe90c4");
        let key = concat_kdf(&z, "A128GCM", b"Alice", b"Bob", 128);
        assert_eq!(URL_SAFE_NO_PAD.encode(&key[..16]), "VqqN6vgjbSBcIijNcacQGg");
    }

    #[test]
    fn never_prints_the_private_key() {
        let key = EphemeralKey::from_private_bytes(Curve::P256, &[0x5a; 32]);
        let text = format!("{key:?}");
        assert!(
            !text.contains("5a5a") && !text.contains("90, 90") && !text.to_lowercase().contains("secret"),
            "{text}"
        );
    }

    #[test]
    fn generates_a_different_key_each_time() {
        let mut rng = rand::rng();
        for curve in [Curve::P256, Curve::P384, Curve::P521] {
            let (a, b) = (EphemeralKey::generate(curve, &mut rng), EphemeralKey::generate(curve, &mut rng));
            assert_eq!(a.public_jwk().curve(), Some(curve));
            assert_ne!(a.public_jwk().thumbprint(), b.public_jwk().thumbprint());
        }
    }
}
