//! The command line.

use std::path::PathBuf;

use attestation_agent::config::{EvidenceFormat, Options};
use attestation_agent::rest::ListenAddress;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::gta_cli::GtaArgs;

const EXAMPLES: &str = "\
Examples:
  Fetch a secret through the host's vsock proxy and keep it in a file:
    attestation-agent fetch --service vsock://2:8443 --server-name as.example \\
      --service-cert /etc/as.pem --resource demo/disk-key --secret-file /run/disk-key

  Offer tokens and secrets to programs in this guest, over TCP and a Unix socket:
    attestation-agent daemon --service https://as.example:8443 --service-cert /etc/as.pem \\
      --listen 127.0.0.1:8081 --listen unix:/run/attestation-agent.sock
    curl 'http://127.0.0.1:8081/resource/storage?vendor=demo&path=disk-key'

  See what evidence this guest gives, with the IMA log, for a challenge of 32 zero bytes:
    attestation-agent evidence --ima --challenge AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA

Options can also be set in /etc/attestation-agent.json, with underscores instead of dashes:
  {\"service\": \"vsock://2:8443\", \"server_name\": \"as.example\", \"service_cert\": \"/etc/as.pem\"}
secGear's /etc/attestation/attestation-agent/attestation-agent.conf is read, too, and so is its command line:
  attestation-agent -s 127.0.0.1:8081 -u as.example:8443 -p https -t /etc/as.pem

Exit codes: 0 done, 1 error, 2 refused by the attestation service.";

/// Proves to an attestation service what this guest is, and fetches the secrets meant for it.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Cli {
    /// What is logged to standard error; secrets and tokens never are
    #[arg(long, value_name = "LEVEL", value_enum, default_value = "warn", global = true)]
    pub log: LogLevel,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Attest once and fetch one secret; print a report
    Fetch(FetchArgs),
    /// Print this guest's evidence for a challenge, as JSON
    Evidence(EvidenceArgs),
    /// Serve programs in this guest over local HTTP until SIGTERM or SIGINT
    Daemon(DaemonArgs),
    /// Attest this machine's TPM with a Global Trust Authority
    Gta(Box<GtaArgs>),
    /// Print a shell completion script
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(hide = true)]
    Man,
}

/// Where the guest's devices and files are.
#[derive(Args, Default)]
pub struct GuestArgs {
    /// Directory of the kernel's TSM reports [default: /sys/kernel/config/tsm/report]
    #[arg(long, value_name = "DIR")]
    tsm_root: Option<PathBuf>,
    /// The platform's certificate, PEM or DER, for virtCCA tokens that come as TSM reports [default:
    /// /etc/attestation-agent/device-certificate.pem]
    #[arg(long, value_name = "FILE")]
    device_certificate: Option<PathBuf>,
    /// How evidence is written [default: compact]
    #[arg(long, value_name = "FORMAT", value_enum)]
    evidence_format: Option<EvidenceFormat>,
}

impl GuestArgs {
    pub fn options(self) -> Options {
        Options {
            tsm_root: self.tsm_root,
            device_certificate: self.device_certificate,
            evidence_format: self.evidence_format,
            ..Options::default()
        }
    }
}

#[derive(Args, Default)]
pub struct CommonArgs {
    /// Configuration file; options on the command line go before it [default: /etc/attestation-agent.json, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The attestation service: vsock://CID:PORT or https://HOST:PORT; without TLS only http://127.0.0.1:PORT
    #[arg(long, value_name = "URL")]
    pub service: Option<String>,
    /// The name in the service's certificate [default: HOST]
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// PEM file with the service's certificate, or that of its CA; nothing else is trusted
    #[arg(long, value_name = "FILE")]
    pub service_cert: Option<PathBuf>,
    #[command(flatten)]
    guest: GuestArgs,
    /// Seconds to wait for each exchange with the service [default: 30]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

impl CommonArgs {
    /// All options: these and `more` from the command line, and where they say nothing, those of the file.
    pub fn resolve(self, more: Options) -> attestation_agent::Result<Options> {
        let file = Options::from_file(self.config.as_deref())?;
        let common = Options {
            service: self.service,
            server_name: self.server_name,
            service_cert: self.service_cert,
            timeout: self.timeout,
            ..Options::default()
        };
        Ok(common.or(self.guest.options()).or(more).or(file))
    }
}

#[derive(Args)]
pub struct EvidenceArgs {
    #[command(flatten)]
    pub guest: GuestArgs,
    /// What the evidence must answer: 32 to 64 bytes in base64url without padding
    #[arg(long, value_name = "BASE64URL")]
    pub challenge: String,
    /// Add the log of the Integrity Measurement Architecture
    #[arg(long)]
    pub ima: bool,
}

#[derive(Args)]
pub struct FetchArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    /// The secret to fetch
    #[arg(long, value_name = "VENDOR/PATH")]
    pub resource: Option<String>,
    /// Write the secret to this file, readable by its owner only
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Put the secret into the report
    #[arg(long)]
    pub print_secret: bool,
    /// Report for programs (one JSON line on standard output, text on standard error) or for people (text only)
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "json")]
    pub report: ReportFormat,
}

#[derive(Args, Default)]
pub struct DaemonArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    /// Where to listen: ADDRESS:PORT (port 0 takes any free one), unix:PATH or vsock:PORT; can be given several times
    /// [default: 127.0.0.1:8081]
    #[arg(long, value_name = "WHERE")]
    pub listen: Vec<ListenAddress>,
    /// Permission bits of Unix sockets, in octal [default: 600]
    #[arg(long, value_name = "MODE")]
    socket_mode: Option<String>,
    /// PEM file with the certificate or public key of who signs tokens [default: the service's published keys]
    #[arg(long, value_name = "FILE")]
    token_cert: Option<PathBuf>,
    /// The issuer that tokens must name
    #[arg(long, value_name = "NAME")]
    token_issuer: Option<String>,
    /// The audience that tokens must name
    #[arg(long, value_name = "NAME")]
    token_audience: Option<String>,
    /// Judge evidence without a service, by the certificates and measurements in this directory
    #[arg(long, value_name = "DIR")]
    local_verify: Option<PathBuf>,
    /// Allow to listen on an address that others than this guest can reach: whoever does gets this guest's secrets
    #[arg(long)]
    pub allow_remote: bool,
    /// Keep tokens at hand for the applications of secGear's configuration file, whether it enables that or not
    #[arg(long)]
    pub active_attestation: bool,
}

impl DaemonArgs {
    /// All options of the daemon, and whether it may listen where others than this guest reach it.
    pub fn resolve(self) -> attestation_agent::Result<(Options, bool)> {
        let more = Options {
            listen: (!self.listen.is_empty()).then_some(self.listen),
            socket_mode: self.socket_mode,
            token_cert: self.token_cert,
            token_issuer: self.token_issuer,
            token_audience: self.token_audience,
            local_verify: self.local_verify,
            ..Options::default()
        };
        let mut options = self.common.resolve(more)?;
        if self.active_attestation {
            options.enable_active_attestation();
        }
        Ok((options, self.allow_remote))
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum ReportFormat {
    Json,
    Text,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
}
