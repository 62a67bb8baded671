//! Why bytes are not an event log, and why a log cannot be replayed.

use thiserror::Error;

use super::{MAX_ALGORITHMS, MAX_EVENT_SIZE, MAX_LOG_SIZE, MAX_REGISTER};
use crate::bank::Bank;

/// The bytes are not an event log that this crate reads. Offsets count from the start of the log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LogError {
    /// More bytes than any log needs.
    #[error("the event log has {found} bytes; at most {MAX_LOG_SIZE} are read")]
    TooLarge {
        /// Bytes given.
        found: usize,
    },
    /// No record at all.
    #[error("the event log is empty")]
    Empty,
    /// The bytes end inside a record.
    #[error("the event at byte {offset} is cut short in its {part}")]
    Truncated {
        /// Where the record starts.
        offset: usize,
        /// The field that is incomplete.
        part: &'static str,
    },
    /// The first record is a `Spec ID Event03` that breaks its rules.
    #[error("the header Spec ID Event03 is not valid: {reason}")]
    Header {
        /// What is wrong.
        reason: &'static str,
    },
    /// A digest of an algorithm that the header does not declare, so that its size is unknown.
    #[error(
        "the event at byte {offset} has a digest of algorithm {algorithm:#06x}, which the header does not declare"
    )]
    UndeclaredAlgorithm {
        /// Where the record starts.
        offset: usize,
        /// The algorithm (`TPM_ALG_ID`).
        algorithm: u16,
    },
    /// Two digests of one algorithm, of which readers might take either.
    #[error("the event at byte {offset} has two digests of algorithm {algorithm:#06x}")]
    RepeatedAlgorithm {
        /// Where the record starts.
        offset: usize,
        /// The algorithm (`TPM_ALG_ID`).
        algorithm: u16,
    },
    /// No digest, or more than there can be.
    #[error("the event at byte {offset} has {found} digests; expected 1 to {MAX_ALGORITHMS}")]
    DigestCount {
        /// Where the record starts.
        offset: usize,
        /// How many it announces.
        found: u32,
    },
    /// A register that does not exist.
    #[error("the event at byte {offset} extends register {found}; the highest is {MAX_REGISTER}")]
    Register {
        /// Where the record starts.
        offset: usize,
        /// The register.
        found: u32,
    },
    /// More data than an event needs.
    #[error("the event at byte {offset} announces {found} bytes of data; at most {MAX_EVENT_SIZE} are read")]
    EventTooLarge {
        /// Where the record starts.
        offset: usize,
        /// Bytes announced.
        found: u32,
    },
}

/// The log does not say what the registers of a bank should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// An event without a digest for this bank: the log cannot be held against its registers.
    #[error("event {event} has no {bank} digest: the log cannot explain the registers of this bank")]
    MissingDigest {
        /// Position in the log, from 0.
        event: usize,
        /// The bank.
        bank: Bank,
    },
    /// A digest that has not the bank's length, which the header of the log declares.
    #[error("event {event} has a {bank} digest of {found} bytes; expected {}", .bank.len())]
    DigestLength {
        /// Position in the log, from 0.
        event: usize,
        /// The bank.
        bank: Bank,
        /// Bytes found.
        found: usize,
    },
    /// A startup locality after PCR 0 was extended, a second one, or one that does not exist.
    #[error(
        "event {event} gives a startup locality that is not 0, 3 or 4, is not the first, or comes after PCR 0 was extended"
    )]
    Locality {
        /// Position in the log, from 0.
        event: usize,
    },
}
