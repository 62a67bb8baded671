//! Structures of a TPM 2.0 that attestation needs (TCG Trusted Platform Module Library, Part 2: Structures): what a quote
//! says, its signature, public areas of keys, and the credential that only one TPM can open.
//!
//! A structure is read whole or not at all, and what is read is written back byte by byte alike where a name or a
//! signature is computed over it. Whether a quote is to be *believed* is for the `verifier` crate.

mod attest;
mod credential;
mod error;
mod fields;
mod pcrs;
mod public;
mod signature;
#[cfg(test)]
mod tests;

pub use attest::{Attest, Attested, ClockInfo};
pub use credential::{EncryptedSecret, IdObject};
pub use error::TpmError;
pub use fields::{Fields, put_sized};
pub use pcrs::{PcrSelection, PcrSet, PcrSetError, PcrValues, PcrValuesError};
pub use public::{AsymmetricKey, Attributes, EccCurve, Name, Public, Scheme, Symmetric};
pub use signature::{Signature, SignatureScheme, SignatureValue};

/// Largest structure that is read, in bytes. A quote has some 150, a public area of an RSA key of 4096 bits some 600.
pub const MAX_SIZE: usize = 4096;

/// `TPM_ALG_NULL`: none.
const ALG_NULL: u16 = 0x0010;
