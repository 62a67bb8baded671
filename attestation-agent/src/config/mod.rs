//! Options and configuration files.

mod secgear;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use evidence::envelope::Dialect;
use jose::TokenKeys;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Deserializer};

use crate::agent::{App, Judge, KeySource, TokenRules};
use crate::client::{Client, ServiceAddress};
use crate::collect::Places;
use crate::rest::ListenAddress;
use crate::{Error, Result, gta};

/// The configuration file that is read if it exists.
pub const DEFAULT_PATH: &str = "/etc/attestation-agent.json";
/// The one that is read instead if only that exists: where secGear's agent has it.
pub const SECGEAR_PATH: &str = "/etc/attestation/attestation-agent/attestation-agent.conf";

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest configuration file read, in bytes.
const MAX_FILE_LEN: usize = 1024 * 1024;
/// Most applications: each has a task that asks the service.
const MAX_APPS: usize = 64;

/// Where options can come from: the command line, or a JSON file with these members.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// `vsock://CID:PORT`, `https://HOST:PORT` or `http://127.0.0.1:PORT`.
    pub service: Option<String>,
    /// The name in the service's certificate.
    pub server_name: Option<String>,
    /// PEM file with the certificate that the service must prove.
    pub service_cert: Option<PathBuf>,
    /// The same as PEM text; secGear's files have it so.
    pub service_cert_pem: Option<String>,
    /// The directory of TSM report entries.
    pub tsm_root: Option<PathBuf>,
    /// The certificate of the platform, for virtCCA tokens from configfs-tsm.
    pub device_certificate: Option<PathBuf>,
    /// Seconds to wait for each exchange with the service.
    pub timeout: Option<u64>,
    /// Where the daemon listens.
    #[serde(default, deserialize_with = "one_or_more")]
    pub listen: Option<Vec<ListenAddress>>,
    /// Permission bits of Unix sockets, in octal.
    pub socket_mode: Option<String>,
    /// The secret to fetch, `VENDOR/PATH`.
    pub resource: Option<String>,
    /// PEM file with the certificate or public key of the token issuer; the service's JWKS if absent.
    pub token_cert: Option<PathBuf>,
    /// The issuer that tokens must name.
    pub token_issuer: Option<String>,
    /// The audience that tokens must name.
    pub token_audience: Option<String>,
    /// How evidence is written.
    pub evidence_format: Option<EvidenceFormat>,
    /// Directory of what evidence is held against, for an agent without a service.
    pub local_verify: Option<PathBuf>,
    /// Applications for which a token is kept at hand.
    pub app_list: Option<Vec<App>>,
    /// A Global Trust Authority that attests this machine's TPM.
    pub gta: Option<gta::Options>,
    /// Those of a file of secGear that does not enable them.
    #[serde(skip)]
    pub idle_apps: Option<Vec<App>>,
}

/// How evidence is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceFormat {
    /// Byte strings as base64url
    Compact,
    /// As secGear's agents of 2026 do
    Secgear,
    /// As secGear's agents of openEuler 25.09 do
    #[serde(rename = "secgear-25.09")]
    #[value(name = "secgear-25.09")]
    Secgear2509,
}

impl From<EvidenceFormat> for Dialect {
    fn from(format: EvidenceFormat) -> Self {
        match format {
            EvidenceFormat::Compact => Self::Compact,
            EvidenceFormat::Secgear => Self::SecGear,
            EvidenceFormat::Secgear2509 => Self::SecGear2509,
        }
    }
}

fn one_or_more<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Vec<ListenAddress>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMore {
        One(ListenAddress),
        More(Vec<ListenAddress>),
    }
    Ok(Option::deserialize(deserializer)?.map(|listen| match listen {
        OneOrMore::One(one) => vec![one],
        OneOrMore::More(more) => more,
    }))
}

