//! Evidence of a TPM 2.0: whose quote it is, what it says, and what the logs beside it prove.
//!
//! An attestation key is believed because its TPM has opened a credential that only the holder of a certified endorsement
//! key can open ([`credential`]), because a key that an installed authority has certified says that it is in the same TPM
//! ([`certified_key`]), because such an authority has certified it itself, or because an operator has pinned it.
//! A quote is believed if that key has signed it, about exactly the registers that are reported ([`verify_quote`]).

mod boot;
mod certified;
mod clock;
pub mod credential;
mod endorsement;
mod ima;
mod key;
mod quote;

pub use boot::{BootEvents, ProvenEvent, boot_references, replay_boot};
pub use certified::certified_key;
pub use clock::{Progress, progress};
pub use endorsement::endorsement_key;
pub use ima::{ImaPart, ImaProof, ImaState, boot_aggregate, replay_ima};
pub use key::AttestationKey;
pub use quote::{Quote, verify_quote};
