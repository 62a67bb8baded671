//! What the certificate of a client says of whom it was issued to.

use std::fmt::Write as _;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Attributes that have names (RFC 4514 section 3), by their OIDs.
const NAMES: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// A certificate that an authority of the listener vouches for, and whose key the client has proved to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its names: URIs.
    pub uris: Vec<String>,
    /// Its names: DNS, in small letters.
    pub dns: Vec<String>,
    /// Its subject, as RFC 4514 writes it: `CN=alice,O=Example,C=CN`. None if it has none, or one that is not text. Text in it
    /// cannot pass for another attribute.
    pub subject: Option<String>,
    /// Until when it is valid, seconds since the Unix epoch.
    pub not_after: i64,
}

impl ClientCertificate {
    /// Reads a certificate that was verified; none if it cannot be read, and whoever sent it is not to be served.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok()?;
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let (mut uris, mut dns) = (Vec::new(), Vec::new());
        for name in names {
            match name {
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) => dns.push(name.to_ascii_lowercase()),
                _ => {}
            }
        }
        let not_after = certificate.validity().not_after.timestamp();
        Some(Self { uris, dns, subject: distinguished(certificate.subject()), not_after })
    }
}

/// RFC 4514 section 2: the last of the sequence is the first of the text.
fn distinguished(name: &X509Name<'_>) -> Option<String> {
    let mut relative = Vec::new();
    for several in name.iter() {
        let attributes: Option<Vec<String>> = several.iter().map(attribute).collect();
        relative.push(attributes?.join("+"));
    }
    relative.reverse();
    Some(relative.join(",")).filter(|text| !text.is_empty())
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let oid = attribute.attr_type().to_id_string();
    let text = attribute.as_str().ok().filter(|text| !text.chars().any(char::is_control))?;
    match NAMES.iter().find(|(known, _)| *known == oid) {
        Some((_, name)) => Some(format!("{name}={}", escaped(text))),
        None => {
            let value = attribute.attr_value();
            // Longer ones are no names.
            let length = u8::try_from(value.data.len()).ok().filter(|length| *length < 0x80)?;
            let tag = u8::try_from(value.header.tag().0).ok()?;
            let der = [&[tag, length][..], value.data].concat();
            Some(format!("{oid}=#{}", hex::encode(der)))
        }
    }
}

/// Section 2.4.
fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut written = String::new();
    for (at, c) in text.chars().enumerate() {
        let special = matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\')
            || (at == 0 && matches!(c, ' ' | '#'))
            || (at == last && c == ' ');
        // Writing into a string does not fail.
        let _ = if special { write!(written, "\\{c}") } else { write!(written, "{c}") };
    }
    written
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use rcgen::string::{BmpString, Ia5String};
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType};

    use super::*;

    fn der(params: &CertificateParams) -> Vec<u8> {
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn named(attributes: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in attributes {
            params.distinguished_name.push(kind.clone(), *value);
        }
        der(&params)
    }

    fn subject(attributes: &[(DnType, &str)]) -> Option<String> {
        ClientCertificate::read(&named(attributes)).unwrap().subject
    }

    /// What openssl makes of the same.
    fn of_openssl(der: &[u8]) -> String {
        use std::io::Write as _;
        let mut openssl = Command::new("openssl")
            .args(["x509", "-inform", "DER", "-noout", "-subject", "-nameopt", "RFC2253,-esc_msb,utf8"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        openssl.stdin.take().unwrap().write_all(der).unwrap();
        let output = openssl.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.trim_end_matches('\n').strip_prefix("subject=").unwrap().to_owned()
    }

    #[test]
    fn a_subject_is_written_as_openssl_writes_it() {
        let (c, o, cn) = (DnType::CountryName, DnType::OrganizationName, DnType::CommonName);
        for (attributes, text) in [
            (vec![(c, "CN"), (o.clone(), "Acme"), (cn.clone(), "alice")], "CN=alice,O=Acme,C=CN"),
            (vec![(cn.clone(), "alice,O=Acme")], "CN=alice\\,O=Acme"),
            (vec![(cn.clone(), "alice+O=Acme")], "CN=alice\\+O=Acme"),
            (vec![(cn.clone(), "#a\\\"<>;")], "CN=\\#a\\\\\\\"\\<\\>\\;"),
            (vec![(cn.clone(), " a ")], "CN=\\ a\\ "),
            (vec![(cn.clone(), " ")], "CN=\\ "),
            (vec![(o, "Gesellschaft für Prüfung"), (cn, "愛麗絲")], "CN=愛麗絲,O=Gesellschaft für Prüfung"),
            (vec![(DnType::CustomDnType(vec![1, 2, 3, 4]), "a")], "1.2.3.4=#0C0161"),
        ] {
            let ours = subject(&attributes).unwrap();
            assert_eq!(ours.to_lowercase(), text.to_lowercase());
            assert_eq!(ours.to_lowercase(), of_openssl(&named(&attributes)).to_lowercase());
        }
    }

    #[test]
    fn a_subject_that_is_no_text_is_none() {
        assert_eq!(subject(&[]), None);
        assert_eq!(subject(&[(DnType::CommonName, "a\nb")]), None);
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::OrganizationName, DnValue::BmpString(BmpString::try_from("Acme").unwrap()));
        assert_eq!(ClientCertificate::read(&der(&params)).unwrap().subject, None);
    }

    #[test]
    fn names_are_read_and_what_is_no_certificate_is_not() {
        let ia5 = |text: &str| Ia5String::try_from(text).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![
            SanType::URI(ia5("spiffe://example.org/Acme")),
            SanType::DnsName(ia5("Node-1.Example")),
            SanType::Rfc822Name(ia5("a@b")),
            SanType::URI(ia5("urn:a")),
        ];
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let der = der(&params);
        let read = ClientCertificate::read(&der).unwrap();
        assert_eq!(read.uris, ["spiffe://example.org/Acme", "urn:a"]);
        assert_eq!(read.dns, ["node-1.example"]);
        assert_eq!(read.not_after, 1_893_456_000);
        assert_eq!(ClientCertificate::read(&der[..der.len() - 1]), None);
        assert_eq!(ClientCertificate::read(b""), None);
    }
}
