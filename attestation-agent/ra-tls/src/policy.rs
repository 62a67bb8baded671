//! What a peer must prove.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use jose::{Expected, Jwk, TokenKeys};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};

use crate::attester::Future;
use crate::binding::NONCE_LEN;
use crate::{Error, Flow, Presented};

/// The time, passed in so that tests decide it.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Seconds since 1970.
    fn now(&self) -> i64;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }
}

/// Tokens that are believed.
pub struct Passports {
    /// The keys of the attestation service.
    pub keys: TokenKeys,
    /// The issuer that tokens must name, if any.
    pub issuer: Option<String>,
    /// The audience that tokens must name, if any.
    pub audience: Option<String>,
}

/// Something that appraises a peer's evidence, such as an attestation service.
pub trait Appraiser: Send + Sync {
    /// The claims that `evidence` (JSON) proves for `challenge` (base64url).
    fn appraise<'a>(
        &'a self,
        challenge: &'a str,
        evidence: &'a str,
    ) -> Future<'a, Result<Map<String, Value>, Error>>;
}

impl Appraiser for agent_client::AgentClient {
    fn appraise<'a>(
        &'a self,
        challenge: &'a str,
        evidence: &'a str,
    ) -> Future<'a, Result<Map<String, Value>, Error>> {
        Box::pin(async move {
            self.verify_evidence(challenge, evidence, None)
                .await
                .map_err(|error| Error::Appraisal(error.into()))
        })
    }
}

/// Decides about a peer by its claims, such as its measurements; the message says why it is not wanted.
pub type Wanted = dyn Fn(&Map<String, Value>) -> Result<(), String> + Send + Sync;

/// What a peer must prove. Without passports and without an appraiser nobody is believed.
#[derive(Clone, Default)]
pub struct Policy {
    passports: Option<Arc<Passports>>,
    appraiser: Option<Arc<dyn Appraiser>>,
    wanted: Option<Arc<Wanted>>,
    nonce: Option<[u8; NONCE_LEN]>,
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy").field("accepts", &self.accepts()).finish_non_exhaustive()
    }
}

/// What a peer has proven.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// By evidence or by a token.
    pub flow: Flow,
    /// The claims of the attestation service about the peer.
    pub claims: Map<String, Value>,
}

impl Policy {
    /// Believes tokens.
    #[must_use]
    pub fn with_passports(mut self, passports: Passports) -> Self {
        self.passports = Some(Arc::new(passports));
        self
    }

    /// Believes evidence that `appraiser` accepts.
    #[must_use]
    pub fn with_appraiser(mut self, appraiser: Arc<dyn Appraiser>) -> Self {
        self.appraiser = Some(appraiser);
        self
    }

    /// Also has `wanted` decide about the claims.
    #[must_use]
    pub fn with_wanted(
        mut self,
        wanted: impl Fn(&Map<String, Value>) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.wanted = Some(Arc::new(wanted));
        self
    }

    /// Believes only what was attested for `nonce`, which must serve once.
    #[must_use]
    pub const fn with_nonce(mut self, nonce: [u8; NONCE_LEN]) -> Self {
        self.nonce = Some(nonce);
        self
    }

    pub(crate) const fn nonce(&self) -> Option<[u8; NONCE_LEN]> {
        self.nonce
    }

    fn accepts(&self) -> &'static str {
        match (&self.passports, &self.appraiser) {
            (None, None) => "nothing",
            (Some(_), None) => "tokens",
            (None, Some(_)) => "evidence",
            (Some(_), Some(_)) => "tokens and evidence",
        }
    }

    /// What can be decided during the handshake: everything about a token, and of evidence whether it is for this key and
    /// nonce.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn check(&self, presented: &Presented, now: i64) -> Result<Option<Verdict>, Error> {
        if let Some(nonce) = &self.nonce
            && !bool::from(presented.extension.nonce().ct_eq(nonce))
        {
            return Err(Error::NonceMismatch);
        }
        match (presented.flow, &self.passports, &self.appraiser) {
            (Flow::Passport, Some(passports), _) => {
                let expected =
                    Expected { issuer: passports.issuer.as_deref(), audience: passports.audience.as_deref() };
                let verified = passports.keys.verify(&presented.extension.quote, &expected, now)?;
                self.judge(presented, verified.claims).map(Some)
            }
            (Flow::Background, _, Some(_)) => Ok(None),
            (flow, ..) => Err(Error::Flow { found: flow.name(), accepted: self.accepts() }),
        }
    }

    /// Has a peer's evidence appraised.
    ///
    /// # Errors
    /// If it is refused, or the claims are not about this peer.
    pub async fn appraise(&self, presented: &Presented) -> Result<Verdict, Error> {
        let flow = presented.flow;
        let (Flow::Background, Some(appraiser)) = (flow, &self.appraiser) else {
            return Err(Error::Flow { found: flow.name(), accepted: self.accepts() });
        };
        let extension = &presented.extension;
        let claims = appraiser.appraise(&extension.challenge, &extension.quote).await?;
        self.judge(presented, claims)
    }

    /// Whether verified claims are about this peer, and good.
    fn judge(&self, presented: &Presented, claims: Map<String, Value>) -> Result<Verdict, Error> {
        jose::check_challenge(&claims, &presented.extension.challenge_bytes)?;
        check_key(&claims, &presented.spki)?;
        jose::check_verdict(&claims)?;
        if let Some(wanted) = &self.wanted {
            wanted(&claims).map_err(Error::Unwanted)?;
        }
        Ok(Verdict { flow: presented.flow, claims })
    }
}

/// A token that names a key (RFC 7800) is for the holder of that key.
fn check_key(claims: &Map<String, Value>, spki: &[u8]) -> Result<(), Error> {
    let Some(confirmation) = claims.get("cnf") else { return Ok(()) };
    let named = confirmation.get("jwk").and_then(|jwk| Jwk::from_json(jwk.to_string().as_bytes()).ok());
    let point = SubjectPublicKeyInfo::from_der(spki)
        .map_err(|error| Error::Certificate(error.to_string()))?
        .1
        .subject_public_key
        .data
        .into_owned();
    let held = [jose::Curve::P256, jose::Curve::P384]
        .into_iter()
        .find_map(|curve| Jwk::from_sec1(curve, &point).ok());
    match (named, held) {
        (Some(named), Some(held)) if named.thumbprint() == held.thumbprint() => Ok(()),
        _ => Err(Error::ForeignKey),
    }
}
