//! Bearer tokens of OpenID Connect issuers that an operator names: who came, and in which groups that one is. What they may
//! do is for the service to say.
//!
//! A token is a signed JWT (RFC 7519, RFC 9068) with `iss`, `aud`, `sub`, `exp` and `nbf` or `iat`, whose keys the issuer
//! publishes as a JWK set (OpenID Connect Discovery 1.0), or the operator has in a file.

mod fetch;
mod keys;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jose::{Expected, TokenError, TokenKeys, Verified};
use serde::Deserialize;
use serde_json::{Map, Value};

use self::fetch::Address;
use self::keys::{Keys, Source};
use crate::outbound::connector;

/// Longest token read, in bytes. Those of people in many groups have a few KiB.
pub const MAX_TOKEN: usize = 16 * 1024;
/// Longest issuer, in bytes.
pub const MAX_ISSUER: usize = 200;
/// Longest subject, in bytes (OpenID Connect Core 1.0 section 2).
pub const MAX_SUBJECT: usize = 255;
/// Most issuers.
const MAX_ISSUERS: usize = 32;
/// Seconds for which a token may be valid at most, unless the operator says otherwise, and whatever they say.
const LIFETIME: i64 = 24 * 3600;
const MAX_LIFETIME: i64 = 7 * 24 * 3600;
/// Seconds between two looks for new keys, unless the operator says otherwise.
const REFRESH: u64 = 30;
/// What a token's header may say that it is: a JWT, or an access token (RFC 9068 section 2.1).
const TYPES: [&str; 4] = ["JWT", "application/jwt", "at+jwt", "application/at+jwt"];

/// An issuer, as an operator names it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// Its URL, exactly as `iss` has it: `https://` without query and fragment.
    pub issuer: String,
    /// What tokens must be for (`aud`).
    pub audience: String,
    /// File with its JWK set; without it, the set is found by discovery.
    pub jwks_file: Option<PathBuf>,
    /// Authorities that certify it, in PEM; without it, those that browsers know.
    pub ca: Option<PathBuf>,
    /// The claim with the groups: its name, or a JSON pointer (`/realm_access/roles`).
    pub groups_claim: Option<String>,
    /// Seconds for which a token may be valid, from `nbf` or `iat` to `exp`.
    #[serde(default = "lifetime")]
    pub max_lifetime: i64,
    /// Seconds that pass at least between two looks for new keys.
    #[serde(default = "refresh")]
    pub refresh_interval: u64,
}

const fn lifetime() -> i64 {
    LIFETIME
}

const fn refresh() -> u64 {
    REFRESH
}

/// An issuer cannot be believed as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Something in it is out of bounds.
    #[error("issuer {issuer}: {problem}")]
    Invalid {
        /// Which.
        issuer: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A file of it cannot be used.
    #[error("issuer {issuer}: {path}: {problem}")]
    File {
        /// Which.
        issuer: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Too many.
    #[error("there are more than {MAX_ISSUERS} issuers")]
    TooMany,
}

/// Why a token does not say who came.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// It is something else.
    #[error("this is no signed JWT with an issuer, of at most {MAX_TOKEN} bytes")]
    Form,
    /// It is of somebody whom nobody has named.
    #[error("the token's issuer {0:?} is none that this service believes")]
    Issuer(String),
    /// It does not hold.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// It is for something else than to come with.
    #[error("the token's typ is {0:?}; expected none, JWT or at+jwt")]
    Type(String),
    /// It could be used for too long.
    #[error("the token is valid for {found} s, and may be for {most} s: get one with a shorter lifetime")]
    Lifetime {
        /// For how long it is valid, in seconds.
        found: i64,
        /// For how long it may be.
        most: i64,
    },
    /// Nobody can be named by it.
    #[error("the token's sub must have 1 to {MAX_SUBJECT} bytes and no control characters")]
    Subject,
    /// It cannot be checked now.
    #[error("the keys of the issuer {0} cannot be read now; the operator's log says why")]
    Unavailable(String),
}

/// Who came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Who says so.
    pub issuer: String,
    /// Whom the issuer knows by this name and no other.
    pub subject: String,
    /// The groups, as far as the operator wants to know them.
    pub groups: Vec<String>,
    /// Until when, seconds since the Unix epoch.
    pub expires: i64,
}

/// Issuers by their URLs.
#[derive(Clone, Default)]
pub struct Issuers(Arc<[Issuer]>);

