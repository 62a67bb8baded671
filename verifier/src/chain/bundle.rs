//! The certificate authorities and revocation lists that an operator has installed.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustls_pki_types::pem::{PemObject as _, SectionKind};
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, OwnedCertRevocationList, anchor_from_trusted_cert,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use super::cache::Cache;
use super::certificate::{Parsed, is_pem};
use super::path::{ALGORITHMS, Device};
use super::pins::{self, Fingerprint, PinMismatch};
use crate::virtcca::DecodedPlatform;

/// A file of a trust bundle that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Neither certificates nor revocation lists.
    #[error("{file}: expected certificates and revocation lists in PEM, or one of them in DER: {reason}")]
    Format {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A certificate that authorises nobody.
    #[error("{file}: {subject:?} is not a certificate authority (its basic constraints do not say CA)")]
    NotAuthority {
        /// The file.
        file: String,
        /// Whose certificate it is.
        subject: String,
    },
    /// A forged or unknown edition of a published authority.
    #[error("{file}: {source}")]
    Pin {
        /// The file.
        file: String,
        /// What was found and expected.
        source: PinMismatch,
    },
}

/// An installed authority, for listings.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Authority {
    /// Its name.
    pub subject: String,
    /// SHA-256 of the certificate.
    pub fingerprint: Fingerprint,
    /// Whether chains end at it.
    pub root: bool,
    /// First second of its validity, Unix time.
    pub not_before: i64,
    /// Last second of its validity, Unix time.
    pub not_after: i64,
}

/// A root, as path building and as the checks around it need it.
pub(super) struct Root {
    pub anchor: TrustAnchor<'static>,
    pub certificate: Parsed,
    pub der: CertificateDer<'static>,
}

/// A revocation list with what the cache needs to know of it.
pub(super) struct RevocationList {
    pub list: CertRevocationList<'static>,
    pub issuer: Vec<u8>,
    this_update: i64,
    pub next_update: i64,
    der: Vec<u8>,
}

impl RevocationList {
    /// Whether the authority with this certificate has signed it.
    pub fn is_signed_by(&self, authority: &[u8]) -> bool {
        let (Ok((_, list)), Ok((_, authority))) =
            (CertificateRevocationList::from_der(&self.der), X509Certificate::from_der(authority))
        else {
            return false;
        };
        let key = &authority.public_key().subject_public_key.data;
        let (message, signature) = (list.tbs_cert_list.as_ref(), &list.signature_value.data);
        // An algorithm for another kind of key does not verify anything.
        list.issuer().as_raw() == authority.subject().as_raw()
            && ALGORITHMS.iter().any(|algorithm| algorithm.verify_signature(key, message, signature).is_ok())
    }
}

/// Installed authorities and revocation lists, and the chains that were validated with them.
pub struct TrustBundle {
    pub(super) roots: Vec<Root>,
    pub(super) intermediates: Vec<CertificateDer<'static>>,
    pub(super) lists: Vec<RevocationList>,
    pub(super) accepted: BTreeSet<Fingerprint>,
    authorities: Vec<Authority>,
    pub(super) devices: Cache<Arc<Device>>,
    signatures: Cache<()>,
    platform_tokens: Cache<Arc<DecodedPlatform>>,
}

