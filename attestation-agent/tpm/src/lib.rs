//! A TPM 2.0 as attestation needs it: the commands by which a machine proves which keys are in its TPM and what the TPM has
//! measured (TCG Trusted Platform Module Library, Part 3: Commands), over the kernel's device or the socket of an emulator.
//!
//! - [`Transport`], [`Tcti`]: how commands reach the TPM
//! - [`Tpm`]: the commands
//! - [`EndorsementKey`], [`ensure_attestation_key`], [`activate`], [`certify`], [`quote`]: what they add up to
//!
//! What a TPM answers is as foreign as what a network does: it may be an emulator of somebody else, or a bus that
//! somebody sits on. Answers are bounded, read whole or refused, and never believed where a digest tells. Sessions are
//! neither salted nor encrypted: who listens on the bus of a discrete TPM hears what an activated credential holds. It
//! proves the TPM, and opens nothing else. Here, commands and answers are wiped: passwords and credentials are in
//! them.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod activation;
mod attestation;
mod certification;
mod command;
mod endorsement;
mod error;
mod handle;
mod quoting;
mod response_code;
mod transport;

pub use activation::activate;
pub use attestation::{AkAlgorithm, AttestationKey, ensure_attestation_key};
pub use certification::{Certification, certify};
pub use command::{NvPublic, Tpm, Transient};
pub use endorsement::{EkKind, EndorsementKey, endorsement_certificate};
pub use error::Error;
pub use handle::{Auth, Handle};
pub use quoting::{Quoted, quote};
pub use response_code::ResponseCode;
pub use transport::{Device, Socket, Tcti, TctiError, Transport};
