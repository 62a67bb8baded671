//! rustls's questions about a peer's certificate.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};

use crate::{Clock, Error, Policy, Presented, Verdict};

/// What the handshake found out about the peer.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) presented: Presented,
    /// Nothing yet for evidence, which is appraised after the handshake.
    pub(crate) verdict: Option<Verdict>,
}

/// Checks one peer's certificate; one value for each connection.
pub(crate) struct Examiner {
    policy: Policy,
    clock: Arc<dyn Clock>,
    algorithms: WebPkiSupportedAlgorithms,
    finding: Mutex<Option<Finding>>,
    problem: Mutex<Option<Error>>,
}

impl fmt::Debug for Examiner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Examiner").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Examiner {
    pub(crate) fn new(policy: Policy, clock: Arc<dyn Clock>) -> Self {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        Self { policy, clock, algorithms, finding: Mutex::default(), problem: Mutex::default() }
    }

    /// What was found, or the reason for which the handshake failed.
    pub(crate) fn outcome(&self, handshake: std::io::Error) -> Error {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner).take();
        problem.unwrap_or(Error::Handshake(handshake))
    }

    pub(crate) fn finding(&self) -> Option<Finding> {
        self.finding.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn examine(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        match self.check(certificate, others) {
            Ok(finding) => {
                *self.finding.lock().unwrap_or_else(PoisonError::into_inner) = Some(finding);
                Ok(())
            }
            Err(error) => {
                let told = rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(
                    Told(error.to_string()),
                ))));
                *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Err(told)
            }
        }
    }

    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<Finding, Error> {
        if !others.is_empty() {
            return Err(Error::Chain { found: others.len() });
        }
        let now = self.clock.now();
        let seconds = u64::try_from(now).unwrap_or(0);
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let presented = Presented::check(certificate, time)?;
        let verdict = self.policy.check(&presented, now)?;
        Ok(Finding { presented, verdict })
    }

    /// The peer holds the certificate's key: it signed this handshake.
    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }
}

/// An error in the form in which rustls passes it on.
#[derive(Debug)]
struct Told(String);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Told {}

fn old_tls() -> rustls::Error {
    rustls::Error::General("only TLS 1.3 is spoken".to_owned())
}

impl ServerCertVerifier for Examiner {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.examine(certificate, others).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(old_tls())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Examiner {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.examine(certificate, others).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(old_tls())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
