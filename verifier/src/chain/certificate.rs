//! Certificates as they are sent and installed.

use evidence::token::Curve;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::oid::Oid;
use x509_parser::extensions::KeyUsage;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use super::error::ChainError;
use super::pins::Fingerprint;

/// Most certificates that are sent with evidence: a device, two sub CAs and a root. Each costs a signature verification.
pub const MAX_CERTIFICATES: usize = 4;

const PEM_MARKER: &[u8] = b"-----BEGIN ";

/// Takes apart what came with evidence: one certificate in DER, or several in PEM.
pub fn split(sent: &[u8]) -> Result<Vec<Vec<u8>>, ChainError> {
    let malformed = |reason: String| ChainError::Malformed { reason };
    if !is_pem(sent) {
        return Ok(vec![sent.to_vec()]);
    }
    let mut certificates = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(sent) {
        match section.map_err(|error| malformed(format!("the PEM text cannot be read ({error})")))? {
            (SectionKind::Certificate, _) if certificates.len() == MAX_CERTIFICATES => {
                return Err(malformed("there are more".to_owned()));
            }
            (SectionKind::Certificate, der) => certificates.push(der),
            (other, _) => return Err(malformed(format!("the PEM text contains a section {other:?}"))),
        }
    }
    if certificates.is_empty() {
        return Err(malformed("the PEM text contains no section CERTIFICATE".to_owned()));
    }
    Ok(certificates)
}

/// Whether `bytes` are PEM text; what is not is DER.
pub fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(PEM_MARKER.len()).any(|window| window == PEM_MARKER)
}

/// The public key of a device, or of a TPM in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceKey {
    /// An uncompressed SEC1 point.
    Ec {
        /// Its curve.
        curve: Curve,
        /// 0x04, x, y.
        point: Vec<u8>,
    },
    /// An RSA key, as SubjectPublicKeyInfo in DER.
    Rsa {
        /// The DER.
        spki: Vec<u8>,
    },
}

/// The holder of a certificate that an operator has installed, whose signatures are believed without a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The key.
    pub key: DeviceKey,
    /// The name.
    pub subject: String,
    /// First second of the certificate's validity, Unix time.
    pub not_before: i64,
    /// Last second of its validity, Unix time.
    pub not_after: i64,
}

impl Signer {
    /// Reads one certificate in PEM or DER.
    ///
    /// # Errors
    /// [`ChainError`] if it is none, or may not sign.
    pub fn new(certificate: &[u8]) -> Result<Self, ChainError> {
        let malformed = |reason| ChainError::Malformed { reason };
        let sent = split(certificate)?;
        let [der] = &sent[..] else { return Err(malformed("there must be exactly one".to_owned())) };
        let parsed = Parsed::from_der(der).map_err(malformed)?;
        let key = parsed.device_key()?;
        if !parsed.may_sign() {
            let rule = "its key usage does not say digitalSignature".to_owned();
            return Err(ChainError::Constraint { certificate: parsed.name(), rule });
        }
        Ok(Self { key, subject: parsed.subject, not_before: parsed.not_before, not_after: parsed.not_after })
    }
}

/// The parts of a certificate that are looked at beside path validation.
pub struct Parsed {
    pub fingerprint: Fingerprint,
    pub subject: String,
    pub issuer: String,
    pub raw_subject: Vec<u8>,
    pub raw_issuer: Vec<u8>,
    pub common_names: Vec<String>,
    pub serial: String,
    pub not_before: i64,
    pub not_after: i64,
    pub is_ca: bool,
    /// How many sub CAs may stand below it.
    pub path_length: Option<u32>,
    key_usage: Option<KeyUsage>,
    /// Object identifiers of extended key usage, if it has any.
    purposes: Option<Vec<String>>,
    pub key: Option<DeviceKey>,
    key_algorithm: String,
}

