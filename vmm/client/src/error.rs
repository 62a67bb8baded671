//! What can go wrong between client and VMM.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// Most bytes of a refusal that is not JSON that are shown.
const MAX_TEXT: usize = 400;

/// A call that failed.
#[derive(Debug, Error)]
#[error("{endpoint} at {}", socket.display())]
pub struct Error {
    /// The call, such as `vm.boot`.
    pub endpoint: &'static str,
    /// Socket of the VMM.
    pub socket: PathBuf,
    /// Why.
    #[source]
    pub failure: Failure,
}

impl Error {
    /// Status code of the answer, when there was an answer.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self.failure {
            Failure::Refused { status, .. } => Some(status),
            _ => None,
        }
    }

    /// Whether nobody listens on the socket, or there is none.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        let Failure::Connect { source } = &self.failure else { return false };
        matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
    }
}

/// Why a call failed.
#[derive(Debug, Error)]
pub enum Failure {
    /// The socket does not take connections.
    #[error("cannot connect")]
    Connect {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There was no answer in time.
    #[error("no answer within {} ms", after.as_millis())]
    Timeout {
        /// How long the client waited.
        after: Duration,
    },
    /// The VMM refused.
    #[error("status {status}: {}", messages.join(": "))]
    Refused {
        /// HTTP status code: 400 a bad request, 404 no such thing, 409 a name that is taken, 429 to be tried again,
        /// 500 everything else.
        status: u16,
        /// Why, outermost reason first.
        messages: Vec<String>,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("the VMM broke off")]
    Transport {
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// The answer is not what the call answers.
    #[error("the answer cannot be understood: {reason}")]
    Answer {
        /// What is wrong with it.
        reason: String,
    },
    /// What was to be sent has no JSON form, such as a path that is not UTF-8.
    #[error("the request has no JSON form")]
    Request {
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The descriptors cannot be sent.
    #[error("{reason}")]
    Descriptors {
        /// Why.
        reason: String,
    },
    /// The request cannot be addressed.
    #[error("the request is not HTTP")]
    Address {
        /// Why.
        #[source]
        source: hyper::http::Error,
    },
    /// The client cannot do input and output.
    #[error("cannot wait for the answer")]
    Runtime {
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The reasons in the body of a refusal: a JSON array of texts, or whatever came.
pub(crate) fn messages(body: &[u8]) -> Vec<String> {
    serde_json::from_slice(body).unwrap_or_else(|_| {
        let end = body.len().min(MAX_TEXT);
        let text = String::from_utf8_lossy(body.get(..end).unwrap_or_default());
        let text = text.trim();
        vec![if text.is_empty() { "no reason given".to_owned() } else { text.to_owned() }]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_an_array_or_whatever_came() {
        assert_eq!(messages(br#"["outer","inner"]"#), ["outer", "inner"]);
        assert_eq!(messages(b" plain \n"), ["plain"]);
        assert_eq!(messages(b""), ["no reason given"]);
        assert_eq!(messages(&[b'x'; 5000]).first().map(String::len), Some(MAX_TEXT));
    }
}
