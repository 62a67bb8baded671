//! `attestation-service`: reads its flags, opens what they name, serves until it is told to stop.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use attestation_service::admin::credentials::Credentials;
use attestation_service::admin::identity::{Operator, Role};
use attestation_service::authorities::Authorities;
use attestation_service::config::{self, Cli, ImportArgs, Other, ReportFormat, RewrapArgs, ServeArgs};
use attestation_service::environment::Environment;
use attestation_service::import::{self, Outcome};
use attestation_service::metrics::{Metrics, Plane};
use attestation_service::serve::limit::{Limiter, limited};
use attestation_service::serve::tls::Tls;
use attestation_service::service::{Service, Settings};
use attestation_service::store::Store;
use attestation_service::token::{TokenSettings, Tokens};
use attestation_service::vault::Vault;
use attestation_service::{admin, public, rewrap, serve};
use clap::Parser as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use verifier::rego::RegoCache;

/// How often expired challenges and sessions are forgotten, and token signing keys looked at.
const SWEEP: Duration = Duration::from_secs(60);

/// A request is a thousand small values: the allocators of libc, and musl's most, would be where services spend their time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let result = config::arguments(std::env::args_os()).map_err(anyhow::Error::from).and_then(|arguments| {
        let cli = Cli::parse_from(arguments);
        match (cli.command, cli.serve) {
            (Some(Other::Extra(extra)), _) => extra.print::<Cli>().context("cannot write to standard output"),
            (Some(Other::Rewrap(flags)), _) => runtime()?.block_on(rewrap(flags)),
            (Some(Other::ImportSecgear(flags)), _) => runtime()?.block_on(import_secgear(flags)),
            (None, Some(flags)) => run(flags),
            (None, None) => config::missing_flags().exit(),
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            service_kit::log::last_words("attestation-service", &error);
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Runtime::new().context("cannot start the runtime")
}

async fn rewrap(flags: RewrapArgs) -> anyhow::Result<()> {
    let environment = Environment::system();
    let vault = Vault::of_sources(&flags.master_key, &flags.old_master_key, &environment).await?;
    let store = Store::open(&flags.database).await.context("--database")?;
    let actor = format!("uid:{}", rustix::process::geteuid().as_raw());
    let count = rewrap::rewrap(&store, &vault, &actor, environment.clock.now()).await?;
    store.close().await;
    println!("{}", json!({ "rewrapped": count, "master_key": vault.current_id() }));
    Ok(())
}

