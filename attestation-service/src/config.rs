//! Command line of the service. Everything is checked before the first socket is bound, and an error names its flag.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

const EXAMPLES: &str = "\
Examples:
  Serve on the loopback, print where, keep everything under /var/lib/attestation:
    attestation-service --listen 127.0.0.1:0 \\
        --tls-cert service.pem --tls-key service.key \\
        --database sqlite:/var/lib/attestation/db.sqlite \\
        --admin-socket /run/attestation/admin.sock \\
        --token-key /var/lib/attestation/token.pem

  Then, as the same user, tell it what to trust:
    attestation-client --admin-socket /run/attestation/admin.sock reference add \\
        --name my-guest --rim 39ad630fb9d2019f2be445c17430b6372c999e1d205f7ddaa5d00b5d13b83c76

The log goes to standard error; RUST_LOG=debug makes it talkative.";

/// Verifies the evidence of confidential VMs and releases secrets to those that prove what they run.
#[derive(Debug, Parser)]
#[command(name = "attestation-service", version, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Cli {
    /// How to serve.
    #[command(flatten)]
    pub serve: Option<ServeArgs>,
    /// What to do instead.
    #[command(subcommand)]
    pub command: Option<Extra>,
}

/// Commands that print something and end.
#[derive(Debug, Subcommand)]
pub enum Extra {
    /// Print a completion script for a shell.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    #[command(hide = true)]
    Man,
}

impl Extra {
    /// Prints what was asked for, for the command line `C`.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn print<C: clap::CommandFactory>(&self) -> std::io::Result<()> {
        let mut command = C::command();
        match self {
            Self::Completions { shell } => {
                let name = command.get_name().to_owned();
                clap_complete::generate(*shell, &mut command, name, &mut std::io::stdout());
                Ok(())
            }
            Self::Man => clap_mangen::Man::new(command).render(&mut std::io::stdout()),
        }
    }
}

/// Flags of the service.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// Address of the public TLS listener; port 0 takes a free one and prints it
    #[arg(long, value_name = "IP:PORT")]
    pub listen: SocketAddr,
    /// Certificate chain in PEM
    #[arg(long, value_name = "FILE")]
    pub tls_cert: PathBuf,
    /// Private key of the certificate in PEM
    #[arg(long, value_name = "FILE")]
    pub tls_key: PathBuf,
    /// Database; created with mode 0600 if absent
    #[arg(long, value_name = "sqlite:PATH")]
    pub database: String,
    /// Unix socket of the admin plane; serves the user that the service runs as
    #[arg(long, value_name = "PATH")]
    pub admin_socket: PathBuf,
    /// ES384 key that signs tokens, PKCS#8 PEM; created with mode 0600 if absent
    #[arg(long, value_name = "FILE")]
    pub token_key: PathBuf,
    /// Issuer (iss) of tokens
    #[arg(long, value_name = "TEXT", default_value = "redoubt", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub issuer: String,
    /// Audience (aud) of tokens
    #[arg(long, value_name = "TEXT", default_value = "redoubt", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub audience: String,
    /// How long a challenge can be answered, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub challenge_ttl: u32,
    /// How many unexpired challenges there may be at a time
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub max_challenges: u32,
    /// Write the log as JSON
    #[arg(long)]
    pub log_json: bool,
}

/// A certificate or key that cannot be served with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file.
    #[error("--tls-cert {path}: expected a certificate chain in PEM")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// The certificate file has none.
    #[error("--tls-cert {0}: there is no certificate in it")]
    NoCertificate(PathBuf),
    /// The key file.
    #[error("--tls-key {path}: expected a private key in PEM")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// They do not go together.
    #[error("--tls-cert and --tls-key cannot be used together")]
    Pair(#[source] rustls::Error),
}

/// Reads the certificate and the key.
///
/// # Errors
/// [`TlsError`] names the flag.
pub fn tls(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let certificate_error = |source| TlsError::Certificate { path: certificate.to_owned(), source };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .map_err(certificate_error)?
        .collect::<Result<_, _>>()
        .map_err(certificate_error)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(certificate.to_owned()));
    }
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Key { path: key.to_owned(), source })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Ends the process with a usage error if no flags were given.
pub fn missing_flags() -> clap::Error {
    Cli::command().error(
        clap::error::ErrorKind::MissingRequiredArgument,
        "the flags of the service are required; see --help",
    )
}