impl Parsed {
    /// Reads a certificate in DER; what is wrong is a sentence.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|error| format!("it is not valid DER ({error})"))?;
        if !rest.is_empty() {
            return Err(format!("{} bytes follow the certificate", rest.len()));
        }
        let constraints = certificate.basic_constraints().map_err(|error| error.to_string())?;
        let constraints = constraints.map(|extension| extension.value);
        let key_usage = certificate.key_usage().map_err(|error| error.to_string())?;
        let purposes = certificate.extended_key_usage().map_err(|error| error.to_string())?;
        let algorithm = &certificate.public_key().algorithm.algorithm;
        Ok(Self {
            fingerprint: Fingerprint::of(der),
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            raw_subject: certificate.subject().as_raw().to_vec(),
            raw_issuer: certificate.issuer().as_raw().to_vec(),
            common_names: common_names(certificate.subject()),
            serial: hex::encode(certificate.raw_serial()),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            is_ca: constraints.is_some_and(|constraints| constraints.ca),
            path_length: constraints.and_then(|constraints| constraints.path_len_constraint),
            key_usage: key_usage.map(|extension| *extension.value),
            purposes: purposes.map(|purposes| purposes.value.other.iter().map(Oid::to_id_string).collect()),
            key: key(certificate.public_key()),
            key_algorithm: algorithm.to_id_string(),
        })
    }

    pub fn is_self_issued(&self) -> bool {
        self.raw_subject == self.raw_issuer
    }

    /// Whether it may sign certificates, as far as key usage says (RFC 5280 section 6.1.4 (n)).
    pub fn may_sign_certificates(&self) -> bool {
        self.key_usage.as_ref().is_none_or(KeyUsage::key_cert_sign)
    }

    /// Whether it may sign tokens, as far as key usage says.
    pub fn may_sign(&self) -> bool {
        self.key_usage.as_ref().is_none_or(KeyUsage::digital_signature)
    }

    /// Whether secrets may be encrypted or agreed on with its key, as far as key usage says.
    pub fn may_receive_secrets(&self) -> bool {
        self.key_usage.as_ref().is_none_or(|usage| usage.key_encipherment() || usage.key_agreement())
    }

    /// Whether its key may be used for the purpose with this object identifier, as far as extended key usage says.
    pub fn is_for(&self, purpose: &str) -> bool {
        self.purposes.as_ref().is_none_or(|purposes| purposes.iter().any(|other| other == purpose))
    }

    /// How the certificate is called in messages.
    pub fn name(&self) -> String {
        format!("the certificate of {:?}", self.subject)
    }

    /// Its key, if it can sign tokens.
    pub fn device_key(&self) -> Result<DeviceKey, ChainError> {
        self.key.clone().ok_or_else(|| ChainError::Key { algorithm: self.key_algorithm.clone() })
    }
}

fn common_names(name: &X509Name<'_>) -> Vec<String> {
    name.iter_common_name().map(|cn| String::from_utf8_lossy(cn.as_slice()).into_owned()).collect()
}

fn key(spki: &SubjectPublicKeyInfo<'_>) -> Option<DeviceKey> {
    let algorithm = &spki.algorithm.algorithm;
    if *algorithm == OID_PKCS1_RSAENCRYPTION {
        return Some(DeviceKey::Rsa { spki: spki.raw.to_vec() });
    }
    if *algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY {
        return None;
    }
    let curve: Oid<'_> = spki.algorithm.parameters.as_ref()?.as_oid().ok()?;
    let curve =
        [(OID_EC_P256, Curve::P256), (OID_NIST_EC_P384, Curve::P384), (OID_NIST_EC_P521, Curve::P521)]
            .into_iter()
            .find(|(oid, _)| *oid == curve)?
            .1;
    let point = spki.subject_public_key.data.to_vec();
    (point.len() == curve.point_len() && point.first() == Some(&4)).then_some(DeviceKey::Ec { curve, point })
}
