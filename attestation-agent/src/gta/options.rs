//! Options, from the command line or the section `gta` of the configuration file.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use evidence::bank::Bank;
use evidence::tpm::PcrSet;
use serde::Deserialize;
use tpm::{AkAlgorithm, EkKind, Handle, Tcti};
use zeroize::Zeroizing;

use super::attest::Attester;
use super::authority::{Access, Authority};
use super::machine::{BootLog, InitialKey, Machine, Monitor, Secrets};
use super::measurement::{AttesterType, TokenFormat};
use super::schedule::Schedule;
use crate::client::Identity;
use crate::collect::Guest;
use crate::config::missing;
use crate::rest::ListenAddress;
use crate::{Error, Result, config};

/// GTA's default handle.
const DEFAULT_AK: Handle = Handle(0x8101_0020);
/// On a file system that IMA's policy `tcb` does not measure, unlike what is read below /var: its content changes all the time.
const DEFAULT_STATE: &str = "/run/attestation-agent-gta/state.json";
const DEFAULT_BOOT_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
const DEFAULT_IMA_LOG: &str = "/sys/kernel/security/ima/binary_runtime_measurements";
const HOST_NAME: &str = "/proc/sys/kernel/hostname";
/// Registers that firmware and boot loaders of PCs and servers measure into; 14 has the keys that shim trusts besides Secure
/// Boot's.
const BOOT_PCRS: [u32; 11] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14];
const DEFAULT_INTERVAL: u64 = 3600;
const SHORTEST_INTERVAL: u64 = 10;
const DEFAULT_SPREAD: u64 = 60;
/// Most policies that the authority takes for one piece of evidence.
const MAX_POLICIES: usize = 10;

/// Where options can come from: the command line, or the section `gta` of the configuration file.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The authority: https://HOST:PORT or vsock://CID:PORT; without TLS only http://127.0.0.1:PORT
    #[arg(long, value_name = "URL")]
    pub service: Option<String>,
    /// The name in the authority's certificate [default: HOST]
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// PEM file with the authority's certificate, or that of its CA; nothing else is trusted
    #[arg(long, value_name = "FILE")]
    pub service_cert: Option<PathBuf>,
    /// Seconds to wait for each exchange with the authority [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// The tenant whose machine this is
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// File with an API key of the tenant, for agents
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// File with a token of an OpenID Connect issuer that the authority believes, instead of an API key; read for every request
    #[arg(long, value_name = "FILE")]
    pub service_token_file: Option<PathBuf>,
    /// PEM file with a certificate chain of an authority that the authority believes, instead of an API key; read for every
    /// connection
    #[arg(long, value_name = "FILE")]
    pub client_cert: Option<PathBuf>,
    /// PEM file with its private key
    #[arg(long, value_name = "FILE")]
    pub client_key: Option<PathBuf>,
    /// The name of this machine [default: its host name]
    #[arg(long, value_name = "NAME")]
    pub node_id: Option<String>,
    /// The TPM: device:PATH, swtpm:path=PATH or swtpm:host=HOST,port=PORT [default: device:/dev/tpmrm0]
    #[arg(long, value_name = "TCTI")]
    pub tpm: Option<String>,
    /// Where the attestation key is, or is kept once it is made [default: 0x81010020]
    #[arg(long, value_name = "HANDLE")]
    pub ak_handle: Option<String>,
    /// What the attestation key is, if it must be made [default: ecdsa]
    #[arg(long, value_name = "ALGORITHM", value_enum)]
    pub ak_algorithm: Option<KeyAlgorithm>,
    /// The endorsement key by which this machine is enrolled [default: rsa]
    #[arg(long, value_name = "KIND", value_enum)]
    pub endorsement_key: Option<KeyKind>,
    /// The endorsement key's certificate and sub CAs in PEM, if the TPM has none
    #[arg(long, value_name = "FILE")]
    pub endorsement_certificate: Option<PathBuf>,
    /// Handle of the initial attestation key that the maker left in the TPM: this machine is enrolled by that then
    #[arg(long, value_name = "HANDLE")]
    pub initial_key: Option<String>,
    /// The initial attestation key's certificate and sub CAs in PEM
    #[arg(long, value_name = "FILE")]
    pub initial_certificate: Option<PathBuf>,
    /// File with the password of the TPM's endorsement hierarchy, if it has one
    #[arg(long, value_name = "FILE")]
    pub endorsement_password_file: Option<PathBuf>,
    /// File with the password of the TPM's owner hierarchy, if it has one
    #[arg(long, value_name = "FILE")]
    pub owner_password_file: Option<PathBuf>,
    /// The bank of registers: sha256, sha384, sha512 or sm3_256 [default: sha256]
    #[arg(long, value_name = "BANK")]
    pub pcr_bank: Option<String>,
    /// What is attested; several with commas [default: tpm_boot,tpm_ima]
    #[arg(long, value_name = "TYPE", value_enum, value_delimiter = ',')]
    pub attesters: Option<Vec<AttesterType>>,
    /// Registers of the boot [default: 0 to 9 and 14]
    #[arg(long, value_name = "PCR", value_delimiter = ',')]
    pub boot_pcrs: Option<Vec<u32>>,
    /// The firmware's log [default: /sys/kernel/security/tpm0/binary_bios_measurements]
    #[arg(long, value_name = "FILE")]
    pub boot_log: Option<PathBuf>,
    /// IMA's log, binary [default: /sys/kernel/security/ima/binary_runtime_measurements]
    #[arg(long, value_name = "FILE")]
    pub ima_log: Option<PathBuf>,
    /// Directory of the kernel's TSM reports, for virt_cca [default: /sys/kernel/config/tsm/report]
    #[arg(long, value_name = "DIR")]
    pub tsm_root: Option<PathBuf>,
    /// The platform's certificate, for virtCCA tokens that come as TSM reports [default:
    /// /etc/attestation-agent/device-certificate.pem]
    #[arg(long, value_name = "FILE")]
    pub device_certificate: Option<PathBuf>,
    /// Whether IMA's log goes along with virt_cca [default: false]
    #[arg(long, value_name = "BOOL")]
    pub virtcca_ima: Option<bool>,
    /// Policies that must accept this machine beside those of the tenant; several with commas
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub policy_ids: Option<Vec<String>>,
    /// The form of tokens [default: eat]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub token_format: Option<TokenFormat>,
    /// Keep the last token in this file while it says that the machine is accepted
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// File in which is remembered how far the IMA log was sent [default:
    /// /run/attestation-agent-gta/state.json]
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Seconds between two attestations, give or take a tenth [default: 3600]
    #[arg(long, value_name = "SECONDS")]
    pub interval: Option<u64>,
    /// Seconds over which the first attestation is spread, so that machines that start together do not ask together
    /// [default: 60]
    #[arg(long, value_name = "SECONDS")]
    pub spread: Option<u64>,
    /// Where gta run answers programs that want tokens or evidence: ADDRESS:PORT, unix:PATH or vsock:PORT; several with
    /// commas [default: nowhere]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub listen: Option<Vec<ListenAddress>>,
    /// Permission bits of Unix sockets, in octal [default: 600]
    #[arg(long, value_name = "MODE")]
    pub socket_mode: Option<String>,
}

