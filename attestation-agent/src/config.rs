//! Options and configuration file.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;

use crate::client::{Client, ServiceAddress};
use crate::tsm;
use crate::{Error, Result};

/// The configuration file that is read if it exists.
pub const DEFAULT_PATH: &str = "/etc/attestation-agent.json";

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where options can come from: the command line, or a JSON file with these members.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// `vsock://CID:PORT` or `https://HOST:PORT`.
    pub service: Option<String>,
    /// The name in the service's certificate.
    pub server_name: Option<String>,
    /// PEM file with the certificate that the service must prove.
    pub service_cert: Option<PathBuf>,
    /// The directory of TSM report entries.
    pub tsm_root: Option<PathBuf>,
    /// Seconds to wait for each exchange with the service.
    pub timeout: Option<u64>,
    /// Where the daemon listens.
    pub listen: Option<SocketAddr>,
    /// The secret to fetch, `VENDOR/PATH`.
    pub resource: Option<String>,
}

impl Options {
    /// Reads a configuration file; without `path`, the default one if there is one.
    ///
    /// # Errors
    /// If the file cannot be read or has members that are unknown or of a wrong type.
    pub fn from_file(path: Option<&Path>) -> Result<Self> {
        let is_default = path.is_none();
        let path = path.unwrap_or_else(|| Path::new(DEFAULT_PATH));
        let failed = |action, source: Box<dyn std::error::Error + Send + Sync>| Error::File {
            option: "--config",
            action,
            path: path.to_owned(),
            source,
        };
        match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| failed("understand", error.into())),
            Err(error) if is_default && error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(failed("read", error.into())),
        }
    }

    /// These options, and where they say nothing, the ones of `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            service: self.service.or(other.service),
            server_name: self.server_name.or(other.server_name),
            service_cert: self.service_cert.or(other.service_cert),
            tsm_root: self.tsm_root.or(other.tsm_root),
            timeout: self.timeout.or(other.timeout),
            listen: self.listen.or(other.listen),
            resource: self.resource.or(other.resource),
        }
    }

    /// The client that these options describe.
    ///
    /// # Errors
    /// If an option is missing or cannot be used.
    pub fn client(&self) -> Result<Client> {
        let service = self.service.as_deref().ok_or_else(|| missing("--service", "service"))?;
        let address: ServiceAddress =
            service.parse().map_err(|problem| Error::Option { option: "--service", problem })?;
        let server_name = self
            .server_name
            .as_deref()
            .or_else(|| address.default_server_name())
            .ok_or_else(|| missing("--server-name", "server_name"))?
            .to_owned();
        let path = self.service_cert.as_deref().ok_or_else(|| missing("--service-cert", "service_cert"))?;
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
            .map_err(|error| Error::File {
                option: "--service-cert",
                action: "read",
                path: path.to_owned(),
                source: error.into(),
            })?;
        let timeout = self.timeout.map_or(DEFAULT_TIMEOUT, Duration::from_secs);
        if timeout.is_zero() {
            let problem = "0 leaves the service no time to answer; the default is 30".to_owned();
            return Err(Error::Option { option: "--timeout", problem });
        }
        Client::new(address, &server_name, certificates, timeout)
    }

    /// The directory of TSM report entries.
    #[must_use]
    pub fn tsm_root(&self) -> &Path {
        self.tsm_root.as_deref().unwrap_or_else(|| Path::new(tsm::DEFAULT_ROOT))
    }
}

/// The error for an option that neither the command line nor the file gives.
#[must_use]
pub fn missing(option: &'static str, member: &str) -> Error {
    Error::Option {
        option,
        problem: format!("missing; give it, or set {member:?} in the configuration file ({DEFAULT_PATH})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::self_signed;

    fn message(options: &Options) -> String {
        options.client().err().unwrap().to_string()
    }

    fn complete(directory: &Path) -> Options {
        let certificate = directory.join("service.pem");
        fs::write(&certificate, self_signed("as.redoubt").cert.pem()).unwrap();
        Options {
            service: Some("vsock://2:8443".to_owned()),
            server_name: Some("as.redoubt".to_owned()),
            service_cert: Some(certificate),
            ..Options::default()
        }
    }

    #[test]
    fn takes_the_command_line_before_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.json");
        fs::write(&path, r#"{"service":"https://file:1","server_name":"file","timeout":7}"#).unwrap();
        let flags = Options { service: Some("https://flag:1".to_owned()), ..Options::default() };
        let merged = flags.or(Options::from_file(Some(&path)).unwrap());
        assert_eq!(merged.service.as_deref(), Some("https://flag:1"));
        assert_eq!(merged.server_name.as_deref(), Some("file"));
        assert_eq!(merged.timeout, Some(7));
    }

    #[test]
    fn says_what_is_wrong_with_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.json");
        let absent = Options::from_file(Some(&path)).unwrap_err();
        assert!(absent.to_string().contains("cannot read"), "{absent}");
        fs::write(&path, r#"{"servise":"x"}"#).unwrap();
        let Error::File { source, .. } = Options::from_file(Some(&path)).unwrap_err() else { panic!() };
        assert!(source.to_string().contains("unknown field `servise`"), "{source}");
    }

    #[test]
    fn every_message_names_the_option() {
        let directory = tempfile::tempdir().unwrap();
        let good = complete(directory.path());
        assert!(good.client().is_ok());
        let without = |change: fn(&mut Options)| {
            let mut options = good.clone();
            change(&mut options);
            message(&options)
        };
        assert!(without(|o| o.service = None).contains("--service:"));
        assert!(without(|o| o.service = Some("http://x:1".into())).contains("--service:"));
        assert!(without(|o| o.server_name = None).contains("--server-name:"));
        assert!(without(|o| o.server_name = Some("not a name".into())).contains("--server-name:"));
        assert!(without(|o| o.service_cert = None).contains("--service-cert:"));
        assert!(without(|o| o.service_cert = Some("/nonexistent".into())).contains("--service-cert:"));
        assert!(without(|o| o.timeout = Some(0)).contains("--timeout:"));
    }

    #[test]
    fn refuses_a_certificate_file_without_certificates() {
        let directory = tempfile::tempdir().unwrap();
        let mut options = complete(directory.path());
        let empty = directory.path().join("empty.pem");
        fs::write(&empty, "").unwrap();
        options.service_cert = Some(empty);
        assert!(message(&options).contains("no PEM certificate"), "{}", message(&options));
    }
}
