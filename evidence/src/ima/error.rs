//! Why bytes are not a measurement list.

use thiserror::Error;

use super::{MAX_LOG_SIZE, MAX_PATH_LEN};

/// The bytes are not a measurement list that this crate reads. Entries count from 0.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImaError {
    /// More bytes than are read.
    #[error("the IMA log has {found} bytes; at most {MAX_LOG_SIZE} are read")]
    TooLarge {
        /// Bytes given.
        found: usize,
    },
    /// Neither form.
    #[error(
        "the IMA log is neither a binary_runtime_measurements of a little-endian machine nor an \
         ascii_runtime_measurements"
    )]
    Form,
    /// The bytes end inside an entry.
    #[error("entry {entry} of the IMA log is cut short in its {part}")]
    Truncated {
        /// The entry.
        entry: usize,
        /// The field that is incomplete.
        part: &'static str,
    },
    /// A template that is not known, so that the entry's fields are not either.
    #[error(
        "entry {entry} of the IMA log has the template {found}; known are ima, ima-ng, ima-sig, ima-ngv2, ima-sigv2, \
         ima-buf, ima-modsig and evm-sig"
    )]
    Template {
        /// The entry.
        entry: usize,
        /// The name, shortened.
        found: String,
    },
    /// A field is not what its template says.
    #[error("entry {entry} of the IMA log is not valid: {reason}")]
    Entry {
        /// The entry.
        entry: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A path that no kernel reports.
    #[error("entry {entry} of the IMA log has a path of {found} bytes; at most {MAX_PATH_LEN} are read")]
    Path {
        /// The entry.
        entry: usize,
        /// Bytes in the path.
        found: usize,
    },
    /// A line of the ASCII form.
    #[error("line {line} of the ASCII IMA log: {source}")]
    Ascii {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        source: AsciiError,
    },
}

/// What is wrong with a line of the ASCII form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AsciiError {
    /// Not `PCR HASH TEMPLATE FIELDS`.
    #[error("expected a register, a hash in hexadecimal, a template, and its fields")]
    Shape,
    /// A template that the ASCII form does not tell apart.
    #[error("this template is read from the binary form only: send binary_runtime_measurements")]
    Template,
    /// Not as many fields as the template has.
    #[error(
        "{found} fields; the template has {expected} (a path with spaces is told apart in the binary form only)"
    )]
    Fields {
        /// Fields found.
        found: usize,
        /// Fields of the template.
        expected: usize,
    },
    /// A field that should be hexadecimal, or `algorithm:hexadecimal`.
    #[error("a digest is not algorithm:hexadecimal, or a signature or buffer not hexadecimal")]
    Value,
    /// Hashes of several lengths in one list.
    #[error("the template hash has another length than those before")]
    HashLength,
}
