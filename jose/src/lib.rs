//! JWK thumbprints, JWE and signed tokens: how a secret is sealed to an attested key, and who attested it.
//!
//! The key broker seals a resource to the public key that the evidence vouches for; only the guest that made the key
//! can open it. The kind of key decides the algorithm, so there is nothing to negotiate or to downgrade:
//! ECDH-ES+A256KW on P-256, P-384 or P-521, RSA-OAEP-256 to RSA keys of others, always with A256GCM (RFC 7518),
//! in compact or flattened serialisation (RFC 7516), and SHA-256 thumbprints (RFC 7638).
//!
//! [`TokenKeys`] checks the signed tokens (JWT) of an attestation service; [`check_challenge`] and [`check_verdict`] what
//! they claim.
//!
//! ```
//! let mut rng = rand::rng();
//! let guest = jose::EphemeralKey::generate(jose::Curve::P384, &mut rng);
//! let sealed = jose::encrypt(guest.public_jwk(), b"disk key", &mut rng)?;
//! assert_eq!(guest.decrypt(&sealed)?.as_slice(), b"disk key");
//! # Ok::<(), jose::Error>(())
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod agreement;
mod claims;
mod error;
mod jwe;
mod jwk;
mod jwt;

pub use agreement::EphemeralKey;
pub use claims::{ClaimsError, check_challenge, check_verdict, initial_measurement};
pub use error::Error;
pub use jwe::{Jwe, MAX_COMPACT_LEN, MAX_PLAINTEXT_LEN, encrypt, seal};
pub use jwk::{Curve, Jwk};
pub use jwt::{Expected, MAX_TOKEN_LEN, TokenError, TokenKeys, Verified};

/// What every fallible call of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;
