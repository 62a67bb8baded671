//! Command line of the service. Everything is checked before the first socket is bound, and an error names its flag.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use service_cli::Extra;

use crate::admin::credentials::Grant;
use crate::serve::limit::Rate;
use crate::serve::tls::{ClientAuthorities, TlsFiles};
use crate::token::{Algorithm, TokenSettings};
use crate::vault::MasterKeySource;
use verifier::result::Spelling;

const EXAMPLES: &str = "\
Examples:
  Serve on the loopback, print where, keep everything under /var/lib/attestation:
    attestation-service --listen 127.0.0.1:0 \\
        --tls-cert service.pem --tls-key service.key \\
        --database sqlite:/var/lib/attestation/db.sqlite \\
        --admin-socket /run/attestation/admin.sock \\
        --master-key /var/lib/attestation/master.key

  Then, as the same user, tell it what to trust:
    attestation-client --admin-socket /run/attestation/admin.sock reference add \\
        --name my-guest --rim 39ad630fb9d2019f2be445c17430b6372c999e1d205f7ddaa5d00b5d13b83c76

The log goes to standard error; RUST_LOG=debug makes it talkative.";

/// Verifies the evidence of confidential VMs and releases secrets to those that prove what they run.
#[derive(Debug, Parser)]
#[command(name = "attestation-service", version, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, args_override_self = true)]
pub struct Cli {
    /// How to serve.
    #[command(flatten)]
    pub serve: Option<ServeArgs>,
    /// What to do instead.
    #[command(subcommand)]
    pub command: Option<Other>,
}

/// What else the program does.
#[derive(Debug, Subcommand)]
pub enum Other {
    /// Wrap the keys of all secrets in the database by a new master key. Instances that have both keys can go on serving
    Rewrap(RewrapArgs),
    /// Take over the policies, resources, certificates and digest lists that secGear's attestation service keeps in files
    ImportSecgear(ImportArgs),
    /// Print something.
    #[command(flatten)]
    Extra(Extra),
}

/// Flags of `rewrap`.
#[derive(Clone, Debug, Args)]
pub struct RewrapArgs {
    /// Database
    #[arg(
        long,
        value_name = "sqlite:PATH|postgres://USER@HOST/NAME",
        env = "ATTESTATION_DATABASE",
        hide_env_values = true
    )]
    pub database: String,
    /// The new master key; created with mode 0600 if absent
    #[arg(long, value_name = "FILE|pkcs11:URI|transit+https:URI")]
    pub master_key: MasterKeySource,
    /// A master key of before. None is needed after a key was rotated in its transit engine
    #[arg(long, value_name = "FILE|pkcs11:URI|transit+https:URI")]
    pub old_master_key: Vec<MasterKeySource>,
}

