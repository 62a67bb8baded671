//! What certificates and revocation lists say of themselves, for people who look at what is installed. Nothing is validated.

use rustls_pki_types::pem::{PemObject as _, SectionKind};
use serde::Serialize;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::certificate::{Parsed, is_pem};
use super::pins::Fingerprint;

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// Whose it is.
    pub subject: String,
    /// Who has signed it.
    pub issuer: String,
    /// Its number, in hexadecimal.
    pub serial: String,
    /// SHA-256 of it.
    pub fingerprint: Fingerprint,
    /// First second of its validity, Unix time.
    pub not_before: i64,
    /// Last second of its validity, Unix time.
    pub not_after: i64,
}

/// A revocation list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RevocationDescription {
    /// Whose it is.
    pub issuer: String,
    /// When it was made, Unix time.
    pub this_update: i64,
    /// When the next one is to come, Unix time, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_update: Option<i64>,
    /// How many certificates are in it.
    pub revoked: usize,
}

/// The certificates in PEM text, or the one in DER. What cannot be read is left out.
#[must_use]
pub fn describe(content: &[u8]) -> Vec<Description> {
    sections(content, SectionKind::Certificate).iter().filter_map(|der| certificate(der)).collect()
}

/// The revocation lists in PEM text, or the one in DER. What cannot be read is left out.
#[must_use]
pub fn describe_revocation_lists(content: &[u8]) -> Vec<RevocationDescription> {
    sections(content, SectionKind::Crl).iter().filter_map(|der| revocation_list(der)).collect()
}

fn sections(content: &[u8], kind: SectionKind) -> Vec<Vec<u8>> {
    if !is_pem(content) {
        return vec![content.to_vec()];
    }
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(content).flatten();
    sections.filter(|(found, _)| *found == kind).map(|(_, der)| der).collect()
}

fn certificate(der: &[u8]) -> Option<Description> {
    let Parsed { subject, issuer, serial, fingerprint, not_before, not_after, .. } =
        Parsed::from_der(der).ok()?;
    Some(Description { subject, issuer, serial, fingerprint, not_before, not_after })
}

fn revocation_list(der: &[u8]) -> Option<RevocationDescription> {
    let (_, list) = CertificateRevocationList::from_der(der).ok()?;
    Some(RevocationDescription {
        issuer: list.issuer().to_string(),
        this_update: list.last_update().timestamp(),
        next_update: list.next_update().map(|next| next.timestamp()),
        revoked: list.iter_revoked_certificates().count(),
    })
}