/// What a new attestation key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum KeyAlgorithm {
    /// ECDSA with P-256
    Ecdsa,
    /// RSASSA-PSS with 2048 bits
    Rsapss,
    /// RSASSA-PKCS1-v1_5 with 2048 bits
    Rsassa,
}

/// A kind of endorsement key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// RSA of 2048 bits
    Rsa,
    /// P-256
    Ecc,
}

impl Options {
    /// These options, and where they say nothing, the ones of `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            service: self.service.or(other.service),
            server_name: self.server_name.or(other.server_name),
            service_cert: self.service_cert.or(other.service_cert),
            timeout: self.timeout.or(other.timeout),
            tenant: self.tenant.or(other.tenant),
            api_key_file: self.api_key_file.or(other.api_key_file),
            service_token_file: self.service_token_file.or(other.service_token_file),
            client_cert: self.client_cert.or(other.client_cert),
            client_key: self.client_key.or(other.client_key),
            node_id: self.node_id.or(other.node_id),
            tpm: self.tpm.or(other.tpm),
            ak_handle: self.ak_handle.or(other.ak_handle),
            ak_algorithm: self.ak_algorithm.or(other.ak_algorithm),
            endorsement_key: self.endorsement_key.or(other.endorsement_key),
            endorsement_certificate: self.endorsement_certificate.or(other.endorsement_certificate),
            initial_key: self.initial_key.or(other.initial_key),
            initial_certificate: self.initial_certificate.or(other.initial_certificate),
            endorsement_password_file: self.endorsement_password_file.or(other.endorsement_password_file),
            owner_password_file: self.owner_password_file.or(other.owner_password_file),
            pcr_bank: self.pcr_bank.or(other.pcr_bank),
            attesters: self.attesters.or(other.attesters),
            boot_pcrs: self.boot_pcrs.or(other.boot_pcrs),
            boot_log: self.boot_log.or(other.boot_log),
            ima_log: self.ima_log.or(other.ima_log),
            tsm_root: self.tsm_root.or(other.tsm_root),
            device_certificate: self.device_certificate.or(other.device_certificate),
            virtcca_ima: self.virtcca_ima.or(other.virtcca_ima),
            policy_ids: self.policy_ids.or(other.policy_ids),
            token_format: self.token_format.or(other.token_format),
            token_file: self.token_file.or(other.token_file),
            state: self.state.or(other.state),
            interval: self.interval.or(other.interval),
            spread: self.spread.or(other.spread),
            listen: self.listen.or(other.listen),
            socket_mode: self.socket_mode.or(other.socket_mode),
        }
    }

    /// Who attests this machine, and to whom.
    ///
    /// # Errors
    /// If an option is missing or cannot be used.
    pub fn attester(&self) -> Result<Attester> {
        let state = self.state.clone().unwrap_or_else(|| DEFAULT_STATE.into());
        Ok(Attester::new(self.authority()?, self.machine()?, state, self.token_file.clone()))
    }

    fn authority(&self) -> Result<Authority> {
        let service = self.service.clone().ok_or_else(|| missing("--service", "gta.service"))?;
        let tls = config::Options {
            service: Some(service),
            server_name: self.server_name.clone(),
            service_cert: self.service_cert.clone(),
            timeout: self.timeout,
            ..config::Options::default()
        };
        let tenant = self.tenant.clone().ok_or_else(|| missing("--tenant", "gta.tenant"))?;
        let client = match (&self.client_cert, &self.client_key) {
            (Some(certificate), Some(key)) => tls
                .client()?
                .with_identity(Identity { certificate: certificate.clone(), key: key.clone() })?,
            (None, None) => tls.client()?,
            (Some(_), None) => return Err(missing("--client-key", "gta.client_key")),
            (None, Some(_)) => return Err(missing("--client-cert", "gta.client_cert")),
        };
        let access = match (&self.api_key_file, &self.service_token_file) {
            (Some(file), None) => Access::key(&secret("--api-key-file", file)?)?,
            (None, Some(file)) => Access::Token(file.clone()),
            (None, None) if self.client_cert.is_some() => Access::Certificate,
            (None, None) => return Err(missing("--api-key-file", "gta.api_key_file")),
            (Some(_), Some(_)) => {
                return Err(option("--service-token-file", "it is in place of an API key, and there is one"));
            }
        };
        Ok(Authority::new(client, tenant, access))
    }

    /// This machine.
    ///
    /// # Errors
    /// If an option cannot be used.
    pub fn machine(&self) -> Result<Machine> {
        let attesters = self.attesters.clone();
        let attesters = attesters.unwrap_or_else(|| vec![AttesterType::TpmBoot, AttesterType::TpmIma]);
        if attesters.is_empty() {
            return Err(option("--attesters", "at least one of tpm_boot, tpm_ima and virt_cca is attested"));
        }
        let policy_ids = self.policy_ids.clone().unwrap_or_default();
        if policy_ids.len() > MAX_POLICIES {
            return Err(option("--policy-ids", format!("at most {MAX_POLICIES} can be named")));
        }
        let boot_pcrs = self.boot_pcrs.clone().unwrap_or_else(|| BOOT_PCRS.to_vec());
        let boot_pcrs = PcrSet::new(boot_pcrs).map_err(|error| option("--boot-pcrs", error.to_string()))?;
        if boot_pcrs.is_empty() {
            return Err(option("--boot-pcrs", "a quote has at least one register"));
        }
        let password = |name, file: &Option<PathBuf>| -> Result<Zeroizing<Vec<u8>>> {
            Ok(file.as_ref().map(|file| secret(name, file)).transpose()?.unwrap_or_default())
        };
        Ok(Machine {
            node_id: self.node_id()?,
            tcti: match &self.tpm {
                Some(text) => {
                    text.parse().map_err(|error: tpm::TctiError| option("--tpm", error.to_string()))?
                }
                None => Tcti::default(),
            },
            ak_handle: self.ak_handle()?,
            ak_algorithm: match self.ak_algorithm {
                None | Some(KeyAlgorithm::Ecdsa) => AkAlgorithm::EcdsaP256,
                Some(KeyAlgorithm::Rsapss) => AkAlgorithm::RsaPss2048,
                Some(KeyAlgorithm::Rsassa) => AkAlgorithm::RsaSsa2048,
            },
            endorsement_key: match self.endorsement_key {
                None | Some(KeyKind::Rsa) => EkKind::Rsa,
                Some(KeyKind::Ecc) => EkKind::Ecc,
            },
            endorsement_certificate: self.endorsement_certificate.clone(),
            initial_key: self.initial_key()?,
            secrets: Secrets {
                endorsement: password("--endorsement-password-file", &self.endorsement_password_file)?,
                owner: password("--owner-password-file", &self.owner_password_file)?,
            },
            bank: self.bank()?,
            attesters,
            boot: BootLog {
                pcrs: boot_pcrs,
                path: self.boot_log.clone().unwrap_or_else(|| DEFAULT_BOOT_LOG.into()),
            },
            ima_log: self.ima_log.clone().unwrap_or_else(|| DEFAULT_IMA_LOG.into()),
            monitor: self.monitor(),
            policy_ids,
            token_format: self.token_format.unwrap_or_default(),
        })
    }

    fn monitor(&self) -> Monitor {
        let places = config::Options {
            tsm_root: self.tsm_root.clone(),
            device_certificate: self.device_certificate.clone(),
            ..config::Options::default()
        };
        Monitor { source: Arc::new(Guest::new(places.places())), ima: self.virtcca_ima.unwrap_or(false) }
    }

    fn node_id(&self) -> Result<String> {
        if let Some(name) = &self.node_id {
            return Ok(name.clone());
        }
        let name = fs::read_to_string(HOST_NAME).unwrap_or_default();
        match name.trim() {
            "" | "(none)" | "localhost" => {
                Err(option("--node-id", "this machine has no name of its own: give it one"))
            }
            name => Ok(name.to_owned()),
        }
    }

    fn ak_handle(&self) -> Result<Handle> {
        self.ak_handle.as_deref().map_or(Ok(DEFAULT_AK), |text| persistent("--ak-handle", text))
    }

    fn initial_key(&self) -> Result<Option<InitialKey>> {
        match (&self.initial_key, &self.initial_certificate) {
            (Some(text), Some(certificate)) => Ok(Some(InitialKey {
                handle: persistent("--initial-key", text)?,
                certificate: certificate.clone(),
            })),
            (None, None) => Ok(None),
            (Some(_), None) => Err(missing("--initial-certificate", "gta.initial_certificate")),
            (None, Some(_)) => Err(missing("--initial-key", "gta.initial_key")),
        }
    }

    fn bank(&self) -> Result<Bank> {
        let Some(name) = self.pcr_bank.as_deref() else { return Ok(Bank::Sha256) };
        Bank::ALL.into_iter().find(|bank| bank.name() == name && *bank != Bank::Sha1).ok_or_else(|| {
            option("--pcr-bank", format!("{name:?} is not one of sha256, sha384, sha512 and sm3_256"))
        })
    }

    /// Who attests this machine again and again, which is announced each time, and when.
    ///
    /// # Errors
    /// If an option is missing or cannot be used.
    pub fn repeated(&self) -> Result<(Attester, Schedule)> {
        let schedule = self.schedule()?;
        Ok((self.attester()?.repeating(&schedule), schedule))
    }

    /// When to attest.
    ///
    /// # Errors
    /// If an option cannot be used.
    pub fn schedule(&self) -> Result<Schedule> {
        let interval = self.interval.unwrap_or(DEFAULT_INTERVAL);
        if interval < SHORTEST_INTERVAL {
            return Err(option(
                "--interval",
                format!("at least {SHORTEST_INTERVAL} seconds are between two attestations"),
            ));
        }
        Ok(Schedule {
            interval: Duration::from_secs(interval),
            spread: Duration::from_secs(self.spread.unwrap_or(DEFAULT_SPREAD)),
        })
    }
}

