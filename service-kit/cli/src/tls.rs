//! TLS 1.3 to a service that proves itself by an authority from a file.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use hyper::Uri;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::patience::Patience;

/// Files for TLS. The authorities are those that the option `--ca` names.
#[derive(Clone, Copy, Debug)]
pub struct TlsFiles<'a> {
    /// Authorities that certify the service, in PEM. Nothing else is trusted.
    pub ca: &'a Path,
    /// What the caller shows of itself.
    pub identity: Option<Identity<'a>>,
}

/// What a caller shows of itself, each by the option that names it.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The certificate chain, in PEM.
    pub certificate: (&'static str, &'a Path),
    /// Its private key, in PEM.
    pub key: (&'static str, &'a Path),
}

/// Connects to `https://HOST:PORT`; `option` is the one that has the URL. Gives the host's name, too.
///
/// # Errors
/// If the service cannot be reached, or is not the trusted one, or a file cannot be used.
pub async fn connect(
    option: &str,
    url: &Uri,
    files: TlsFiles<'_>,
    patience: Patience,
) -> anyhow::Result<(String, impl AsyncRead + AsyncWrite + Unpin + Send + use<>)> {
    let wrong = || format!("{option} {url}: expected https://HOST:PORT");
    let host = url.host().filter(|_| url.scheme_str() == Some("https")).with_context(wrong)?;
    let port = url.port_u16().unwrap_or(443);
    let tls = TlsConnector::from(Arc::new(configuration(files)?));
    let bare = host.trim_matches(['[', ']']);
    let stream = patience
        .connecting(TcpStream::connect((bare, port)))
        .await
        .with_context(|| format!("{option} {url}: is the service running, and is this where it listens?"))?;
    let name = ServerName::try_from(bare.to_owned()).with_context(wrong)?;
    let stream = patience.connecting(tls.connect(name, stream)).await.with_context(|| {
        format!("{option} {url}: no trusted TLS 1.3 connection; its certificate must be of the authority in --ca and name {bare}")
    })?;
    Ok((host.to_owned(), stream))
}

fn configuration(files: TlsFiles<'_>) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let in_ca = || format!("--ca {}: expected certificates in PEM", files.ca.display());
    for certificate in CertificateDer::pem_file_iter(files.ca).with_context(in_ca)? {
        roots.add(certificate.with_context(in_ca)?).with_context(in_ca)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let Some(Identity { certificate: (option, cert), key: (key_option, key) }) = files.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let in_cert = || format!("{option} {}: expected a certificate chain in PEM", cert.display());
    let chain = CertificateDer::pem_file_iter(cert)
        .with_context(in_cert)?
        .collect::<Result<_, _>>()
        .with_context(in_cert)?;
    let private = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("{key_option} {}: expected a private key in PEM", key.display()))?;
    builder
        .with_client_auth_cert(chain, private)
        .with_context(|| format!("{option} and {key_option} cannot be used together"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_does_not_answer_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("ca.pem");
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&ca, certified.cert.pem()).unwrap();
        // Linux takes the connection, and nobody speaks.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url: Uri = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
        let files = TlsFiles { ca: &ca, identity: None };
        let error = connect("--server", &url, files, Patience::seconds(1)).await.map(drop).unwrap_err();
        assert!(format!("{error:#}").ends_with("no answer within 1 s"), "{error:#}");
    }
}
