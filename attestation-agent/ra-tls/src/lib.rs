//! TLS whose keys are attested (RA-TLS): a peer's certificate carries evidence, or a token, for the very key that it
//! proves in the handshake.
//!
//! Certificates are self-signed and have an extension of secGear: evidence
//! (1.3.6.1.4.1.2011.2.8, the background-check flow) or an attestation token (1.3.6.1.4.1.2011.2.10, the passport flow),
//! as JSON `{"challenge": "<base64url>", "quote": "<evidence or token>"}`. The challenge is 32 bytes of the verifier and
//! SHA-256 of the certificate's SubjectPublicKeyInfo; what attests the challenge attests the key.
//!
//! - [`Attester`], [`Identity`]: a key and its certificate
//! - [`Policy`]: what a peer must prove; [`Verdict`]: what it has proven
//! - [`connect`], [`Acceptor`]: the two ends of a connection
//!
//! A client can send a nonce along in the handshake; the server then attests its key for this very connection. What a
//! peer's *name* is plays no role: it is what runs there that is proven.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod attester;
mod binding;
mod certificate;
mod error;
mod extension;
mod handshake;
mod identity;
mod policy;
mod stream;

pub use attester::{AgentAttester, Attestation, Attester, Future};
pub use certificate::Presented;
pub use error::Error;
pub use extension::{Extension, Flow, MAX_QUOTE_LEN};
pub use identity::{Identity, KeyPair};
pub use policy::{Appraiser, Clock, Passports, Policy, SystemClock, Verdict};
pub use stream::{Acceptor, Attested, connect};

/// What every fallible call of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;
