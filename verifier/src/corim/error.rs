//! Why a document cannot be used.

use super::{MAX_CORIM_SIZE, MAX_ENDORSEMENTS};

/// A CoRIM document that cannot be imported or written.
#[derive(Debug, thiserror::Error)]
pub enum CorimError {
    /// More bytes than any document needs.
    #[error("the CoRIM document has {0} bytes; at most {MAX_CORIM_SIZE} are read")]
    TooLarge(usize),
    /// Not a well-formed document, or one that is not valid now.
    #[error("not a valid CoRIM document (tag 501, or 18 if signed): {0}")]
    Invalid(String),
    /// A profile whose measurements are not understood.
    #[error(
        "the CoRIM document has the profile {0}; expected Arm's CCA platform or realm endorsements \
         (tag:arm.com,2025:endorsements/cca_realm#1.0.0, .../cca_platform#1.0.0)"
    )]
    Profile(String),
    /// A tag or triple that would be dropped.
    #[error("the CoRIM document has {0}, which cannot be imported")]
    Unsupported(String),
    /// A triple that breaks its profile's rules.
    #[error("triple {triple} of tag {tag}: {problem}")]
    Triple {
        /// The tag's identifier.
        tag: String,
        /// The position of the triple in its list.
        triple: usize,
        /// What is wrong.
        problem: String,
    },
    /// More endorsements than one document may bring.
    #[error("the CoRIM document has more than {MAX_ENDORSEMENTS} endorsements")]
    TooMany,
    /// The document is not signed and the importer demands a signature.
    #[error(
        "the CoRIM document is not signed: sign it with a trusted key, or allow unsigned documents by name"
    )]
    Unsigned,
    /// No trusted signer verifies the signature.
    #[error(
        "no trusted signer verifies the signature ({algorithm}, key id {key_id}): register the signer's key"
    )]
    Signature {
        /// The algorithm that the document names.
        algorithm: String,
        /// The key identifier in hexadecimal, or "none".
        key_id: String,
    },
    /// The document cannot be written.
    #[error("the CoRIM document cannot be written: {0}")]
    Write(String),
}
