/// Why a key or a sealed message was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The JWK is not a public key that this crate can use.
    #[error("the JWK is not usable: {0}")]
    Key(&'static str),
    /// The JSON text is not a JWK.
    #[error("the JWK is not valid JSON of an EC or RSA public key")]
    KeyJson(#[source] serde_json::Error),
    /// The message does not have the form of RFC 7516 section 7.1.
    #[error("the JWE is malformed: {0}")]
    Form(&'static str),
    /// The protected header is not the JSON that RFC 7516 section 4 asks for.
    #[error("the JWE protected header is malformed")]
    Header(#[source] serde_json::Error),
    /// The header names an algorithm, a compression or an extension that this crate does not speak.
    #[error("the JWE header parameter {parameter:?} is {found:?}; only {expected} is supported")]
    Unsupported {
        /// The header parameter.
        parameter: &'static str,
        /// What the message says.
        found: String,
        /// What is supported.
        expected: &'static str,
    },
    /// The sender's ephemeral key lies on another curve than the recipient's.
    #[error("the JWE was made with a {found} key for a {expected} recipient: it is sealed to another key")]
    KeyMismatch {
        /// The curve of the message's `epk`.
        found: &'static str,
        /// The curve of the recipient's key.
        expected: &'static str,
    },
    /// A key unwrap or an authentication tag failed; which of them is not told.
    #[error("the JWE cannot be opened with this key: it is sealed to another key, or was altered")]
    Decrypt,
    /// The input is over the limit.
    #[error("{what} has {found} bytes; the limit is {limit}")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its length, in bytes.
        found: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The plaintext could not be encrypted.
    #[error("the message could not be encrypted")]
    Encrypt,
}
