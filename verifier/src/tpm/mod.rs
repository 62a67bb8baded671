//! Evidence of a TPM 2.0: whose quote it is, what it says, and what the logs beside it prove.
//!
//! An attestation key is believed because its TPM has opened a credential that only the holder of a certified endorsement
//! key can open ([`credential`]), because an installed authority has certified it, or because an operator has pinned it.
//! A quote is believed if that key has signed it, about exactly the registers that are reported ([`verify_quote`]).

mod boot;
mod clock;
pub mod credential;
mod endorsement;
mod ima;
mod key;
mod quote;

pub use boot::{BootEvents, ProvenEvent, replay_boot};
pub use clock::{Progress, progress};
pub use endorsement::endorsement_key;
pub use ima::{ImaPart, ImaProof, ImaState, boot_aggregate, replay_ima};
pub use key::AttestationKey;
pub use quote::{Quote, verify_quote};
