//! Why bytes are not a structure of a TPM.

use thiserror::Error;

use super::MAX_SIZE;

/// The bytes are not a structure that this crate reads.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TpmError {
    /// More bytes than any such structure needs.
    #[error("the {structure} has {found} bytes; at most {MAX_SIZE} are read")]
    TooLarge {
        /// The structure.
        structure: &'static str,
        /// Bytes given.
        found: usize,
    },
    /// The bytes end inside the structure.
    #[error("the {structure} is cut short in its {field}")]
    Truncated {
        /// The structure.
        structure: &'static str,
        /// The field that is incomplete.
        field: &'static str,
    },
    /// Something follows the structure.
    #[error("{found} bytes follow the {structure}")]
    Trailing {
        /// The structure.
        structure: &'static str,
        /// How many.
        found: usize,
    },
    /// Not made by a TPM: a TPM signs this number only before what it made itself.
    #[error("the TPMS_ATTEST begins with {found:#010x}, not with TPM_GENERATED_VALUE (0xff544347)")]
    Magic {
        /// What it begins with.
        found: u32,
    },
    /// An attestation of something else.
    #[error(
        "the TPMS_ATTEST has the type {found:#06x}; read are quotes (0x8018) and certifications (0x8017)"
    )]
    Type {
        /// The type.
        found: u16,
    },
    /// An algorithm that is not known, or has no place there.
    #[error("the {structure} has the algorithm {found:#06x} as its {field}, which is not supported there")]
    Algorithm {
        /// The structure.
        structure: &'static str,
        /// The field.
        field: &'static str,
        /// The algorithm (`TPM_ALG_ID`, or `TPM_ECC_CURVE`).
        found: u16,
    },
    /// A field breaks its rules.
    #[error("the {structure} is not valid: {reason}")]
    Value {
        /// The structure.
        structure: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
}
