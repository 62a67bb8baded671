//! `attestation-agent`: proves to an attestation service what this guest is, and fetches its secrets.
#![forbid(unsafe_code)]

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use attestation_agent::client::Client;
use attestation_agent::collect::EvidenceSource;
use attestation_agent::config::{self, Options};
use attestation_agent::daemon::{self, Daemon};
use attestation_agent::fetch::fetch;
use attestation_agent::report::{Report, SecretText};
use attestation_agent::service::ResourcePath;
use attestation_agent::tsm::TsmReports;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use jose::{Curve, EphemeralKey};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

const EXAMPLES: &str = "\
Examples:
  Fetch a secret through the host's vsock proxy and keep it in a file:
    attestation-agent fetch --service vsock://2:8443 --server-name as.example \\
      --service-cert /etc/as.pem --resource demo/disk-key --secret-file /run/disk-key

  Offer tokens and secrets to programs in this guest:
    attestation-agent daemon --service https://as.example:8443 --service-cert /etc/as.pem
    curl -X POST http://127.0.0.1:8081/resource/storage -d '{\"resource\":{\"vendor\":\"demo\",\"path\":\"disk-key\"}}'

Options can also be set in /etc/attestation-agent.json, with underscores instead of dashes:
  {\"service\": \"vsock://2:8443\", \"server_name\": \"as.example\", \"service_cert\": \"/etc/as.pem\"}

Exit codes: 0 done, 1 error, 2 refused by the attestation service.";

/// Proves to an attestation service what this guest is, and fetches the secrets meant for it.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    /// What is logged to standard error; secrets and tokens never are
    #[arg(long, value_name = "LEVEL", value_enum, default_value = "warn", global = true)]
    log: LogLevel,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Attest once and fetch one secret; print a report
    Fetch(FetchArgs),
    /// Serve programs in this guest over local HTTP until SIGTERM or SIGINT
    Daemon(DaemonArgs),
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

#[derive(Args)]
struct CommonArgs {
    /// Configuration file; options on the command line go before it [default: /etc/attestation-agent.json, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The attestation service: vsock://CID:PORT or https://HOST:PORT
    #[arg(long, value_name = "URL")]
    service: Option<String>,
    /// The name in the service's certificate [default: HOST]
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// PEM file with the service's certificate, or that of its CA; nothing else is trusted
    #[arg(long, value_name = "FILE")]
    service_cert: Option<PathBuf>,
    /// Directory of the kernel's TSM reports [default: /sys/kernel/config/tsm/report]
    #[arg(long, value_name = "DIR")]
    tsm_root: Option<PathBuf>,
    /// Seconds to wait for each exchange with the service [default: 30]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

#[derive(Args)]
struct FetchArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// The secret to fetch
    #[arg(long, value_name = "VENDOR/PATH")]
    resource: Option<String>,
    /// Write the secret to this file, readable by its owner only
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Put the secret into the report
    #[arg(long)]
    print_secret: bool,
    /// Report for programs (one JSON line on standard output, text on standard error) or for people (text only)
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "json")]
    report: ReportFormat,
}

#[derive(Args)]
struct DaemonArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Where to listen; port 0 takes any free one [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Allow to listen on an address that others than this guest can reach: whoever does gets this guest's secrets
    #[arg(long)]
    allow_remote: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ReportFormat {
    Json,
    Text,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell if this fails. Clap's own exit code for usage errors means "refused" here.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    start_log(cli.log);
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("attestation-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(level: LogLevel) {
    let level = match level {
        LogLevel::Off => return,
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
    };
    tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr).with_ansi(false).init();
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Fetch(args) => block_on(run_fetch(args)),
        Command::Daemon(args) => block_on(run_daemon(args)),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "attestation-agent", &mut io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man => {
            clap_mangen::Man::new(Cli::command()).render(&mut io::stdout())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    // One thread: the agent waits for firmware and network, and memory in the guest is dear.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

impl CommonArgs {
    fn resolve(self, flags: Options) -> attestation_agent::Result<Options> {
        let file = Options::from_file(self.config.as_deref())?;
        let common = Options {
            service: self.service,
            server_name: self.server_name,
            service_cert: self.service_cert,
            tsm_root: self.tsm_root,
            timeout: self.timeout,
            ..flags
        };
        Ok(common.or(file))
    }
}

fn source(options: &Options) -> Arc<dyn EvidenceSource> {
    Arc::new(TsmReports::new(options.tsm_root()))
}

fn new_key() -> EphemeralKey {
    EphemeralKey::generate(Curve::P384, &mut rand::rng())
}

async fn run_fetch(args: FetchArgs) -> Result<ExitCode> {
    let options = args.common.resolve(Options { resource: args.resource, ..Options::default() })?;
    let client = options.client()?;
    let resource: ResourcePath = options
        .resource
        .as_deref()
        .ok_or_else(|| config::missing("--resource", "resource"))?
        .parse()
        .map_err(|problem| attestation_agent::Error::Option { option: "--resource", problem })?;

    let outcome = fetch(&client, &source(&options), &new_key(), &resource).await;
    let mut report = Report::new(&outcome);
    if let Ok(secret) = &outcome.secret {
        if let Some(path) = &args.secret_file {
            write_secret(path, secret)?;
        }
        if args.print_secret {
            report.secret = Some(SecretText::new(secret)?);
        }
    }
    match args.report {
        ReportFormat::Json => {
            println!("{}", serde_json::to_string(&report)?);
            // The secret was asked for once; logs often keep standard error.
            report.secret = None;
            eprint!("{report}");
        }
        ReportFormat::Text => print!("{report}"),
    }
    Ok(ExitCode::from(report.exit_code()))
}

/// Writes the secret under a temporary name first, so that no reader sees half of it or one with other permissions.
fn write_secret(path: &Path, secret: &[u8]) -> Result<()> {
    let name =
        path.file_name().with_context(|| format!("option --secret-file: {} is no file", path.display()))?;
    let mut temporary_name = name.to_owned();
    temporary_name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(temporary_name);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(secret)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write()
        .inspect_err(|error| {
            // One that was there before is not ours.
            if error.kind() != io::ErrorKind::AlreadyExists {
                let _ = fs::remove_file(&temporary);
            }
        })
        .with_context(|| format!("option --secret-file: cannot write {}", path.display()))
}

async fn run_daemon(args: DaemonArgs) -> Result<ExitCode> {
    let options = args.common.resolve(Options { listen: args.listen, ..Options::default() })?;
    let client: Client = options.client()?;
    let address = options.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8081)));
    if !address.ip().is_loopback() && !args.allow_remote {
        bail!(
            "option --listen: {address} can be reached from outside this guest, and whoever reaches it gets this \
             guest's secrets; use a loopback address, or --allow-remote if that is meant"
        );
    }
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("option --listen: cannot listen on {address}"))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    println!("{}", serde_json::json!({ "listening": listener.local_addr()? }));
    let daemon = Arc::new(Daemon::new(client, source(&options), Box::new(new_key)));
    daemon::serve(daemon, listener, shutdown).await;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_secret_file_is_whole_and_for_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, "an older and longer secret").unwrap();
        write_secret(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn names_the_option_when_the_secret_cannot_be_written() {
        let error = write_secret(Path::new("/nonexistent/secret"), b"x").unwrap_err();
        assert!(format!("{error:#}").contains("--secret-file"), "{error:#}");
        assert!(write_secret(Path::new("/"), b"x").is_err());
    }
}