/// Flags of `import-secgear`.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// secGear's directory, usually /etc/attestation/attestation-service
    pub directory: PathBuf,
    /// Database
    #[arg(
        long,
        value_name = "sqlite:PATH|postgres://USER@HOST/NAME",
        env = "ATTESTATION_DATABASE",
        hide_env_values = true
    )]
    pub database: String,
    /// Key under which secrets in the database are sealed; created with mode 0600 if absent
    #[arg(long, value_name = "FILE|pkcs11:URI|transit+https:URI")]
    pub master_key: MasterKeySource,
    /// How to print the report
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,
}

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Flags of the service.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// File with flags in TOML, `listen = "127.0.0.1:8443"`; those on the command line override it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the public TLS listener; port 0 takes a free one and prints it
    #[arg(long, value_name = "IP:PORT")]
    pub listen: SocketAddr,
    /// Certificate chain in PEM
    #[arg(long, value_name = "FILE")]
    pub tls_cert: PathBuf,
    /// Private key of the certificate in PEM
    #[arg(long, value_name = "FILE")]
    pub tls_key: PathBuf,
    /// Database: a file, created with mode 0600 if absent, or PostgreSQL, which replicas share
    #[arg(
        long,
        value_name = "sqlite:PATH|postgres://USER@HOST/NAME",
        env = "ATTESTATION_DATABASE",
        hide_env_values = true
    )]
    pub database: String,
    /// Unix socket of the admin plane; serves the user that the service runs as
    #[arg(long, value_name = "PATH")]
    pub admin_socket: PathBuf,
    /// Key under which secrets in the database are sealed: a file with 32 bytes in hexadecimal, created with mode 0600 if
    /// absent; an AES-256 key that stays in a token, as an RFC 7512 URI with module-path and pin-source; or a key that stays
    /// in the transit engine of OpenBao or Vault, as transit+https://HOST/MOUNT/keys/NAME?token-file=FILE. Replicas need the
    /// same one
    #[arg(long, value_name = "FILE|pkcs11:URI|transit+https:URI")]
    pub master_key: MasterKeySource,
    /// A master key of before, which still opens what was sealed under it
    #[arg(long, value_name = "FILE|pkcs11:URI|transit+https:URI")]
    pub old_master_key: Vec<MasterKeySource>,
    /// Address of the admin listener over TLS, beside the socket; operators need a client certificate or an admin token
    #[arg(long, value_name = "IP:PORT")]
    pub admin_listen: Option<SocketAddr>,
    /// Authorities that certify operators, in PEM
    #[arg(long, value_name = "FILE", requires = "admin_listen")]
    pub admin_client_ca: Option<PathBuf>,
    /// Role of the operator whose certificate has this subject: reader, policy-admin, resource-admin or admin
    #[arg(long, value_name = "ROLE=SUBJECT", requires = "admin_client_ca")]
    pub admin_role: Vec<Grant>,
    /// Public key that verifies admin tokens, P-256 or P-384 in PEM
    #[arg(long, value_name = "FILE", requires = "admin_listen")]
    pub admin_token_key: Option<PathBuf>,
    /// Address on which /metrics and /healthz are served in clear
    #[arg(long, value_name = "IP:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    /// Issuer (iss) of tokens
    #[arg(long, value_name = "TEXT", default_value = "redoubt", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub issuer: String,
    /// Audience (aud) of tokens
    #[arg(long, value_name = "TEXT", default_value = "redoubt", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub audience: String,
    /// How long tokens are valid, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(30..=86_400))]
    pub token_lifetime: u32,
    /// How tokens are signed unless a client asks for something else
    #[arg(long, value_enum, value_name = "ALGORITHM", default_value_t = Algorithm::Es384)]
    pub token_algorithm: Algorithm,
    /// After how many days a new key signs tokens; 0 for never
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=3650))]
    pub token_key_rotation: u32,
    /// Call virtCCA "vcca" in tokens, as secGear did up to openEuler 25.09, and not "virtcca"
    #[arg(long)]
    pub token_tee_vcca: bool,
    /// How long a challenge can be answered, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub challenge_ttl: u32,
    /// How many unexpired challenges there may be at a time
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub max_challenges: u32,
    /// How many requests per second one address may send to the public listener; 0 for no limit, which is right behind a
    /// proxy, where all have the address of the proxy
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub rate_limit: u32,
    /// How many requests one address may send at once
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate_burst: u32,
    /// Write the log as JSON
    #[arg(long)]
    pub log_json: bool,
}

impl ServeArgs {
    /// Where the certificate and the key of the public listener are.
    #[must_use]
    pub fn tls_files(&self) -> TlsFiles {
        TlsFiles { certificate: self.tls_cert.clone(), key: self.tls_key.clone(), client_ca: None }
    }

    /// The same for the admin listener, with the authorities of operators.
    #[must_use]
    pub fn admin_tls_files(&self) -> TlsFiles {
        let authorities = self.admin_client_ca.clone().map(|certificates| ClientAuthorities {
            flag: "--admin-client-ca",
            certificates,
            revocations: None,
        });
        TlsFiles { client_ca: authorities, ..self.tls_files() }
    }

    /// How often every peer may ask.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        Rate { per_second: self.rate_limit, burst: self.rate_burst }
    }

    /// What tokens say and how they are signed.
    #[must_use]
    pub fn token_settings(&self) -> TokenSettings {
        TokenSettings {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            lifetime: self.token_lifetime.into(),
            algorithm: self.token_algorithm,
            rotation: i64::from(self.token_key_rotation) * 24 * 3600,
            spelling: if self.token_tee_vcca { Spelling::Vcca } else { Spelling::Virtcca },
        }
    }
}

/// The configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("--config {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML.
    #[error("--config {path}: not TOML")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value that no flag has.
    #[error("--config {path}: {key}: expected a text, a number, true, false, or a list of these")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
}