/// What is in a file, without the end of its line.
fn secret(name: &'static str, path: &PathBuf) -> Result<Zeroizing<Vec<u8>>> {
    let mut content = Zeroizing::new(fs::read(path).map_err(|error| Error::File {
        option: name,
        action: "read",
        path: path.clone(),
        source: error.into(),
    })?);
    let len = content.trim_ascii_end().len();
    content.truncate(len);
    Ok(content)
}

fn persistent(name: &'static str, text: &str) -> Result<Handle> {
    let number = text.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let handle = number.map(Handle).filter(|handle| handle.is_persistent_of_owner());
    handle
        .ok_or_else(|| option(name, format!("{text:?} is not a persistent handle, 0x81000000 to 0x817fffff")))
}

fn option(option: &'static str, problem: impl Into<String>) -> Error {
    Error::Option { option, problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(options: &Options) -> String {
        options.machine().and(options.schedule().map(drop)).unwrap_err().to_string()
    }

    #[test]
    fn every_message_names_the_option() {
        let good = Options { node_id: Some("n".to_owned()), ..Options::default() };
        assert!(good.machine().is_ok() && good.schedule().is_ok());
        let with = |change: fn(&mut Options)| {
            let mut options = good.clone();
            change(&mut options);
            problem(&options)
        };
        assert!(with(|o| o.tpm = Some("/dev/tpm0".into())).contains("--tpm:"));
        for handle in ["81010020", "0x80000000", "0x81800000", "0x"] {
            let options = Options { ak_handle: Some(handle.to_owned()), ..good.clone() };
            assert!(problem(&options).contains("--ak-handle:"), "{handle}");
        }
        assert!(with(|o| o.pcr_bank = Some("sha1".into())).contains("--pcr-bank:"));
        assert!(with(|o| o.attesters = Some(vec![])).contains("--attesters:"));
        assert!(with(|o| o.boot_pcrs = Some(vec![])).contains("--boot-pcrs:"));
        assert!(with(|o| o.boot_pcrs = Some(vec![32])).contains("--boot-pcrs:"));
        assert!(with(|o| o.initial_key = Some("0x81010030".into())).contains("--initial-certificate"));
        assert!(with(|o| o.initial_certificate = Some("iak.pem".into())).contains("--initial-key"));
        let wrong = |o: &mut Options| {
            (o.initial_key, o.initial_certificate) = (Some("0x01".into()), Some("iak.pem".into()));
        };
        assert!(with(wrong).contains("--initial-key"));
        assert!(with(|o| o.policy_ids = Some(vec![String::new(); 11])).contains("--policy-ids:"));
        assert!(with(|o| o.interval = Some(9)).contains("--interval:"));
        assert!(
            with(|o| o.owner_password_file = Some("/nonexistent".into())).contains("--owner-password-file")
        );
    }

    #[test]
    fn what_the_authority_needs_is_named_where_it_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        fs::write(&key, "0123456789abcdefghijABCDEFGHIJxy\n").unwrap();
        let good = Options {
            service: Some("http://127.0.0.1:1".to_owned()),
            tenant: Some("acme".to_owned()),
            api_key_file: Some(key.clone()),
            node_id: Some("n".to_owned()),
            ..Options::default()
        };
        assert!(good.attester().is_ok());
        let problem = |options: Options| options.attester().map(drop).unwrap_err().to_string();
        assert!(problem(Options { service: None, ..good.clone() }).contains("gta.service"));
        assert!(problem(Options { tenant: None, ..good.clone() }).contains("gta.tenant"));
        assert!(problem(Options { api_key_file: None, ..good.clone() }).contains("gta.api_key_file"));
        let token = Options { api_key_file: None, service_token_file: Some(key.clone()), ..good.clone() };
        assert!(token.attester().is_ok());
        let both = Options { service_token_file: Some(key.clone()), ..good.clone() };
        assert!(problem(both).contains("--service-token-file"));
        let certificate = Options { client_cert: Some(key.clone()), ..good.clone() };
        assert!(problem(certificate.clone()).contains("gta.client_key"));
        assert!(
            problem(Options { client_key: Some(key.clone()), ..good.clone() }).contains("gta.client_cert")
        );
        // Without TLS there is nobody to show it to.
        let certificate = Options { client_key: Some(key.clone()), ..certificate };
        assert!(problem(certificate).contains("--client-cert"));
        fs::write(&key, "two words").unwrap();
        assert!(problem(good).contains("--api-key-file"));
    }

    #[test]
    fn the_file_has_the_names_of_the_command_line() {
        let text = r#"{"service": "https://gta:1", "attesters": ["tpm_ima"], "ak_algorithm": "rsapss",
            "endorsement_key": "ecc", "token_format": "ear", "boot_pcrs": [0, 7], "node_id": "file"}"#;
        let file: Options = serde_json::from_str(text).unwrap();
        let flags = Options { node_id: Some("flag".to_owned()), ..Options::default() };
        let machine = flags.or(file).machine().unwrap();
        assert_eq!((machine.node_id.as_str(), machine.endorsement_key), ("flag", EkKind::Ecc));
        assert_eq!(machine.attesters, [AttesterType::TpmIma]);
        assert!(serde_json::from_str::<Options>(r#"{"nodeid": "x"}"#).is_err());
    }
}
