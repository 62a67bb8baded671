//! A server, whoever asks it, and what the program says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use gta_server::health::{Reason, Report, Verdict};
use gta_server::model::{AttesterType as Kind, Role};
use gta_server::service::{Service, Settings};
use gta_server::store::Store;
use serde_json::Value;
use service_kit::environment::Environment;
use service_kit::serve;
use service_kit::serve::tls::{ClientAuthorities, Tls, TlsFiles};
use service_kit::vault::{FileKey, Vault};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use verifier::testing::Authority;

pub const TENANT: &str = "acme";

/// A server, and a directory with files of whoever asks it.
pub struct World {
    pub directory: TempDir,
    pub service: Arc<Service>,
    pub port: u16,
    _running: watch::Sender<bool>,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Settings::default(), None).await
    }

    /// A server of whose clients this authority certifies some.
    pub async fn with(settings: Settings, clients: Option<&Authority>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(at("ca.pem"), certified.cert.pem()).unwrap();
        fs::write(at("server.key"), certified.signing_key.serialize_pem()).unwrap();
        let environment = Environment::system();
        let master = FileKey::load_or_create(&at("master"), &environment).unwrap();
        let vault = Vault::new(Arc::new(master), Vec::new(), environment.clone());
        let url = format!("sqlite:{}", at("db").display());
        let store = Store::open(&url, vault, environment.clone()).await.unwrap();
        let service = Arc::new(Service::new(store, environment, settings));
        fs::write(at("admin.key"), service.add_tenant(TENANT, "test").await.unwrap()).unwrap();
        fs::write(at("agent.key"), service.add_key(TENANT, Role::Agent, "test").await.unwrap()).unwrap();
        let client_ca = clients.map(|authority| {
            fs::write(at("clients.pem"), authority.pem()).unwrap();
            ClientAuthorities { flag: "--client-ca", certificates: at("clients.pem"), revocations: None }
        });
        let files = TlsFiles { certificate: at("ca.pem"), key: at("server.key"), client_ca };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (running, stopped) = watch::channel(false);
        let router = gta_server::api::router(Arc::clone(&service), None, |_, _| {});
        tokio::spawn(serve::public(listener, Arc::new(Tls::load(files).unwrap()), router, stopped));
        Self { directory, service, port, _running: running }
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub fn run(&self, key: &str, arguments: &[&str]) -> Output {
        gta(self.directory.path(), arguments)
            .env("GTA_SERVER", format!("https://localhost:{}", self.port))
            .env("GTA_CA", "ca.pem")
            .env("GTA_TENANT", TENANT)
            .env("GTA_API_KEY_FILE", key)
            .output()
            .unwrap()
    }

    /// Somebody without an API key.
    pub fn run_without_key(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        gta(self.directory.path(), arguments)
            .env("GTA_SERVER", format!("https://localhost:{}", self.port))
            .env("GTA_CA", "ca.pem")
            .env("GTA_TENANT", TENANT)
            .envs(environment.iter().copied())
            .output()
            .unwrap()
    }

    /// What the server notes when a machine reports.
    pub async fn reports(&self, node: &str, refused: Option<&str>) {
        let reason = refused.map(|detail| Reason::new(Some(Kind::TpmIma), "ima_entry_unknown", detail, []));
        let evidences = BTreeMap::from([(Kind::TpmIma, Verdict::of(reason))]);
        let report = Report { evidences, report_interval: Some(3600) };
        self.service.note_report(TENANT, node, &report).await.unwrap();
    }

    /// What the administrator sees.
    #[track_caller]
    pub fn says(&self, arguments: &[&str]) -> String {
        said(&self.run("admin.key", arguments))
    }

    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.says(arguments)).unwrap()
    }

    #[track_caller]
    pub fn complains(&self, arguments: &[&str]) -> String {
        complaint(&self.run("admin.key", arguments))
    }
}

pub fn gta(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gta"));
    command.current_dir(directory).args(arguments);
    command
}

#[track_caller]
pub fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
pub fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The cells of a table's rows, without its header.
pub fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect()
}
