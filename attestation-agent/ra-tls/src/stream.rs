//! The two ends of an attested connection.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, Semaphore};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, client, server};

use crate::binding::NONCE_LEN;
use crate::handshake::{Examiner, Finding};
use crate::{Attester, Clock, Error, Identity, KeyPair, Policy, Verdict};

/// How a client's nonce is marked among the protocols of its ClientHello (ALPN, RFC 7301): servers that do not know it pass
/// it over.
const NONCE_PREFIX: &[u8] = b"ra-tls-nonce/";
/// Most handshakes with a nonce at a time; further ones wait. Each costs a token of the monitor, and whoever can connect can
/// ask for one.
const MAX_FRESH: usize = 4;

/// A connection, and what its peer has proven.
#[derive(Debug)]
pub struct Attested<S> {
    /// The encrypted stream.
    pub stream: S,
    /// What the peer has proven; nothing if it was not asked to.
    pub peer: Option<Verdict>,
}

/// Connects over `stream` to a peer that must satisfy `policy`; `identity` proves this end, if the peer asks.
///
/// A nonce of the policy is sent along, for a server that attests its key anew.
///
/// # Errors
/// The first thing that does not hold. No byte of the caller's was sent then.
pub async fn connect<IO: AsyncRead + AsyncWrite + Unpin>(
    stream: IO,
    policy: &Policy,
    identity: Option<&Identity>,
    clock: Arc<dyn Clock>,
) -> Result<Attested<client::TlsStream<IO>>, Error> {
    let examiner = Arc::new(Examiner::new(policy.clone(), clock));
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(examiner.clone());
    let mut config = match identity {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified())))
        }
        None => builder.with_no_client_auth(),
    };
    // A resumed session would come without a certificate.
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    if let Some(nonce) = policy.nonce() {
        let text = URL_SAFE_NO_PAD.encode(nonce);
        config.alpn_protocols = vec![[NONCE_PREFIX, text.as_bytes()].concat()];
    }
    // Never sent and never compared: attested peers have no names.
    let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([127, 0, 0, 1])));
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| examiner.outcome(error))?;
    let peer = conclude(examiner.finding(), policy).await?;
    Ok(Attested { stream, peer: Some(peer) })
}

/// The verdict about a peer; evidence is appraised now, before anything is said to it.
async fn conclude(finding: Option<Finding>, policy: &Policy) -> Result<Verdict, Error> {
    match finding {
        Some(Finding { verdict: Some(verdict), .. }) => Ok(verdict),
        Some(Finding { presented, verdict: None }) => policy.appraise(&presented).await,
        None => Err(Error::Certificate("the peer sent none".to_owned())),
    }
}

/// The server's end: proves itself to every client, and can ask the same of them.
pub struct Acceptor {
    key: KeyPair,
    attester: Arc<dyn Attester>,
    clients: Option<Policy>,
    clock: Arc<dyn Clock>,
    lifetime: Duration,
    /// The identity for clients without a nonce, and when it is to be renewed.
    identity: Mutex<Option<(Identity, i64)>>,
    fresh: Semaphore,
}

impl Acceptor {
    /// A server whose key `attester` attests. `lifetime` is how long an attestation serves: not longer than a token is valid.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn new(
        attester: Arc<dyn Attester>,
        lifetime: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        Ok(Self {
            key: KeyPair::generate()?,
            attester,
            clients: None,
            clock,
            lifetime,
            identity: Mutex::default(),
            fresh: Semaphore::new(MAX_FRESH),
        })
    }

    /// Also asks clients to satisfy `policy`.
    #[must_use]
    pub fn with_clients(mut self, policy: Policy) -> Self {
        self.clients = Some(policy);
        self
    }

    /// Accepts a connection over `stream`.
    ///
    /// # Errors
    /// If this end cannot attest itself, or the client does not prove what it must. No byte of the caller's was sent then.
    pub async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: IO,
    ) -> Result<Attested<server::TlsStream<IO>>, Error> {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream)
            .await
            .map_err(Error::Handshake)?;
        let nonce = start.client_hello().alpn().and_then(|mut protocols| protocols.find_map(read_nonce));
        let identity = self.identity(nonce).await?;
        let examiner =
            self.clients.as_ref().map(|policy| Arc::new(Examiner::new(policy.clone(), self.clock.clone())));
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])?;
        let builder = match &examiner {
            Some(examiner) => builder.with_client_cert_verifier(examiner.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified())));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let handshake = start.into_stream(Arc::new(config)).await;
        let stream = handshake.map_err(|error| match &examiner {
            Some(examiner) => examiner.outcome(error),
            None => Error::Handshake(error),
        })?;
        let peer = match (&examiner, &self.clients) {
            (Some(examiner), Some(policy)) => Some(conclude(examiner.finding(), policy).await?),
            _ => None,
        };
        Ok(Attested { stream, peer })
    }

    async fn identity(&self, nonce: Option<[u8; NONCE_LEN]>) -> Result<Identity, Error> {
        let attest = |now| Identity::attest(&self.key, self.attester.as_ref(), nonce, now, self.lifetime);
        if nonce.is_some() {
            let _permit = self.fresh.acquire().await.map_err(|error| Error::Attest(error.into()))?;
            return attest(self.clock.now()).await;
        }
        let mut identity = self.identity.lock().await;
        let now = self.clock.now();
        if let Some((identity, renewed_at)) = &*identity
            && now < *renewed_at
        {
            return Ok(identity.clone());
        }
        let new = attest(now).await?;
        let half = i64::try_from(self.lifetime.as_secs() / 2).unwrap_or(i64::MAX);
        *identity = Some((new.clone(), now.saturating_add(half)));
        Ok(new)
    }
}

fn read_nonce(protocol: &[u8]) -> Option<[u8; NONCE_LEN]> {
    let text = protocol.strip_prefix(NONCE_PREFIX)?;
    let mut nonce = [0; NONCE_LEN];
    (URL_SAFE_NO_PAD.decode_slice(text, &mut nonce).ok()? == NONCE_LEN).then_some(nonce)
}

#[cfg(test)]
mod tests;