impl Options {
    /// Reads a configuration file, ours or secGear's; without `path`, the one at [`DEFAULT_PATH`] or else at
    /// [`SECGEAR_PATH`], if there is one.
    ///
    /// # Errors
    /// If the file cannot be read or has members that are unknown or of a wrong type.
    pub fn from_file(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return match Self::read(Path::new(DEFAULT_PATH))? {
                Some(options) => Ok(options),
                None => Ok(Self::read(Path::new(SECGEAR_PATH))?.unwrap_or_default()),
            };
        };
        Self::read(path)?
            .ok_or_else(|| file_error("read", path, io::Error::from(io::ErrorKind::NotFound).into()))
    }

    fn read(path: &Path) -> Result<Option<Self>> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error("read", path, error.into())),
        };
        Self::from_json(&text).map(Some).map_err(|error| file_error("understand", path, error))
    }

    /// Reads the text of a configuration file.
    ///
    /// # Errors
    /// If it is too long or malformed, or has members that are unknown or of a wrong type.
    pub fn from_json(text: &[u8]) -> std::result::Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        if text.len() > MAX_FILE_LEN {
            return Err(format!("it has more than {MAX_FILE_LEN} bytes").into());
        }
        let value: serde_json::Value = serde_json::from_slice(text)?;
        let options = if secgear::is_meant(&value) {
            secgear::File::deserialize(value)?.into_options()?
        } else {
            Self::deserialize(value)?
        };
        options.check_apps()?;
        Ok(options)
    }

    fn check_apps(&self) -> std::result::Result<(), String> {
        let apps = self.app_list.as_deref().or(self.idle_apps.as_deref()).unwrap_or_default();
        if apps.len() > MAX_APPS {
            return Err(format!("app_list has {} applications; at most {MAX_APPS} are kept", apps.len()));
        }
        let mut names: Vec<&str> = apps.iter().map(|app| app.uuid.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find_map(|pair| match pair {
            [one, other] if one == other => Some(*one),
            _ => None,
        }) {
            Some(twice) => Err(format!("app_list has the application {twice:?} twice")),
            None => Ok(()),
        }
    }

    /// These options, and where they say nothing, the ones of `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            service: self.service.or(other.service),
            server_name: self.server_name.or(other.server_name),
            service_cert: self.service_cert.or(other.service_cert),
            service_cert_pem: self.service_cert_pem.or(other.service_cert_pem),
            tsm_root: self.tsm_root.or(other.tsm_root),
            device_certificate: self.device_certificate.or(other.device_certificate),
            timeout: self.timeout.or(other.timeout),
            listen: self.listen.or(other.listen),
            socket_mode: self.socket_mode.or(other.socket_mode),
            resource: self.resource.or(other.resource),
            token_cert: self.token_cert.or(other.token_cert),
            token_issuer: self.token_issuer.or(other.token_issuer),
            token_audience: self.token_audience.or(other.token_audience),
            evidence_format: self.evidence_format.or(other.evidence_format),
            local_verify: self.local_verify.or(other.local_verify),
            app_list: self.app_list.or(other.app_list),
            gta: self.gta.or(other.gta),
            idle_apps: self.idle_apps.or(other.idle_apps),
        }
    }

    /// Keeps tokens for applications that a file of secGear has, but does not enable.
    pub fn enable_active_attestation(&mut self) {
        let idle = self.idle_apps.take();
        self.app_list = self.app_list.take().or(idle);
    }

    /// The client that these options describe.
    ///
    /// # Errors
    /// If an option is missing or cannot be used.
    pub fn client(&self) -> Result<Client> {
        let service = self.service.as_deref().ok_or_else(|| missing("--service", "service"))?;
        let address: ServiceAddress =
            service.parse().map_err(|problem| Error::Option { option: "--service", problem })?;
        let timeout = self.timeout.map_or(DEFAULT_TIMEOUT, Duration::from_secs);
        if timeout.is_zero() {
            let problem = "0 leaves the service no time to answer; the default is 30".to_owned();
            return Err(Error::Option { option: "--timeout", problem });
        }
        if let ServiceAddress::Loopback { port } = address {
            return Ok(Client::loopback(port, timeout));
        }
        let server_name = self
            .server_name
            .as_deref()
            .or_else(|| address.default_server_name())
            .ok_or_else(|| missing("--server-name", "server_name"))?
            .to_owned();
        Client::new(address, &server_name, self.service_certificates()?, timeout)
    }

    fn service_certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        let parse =
            |pem: &[u8]| CertificateDer::pem_slice_iter(pem).collect::<std::result::Result<Vec<_>, _>>();
        match (&self.service_cert, &self.service_cert_pem) {
            (Some(path), _) => {
                let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::File {
                    option: "--service-cert",
                    action: "read",
                    path: path.clone(),
                    source,
                };
                let pem = fs::read(path).map_err(|error| failed(error.into()))?;
                parse(&pem).map_err(|error| failed(error.into()))
            }
            (None, Some(pem)) => parse(pem.as_bytes()).map_err(|error| Error::Option {
                option: "protocal.Https.cert_root",
                problem: format!("not a PEM certificate: {error}"),
            }),
            (None, None) => Err(missing("--service-cert", "service_cert")),
        }
    }

    /// Who judges evidence: a service, or the agent itself.
    ///
    /// # Errors
    /// If an option is missing or cannot be used.
    pub fn judge(&self) -> Result<Judge> {
        match (&self.local_verify, &self.service) {
            (Some(_), Some(_)) => {
                let problem = "give either a service (--service) or local verification, not both".to_owned();
                Err(Error::Option { option: "--local-verify", problem })
            }
            #[cfg(feature = "local-verify")]
            (Some(directory), None) => {
                Ok(Judge::Local(Arc::new(crate::local::LocalVerifier::open(directory)?)))
            }
            #[cfg(not(feature = "local-verify"))]
            (Some(_), None) => {
                let problem = "this agent was built without the feature local-verify".to_owned();
                Err(Error::Option { option: "--local-verify", problem })
            }
            (None, _) => Ok(Judge::Service(self.client()?)),
        }
    }

    /// What a token must be to hold.
    ///
    /// # Errors
    /// If the certificate of the issuer cannot be read.
    pub fn token_rules(&self) -> Result<TokenRules> {
        let keys = match &self.token_cert {
            None => KeySource::Service,
            Some(path) => {
                let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::File {
                    option: "--token-cert",
                    action: "read",
                    path: path.clone(),
                    source,
                };
                let pem = fs::read(path).map_err(|error| failed(error.into()))?;
                KeySource::Given(Arc::new(TokenKeys::from_pem(&pem).map_err(|error| failed(error.into()))?))
            }
        };
        Ok(TokenRules { keys, issuer: self.token_issuer.clone(), audience: self.token_audience.clone() })
    }

    /// Where this guest's devices and files are.
    #[must_use]
    pub fn places(&self) -> Places {
        let mut places = Places::default();
        if let Some(root) = &self.tsm_root {
            places.tsm_root.clone_from(root);
        }
        if let Some(certificate) = &self.device_certificate {
            places.device_certificate.clone_from(certificate);
        }
        places
    }

    /// How evidence is written.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.evidence_format.map_or(Dialect::Compact, Dialect::from)
    }

    /// Permission bits of Unix sockets.
    ///
    /// # Errors
    /// If they are not octal, or give rights that a socket does not have.
    pub fn socket_mode(&self) -> Result<u32> {
        let Some(text) = &self.socket_mode else { return Ok(0o600) };
        u32::from_str_radix(text, 8).ok().filter(|mode| mode & !0o666 == 0).ok_or_else(|| Error::Option {
            option: "--socket-mode",
            problem: format!("{text:?} is not octal with rights to read and write only, such as 660"),
        })
    }
}

fn file_error(action: &'static str, path: &Path, source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::File { option: "--config", action, path: path.to_owned(), source }
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
