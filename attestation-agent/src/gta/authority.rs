//! The REST interface of a Global Trust Authority, under `/global-trust-authority/service/v1`.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::tpm::{EncryptedSecret, IdObject};
use hyper::body::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::machine::{Certified, Identity};
use super::measurement::{AttestRequest, AttesterType};
use crate::client::{Client, Connection, Credentials};
use crate::{Error, Result};

const CHALLENGE: &str = "POST /global-trust-authority/service/v1/challenge";
const ENROLL: &str = "POST /global-trust-authority/service/v1/enroll";
const ACTIVATE: &str = "POST /global-trust-authority/service/v1/enroll/activate";
const ENROLL_CERTIFIED: &str = "POST /global-trust-authority/service/v1/enroll/certified";
const ATTEST: &str = "POST /global-trust-authority/service/v1/attest";
/// Longest nonce taken, in bytes: it goes into a hash and back.
const MAX_NONCE: usize = 4096;
/// Longest API key.
const MAX_KEY: usize = 128;
/// Longest token, as the authority has it.
const MAX_TOKEN: usize = 16 * 1024;

/// What shows that this is a machine of the tenant. It is shown to the authority and nowhere else.
#[derive(Clone)]
pub enum Access {
    /// An API key.
    Key(Zeroizing<String>),
    /// A file with a token of an issuer that the authority believes. It is read for every request: it may be renewed.
    Token(PathBuf),
    /// The certificate that the connection has.
    Certificate,
}

impl Access {
    /// An API key as it was issued.
    ///
    /// # Errors
    /// If it is not one line of printable characters.
    pub fn key(key: &[u8]) -> Result<Self> {
        let problem = "the file has not one API key and nothing else: gta-server add-key prints one";
        line("--api-key-file", key, MAX_KEY, problem).map(Self::Key)
    }

    /// A token as it is now.
    fn token(path: &PathBuf) -> Result<Zeroizing<String>> {
        const OPTION: &str = "--service-token-file";
        let failed = |source: std::io::Error| Error::File {
            option: OPTION,
            action: "read",
            path: path.clone(),
            source: source.into(),
        };
        let text = Zeroizing::new(std::fs::read(path).map_err(failed)?);
        line(OPTION, text.trim_ascii(), MAX_TOKEN, "the file has not one token and nothing else")
    }
}

fn line(option: &'static str, text: &[u8], most: usize, problem: &str) -> Result<Zeroizing<String>> {
    let good = (1..=most).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
    match std::str::from_utf8(text) {
        Ok(text) if good => Ok(Zeroizing::new(text.to_owned())),
        _ => Err(Error::Option { option, problem: problem.to_owned() }),
    }
}

/// An authority, and who asks it.
#[derive(Clone)]
pub struct Authority {
    client: Client,
    tenant: String,
    access: Access,
}

/// A conversation with an authority.
pub struct Session<'a> {
    connection: Connection,
    authority: &'a Authority,
}

/// An enrolment that was begun.
pub struct Enrolment {
    id: String,
    /// What the TPM must open.
    pub credential: IdObject,
    /// What it needs for that.
    pub secret: EncryptedSecret,
}

/// What came of evidence.
#[derive(Debug, Deserialize)]
pub struct Answer {
    /// The result, signed: a JWT.
    pub token: String,
    /// `pass` or `fail`.
    pub attestation_status: String,
    /// The first entry of the IMA log that the authority does not know yet.
    pub ima_next_entry: Option<u64>,
}

#[derive(Deserialize)]
struct Nonce {
    nonce: String,
}

#[derive(Deserialize)]
struct Begun {
    enrollment_id: String,
    credential_blob: String,
    encrypted_secret: String,
}

#[derive(Deserialize)]
struct Answers {
    tokens: Vec<Answer>,
}

impl Authority {
    /// The authority that `client` reaches, asked as a machine of `tenant`.
    #[must_use]
    pub const fn new(client: Client, tenant: String, access: Access) -> Self {
        Self { client, tenant, access }
    }

    /// How long a single exchange with it may take.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.client.timeout()
    }

    /// Connects to it.
    ///
    /// # Errors
    /// If it cannot be reached, or is not the trusted one.
    pub async fn connect(&self) -> Result<Session<'_>> {
        Ok(Session { connection: self.client.connect().await?, authority: self })
    }
}

