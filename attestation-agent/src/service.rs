//! The attestation service's REST interface, as far as an agent needs it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::{HeaderMap, SET_COOKIE};
use jose::{Jwk, TokenKeys};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::client::{Connection, Credentials};
use crate::{Error, Result};

const CHALLENGE: &str = "POST /challenge";
const ATTESTATION: &str = "POST /attestation";
const RESOURCE: &str = "POST /resource/storage";
const KEYS: &str = "GET /.well-known/jwks.json";

const SESSION_COOKIE: &str = "oeas-session-id";
/// Length of the service's random half of a challenge, in bytes.
const RANDOM_LEN: usize = 32;
/// Most bytes of its own that a caller can have in a challenge: evidence has room for 64, half of it is the service's.
pub const MAX_USER_DATA_LEN: usize = 32;
/// Longest session identifier and token that are sent back, in bytes: request headers have no room for more.
const MAX_COOKIE_LEN: usize = 128;
const MAX_TOKEN_LEN: usize = 16 * 1024;

/// A challenge of the service, with the session it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    text: String,
    bytes: [u8; 64],
    cookie: Option<String>,
}

impl Challenge {
    /// Reads a challenge's text, which was got by some other way; it belongs to no session.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn from_text(text: &str) -> std::result::Result<Self, &'static str> {
        let mut bytes = [0; 64];
        // Longer text fails to decode into the slice.
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(len) if len >= RANDOM_LEN => Ok(Self { text: text.to_owned(), bytes, cookie: None }),
            Ok(_) => Err("a challenge has at least 32 bytes"),
            Err(_) => Err("a challenge is base64url without padding of at most 64 bytes"),
        }
    }

    /// A challenge that the agent makes itself: `random`, then at most [`MAX_USER_DATA_LEN`] bytes of `user_data`.
    #[cfg(feature = "local-verify")]
    pub(crate) fn from_parts(random: &[u8; RANDOM_LEN], user_data: &[u8]) -> Self {
        let mut bytes = [0; 64];
        for (to, from) in bytes.iter_mut().zip(random.iter().chain(user_data)) {
            *to = *from;
        }
        Self { text: URL_SAFE_NO_PAD.encode([random, user_data].concat()), bytes, cookie: None }
    }

    /// The text, as the service gave it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the evidence must carry: the challenge, zero-padded.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 64] {
        &self.bytes
    }
}

/// The name of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourcePath {
    /// The owner; the service's default owner if absent.
    pub vendor: Option<String>,
    /// The path below the owner.
    pub path: String,
}

impl std::str::FromStr for ResourcePath {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once('/') {
            Some((vendor, path)) if !vendor.is_empty() && !path.is_empty() => {
                Ok(Self { vendor: Some(vendor.to_owned()), path: path.to_owned() })
            }
            _ => Err(format!("{text:?} is not of the form VENDOR/PATH")),
        }
    }
}

impl std::fmt::Display for ResourcePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.vendor.as_deref().unwrap_or_default(), self.path)
    }
}

/// Asks for a challenge that carries `user_data`, at most [`MAX_USER_DATA_LEN`] bytes.
///
/// # Errors
/// If the service cannot be asked, or its challenge does not end with `user_data`: such a challenge was made for
/// someone else, and evidence for it would vouch for someone else's key.
pub async fn challenge(connection: &mut Connection, user_data: &[u8]) -> Result<Challenge> {
    let answer =
        connection.post(CHALLENGE, Credentials::default(), &json!({ "user_data": user_data })).await?;
    let text: String = json_string(CHALLENGE, &answer.body)?;
    let mut challenge = Challenge::from_text(&text)
        .map_err(|problem| Error::Interface { endpoint: CHALLENGE, problem: problem.to_owned() })?;
    let decoded = URL_SAFE_NO_PAD.decode(&text).unwrap_or_default();
    if decoded.get(RANDOM_LEN..) != Some(user_data) {
        return Err(Error::ForeignChallenge);
    }
    challenge.cookie = session_cookie(&answer.headers)?;
    Ok(challenge)
}

/// Hands in evidence (JSON) and gets an attestation token (a JWT), bound to `key` if one is given.
///
/// # Errors
/// If the service cannot be asked, or refuses.
pub async fn attest(
    connection: &mut Connection,
    challenge: &Challenge,
    evidence: &str,
    policy_id: Option<&[String]>,
    key: Option<&Jwk>,
) -> Result<String> {
    let mut body = json!({
        "challenge": challenge.text,
        "evidence": URL_SAFE_NO_PAD.encode(evidence),
        "policy_id": policy_id,
    });
    if let (Some(key), Some(members)) = (key, body.as_object_mut()) {
        members.insert("tee_key".to_owned(), json!(key));
    }
    let credentials = Credentials { cookie: challenge.cookie.as_deref(), ..Credentials::default() };
    let answer = connection.post(ATTESTATION, credentials, &body).await?;
    let wrong = |problem: &str| Error::Interface { endpoint: ATTESTATION, problem: problem.to_owned() };
    let token = std::str::from_utf8(&answer.body).map_err(|_| wrong("the token is not text"))?.trim();
    let is_jwt_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if token.len() > MAX_TOKEN_LEN || token.split('.').count() != 3 || !token.bytes().all(is_jwt_byte) {
        return Err(wrong("the answer is not a JWT of reasonable size"));
    }
    Ok(token.to_owned())
}

/// Gets a secret, sealed to the key that the token is bound to (a JWE in compact serialisation).
///
/// # Errors
/// If the service cannot be asked, or refuses.
pub async fn resource(connection: &mut Connection, token: &str, resource: &ResourcePath) -> Result<String> {
    let credentials = Credentials { bearer: Some(token), ..Credentials::default() };
    let answer =
        connection.post(RESOURCE, credentials, &json!({ "TeeGet": { "resource": resource } })).await?;
    json_string(RESOURCE, &answer.body)
}

/// The keys with which the service signs tokens.
///
/// # Errors
/// If the service cannot be asked, or has none that can be used.
pub async fn token_keys(connection: &mut Connection) -> Result<TokenKeys> {
    let answer = connection.get(KEYS).await?;
    Ok(TokenKeys::from_jwks(&answer.body)?)
}

fn json_string(endpoint: &'static str, body: &[u8]) -> Result<String> {
    serde_json::from_slice(body)
        .map_err(|_| Error::Interface { endpoint, problem: "the answer is not a JSON string".to_owned() })
}

fn session_cookie(headers: &HeaderMap) -> Result<Option<String>> {
    for cookie in headers.get_all(SET_COOKIE) {
        let Some((name, value)) =
            cookie.to_str().ok().and_then(|text| text.split(';').next()?.trim().split_once('='))
        else {
            continue;
        };
        if name != SESSION_COOKIE {
            continue;
        }
        if !(1..=MAX_COOKIE_LEN).contains(&value.len())
            || !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            let problem = "the session cookie is not a short identifier".to_owned();
            return Err(Error::Interface { endpoint: CHALLENGE, problem });
        }
        return Ok(Some(format!("{SESSION_COOKIE}={value}")));
    }
    Ok(None)
}
