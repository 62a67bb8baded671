//! `attestation-agent`: proves to an attestation service what this guest is, and fetches its secrets.
#![forbid(unsafe_code)]

mod cli;
mod gta_cli;
mod secgear_cli;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use attestation_agent::agent::{Agent, Setup};
use attestation_agent::collect::{EvidenceSource, Guest, Request};
use attestation_agent::config::{self, Options};
use attestation_agent::environment::{Environment as _, System};
use attestation_agent::fetch::fetch;
use attestation_agent::report::{Report, SecretText};
use attestation_agent::rest::{self, ListenAddress, Listener};
use attestation_agent::service::{Challenge, ResourcePath};
use attestation_agent::whole_file::write_private;
use clap::{CommandFactory as _, Parser as _};
use cli::{Cli, Command, DaemonArgs, EvidenceArgs, FetchArgs, LogLevel, ReportFormat};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let parsed = match secgear_cli::parse(&arguments) {
        Some(daemon) => daemon.map(|daemon| Cli { log: LogLevel::Warn, command: Command::Daemon(daemon) }),
        None => Cli::try_parse_from(arguments),
    };
    let cli = match parsed {
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
            // Perhaps nobody reads it; the exit code tells all the same.
            let _ = writeln!(io::stderr(), "attestation-agent: {error:#}");
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
    // What cannot be logged is lost. To say so on standard error would end an agent whose log nobody reads any more.
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(false)
        .log_internal_errors(false)
        .init();
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Fetch(args) => block_on(run_fetch(args)),
        Command::Evidence(args) => print_evidence(args),
        Command::Daemon(args) => block_on(run_daemon(args)),
        Command::Gta(args) => block_on(gta_cli::run(*args)),
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

fn source(options: &Options) -> Arc<dyn EvidenceSource> {
    Arc::new(Guest::new(options.places()))
}

fn print_evidence(args: EvidenceArgs) -> Result<ExitCode> {
    let challenge = *Challenge::from_text(&args.challenge)
        .map_err(|problem| attestation_agent::Error::Option {
            option: "--challenge",
            problem: problem.to_owned(),
        })?
        .bytes();
    let options = args.guest.options();
    let evidence = Guest::new(options.places()).collect(&Request { challenge, ima: args.ima })?;
    println!("{}", evidence.to_json_as(options.dialect()));
    Ok(ExitCode::SUCCESS)
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

    let outcome = fetch(&client, &source(&options), options.dialect(), &System.new_key(), &resource).await;
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

fn write_secret(path: &Path, secret: &[u8]) -> Result<()> {
    write_private(path, secret)
        .with_context(|| format!("option --secret-file: cannot write {}", path.display()))
}

async fn run_daemon(args: DaemonArgs) -> Result<ExitCode> {
    let (options, allow_remote) = args.resolve()?;
    let setup = Setup {
        judge: options.judge()?,
        source: source(&options),
        environment: Arc::new(System),
        rules: options.token_rules()?,
        dialect: options.dialect(),
        apps: options.app_list.clone().unwrap_or_default(),
    };
    let default = ListenAddress::Tcp(([127, 0, 0, 1], 8081).into());
    let addresses = options.listen.clone().unwrap_or_else(|| vec![default]);
    let listeners = listen(addresses, options.socket_mode()?, allow_remote).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let agent = Arc::new(Agent::new(setup));
    let refreshing = agent.clone().keep_tokens();
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = async { refreshing.await; std::future::pending().await } => {}
        }
    };
    let addresses: Vec<String> =
        listeners.iter().map(|listener| Ok(listener.address()?.to_string())).collect::<io::Result<_>>()?;
    writeln!(io::stdout(), "{}", serde_json::json!({ "listening": addresses }))?;
    rest::serve(agent, listeners, shutdown).await;
    Ok(ExitCode::SUCCESS)
}

async fn listen(
    addresses: Vec<ListenAddress>,
    socket_mode: u32,
    allow_remote: bool,
) -> Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        if !address.is_local() && !allow_remote {
            bail!(
                "option --listen: {address} can be reached from outside this guest, and whoever reaches it gets this \
                 guest's secrets; use a loopback address or a Unix socket, or --allow-remote if that is meant"
            );
        }
        let listener = Listener::bind(&address, socket_mode)
            .await
            .with_context(|| format!("option --listen: cannot listen on {address}"))?;
        listeners.push(listener);
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn names_the_option_when_the_secret_cannot_be_written() {
        let error = write_secret(Path::new("/nonexistent/secret"), b"x").unwrap_err();
        assert!(format!("{error:#}").contains("--secret-file"), "{error:#}");
        assert!(write_secret(Path::new("/"), b"x").is_err());
    }
}