struct Issuer {
    config: IssuerConfig,
    keys: Arc<Keys>,
}

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Issuers {
    /// Issuers that are believed from now on. Keys in files are read at once, others when they are needed.
    ///
    /// # Errors
    /// [`ConfigError`] names the issuer.
    pub fn new(configs: Vec<IssuerConfig>) -> Result<Self, ConfigError> {
        if configs.len() > MAX_ISSUERS {
            return Err(ConfigError::TooMany);
        }
        let mut issuers: Vec<Issuer> = Vec::new();
        for config in configs {
            let invalid = |problem| ConfigError::Invalid { issuer: config.issuer.clone(), problem };
            if issuers.iter().any(|other| other.config.issuer == config.issuer) {
                return Err(invalid("it is there twice"));
            }
            check(&config).map_err(invalid)?;
            let file = |path: &Path, problem: String| ConfigError::File {
                issuer: config.issuer.clone(),
                path: path.to_owned(),
                problem,
            };
            if let Some(ca) = &config.ca {
                connector(Some(ca)).map_err(|error| file(ca, error.to_string()))?;
            }
            let source = match &config.jwks_file {
                Some(path) => Source::File(path.clone()),
                None => Source::Discovery { issuer: config.issuer.clone(), ca: config.ca.clone() },
            };
            let keys = Keys::new(source, Duration::from_secs(config.refresh_interval));
            if let Some(path) = &config.jwks_file {
                keys.load(path).map_err(|error| file(path, error.to_string()))?;
            }
            issuers.push(Issuer { keys: Arc::new(keys), config });
        }
        Ok(Self(issuers.into()))
    }

    /// Whether nobody is believed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who is believed.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|issuer| issuer.config.issuer.as_str())
    }

    /// Who came with `token` at `now`, seconds since the Unix epoch.
    ///
    /// # Errors
    /// [`LoginError`] says what about the token does not hold, or that this cannot be known now.
    pub async fn verify(&self, token: &str, now: i64) -> Result<Login, LoginError> {
        let named = issuer_of(token).ok_or(LoginError::Form)?;
        let issuer = self
            .0
            .iter()
            .find(|issuer| issuer.config.issuer == named)
            .ok_or_else(|| LoginError::Issuer(shorten(&named)))?;
        issuer.verify(token, now).await
    }
}

impl Issuer {
    async fn verify(&self, token: &str, now: i64) -> Result<Login, LoginError> {
        let unavailable = || LoginError::Unavailable(self.config.issuer.clone());
        let keys = self.keys.current().await.ok_or_else(unavailable)?;
        let verified = match self.hold(&keys, token, now) {
            // The issuer may have a new key, under a new name, the old one or none.
            Err(
                error
                @ (TokenError::UnknownKey { .. } | TokenError::Signature | TokenError::Algorithm { .. }),
            ) => match self.keys.newer_than(&keys).await {
                Some(newer) => self.hold(&newer, token, now)?,
                None => return Err(error.into()),
            },
            verified => verified?,
        };
        self.login(&verified)
    }

    fn hold(&self, keys: &TokenKeys, token: &str, now: i64) -> Result<Verified, TokenError> {
        let IssuerConfig { issuer, audience, .. } = &self.config;
        keys.verify(token, &Expected { issuer: Some(issuer), audience: Some(audience) }, now)
    }

    fn login(&self, verified: &Verified) -> Result<Login, LoginError> {
        let typ = verified.header.get("typ").and_then(Value::as_str);
        if let Some(typ) = typ.filter(|typ| !TYPES.iter().any(|known| known.eq_ignore_ascii_case(typ))) {
            return Err(LoginError::Type(shorten(typ)));
        }
        let (found, most) = (verified.expires.saturating_sub(verified.issued), self.config.max_lifetime);
        if found > most {
            return Err(LoginError::Lifetime { found, most });
        }
        let subject = verified.claims.get("sub").and_then(Value::as_str).ok_or(LoginError::Subject)?;
        if !(1..=MAX_SUBJECT).contains(&subject.len()) || subject.chars().any(char::is_control) {
            return Err(LoginError::Subject);
        }
        let groups = self.config.groups_claim.as_deref();
        Ok(Login {
            issuer: self.config.issuer.clone(),
            subject: subject.to_owned(),
            groups: groups.map(|claim| groups_of(&verified.claims, claim)).unwrap_or_default(),
            expires: verified.expires,
        })
    }
}

/// Who has issued a token, as it says itself: that chooses whose keys it is checked with, and is checked with the rest.
fn issuer_of(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        iss: String,
    }
    if token.len() > MAX_TOKEN {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let Claims { iss } = serde_json::from_slice(&payload).ok()?;
    Some(iss)
}

/// The texts in a claim: one, or a list of them.
fn groups_of(claims: &Map<String, Value>, claim: &str) -> Vec<String> {
    let found = match claim.strip_prefix('/').map(|path| path.split('/')) {
        None => claims.get(claim),
        Some(mut path) => {
            let first = path.next().and_then(|name| claims.get(&unescaped(name)));
            path.fold(first, |value, name| value?.get(unescaped(name)))
        }
    };
    match found {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => {
            several.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    }
}

/// A part of a JSON pointer (RFC 6901 section 4).
fn unescaped(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

fn check(config: &IssuerConfig) -> Result<(), &'static str> {
    let IssuerConfig { issuer, audience, .. } = config;
    if !is_issuer(issuer) {
        return Err("it is not https://HOST[:PORT][/PATH] of at most 200 bytes, without query and fragment");
    }
    if audience.is_empty() {
        return Err("audience is empty");
    }
    if config.groups_claim.as_ref().is_some_and(String::is_empty) {
        return Err("groups_claim is empty");
    }
    if config.jwks_file.is_some() && config.ca.is_some() {
        return Err("ca is for discovery, and there is none with jwks_file");
    }
    if !(1..=MAX_LIFETIME).contains(&config.max_lifetime) {
        return Err("max_lifetime is 1 to 604800 seconds");
    }
    if !(1..=3600).contains(&config.refresh_interval) {
        return Err("refresh_interval is 1 to 3600 seconds");
    }
    Ok(())
}

/// Whether this can be the URL of an issuer (OpenID Connect Core 1.0 section 1.2): `https://`, without query, fragment and
/// user.
#[must_use]
pub fn is_issuer(text: &str) -> bool {
    text.len() <= MAX_ISSUER
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'@'))
        && Address::parse(text).is_ok()
}

/// Foreign text for a message.
fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_ISSUER).collect()
}
