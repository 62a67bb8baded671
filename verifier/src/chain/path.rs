//! From a device certificate to an installed root.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::aws_lc_rs::{
    ECDSA_P256_SHA256, ECDSA_P384_SHA384, ECDSA_P521_SHA512, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    RSA_PSS_2048_8192_SHA384_LEGACY_KEY, RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
};
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExpirationPolicy, ExtendedKeyUsageValidator, KeyPurposeIdIter,
    RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};

use super::bundle::TrustBundle;
use super::certificate::{DeviceKey, Parsed, split};
use super::error::ChainError;
use super::pins::{self, Fingerprint};

/// How certificates and revocation lists may be signed.
pub(super) static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    ECDSA_P256_SHA256,
    ECDSA_P384_SHA384,
    ECDSA_P521_SHA512,
    RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// A device whose certificate chain was validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The key that signs its platform tokens.
    pub key: DeviceKey,
    /// Its name.
    pub subject: String,
    /// Who issued its certificate.
    pub issuer: String,
    /// The certificate's serial number, in hexadecimal.
    pub serial: String,
    /// The certificate's fingerprint.
    pub fingerprint: Fingerprint,
    /// The name of the root at the end of the chain.
    pub root_subject: String,
    /// The root's fingerprint.
    pub root: Fingerprint,
    /// Whether the bundle has revocation lists for the whole chain, which were heeded.
    pub revocation_checked: bool,
    /// From when the whole chain is valid, Unix time.
    pub not_before: i64,
    /// Until when the whole chain and its revocation lists are valid, Unix time.
    pub not_after: i64,
}

/// What checks on a path found.
struct Checked {
    root: usize,
    not_before: i64,
    not_after: i64,
    revocation_checked: bool,
}

/// What a certified key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It signs tokens of a platform.
    Platform,
    /// It is the endorsement key of a TPM, which receives secrets (TCG EK Credential Profile 2.5, 3.2).
    Endorsement,
    /// It is an attestation key of a TPM, which signs quotes.
    Attestation,
}

impl Purpose {
    /// `tcg-kp-EKCertificate`.
    const ENDORSEMENT: &str = "2.23.133.8.1";
    /// `tcg-kp-AIKCertificate`.
    const ATTESTATION: &str = "2.23.133.8.3";

    fn check(self, leaf: &Parsed) -> Result<(), ChainError> {
        match self {
            Self::Platform | Self::Attestation if !leaf.may_sign() => {
                Err(constraint(leaf, "its key usage does not say digitalSignature"))
            }
            Self::Attestation if !leaf.is_for(Self::ATTESTATION) => {
                Err(constraint(leaf, "its extended key usage does not say attestation key (2.23.133.8.3)"))
            }
            Self::Endorsement if !leaf.may_receive_secrets() => {
                Err(constraint(leaf, "its key usage says neither keyEncipherment nor keyAgreement"))
            }
            Self::Endorsement if !leaf.is_for(Self::ENDORSEMENT) => {
                Err(constraint(leaf, "its extended key usage does not say endorsement key (2.23.133.8.1)"))
            }
            Self::Platform | Self::Endorsement | Self::Attestation => Ok(()),
        }
    }
}

/// The leaf's purpose is looked at elsewhere; authorities are not bound to one.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, mut purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        purposes.try_for_each(|purpose| purpose.map(drop))
    }
}

