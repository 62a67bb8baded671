//! TLS 1.3 with certificates that are read again when they change.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::crypto::aws_lc_rs;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at. An authority that renews certificates by itself tells nobody.
const LOOK: Duration = Duration::from_secs(5);

/// A certificate or key that cannot be served with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file.
    #[error("{flag} {path}: expected certificates in PEM")]
    Certificate {
        /// The flag that named it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// The certificate file has none.
    #[error("{flag} {path}: there is no certificate in it")]
    NoCertificate {
        /// The flag that named it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The key file.
    #[error("--tls-key {path}: expected a private key in PEM")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// They do not go together.
    #[error("--tls-cert and --tls-key cannot be used together")]
    Pair(#[source] rustls::Error),
    /// No client can be verified by them.
    #[error("{flag} {path}: cannot be used to verify clients")]
    ClientCa {
        /// The flag that named it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Where certificates and keys are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate chain in PEM.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
    /// Who certifies clients; without it clients are not asked for certificates.
    pub client_ca: Option<ClientAuthorities>,
}

/// Who certifies clients.
#[derive(Clone, Debug)]
pub struct ClientAuthorities {
    /// The flag that names the file.
    pub flag: &'static str,
    /// Certificates of authorities in PEM.
    pub certificates: PathBuf,
    /// Their revocation lists in PEM, by the flag that names the file. If there are any, every authority of a chain must
    /// have one that is of this time.
    pub revocations: Option<(&'static str, PathBuf)>,
}

impl TlsFiles {
    fn load(&self) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = certificates("--tls-cert", &self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|source| TlsError::Key { path: self.key.clone(), source })?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Pair)?;
        let builder = match &self.client_ca {
            Some(authorities) => builder.with_client_cert_verifier(client_verifier(authorities, provider)?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if self.client_ca.is_some() {
            // A session that is resumed has the certificate of before, whatever has become of that.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(config)
    }

    /// What changes when a file does: an authority's file may be replaced, written over, or a link changed.
    fn state(&self) -> Vec<Option<(SystemTime, u64)>> {
        let authorities = self.client_ca.as_ref();
        let revocations = authorities.and_then(|authorities| authorities.revocations.as_ref());
        let files = [
            Some(&self.certificate),
            Some(&self.key),
            authorities.map(|authorities| &authorities.certificates),
            revocations.map(|(_, path)| path),
        ];
        let state = |path: &PathBuf| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        files.into_iter().flatten().map(state).collect()
    }
}

fn certificates(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |source| TlsError::Certificate { flag, path: path.to_owned(), source };
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(error)?.collect::<Result<_, _>>().map_err(error)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { flag, path: path.to_owned() });
    }
    Ok(chain)
}

/// Clients may also authenticate by something else, so that a certificate is asked for and not required; one that is sent
/// must be good.
fn client_verifier(
    authorities: &ClientAuthorities,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let ClientAuthorities { flag, certificates: path, revocations } = authorities;
    let error = |flag: &'static str, path: &Path, source: Box<dyn std::error::Error + Send + Sync>| {
        TlsError::ClientCa { flag, path: path.to_owned(), source }
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(flag, path)? {
        roots.add(certificate).map_err(|source| error(flag, path, source.into()))?;
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated();
    if let Some((flag, path)) = revocations {
        let lists = CertificateRevocationListDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|source| error(flag, path, source.into()))?;
        if lists.is_empty() {
            return Err(error(flag, path, "there is no revocation list in it".into()));
        }
        builder = builder.with_crls(lists).enforce_revocation_expiration();
    }
    builder.build().map_err(|source| error(flag, path, source.into()))
}

/// The TLS side of a listener.
pub struct Tls {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] names the flag.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let config = files.load()?;
        Ok(Self { files, current: RwLock::new(Arc::new(config)) })
    }

    /// Accepts with what was read last.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Reads the files again. If they cannot be used, what was read before stays.
    ///
    /// # Errors
    /// [`TlsError`] names the flag.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = Arc::new(self.files.load()?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Reads the files again whenever they change or `hangup` arrives, until shutdown.
    pub async fn keep_fresh(self: Arc<Self>, mut hangup: Signal, mut shutdown: watch::Receiver<bool>) {
        let mut seen = self.files.state();
        loop {
            let asked = tokio::select! {
                _ = hangup.recv() => true,
                () = tokio::time::sleep(LOOK) => false,
                _ = shutdown.wait_for(|stop| *stop) => return,
            };
            let state = self.files.state();
            if !asked && state == seen {
                continue;
            }
            match self.reload() {
                Ok(()) => {
                    tracing::info!(certificate = %self.files.certificate.display(), "certificates read again");
                    seen = state;
                }
                // Not seen: half-written files will do once they are whole.
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "certificates stay as they were"
                    );
                }
            }
        }
    }
}
