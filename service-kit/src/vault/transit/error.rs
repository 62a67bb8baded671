//! Why a key in a transit engine cannot be used, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::StatusCode;

use super::client::MAX_ANSWER;
use crate::outbound::TrustError;
use crate::private_file::PrivateFileError;

/// The key cannot be used. What the server says of its own accord is not repeated: it knows the token.
#[derive(Debug, thiserror::Error)]
pub enum TransitKeyError {
    /// Whom to trust cannot be told.
    #[error("ca {ca}: {source}")]
    Trust {
        /// The file with the authorities.
        ca: String,
        /// Why.
        source: TrustError,
    },
    /// The token, or what is given for one, cannot be read.
    #[error("token-file or secret-id-file")]
    CredentialFile(#[from] PrivateFileError),
    /// There is none in the file.
    #[error("{0} holds no token or secret-id: one line, as `bao token create -field=token` prints it")]
    Nothing(PathBuf),
    /// The AppRole does not get a token.
    #[error(
        "{server} does not accept the role-id with the secret-id in {file} at auth/{mount}; it is not asked again with the same,          because it may lock the role out: write a new one to the file, of `bao write -f auth/{mount}/role/NAME/secret-id`"
    )]
    Login {
        /// Who.
        server: String,
        /// The file.
        file: PathBuf,
        /// Path of the method.
        mount: String,
    },
    /// No connection.
    #[error("no connection to {server}: {source}; does the server run, and is this where it listens?")]
    Connect {
        /// Where to.
        server: String,
        /// Why.
        source: io::Error,
    },
    /// It is not who it should be.
    #[error(
        "no trusted TLS connection to {server}: {source}; its certificate must name this host and be of an authority in ca"
    )]
    Tls {
        /// Where to.
        server: String,
        /// Why.
        source: io::Error,
    },
    /// No answer in time.
    #[error("{server} has not answered within {} s", limit.as_secs())]
    Timeout {
        /// Who.
        server: String,
        /// How long was waited.
        limit: Duration,
    },
    /// No answer.
    #[error("the exchange with {server} failed: {source}")]
    Exchange {
        /// With whom.
        server: String,
        /// Why.
        source: hyper::Error,
    },
    /// The request cannot be made.
    #[error("the request cannot be made: {0}")]
    Request(#[from] axum::http::Error),
    /// It does not end, or breaks off.
    #[error("the answer of {server} broke off, or has more than {MAX_ANSWER} bytes")]
    Body {
        /// Whose.
        server: String,
    },
    /// The token does not give the right.
    #[error(
        "{server} denies {asked} (403): the token {whose} must be valid, and its policies must allow update on \
         {mount}/encrypt/{name}, {mount}/decrypt/{name} and {mount}/hmac/{name}, and read on {mount}/keys/{name}"
    )]
    Denied {
        /// Who.
        server: String,
        /// What was asked for.
        asked: String,
        /// Whose token.
        whose: String,
        /// The engine.
        mount: String,
        /// The key.
        name: String,
    },
    /// There is no such key.
    #[error(
        "{server} has no key {name} in a transit engine at {mount} (404); make it there: \
         `bao write -f {mount}/keys/{name} type=aes256-gcm96`"
    )]
    Absent {
        /// Who.
        server: String,
        /// The engine.
        mount: String,
        /// The key.
        name: String,
    },
    /// It does not serve.
    #[error(
        "{server} is sealed or has no leader (503): `bao status` says which, `bao operator unseal` unseals it"
    )]
    Sealed {
        /// Who.
        server: String,
    },
    /// It refuses what was asked for.
    #[error("{server} refuses {asked} (400); the server's own log and `bao read` of the key say why")]
    Refused {
        /// Who.
        server: String,
        /// What was asked for.
        asked: String,
    },
    /// It wants to be asked elsewhere.
    #[error(
        "{server} answered {asked} with {status}, and redirects are not followed: the URI must name the active server, or what \
         forwards to it"
    )]
    Redirect {
        /// Who.
        server: String,
        /// What was asked for.
        asked: String,
        /// The answer.
        status: StatusCode,
    },
    /// Another status.
    #[error("{server} answered {asked} with {status}; the server's own log says why")]
    Status {
        /// Who.
        server: String,
        /// What was asked for.
        asked: String,
        /// The answer.
        status: StatusCode,
    },
    /// It is not what a transit engine answers.
    #[error("what {server} answered {asked} with is not what a transit engine answers")]
    Answer {
        /// Who.
        server: String,
        /// What was asked for.
        asked: String,
    },
    /// A key that is not fit to be a master key.
    #[error("the key that {uri} names cannot be a master key: {reason}")]
    Unfit {
        /// What names it.
        uri: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What it wrapped once is not opened any more.
    #[error(
        "a secret is wrapped by version {version} of the key that {uri} names, and the server opens nothing older than version \
         {minimum}: set min_decryption_version of the key to {version}, and wrap all secrets anew before it is raised again"
    )]
    TooOld {
        /// What names it.
        uri: String,
        /// The version.
        version: u32,
        /// `min_decryption_version` of the key.
        minimum: u32,
    },
    /// The trait's callers are in a runtime, others are not.
    #[error("a key in a transit engine can only be used in a Tokio runtime")]
    Runtime,
}
