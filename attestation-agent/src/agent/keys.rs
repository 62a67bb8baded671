//! The public keys by which tokens of the attestation service are told from others.

use std::sync::Arc;

use jose::{Expected, TokenError, TokenKeys, Verified};
use tokio::sync::Mutex;

use crate::client::Client;
use crate::{Result, service};

/// Where the keys come from.
#[derive(Clone)]
pub enum KeySource {
    /// From a file that the operator named.
    Given(Arc<TokenKeys>),
    /// From the service, over the connection that proves it.
    Service,
}

/// What a token must be to hold here.
#[derive(Clone)]
pub struct TokenRules {
    /// Where the keys come from.
    pub keys: KeySource,
    /// The issuer that a token must name, if any.
    pub issuer: Option<String>,
    /// The audience that a token must name, if any.
    pub audience: Option<String>,
}

pub(super) struct TokenChecker {
    rules: TokenRules,
    /// The service's keys, as they were at last.
    cached: Mutex<Option<Arc<TokenKeys>>>,
}

impl TokenChecker {
    pub(super) fn new(rules: TokenRules) -> Self {
        Self { rules, cached: Mutex::default() }
    }

    /// Checks a token at the time `now`. A key that is not known makes it ask the service once more: keys rotate.
    pub(super) async fn verify(&self, client: Option<&Client>, token: &str, now: i64) -> Result<Verified> {
        let expected =
            Expected { issuer: self.rules.issuer.as_deref(), audience: self.rules.audience.as_deref() };
        let client = match (&self.rules.keys, client) {
            (KeySource::Given(keys), _) => return Ok(keys.verify(token, &expected, now)?),
            (KeySource::Service, None) => {
                return Err(crate::Error::NotSupported("tokens: it has no attestation service"));
            }
            (KeySource::Service, Some(client)) => client,
        };
        let mut cached = self.cached.lock().await;
        if let Some(keys) = &*cached {
            match keys.verify(token, &expected, now) {
                Err(TokenError::UnknownKey { .. }) => {}
                done => return Ok(done?),
            }
        }
        let mut connection = client.connect().await?;
        let keys = cached.insert(Arc::new(service::token_keys(&mut connection).await?)).clone();
        drop(cached);
        Ok(keys.verify(token, &expected, now)?)
    }
}
