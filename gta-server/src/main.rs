//! `gta-server`: serves, and looks after its database.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use gta_server::api;
use gta_server::auth::is_tenant;
use gta_server::identity::Named;
use gta_server::model::{ApiKey, Identity, Role};
use gta_server::rewrap::rewrap;
use gta_server::schedule::{MAX_NONCE_LIFETIME, MAX_TOKEN_LIFETIME, Rotation};
use gta_server::service::{Service, Settings};
use gta_server::store::fsck::Head;
use gta_server::store::{Purpose, Store};
use gta_server::webhooks::postman::Postman;
use serde::Deserialize;
use serde_json::{Value, json};
use service_cli::Extra;
use service_kit::environment::Environment;
use service_kit::oidc::{IssuerConfig, Issuers};
use service_kit::serve;
use service_kit::serve::limit::{Limiter, Rate};
use service_kit::serve::tls::{ClientAuthorities, Tls, TlsFiles};
use service_kit::vault::{MasterKeySource, Vault};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How often it is looked for nodes that do not report.
const WATCH: Duration = Duration::from_secs(5);
/// How often what has expired is forgotten, and it is looked whether keys are too old.
const SWEEP: Duration = Duration::from_secs(60);

const EXAMPLES: &str = "\
Examples:
  A tenant, and a key for its machines:
    gta-server --database sqlite:gta.db add-tenant acme
    gta-server --database sqlite:gta.db add-key acme agent
  Serve; replicas share a database of PostgreSQL or MariaDB:
    gta-server --database sqlite:gta.db serve --listen 0.0.0.0:8443 --tls-cert cert.pem --tls-key key.pem
  Let a group of an OpenID Connect issuer administer the tenant:
    gta-server add-identity acme admin 'group:https://id.example#gta-admins'
  Look at every row, and keep the heads elsewhere for the next look:
    gta-server fsck > heads.json
  Move from a key in a file to one that stays in OpenBao:
    gta-server --master-key 'transit+https://bao.example:8200/transit/keys/gta?token-file=token' \\
      --old-master-key gta-master.key rewrap
  Completions and the manual page:
    gta-server completions bash > /usr/share/bash-completion/completions/gta-server
    gta-server man > /usr/share/man/man1/gta-server.1";

/// Global Trust Authority: attests machines with TPMs for many tenants.
#[derive(Parser)]
#[command(name = "gta-server", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    database: Database,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Database {
    /// sqlite:PATH, postgres://USER@HOST/DATABASE or mariadb://USER@HOST/DATABASE
    #[arg(long, env = "GTA_DATABASE", global = true, default_value = "sqlite:gta.db")]
    database: String,
    /// The master key, which seals all others: a file, made if absent; an AES-256 key that stays in a token, as an RFC 7512
    /// URI with module-path and pin-source; or a key that stays in the transit engine of OpenBao or Vault, as
    /// transit+https://HOST/MOUNT/keys/NAME?token-file=FILE
    #[arg(
        long,
        env = "GTA_MASTER_KEY",
        global = true,
        value_name = "FILE|pkcs11:URI|transit+https:URI",
        default_value = "gta-master.key"
    )]
    master_key: MasterKeySource,
    /// A master key of before, which opens what `rewrap` has not put under the new one so far
    #[arg(long, global = true, value_name = "FILE|pkcs11:URI|transit+https:URI")]
    old_master_key: Vec<MasterKeySource>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until told to stop
    Serve(ServeArgs),
    /// Add a tenant; prints the API key of its first administrator
    AddTenant {
        /// Its name, which clients send as User-Id
        tenant: String,
    },
    /// Add an API key of a tenant; prints it
    AddKey {
        /// The tenant
        tenant: String,
        /// What its holder may do
        role: Role,
    },
    /// Show the API keys of a tenant: the beginning of each, as the journal names it, and its role
    ListKeys {
        /// The tenant
        tenant: String,
    },
    /// Make an API key good no more, because it was lost or is not needed; running servers know within a second
    RemoveKey {
        /// The tenant
        tenant: String,
        /// The first 8 characters of the key
        key: String,
    },
    /// Let somebody come without an API key, whom a token of an issuer (--oidc) or a client certificate (--client-ca) names
    AddIdentity {
        /// The tenant
        tenant: String,
        /// What they may do
        role: Role,
        /// Who: sub:ISSUER#SUBJECT or group:ISSUER#GROUP of a token; uri:URI, dns:NAME or dn:NAME (RFC 4514) of a certificate
        identity: Named,
    },
    /// Show who may come without an API key
    ListIdentities {
        /// The tenant
        tenant: String,
    },
    /// Let somebody no longer come without an API key; running servers know within a second
    RemoveIdentity {
        /// The tenant
        tenant: String,
        /// Who
        identity: Named,
    },
    /// Make a new key for rows, nonces or tokens before its time; running servers use it at once, and old ones go on verifying
    Rotate {
        /// What the key is for
        purpose: Purpose,
    },
    /// Put what other master keys seal under the one that --master-key names, or what an older version of a transit key has
    /// wrapped under the newest; running servers need both keys meanwhile
    Rewrap,
    /// Look at every row of the database; fails and names those that were changed behind the service's back
    Fsck {
        /// What an earlier fsck has printed: tells a table that was put back as a whole
        #[arg(long)]
        heads: Option<PathBuf>,
    },
    /// Print something.
    #[command(flatten)]
    Extra(Extra),
}