impl TrustBundle {
    /// Validates the certificates that came with evidence, at the time `now` (Unix time).
    ///
    /// A chain that was validated before is not validated again as long as it and its revocation lists are valid.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn device(&self, sent: &[u8], now: i64) -> Result<Arc<Device>, ChainError> {
        self.certified(sent, Purpose::Platform, now)
    }

    /// As [`Self::device`], for a key with another purpose.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn certified(&self, sent: &[u8], purpose: Purpose, now: i64) -> Result<Arc<Device>, ChainError> {
        let certificates = split(sent)?;
        let key = cache_key(&certificates, purpose);
        if let Some(device) = self.devices.get(&key)
            && (device.not_before..=device.not_after).contains(&now)
        {
            return Ok(device);
        }
        let device = Arc::new(self.validate(&certificates, purpose, now)?);
        self.devices.put(key, Arc::clone(&device));
        Ok(device)
    }

    /// Looks at every revocation list by itself: it must be valid at `now`, and signed by one of the authorities. Path
    /// validation does that, too, but only once a certificate of that authority is there.
    ///
    /// # Errors
    /// [`ChainError::RevocationList`] says what is wrong.
    pub fn check_revocation_lists(&self, now: i64) -> Result<(), ChainError> {
        let refuse = |reason: &str| Err(ChainError::RevocationList { reason: reason.to_owned() });
        let roots = self.roots.iter().map(|root| root.der.as_ref());
        let authorities: Vec<&[u8]> = roots.chain(self.intermediates.iter().map(AsRef::as_ref)).collect();
        for list in &self.lists {
            if now > list.next_update {
                return refuse("it should have been replaced by now");
            }
            if !authorities.iter().any(|authority| list.is_signed_by(authority)) {
                return refuse("none of the installed authorities has signed it");
            }
        }
        Ok(())
    }

    fn validate(&self, certificates: &[Vec<u8>], purpose: Purpose, now: i64) -> Result<Device, ChainError> {
        let malformed = |reason| ChainError::Malformed { reason };
        let (leaf, others) =
            certificates.split_first().ok_or_else(|| malformed("there is none".to_owned()))?;
        let parsed = Parsed::from_der(leaf).map_err(malformed)?;
        let key = parsed.device_key()?;
        self.check_pin(&parsed)?;
        purpose.check(&parsed)?;
        if self.roots.is_empty() {
            return Err(ChainError::NoAuthorities);
        }
        let leaf = CertificateDer::from(leaf.as_slice());
        let end_entity =
            EndEntityCert::try_from(&leaf).map_err(|error| Self::explain(&error, &parsed, now))?;
        let mut intermediates = self.intermediates.clone();
        intermediates.extend(others.iter().map(|der| CertificateDer::from(der.clone())));
        let checked = self.checked_path(&end_entity, &parsed, &intermediates, now)?;
        let root =
            self.roots.get(checked.root).ok_or_else(|| untrusted(&parsed, "its root is not installed"))?;
        Ok(Device {
            key,
            subject: parsed.subject,
            issuer: parsed.issuer,
            serial: parsed.serial,
            fingerprint: parsed.fingerprint,
            root_subject: root.certificate.subject.clone(),
            root: root.certificate.fingerprint,
            revocation_checked: checked.revocation_checked,
            not_before: checked.not_before,
            not_after: checked.not_after,
        })
    }

    /// Revocation lists that are there are heeded in any case; whether there is one for each issuer is reported.
    fn checked_path(
        &self,
        end_entity: &EndEntityCert<'_>,
        leaf: &Parsed,
        intermediates: &[CertificateDer<'_>],
        now: i64,
    ) -> Result<Checked, ChainError> {
        let find = |policy| self.find_path(end_entity, leaf, intermediates, now, policy);
        if !self.lists.is_empty()
            && let Ok(checked) = find(UnknownStatusPolicy::Deny)
        {
            return Ok(Checked { revocation_checked: true, ..checked });
        }
        find(UnknownStatusPolicy::Allow)
    }

    fn find_path(
        &self,
        end_entity: &EndEntityCert<'_>,
        leaf: &Parsed,
        intermediates: &[CertificateDer<'_>],
        now: i64,
        unknown_status: UnknownStatusPolicy,
    ) -> Result<Checked, ChainError> {
        let seconds = u64::try_from(now).unwrap_or(0);
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let anchors: Vec<TrustAnchor<'_>> = self.roots.iter().map(|root| root.anchor.clone()).collect();
        let lists: Vec<&CertRevocationList<'_>> = self.lists.iter().map(|list| &list.list).collect();
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_status_policy(unknown_status)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        // The library goes on to other paths when ours is refused; its own error would not say why.
        let outcome = RefCell::new(None);
        let check = |path: &VerifiedPath<'_>| {
            let checked = self.check_path(path, leaf, now);
            let refused = checked.is_err();
            *outcome.borrow_mut() = Some(checked);
            if refused { Err(Error::UnknownIssuer) } else { Ok(()) }
        };
        let found = end_entity.verify_for_usage(
            ALGORITHMS,
            &anchors,
            intermediates,
            time,
            AnyPurpose,
            revocation,
            Some(&check),
        );
        match (found, outcome.take()) {
            (Ok(_), Some(checked)) | (Err(_), Some(checked @ Err(_))) => checked,
            (Err(error), _) => Err(Self::explain(&error, leaf, now)),
            (Ok(_), None) => Err(untrusted(leaf, "the path was not checked")),
        }
    }

    /// What the library leaves out: key usage of issuers, pins, and the root's own dates and constraints.
    fn check_path(&self, path: &VerifiedPath<'_>, leaf: &Parsed, now: i64) -> Result<Checked, ChainError> {
        let mut chain = Vec::new();
        for certificate in path.intermediate_certificates() {
            let issuer =
                Parsed::from_der(&certificate.der()).map_err(|reason| ChainError::Malformed { reason })?;
            self.check_pin(&issuer)?;
            check_issuer(&issuer)?;
            chain.push(issuer);
        }
        let sub_authorities = u32::try_from(chain.len()).unwrap_or(u32::MAX);
        let mut refusal = untrusted(leaf, "its root is not installed");
        // A root may have been renewed under the same name and key: one of them must do.
        for (index, root) in self.roots.iter().enumerate() {
            if root.anchor != *path.anchor() {
                continue;
            }
            match check_root(&root.certificate, sub_authorities, now) {
                Ok(()) => return Ok(self.validity(index, leaf, &chain, &root.certificate)),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    fn validity(&self, index: usize, leaf: &Parsed, issuers: &[Parsed], root: &Parsed) -> Checked {
        let mut checked = Checked {
            root: index,
            not_before: leaf.not_before.max(root.not_before),
            not_after: leaf.not_after.min(root.not_after),
            revocation_checked: false,
        };
        for issuer in issuers {
            checked.not_before = checked.not_before.max(issuer.not_before);
            checked.not_after = checked.not_after.min(issuer.not_after);
        }
        for list in &self.lists {
            if issuers.iter().chain([root]).any(|issuer| issuer.raw_subject == list.issuer) {
                checked.not_after = checked.not_after.min(list.next_update);
            }
        }
        checked
    }

    fn check_pin(&self, certificate: &Parsed) -> Result<(), ChainError> {
        let names = certificate.common_names.iter().map(String::as_str);
        Ok(pins::check(names, certificate.fingerprint, &self.accepted)?)
    }

    /// The library's errors in this crate's words.
    fn explain(error: &Error, leaf: &Parsed, now: i64) -> ChainError {
        let dates = |expired, limit: &UnixTime| {
            let limit = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
            let of_leaf = limit == if expired { leaf.not_after } else { leaf.not_before };
            let certificate = if of_leaf { leaf.name() } else { "an issuer's certificate".to_owned() };
            ChainError::Dates { certificate, expired, limit, now }
        };
        match error {
            Error::CertExpired { not_after, .. } => dates(true, not_after),
            Error::CertNotValidYet { not_before, .. } => dates(false, not_before),
            Error::CertRevoked => ChainError::Revoked,
            Error::CrlExpired { .. }
            | Error::InvalidCrlSignatureForPublicKey
            | Error::UnsupportedCrlSignatureAlgorithmContext(_)
            | Error::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_)
            | Error::UnknownRevocationStatus
            | Error::IssuerNotCrlSigner => ChainError::RevocationList { reason: error.to_string() },
            Error::CaUsedAsEndEntity => constraint(leaf, "it is an authority's, not a device's"),
            Error::EndEntityUsedAsCa
            | Error::PathLenConstraintViolated
            | Error::NameConstraintViolation
            | Error::EmptyEkuExtension
            | Error::UnsupportedCriticalExtension => ChainError::Constraint {
                certificate: "a certificate of the chain".to_owned(),
                rule: error.to_string(),
            },
            Error::BadDer
            | Error::BadDerTime
            | Error::ExtensionValueInvalid
            | Error::InvalidCertValidity
            | Error::InvalidSerialNumber
            | Error::MalformedExtensions
            | Error::TrailingData(_)
            | Error::UnsupportedCertVersion => ChainError::Malformed { reason: error.to_string() },
            _ => untrusted(leaf, &error.to_string()),
        }
    }
}

fn check_issuer(issuer: &Parsed) -> Result<(), ChainError> {
    if issuer.may_sign_certificates() {
        return Ok(());
    }
    Err(constraint(issuer, "its key usage does not say keyCertSign"))
}

/// What path building takes for granted of a root.
fn check_root(root: &Parsed, sub_authorities: u32, now: i64) -> Result<(), ChainError> {
    check_issuer(root)?;
    if !root.is_ca {
        return Err(constraint(root, "its basic constraints do not say CA"));
    }
    if root.path_length.is_some_and(|allowed| sub_authorities > allowed) {
        return Err(constraint(root, "there are more sub CAs below it than its path length allows"));
    }
    if now < root.not_before {
        return Err(dates(root, false, root.not_before, now));
    }
    if now > root.not_after {
        return Err(dates(root, true, root.not_after, now));
    }
    Ok(())
}

fn dates(certificate: &Parsed, expired: bool, limit: i64, now: i64) -> ChainError {
    ChainError::Dates { certificate: certificate.name(), expired, limit, now }
}

fn constraint(certificate: &Parsed, rule: &str) -> ChainError {
    ChainError::Constraint { certificate: certificate.name(), rule: rule.to_owned() }
}

fn untrusted(leaf: &Parsed, reason: &str) -> ChainError {
    ChainError::Untrusted { issuer: leaf.issuer.clone(), reason: reason.to_owned() }
}

/// The certificates themselves, however they were sent, and what they were validated for.
fn cache_key(certificates: &[Vec<u8>], purpose: Purpose) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    hash.update(&[match purpose {
        Purpose::Platform => 0,
        Purpose::Endorsement => 1,
        Purpose::Attestation => 2,
    }]);
    for certificate in certificates {
        hash.update(&certificate.len().to_le_bytes());
        hash.update(certificate);
    }
    let mut key = [0; 32];
    key.copy_from_slice(hash.finish().as_ref());
    key
}