/// The command line with what the file of `--config` says before it, as flags: what is on the command line comes later
/// and overrides it, and a mistake in the file is reported as one on the command line is.
///
/// # Errors
/// [`ConfigError`] names the file.
pub fn arguments(given: impl IntoIterator<Item = OsString>) -> Result<Vec<OsString>, ConfigError> {
    let mut given: Vec<OsString> = given.into_iter().collect();
    let Some(path) = config_path(&given) else { return Ok(given) };
    let text =
        std::fs::read_to_string(&path).map_err(|source| ConfigError::File { path: path.clone(), source })?;
    let table: toml::Table = toml::from_str(&text)
        .map_err(|source| ConfigError::Toml { path: path.clone(), source: Box::new(source) })?;
    let mut flags = Vec::new();
    for (key, value) in table {
        let wrong = || ConfigError::Value { path: path.clone(), key: key.clone() };
        let values = match value {
            toml::Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            let flag = format!("--{key}");
            match value {
                toml::Value::Boolean(true) => flags.push(flag.into()),
                toml::Value::Boolean(false) => {}
                toml::Value::String(text) => flags.push(format!("{flag}={text}").into()),
                toml::Value::Integer(number) => flags.push(format!("{flag}={number}").into()),
                _ => return Err(wrong()),
            }
        }
    }
    given.splice(1.min(given.len())..1.min(given.len()), flags);
    Ok(given)
}

fn config_path(given: &[OsString]) -> Option<PathBuf> {
    let mut given = given.iter().skip(1);
    while let Some(argument) = given.next() {
        if argument == "--config" {
            return given.next().map(PathBuf::from);
        }
        if let Some(path) = argument.to_str().and_then(|text| text.strip_prefix("--config=")) {
            return Some(path.into());
        }
    }
    None
}

/// Ends the process with a usage error if no flags were given.
pub fn missing_flags() -> clap::Error {
    Cli::command().error(
        clap::error::ErrorKind::MissingRequiredArgument,
        "the flags of the service are required; see --help",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../packaging/attestation-service/attestation-service.toml");

    fn parse(file: &str, more: &[&str]) -> Result<ServeArgs, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service.toml");
        std::fs::write(&path, file).unwrap();
        let mut given: Vec<OsString> = vec!["attestation-service".into(), "--config".into(), path.into()];
        given.extend(more.iter().map(OsString::from));
        let arguments = arguments(given).map_err(|error| error.to_string())?;
        let cli = Cli::try_parse_from(arguments).map_err(|error| error.to_string())?;
        cli.serve.ok_or_else(|| "no flags".to_owned())
    }

    #[test]
    fn the_example_is_a_configuration_with_and_without_what_is_commented_out() {
        assert_eq!(parse(EXAMPLE, &[]).unwrap().listen.port(), 8443);
        let key = |line: &str| line.starts_with('#') && line.contains(" = ") && !line.starts_with("# ");
        let whole: String =
            EXAMPLE.lines().map(|line| format!("{}\n", if key(line) { &line[1..] } else { line })).collect();
        let all = parse(&whole, &[]).unwrap();
        assert_eq!(all.admin_role.len(), 2);
        assert_eq!(all.admin_role[0].subject, "CN=alice,O=Example");
        assert!(all.admin_token_key.is_some() && all.metrics_listen.is_some() && all.log_json);
    }

    #[test]
    fn the_command_line_overrides_the_file() {
        let flags = parse(EXAMPLE, &["--listen", "127.0.0.1:1", "--token-lifetime=60"]).unwrap();
        assert_eq!((flags.listen.port(), flags.token_lifetime), (1, 60));
    }

    #[test]
    fn a_mistake_in_the_file_is_told_as_one_on_the_command_line() {
        for (line, told) in [
            ("lisen = \"127.0.0.1:1\"", "--lisen"),
            ("max-challenges = 0", "--max-challenges"),
            ("listen = { port = 1 }", "listen: expected a text"),
            ("listen", "not TOML"),
        ] {
            let error = parse(line, &[]).unwrap_err();
            assert!(error.contains(told), "{line}: {error}");
        }
        let absent = arguments(["x".into(), "--config=/nowhere/at/all".into()]).unwrap_err();
        assert!(absent.to_string().contains("--config /nowhere/at/all"));
    }
}