#[derive(Args)]
struct ServeArgs {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Certificate chain in PEM
    #[arg(long)]
    tls_cert: PathBuf,
    /// Its private key in PEM
    #[arg(long)]
    tls_key: PathBuf,
    /// Authorities that certify clients, in PEM: who has a certificate of theirs, in which an identity names them, needs no API
    /// key
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// Revocation lists of those authorities, in PEM: all must be there, and of this time
    #[arg(long, value_name = "FILE", requires = "client_ca")]
    client_crl: Option<PathBuf>,
    /// TOML file with the issuers whose tokens callers may come with: tables [[issuer]] with issuer, audience, and optionally
    /// jwks_file, ca, groups_claim, max_lifetime and refresh_interval
    #[arg(long, value_name = "FILE")]
    oidc: Option<PathBuf>,
    /// Address on which /metrics and /health are served in clear
    #[arg(long)]
    metrics_listen: Option<SocketAddr>,
    /// Serve the REST interface alone, without the web console at /console/
    #[arg(long)]
    no_console: bool,
    /// Issuer of tokens
    #[arg(long, default_value = "gta-server")]
    issuer: String,
    /// Seconds for which a token is valid
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=MAX_TOKEN_LIFETIME.into()))]
    token_ttl: u32,
    /// Seconds in which a nonce must be answered
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=MAX_NONCE_LIFETIME.into()))]
    nonce_ttl: u32,
    /// Days after which a new key for rows takes the place of the old one; 0 for never
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(0..=3650))]
    row_key_rotation: u32,
    /// Days after which a new key for nonces takes the place of the old one; 0 for never
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=3650))]
    nonce_key_rotation: u32,
    /// Days after which a new key signs tokens; 0 for never
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(0..=3650))]
    token_key_rotation: u32,
    /// Requests a second from one address; 0 for no bound
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Requests at once from one address
    #[arg(long, default_value_t = 400)]
    burst: u32,
    /// Let webhooks of tenants lead to addresses that are not public: this machine, its networks, link-local addresses
    #[arg(long)]
    webhook_allow_private: bool,
}