impl TrustBundle {
    /// A bundle that believes nobody.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            roots: Vec::new(),
            intermediates: Vec::new(),
            lists: Vec::new(),
            accepted: BTreeSet::new(),
            authorities: Vec::new(),
            devices: Cache::new(),
            signatures: Cache::new(),
            platform_tokens: Cache::new(),
        }
    }

    /// A bundle of `files`, each with its name for messages. `accepted` are fingerprints of certificates that are believed
    /// although they carry the name of a published authority and are not its published certificate.
    ///
    /// # Errors
    /// [`BundleError`] names the file that cannot be used.
    pub fn new<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        accepted: impl IntoIterator<Item = Fingerprint>,
    ) -> Result<Self, BundleError> {
        let mut bundle = Self { accepted: accepted.into_iter().collect(), ..Self::empty() };
        for (file, content) in files {
            bundle.add(file, content)?;
        }
        // Of several lists of one issuer, path validation takes the first.
        bundle.lists.sort_by_key(|list| std::cmp::Reverse(list.this_update));
        Ok(bundle)
    }

    /// The installed authorities.
    #[must_use]
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// How many revocation lists there are.
    #[must_use]
    pub fn revocation_lists(&self) -> usize {
        self.lists.len()
    }

    /// Whether a signature was verified before; `fact` is a SHA-256 over key, message and signature.
    pub(crate) fn remembers(&self, fact: &[u8; 32]) -> bool {
        self.signatures.get(fact).is_some()
    }

    /// Remembers a signature that was verified.
    pub(crate) fn remember(&self, fact: [u8; 32]) {
        self.signatures.put(fact, ());
    }

    /// The Platform Token whose bytes have the SHA-256 `key`, if it is kept decoded. That says nothing about its signature.
    pub(crate) fn platform_token(&self, key: &[u8; 32]) -> Option<Arc<DecodedPlatform>> {
        self.platform_tokens.get(key)
    }

    /// Keeps a decoded Platform Token.
    pub(crate) fn keep_platform_token(&self, key: [u8; 32], token: Arc<DecodedPlatform>) {
        self.platform_tokens.put(key, token);
    }

    fn add(&mut self, file: &str, content: &[u8]) -> Result<(), BundleError> {
        let format = |reason: String| BundleError::Format { file: file.to_owned(), reason };
        if !is_pem(content) {
            return match CertificateRevocationList::from_der(content) {
                Ok(_) => self.add_list(content).map_err(format),
                Err(_) => self.add_certificate(file, content),
            };
        }
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(content) {
            match section.map_err(|error| format(error.to_string()))? {
                (SectionKind::Certificate, der) => self.add_certificate(file, &der)?,
                (SectionKind::Crl, der) => self.add_list(&der).map_err(format)?,
                (other, _) => return Err(format(format!("it contains a section {other:?}"))),
            }
        }
        Ok(())
    }

    fn add_certificate(&mut self, file: &str, der: &[u8]) -> Result<(), BundleError> {
        let format = |reason: String| BundleError::Format { file: file.to_owned(), reason };
        let certificate = Parsed::from_der(der).map_err(format)?;
        if !certificate.is_ca {
            return Err(BundleError::NotAuthority { file: file.to_owned(), subject: certificate.subject });
        }
        let names = certificate.common_names.iter().map(String::as_str);
        pins::check(names, certificate.fingerprint, &self.accepted)
            .map_err(|source| BundleError::Pin { file: file.to_owned(), source })?;
        let root = certificate.is_self_issued();
        self.authorities.push(Authority {
            subject: certificate.subject.clone(),
            fingerprint: certificate.fingerprint,
            root,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
        });
        let der = CertificateDer::from(der.to_vec());
        if root {
            let anchor =
                anchor_from_trusted_cert(&der).map_err(|error| format(error.to_string()))?.to_owned();
            self.roots.push(Root { anchor, certificate, der });
        } else {
            self.intermediates.push(der);
        }
        Ok(())
    }

    fn add_list(&mut self, der: &[u8]) -> Result<(), String> {
        let (_, parsed) = CertificateRevocationList::from_der(der).map_err(|error| error.to_string())?;
        // Which lists it supports is for the library to say: version 2, complete, direct, with a next update.
        let list: OwnedCertRevocationList = BorrowedCertRevocationList::from_der(der)
            .and_then(|list| list.to_owned())
            .map_err(|error| format!("the revocation list cannot be used: {error}"))?;
        let next_update = parsed.next_update().ok_or("the revocation list has no next update")?;
        self.lists.push(RevocationList {
            list: list.into(),
            issuer: parsed.issuer().as_raw().to_vec(),
            this_update: parsed.last_update().timestamp(),
            next_update: next_update.timestamp(),
            der: der.to_vec(),
        });
        Ok(())
    }
}

impl std::fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrustBundle")
            .field("authorities", &self.authorities)
            .field("revocation_lists", &self.lists.len())
            .field("accepted", &self.accepted)
            .finish()
    }
}