impl Session<'_> {
    async fn post(&mut self, endpoint: &'static str, body: &Value) -> Result<Bytes> {
        self.post_text(endpoint, body.to_string()).await
    }

    async fn post_text(&mut self, endpoint: &'static str, body: String) -> Result<Bytes> {
        let Authority { tenant, access, .. } = self.authority;
        let token = match access {
            Access::Token(path) => Some(Access::token(path)?),
            Access::Key(_) | Access::Certificate => None,
        };
        let api_key = match access {
            Access::Key(key) => Some(key.as_str()),
            Access::Token(_) | Access::Certificate => None,
        };
        let bearer = token.as_ref().map(|token| token.as_str());
        let credentials = Credentials { tenant: Some(tenant), api_key, bearer, cookie: None };
        Ok(self.connection.post_text(endpoint, credentials, body).await?.body)
    }

    /// A nonce for evidence of this node.
    ///
    /// # Errors
    /// If the authority refuses, or cannot be asked.
    pub async fn nonce(&mut self, node_id: &str, attesters: &[AttesterType]) -> Result<Vec<u8>> {
        let names: Vec<&str> = attesters.iter().map(|kind| kind.name()).collect();
        let answer = self.post(CHALLENGE, &json!({ "attester_type": names, "node_id": node_id })).await?;
        let Nonce { nonce } = parse(CHALLENGE, &answer)?;
        match STANDARD.decode(nonce) {
            Ok(bytes) if (1..=MAX_NONCE).contains(&bytes.len()) => Ok(bytes),
            _ => Err(broken(CHALLENGE, "the nonce is not a short text in base64")),
        }
    }

    /// Begins to enrol a node.
    ///
    /// # Errors
    /// If the authority refuses, or cannot be asked.
    pub async fn enrol(&mut self, node_id: &str, identity: &Identity) -> Result<Enrolment> {
        let body = json!({
            "node_id": node_id,
            "ek_certificate": identity.ek_certificate,
            "ek_public": identity.ek_public,
            "ak_public": identity.ak_public,
        });
        let begun: Begun = parse(ENROLL, &self.post(ENROLL, &body).await?)?;
        let decode =
            |text: &str| STANDARD.decode(text).map_err(|_| broken(ENROLL, "the credential is not in base64"));
        let credential = IdObject::decode(&decode(&begun.credential_blob)?);
        let secret = EncryptedSecret::decode(&decode(&begun.encrypted_secret)?);
        match (credential, secret) {
            (Ok(credential), Ok(secret)) => Ok(Enrolment { id: begun.enrollment_id, credential, secret }),
            _ => Err(broken(ENROLL, "the credential is not one for a TPM")),
        }
    }

    /// Ends an enrolment with what was in the credential.
    ///
    /// # Errors
    /// If the authority refuses, or cannot be asked.
    pub async fn activate(&mut self, enrolment: &Enrolment, opened: &[u8]) -> Result<()> {
        let body = json!({ "enrollment_id": enrolment.id, "credential": STANDARD.encode(opened) });
        self.post(ACTIVATE, &body).await.map(drop)
    }

    /// Enrols a node whose attestation key its initial one has certified for `nonce`.
    ///
    /// # Errors
    /// If the authority refuses, or cannot be asked.
    pub async fn enrol_certified(
        &mut self,
        node_id: &str,
        nonce: &[u8],
        certified: &Certified,
    ) -> Result<()> {
        let Certified { iak_certificate, ak_public, certify_info, signature } = certified;
        let body = json!({
            "node_id": node_id,
            "nonce": STANDARD.encode(nonce),
            "iak_certificate": iak_certificate,
            "ak_public": ak_public,
            "certify_info": certify_info,
            "signature": signature,
        });
        self.post(ENROLL_CERTIFIED, &body).await.map(drop)
    }

    /// Hands in evidence.
    ///
    /// # Errors
    /// If the authority does not take the evidence, or cannot be asked. That it refuses the machine is no error.
    pub async fn attest(&mut self, request: &AttestRequest) -> Result<Answer> {
        let body = serde_json::to_string(request).map_err(|error| Error::Request(error.to_string()))?;
        let Answers { tokens } = parse(ATTEST, &self.post_text(ATTEST, body).await?)?;
        let mut tokens = tokens.into_iter();
        match (tokens.next(), tokens.next()) {
            (Some(answer), None) if ["pass", "fail"].contains(&answer.attestation_status.as_str()) => {
                Ok(answer)
            }
            _ => Err(broken(ATTEST, "it has not one token with a status of pass or fail")),
        }
    }
}

fn parse<T: DeserializeOwned>(endpoint: &'static str, answer: &[u8]) -> Result<T> {
    serde_json::from_slice(answer).map_err(|error| broken(endpoint, &error.to_string()))
}

fn broken(endpoint: &'static str, problem: &str) -> Error {
    Error::Interface { endpoint, problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_key_is_one_line() {
        let key = |text: &[u8]| Access::key(text).is_ok();
        assert!(key(b"0123456789abcdefghijABCDEFGHIJxy"));
        for wrong in [&b""[..], b"a b", b"a\nb", "\u{e9}".as_bytes(), &[b'a'; MAX_KEY + 1]] {
            assert!(!key(wrong), "{wrong:?}");
        }
    }
}