/// A request is a thousand small values: the allocators of libc, and musl's most, would be where services spend their time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    service_kit::log::start(false);
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime");
    match runtime.and_then(|runtime| runtime.block_on(run(cli))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            service_kit::log::last_words("gta-server", &error);
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    if let Command::Extra(extra) = &cli.command {
        return extra.print::<Cli>().context("cannot write to standard output");
    }
    let environment = Environment::system();
    let Database { database, master_key, old_master_key } = &cli.database;
    let vault = Vault::of_sources(master_key, old_master_key, &environment).await?;
    let store = Store::open(database, vault, environment.clone()).await.context("--database")?;
    let settings = match &cli.command {
        Command::Serve(flags) => Settings {
            issuer: flags.issuer.clone(),
            token_lifetime: flags.token_ttl.into(),
            nonce_lifetime: flags.nonce_ttl.into(),
            issuers: issuers(flags.oidc.as_deref(), &flags.issuer)?,
            console: !flags.no_console,
            webhook_allow_private: flags.webhook_allow_private,
            rotation: Rotation {
                row: flags.row_key_rotation,
                nonce: flags.nonce_key_rotation,
                token: flags.token_key_rotation,
            },
            ..Settings::default()
        },
        _ => Settings::default(),
    };
    let service = Arc::new(Service::new(store, environment, settings));
    let done = command(cli.command, &service).await;
    service.store.close().await;
    done
}

/// Whose tokens callers may come with.
fn issuers(file: Option<&Path>, own: &str) -> anyhow::Result<Issuers> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        issuer: Vec<IssuerConfig>,
    }
    let Some(path) = file else { return Ok(Issuers::default()) };
    let named = || format!("--oidc {}", path.display());
    let text = std::fs::read_to_string(path).with_context(named)?;
    let File { issuer } = toml::from_str(&text).with_context(named)?;
    if issuer.iter().any(|issuer| issuer.issuer == own) {
        bail!(
            "{}: {own} is this server's own --issuer, whose tokens are about machines and no logins",
            named()
        );
    }
    Issuers::new(issuer).with_context(named)
}

async fn command(command: Command, service: &Arc<Service>) -> anyhow::Result<()> {
    let actor = "operator";
    match command {
        Command::Serve(flags) => serve_until_told(&flags, service).await,
        Command::AddTenant { tenant } => {
            if !is_tenant(&tenant) {
                bail!("a tenant's name is 1 to 36 characters of A-Z a-z 0-9 . _ -");
            }
            let key = service.add_tenant(&tenant, actor).await?;
            println!("{}", json!({ "User-Id": tenant, "API-Key": key }));
            Ok(())
        }
        Command::AddKey { tenant, role } => {
            let key = service.add_key(&tenant, role, actor).await?;
            println!("{}", json!({ "User-Id": tenant, "API-Key": key }));
            Ok(())
        }
        Command::ListKeys { tenant } => {
            let keys = service.store.list::<ApiKey>(&tenant).await?;
            let shown = keys.iter().map(|found| json!({ "key": found.id, "role": found.body.role }));
            println!("{}", serde_json::to_string_pretty(&shown.collect::<Vec<Value>>())?);
            Ok(())
        }
        Command::RemoveKey { tenant, key } => {
            if !service.remove_key(&tenant, &key, actor).await? {
                bail!("{tenant} has no key that begins with {key}; gta-server list-keys has them");
            }
            Ok(())
        }
        Command::AddIdentity { tenant, role, identity } => {
            Ok(service.add_identity(&tenant, role, &identity, actor).await?)
        }
        Command::ListIdentities { tenant } => {
            let identities = service.store.list::<Identity>(&tenant).await?;
            let shown = identities.iter().map(|found| {
                let Identity { role, created_at } = found.body;
                json!({ "identity": found.id, "role": role, "created_at": created_at })
            });
            println!("{}", serde_json::to_string_pretty(&shown.collect::<Vec<Value>>())?);
            Ok(())
        }
        Command::RemoveIdentity { tenant, identity } => {
            if !service.remove_identity(&tenant, &identity.to_string(), actor).await? {
                bail!("{identity} is no identity of {tenant}; gta-server list-identities has them");
            }
            Ok(())
        }
        Command::Rotate { purpose } => {
            println!("{}", json!({ "key": service.store.keys().rotate(purpose).await? }));
            Ok(())
        }
        Command::Rewrap => {
            println!("{}", json!({ "rewrapped": rewrap(&service.store, actor).await? }));
            Ok(())
        }
        Command::Fsck { heads } => fsck(service, heads).await,
        // They need no database, and are done by now.
        Command::Extra(_) => Ok(()),
    }
}

