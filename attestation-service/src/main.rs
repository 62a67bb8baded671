//! `attestation-service`: reads its flags, opens what they name, serves until it is told to stop.

#![forbid(unsafe_code)]

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use attestation_service::config::{self, Cli, ServeArgs};
use attestation_service::environment::Environment;
use attestation_service::service::{Service, Settings};
use attestation_service::store::Store;
use attestation_service::token::{SigningKey, Tokens};
use attestation_service::{admin, public, serve};
use clap::Parser as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tracing_subscriber::EnvFilter;

/// How often expired challenges are forgotten.
const SWEEP: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match (cli.command, cli.serve) {
        (Some(extra), _) => extra.print::<Cli>().context("cannot write to standard output"),
        (None, Some(flags)) => run(flags),
        (None, None) => config::missing_flags().exit(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("attestation-service: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: ServeArgs) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if flags.log_json {
        log.json().init();
    } else {
        log.init();
    }

    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(serve_until_told(flags))
}

async fn serve_until_told(flags: ServeArgs) -> anyhow::Result<()> {
    // Before readiness is told: whoever hears it may tell the service to stop.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let environment = Environment::system();
    let tls = config::tls(&flags.tls_cert, &flags.tls_key)?;
    let key = SigningKey::load_or_create(&flags.token_key, &environment).context("--token-key")?;
    let store =
        Store::open(&flags.database).await.with_context(|| format!("--database {}", flags.database))?;
    let listener =
        TcpListener::bind(flags.listen).await.with_context(|| format!("--listen {}", flags.listen))?;
    let admin_listener = serve::bind_admin(&flags.admin_socket).await.context("--admin-socket")?;

    let service = Arc::new(Service {
        tokens: Tokens::new(key, flags.issuer, flags.audience).context("--token-key")?,
        store,
        environment,
        settings: Settings {
            challenge_lifetime: i64::from(flags.challenge_ttl),
            max_challenges: flags.max_challenges,
        },
    });
    let (stop, stopped) = watch::channel(false);
    let uid = rustix::process::geteuid().as_raw();
    let public = serve::public(
        listener_ready(listener, &flags.admin_socket)?,
        TlsAcceptor::from(tls),
        public::router(Arc::clone(&service)),
        stopped.clone(),
    );
    let admin = serve::admin(admin_listener, admin::router(Arc::clone(&service), uid), stopped.clone());
    let sweeper = sweep(Arc::clone(&service), stopped);

    let told = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        // The receivers live as long as the planes do.
        stop.send_replace(true);
    };
    tokio::join!(public, admin, sweeper, told);
    if let Err(error) = std::fs::remove_file(&flags.admin_socket) {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot remove the admin socket");
    }
    service.store.close().await;
    Ok(())
}

/// Tells whoever started the service that connections are taken from now on, and where.
fn listener_ready(listener: TcpListener, admin_socket: &std::path::Path) -> anyhow::Result<TcpListener> {
    let address = listener.local_addr().context("--listen")?;
    println!("{}", json!({ "listening": address.to_string(), "admin": admin_socket }));
    tracing::info!(%address, admin = %admin_socket.display(), "serving");
    Ok(listener)
}

async fn sweep(service: Arc<Service>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        let before = service.environment.clock.now().saturating_sub(service.settings.challenge_lifetime);
        match service.store.sweep_challenges(before).await {
            Ok(0) => {}
            Ok(forgotten) => tracing::debug!(forgotten, "expired challenges"),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "sweeping challenges"),
        }
    }
}
