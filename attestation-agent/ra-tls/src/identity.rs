//! A key of this end and the certificate that attests it.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    PublicKeyData as _,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::binding::{self, NONCE_LEN};
use crate::{Attester, Error, Extension};

/// How long before its making a certificate begins to be valid: the peer's clock can be behind.
const EARLY: Duration = Duration::from_secs(300);

/// A P-384 key of TLS, which never leaves the process.
pub struct KeyPair(pub(crate) rcgen::KeyPair);

impl KeyPair {
    /// Makes a key.
    ///
    /// # Errors
    /// Without randomness.
    pub fn generate() -> Result<Self, Error> {
        Ok(Self(rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?))
    }

    /// The public half, SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }
}

/// A key and its certificate.
#[derive(Clone, Debug)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
}

impl Identity {
    /// Has `attester` attest `key`, and makes a certificate that is valid from `now` (seconds since 1970) for `lifetime`.
    ///
    /// A token in it ends earlier than that; make a new identity when it does.
    ///
    /// # Errors
    /// If the key cannot be attested, or what attests it is too long.
    pub async fn attest(
        key: &KeyPair,
        attester: &dyn Attester,
        nonce: Option<[u8; NONCE_LEN]>,
        now: i64,
        lifetime: Duration,
    ) -> Result<Self, Error> {
        let attestation = attester.attest(binding::user_data(&key.spki()), nonce).await?;
        let extension = Extension::new(&attestation.challenge, &attestation.quote)?;
        let content = CustomExtension::from_oid_content(attester.flow().oid(), extension.encode());
        let begin = time::OffsetDateTime::from_unix_timestamp(now)
            .map_err(|error| Error::Certificate(error.to_string()))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "attested");
        params.not_before = begin - EARLY;
        params.not_after = begin + lifetime;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.custom_extensions = vec![content];
        let certificate = params.self_signed(&key.0)?;
        Self::from_parts(key, vec![certificate.der().clone()])
    }

    /// A key and what is presented with it: a certificate for it, and no other.
    pub(crate) fn from_parts(key: &KeyPair, chain: Vec<CertificateDer<'static>>) -> Result<Self, Error> {
        let der = PrivateKeyDer::try_from(key.0.serialize_der())
            .map_err(|problem| Error::Certificate(problem.to_owned()))?;
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der)?;
        Ok(Self { certified: Arc::new(CertifiedKey::new(chain, signing)) })
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }

    /// The certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.certified.cert.first()
    }
}