async fn fsck(service: &Service, heads: Option<PathBuf>) -> anyhow::Result<()> {
    let remembered: Vec<Head> = match heads {
        Some(path) => {
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_str(&text)
                .with_context(|| format!("{} is not what fsck prints", path.display()))?
        }
        None => Vec::new(),
    };
    let report = service.store.fsck(&remembered).await?;
    println!("{}", serde_json::to_string_pretty(&report.heads)?);
    for broken in &report.broken {
        eprintln!("{broken}");
    }
    match report.broken.len() {
        0 => Ok(()),
        broken => bail!("{broken} of {} rows are not what the service made of them", report.checked),
    }
}

async fn serve_until_told(flags: &ServeArgs, service: &Arc<Service>) -> anyhow::Result<()> {
    let hangup = signal(SignalKind::hangup())?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let client_ca = flags.client_ca.clone().map(|certificates| ClientAuthorities {
        flag: "--client-ca",
        certificates,
        revocations: flags.client_crl.clone().map(|path| ("--client-crl", path)),
    });
    let files = TlsFiles { certificate: flags.tls_cert.clone(), key: flags.tls_key.clone(), client_ca };
    let tls = Arc::new(Tls::load(files)?);
    let listener =
        TcpListener::bind(flags.listen).await.with_context(|| format!("--listen {}", flags.listen))?;
    let monitoring = match flags.metrics_listen {
        Some(address) => {
            Some(TcpListener::bind(address).await.with_context(|| format!("--metrics-listen {address}"))?)
        }
        None => None,
    };
    // Whoever started the service reads from this line that connections are taken, and where.
    let ready = json!({
        "listening": listener.local_addr().ok(),
        "metrics": monitoring.as_ref().and_then(|listener| listener.local_addr().ok()),
    });
    let (stop, stopped) = watch::channel(false);
    let counting = Arc::clone(service);
    let observer = move |status, took| counting.metrics.request(status, took);
    let rate = Rate { per_second: flags.rate, burst: flags.burst };
    let router = api::router(Arc::clone(service), Limiter::new(rate), observer);
    let mut tasks = JoinSet::new();
    tasks.spawn(serve::public(listener, Arc::clone(&tls), router, stopped.clone()));
    if let Some(listener) = monitoring {
        tasks.spawn(serve::plain(listener, api::operator::router(Arc::clone(service)), stopped.clone()));
    }
    tasks.spawn(tls.keep_fresh(hangup, stopped.clone()));
    tasks.spawn(sweep(Arc::clone(service), stopped.clone()));
    tasks.spawn(Postman::new(Arc::clone(service), stopped.clone()).run());
    tasks.spawn(watch_nodes(Arc::clone(service), stopped));
    writeln!(std::io::stdout(), "{ready}").context("cannot tell on standard output that it is ready")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    service.stop();
    stop.send_replace(true);
    tasks.join_all().await;
    Ok(())
}

/// Notes which nodes did not report in time. Every instance looks; one of them notes it.
async fn watch_nodes(service: Arc<Service>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(WATCH) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        if let Err(error) = service.note_missed().await {
            tracing::error!(error = &error as &dyn std::error::Error, "late reports cannot be noted");
        }
    }
}

/// Forgets what has expired, and looks after keys.
async fn sweep(service: Arc<Service>, mut stopped: watch::Receiver<bool>) {
    loop {
        if let Err(error) = service.look_after_keys().await {
            tracing::error!(error = &error as &dyn std::error::Error, "keys cannot be looked after");
        }
        if let Err(error) = service.store.sweep().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "housekeeping");
        }
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}