async fn import_secgear(flags: ImportArgs) -> anyhow::Result<()> {
    let environment = Environment::system();
    let vault = Vault::of_sources(&flags.master_key, &[], &environment).await?;
    let store = Store::open(&flags.database).await.context("--database")?;
    let tokens = Tokens::new(store.clone(), vault.clone(), environment.clone(), TokenSettings::default());
    let settings = Settings { challenge_lifetime: 0, max_challenges: 0 };
    let service = Arc::new(Service {
        store,
        vault,
        tokens,
        environment,
        settings,
        authorities: Authorities::default(),
        rego: RegoCache::default(),
        metrics: Metrics::default(),
    });
    let name = format!("uid:{}", rustix::process::geteuid().as_raw());
    let operator = Operator { name, roles: vec![Role::Admin] };
    let report = import::secgear(&service, operator, &flags.directory)
        .await
        .with_context(|| format!("cannot read {}", flags.directory.display()))?;
    service.store.close().await;
    match flags.format {
        ReportFormat::Table => println!("{report}"),
        ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    match report.count(Outcome::Refused) {
        0 => Ok(()),
        refused => bail!("{refused} items were refused; the report says why"),
    }
}

fn run(flags: ServeArgs) -> anyhow::Result<()> {
    service_kit::log::start(flags.log_json);
    runtime()?.block_on(serve_until_told(flags))
}

async fn serve_until_told(flags: ServeArgs) -> anyhow::Result<()> {
    // Before readiness is told: whoever hears it may send signals, and that of a terminal that went away would end us.
    let (hangup, admin_hangup) = (signal(SignalKind::hangup())?, signal(SignalKind::hangup())?);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let environment = Environment::system();
    let tls = Arc::new(Tls::load(flags.tls_files())?);
    let vault = Vault::of_sources(&flags.master_key, &flags.old_master_key, &environment).await?;
    let store = Store::open(&flags.database).await.context("--database")?;
    let listener = bind("--listen", flags.listen).await?;
    let remote = remote_admin(&flags, &environment).await?;
    let metrics = match flags.metrics_listen {
        Some(address) => Some(bind("--metrics-listen", address).await?),
        None => None,
    };
    let admin_listener = serve::bind_admin(&flags.admin_socket).await.context("--admin-socket")?;
    // Whoever started the service reads from this line that connections are taken, and where.
    let address = |listener: &TcpListener| listener.local_addr().ok();
    let ready = json!({
        "listening": address(&listener),
        "admin": flags.admin_socket,
        "admin_listening": remote.as_ref().and_then(|(listener, ..)| address(listener)),
        "metrics": metrics.as_ref().and_then(address),
    });

    let settings = flags.token_settings();
    let tokens = Tokens::new(store.clone(), vault.clone(), environment.clone(), settings);
    tokens.maintain().await.context("token signing keys")?;
    let service = Arc::new(Service {
        store,
        vault,
        tokens,
        environment,
        settings: Settings {
            challenge_lifetime: i64::from(flags.challenge_ttl),
            max_challenges: flags.max_challenges,
        },
        authorities: Authorities::default(),
        rego: RegoCache::default(),
        metrics: Metrics::default(),
    });
    let (stop, stopped) = watch::channel(false);
    let uid = rustix::process::geteuid().as_raw();
    let mut planes = JoinSet::new();
    planes.spawn(serve::public(
        listener,
        Arc::clone(&tls),
        limited(
            public::router(Arc::clone(&service)),
            Limiter::new(flags.rate()),
            service.observer(Plane::Public),
        ),
        stopped.clone(),
    ));
    planes.spawn(tls.keep_fresh(hangup, stopped.clone()));
    let owner = Operator { name: format!("uid:{uid}"), roles: vec![Role::Admin] };
    let router = admin::router(Arc::clone(&service));
    planes.spawn(serve::unix(admin_listener, router, uid, owner, stopped.clone()));
    if let Some((listener, tls, credentials)) = remote {
        let router = admin::remote_router(Arc::clone(&service), Arc::new(credentials));
        planes.spawn(serve::public(listener, Arc::clone(&tls), router, stopped.clone()));
        planes.spawn(tls.keep_fresh(admin_hangup, stopped.clone()));
    }
    if let Some(listener) = metrics {
        planes.spawn(serve::plain(listener, public::metrics_router(Arc::clone(&service)), stopped.clone()));
    }
    planes.spawn(sweep(Arc::clone(&service), stopped));
    writeln!(std::io::stdout(), "{ready}").context("cannot tell on standard output that it is ready")?;
    tracing::info!(%ready, "serving");

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    stop.send_replace(true);
    planes.join_all().await;
    if let Err(error) = std::fs::remove_file(&flags.admin_socket) {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot remove the admin socket");
    }
    service.store.close().await;
    Ok(())
}

/// The admin listener over TLS, if there is to be one.
async fn remote_admin(
    flags: &ServeArgs,
    environment: &Environment,
) -> anyhow::Result<Option<(TcpListener, Arc<Tls>, Credentials)>> {
    let Some(address) = flags.admin_listen else { return Ok(None) };
    if flags.admin_role.is_empty() && flags.admin_token_key.is_none() {
        bail!(
            "--admin-listen: nobody could use it; give --admin-client-ca with --admin-role, or --admin-token-key"
        );
    }
    let tls = Arc::new(Tls::load(flags.admin_tls_files())?);
    let clock = Arc::clone(&environment.clock);
    let credentials = Credentials::new(&flags.admin_role, flags.admin_token_key.as_deref(), clock)
        .context("--admin-token-key")?;
    Ok(Some((bind("--admin-listen", address).await?, tls, credentials)))
}

async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{flag} {address}"))
}

async fn sweep(service: Arc<Service>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        if let Err(error) = tidy(&service).await {
            tracing::warn!(error = &*error as &dyn std::error::Error, "housekeeping");
        }
    }
}

/// Forgets what has expired, and makes the token signing keys that are due.
async fn tidy(service: &Service) -> anyhow::Result<()> {
    let now = service.environment.clock.now();
    let before = now.saturating_sub(service.settings.challenge_lifetime);
    let challenges = service.store.sweep_challenges(before).await?;
    let sessions = service.store.sweep_sessions(before).await?;
    if challenges + sessions > 0 {
        tracing::debug!(challenges, sessions, "expired");
    }
    Ok(service.tokens.maintain().await?)
}
