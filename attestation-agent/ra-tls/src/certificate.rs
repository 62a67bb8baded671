//! What a peer presents: a self-signed certificate with evidence or a token.

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{Error, Extension, Flow, binding};

/// Longest certificate read, in bytes; the extension is most of it.
const MAX_CERTIFICATE_LEN: usize = 68 * 1024;

/// A peer's certificate that holds by itself: well-formed, of this time, signed with its own key, and with a challenge for
/// that key. What it claims is not proven yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// What the extension carries.
    pub flow: Flow,
    /// The content of the extension.
    pub extension: Extension,
    /// The certificate's SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
}

impl Presented {
    /// Reads a certificate and checks what it says of itself.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn check(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<Self, Error> {
        check_self_signed(certificate, now)?;
        let presented = Self::parse(certificate)?;
        if !binding::is_bound(&presented.extension.challenge_bytes, &presented.spki) {
            return Err(Error::KeyNotBound);
        }
        Ok(presented)
    }

    /// Reads a certificate, and checks nothing.
    ///
    /// # Errors
    /// If it is malformed, or does not carry exactly one of the extensions.
    pub fn parse(certificate: &[u8]) -> Result<Self, Error> {
        if certificate.len() > MAX_CERTIFICATE_LEN {
            return Err(Error::Certificate(format!("it has more than {MAX_CERTIFICATE_LEN} bytes")));
        }
        let (rest, parsed) =
            X509Certificate::from_der(certificate).map_err(|error| Error::Certificate(error.to_string()))?;
        if !rest.is_empty() {
            return Err(Error::Certificate("bytes follow it".to_owned()));
        }
        let mut carried = Vec::new();
        for extension in parsed.extensions() {
            for flow in [Flow::Background, Flow::Passport] {
                if extension.oid.iter().is_some_and(|oid| oid.eq(flow.oid().iter().copied())) {
                    carried.push((flow, extension.value));
                }
            }
        }
        match carried.as_slice() {
            [(flow, value)] => Ok(Self {
                flow: *flow,
                extension: Extension::decode(value)?,
                spki: parsed.public_key().raw.to_vec(),
            }),
            other => Err(Error::Extensions { found: other.len() }),
        }
    }
}

/// Checks dates and signature: the certificate as the only thing that vouches for itself.
fn check_self_signed(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let unreadable = |error: webpki::Error| Error::Certificate(error.to_string());
    let end_entity = EndEntityCert::try_from(certificate).map_err(unreadable)?;
    let anchors = [anchor_from_trusted_cert(certificate).map_err(unreadable)?];
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    end_entity
        .verify_for_usage(algorithms, &anchors, &[], now, KeyUsage::server_auth(), None, None)
        .map(|_| ())
        .map_err(|error| Error::SelfSignature(error.to_string()))
}
