//! A PC with the agent's program, and a tenant that knows its files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::bank::Bank;
use evidence::ima::Log;
use serde_json::{Value, json};
use service_kit::serve;
use service_kit::serve::tls::{Tls, TlsFiles};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use test_pc::{Disk, Packages, Pc, Running};
use test_swtpm::Chip;
use tokio::net::TcpListener;
use tokio::sync::watch;
use verifier::testing::NOW;
use verifier::tpm::boot_references;

use crate::support::Tenant;

/// What the agent calls the PC.
pub const NODE: &str = "pc-1";
/// This machine, as QEMU's user network has it.
const HERE: &str = "10.0.2.2";

/// Where everything is.
pub struct Stage {
    pub tenant: Tenant,
    pub pc: Pc,
    requests: Arc<Mutex<Vec<Bytes>>>,
    _directory: TempDir,
    _running: watch::Sender<bool>,
}

impl Stage {
    /// `programs` are on the disk beside the agent, and no other files are known.
    pub async fn set(programs: &[&str]) -> Self {
        let packages = Packages::fetch(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("pc")).unwrap();
        let (disk, chip) = (Disk::new(&packages).unwrap(), Chip::new().unwrap());
        let tenant = Tenant::new().await;
        // The TPM's certificates were issued a moment ago, by the machine's clock.
        let now: i64 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap();
        tenant.world.home.clock.advance((now - NOW).max(0));
        let maker = json!({ "name": "swtpm", "type": ["tpm_ek"], "content": chip.manufacturer().unwrap() });
        tenant.world.admin.post(&tenant.world.instance, "/cert", &maker).await.ok();

        let directory = tempfile::tempdir().unwrap();
        let (requests, running) = (Arc::default(), watch::channel(false));
        let (port, certificate) = listen(&tenant, directory.path(), Arc::clone(&requests), running.1).await;
        disk.program("/usr/bin/attestation-agent", &agent()).unwrap();
        for program in programs {
            disk.busybox(program).unwrap();
        }
        disk.write("/etc/gta.pem", certificate).unwrap();
        disk.write("/etc/gta.key", &tenant.world.agent.key).unwrap();
        let options = json!({ "gta": {
            "service": format!("https://{HERE}:{port}"), "service_cert": "/etc/gta.pem", "timeout": 120,
            "tenant": tenant.world.agent.tenant, "api_key_file": "/etc/gta.key", "node_id": NODE,
        } });
        disk.write("/etc/attestation-agent.json", options.to_string()).unwrap();
        let known: Vec<Value> = disk.files().unwrap().into_iter().map(known).collect();
        tenant.register("files", "tpm_ima", &json!({ "referenceValues": known })).await.ok();
        let pc = Pc::new(&packages, chip, &disk).unwrap();
        Self { tenant, pc, requests, _directory: directory, _running: running.0 }
    }

    /// Has the agent's program attest the PC: its exit code and its report.
    pub fn attest(&self, pc: &mut Running) -> (i32, Value) {
        self.requests.lock().unwrap().clear();
        let finished = pc.run("attestation-agent gta attest").unwrap();
        (finished.status, serde_json::from_str(&finished.output).unwrap_or_default())
    }

    /// The parts of the IMA log that came with the last attestation, one for each request: the number that it says for its
    /// first entry, and the paths of all.
    pub fn received(&self) -> Vec<(u64, Vec<String>)> {
        self.requests.lock().unwrap().iter().filter_map(|body| part(body)).collect()
    }

    pub async fn get(&self, path: &str) -> Value {
        self.tenant.world.admin.get(&self.tenant.world.instance, path).await.ok()
    }

    /// Makes it known how a PC has booted that left this log.
    pub async fn vouch(&self, name: &str, log: &[u8]) {
        let boot = boot_references(log, Bank::Sha256, "debian").unwrap();
        self.tenant.register(name, "tpm_boot", &json!({ "boot": boot })).await.ok();
    }

    /// What the report's token says.
    pub async fn token(&self, report: &Value) -> Value {
        let world = &self.tenant.world;
        let token = json!({ "token": report["token"] });
        let verified = world.agent.post(&world.instance, "/token/verify", &token).await.ok();
        assert_eq!(verified["verification_pass"], true, "{verified}");
        verified["token_body"].clone()
    }
}

/// The program, which is built with the workspace's tests but not with those of this package alone.
fn agent() -> PathBuf {
    // This is TARGET/debug/deps/measured_boot-HASH.
    let test = std::env::current_exe().unwrap();
    let agent = test.ancestors().nth(2).unwrap().join("attestation-agent");
    assert!(agent.is_file(), "no {}: `cargo build -p attestation-agent` makes it", agent.display());
    agent
}

fn known((path, file): (String, PathBuf)) -> Value {
    json!({ "fileName": path, "sha256": hex::encode(Sha256::digest(fs::read(file).unwrap())) })
}

/// Serves as the program does, and notes what is asked. Gives the port and the certificate.
async fn listen(
    tenant: &Tenant,
    directory: &Path,
    requests: Arc<Mutex<Vec<Bytes>>>,
    stopped: watch::Receiver<bool>,
) -> (u16, String) {
    let certified = rcgen::generate_simple_self_signed(vec![HERE.to_owned()]).unwrap();
    let write = |name: &str, content: String| {
        let path = directory.join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let files = TlsFiles {
        certificate: write("server.pem", certified.cert.pem()),
        key: write("server.key", certified.signing_key.serialize_pem()),
        client_ca: None,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let service = Arc::clone(&tenant.world.instance.service);
    let router = gta_server::api::router(service, None, |_, _| {}).layer(from_fn_with_state(requests, note));
    tokio::spawn(serve::public(listener, Arc::new(Tls::load(files).unwrap()), router, stopped));
    (port, certified.cert.pem())
}

async fn note(State(requests): State<Arc<Mutex<Vec<Bytes>>>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    requests.lock().unwrap().push(body.clone());
    next.run(Request::from_parts(head, Body::from(body))).await
}

fn part(body: &[u8]) -> Option<(u64, Vec<String>)> {
    let request: Value = serde_json::from_slice(body).ok()?;
    let evidences = request["measurements"][0]["evidences"].as_array()?;
    let ima = evidences.iter().find(|evidence| evidence["attester_type"] == "tpm_ima")?;
    let log = &ima["evidence"]["logs"][0];
    let bytes = STANDARD.decode(log["log_data"].as_str().unwrap()).unwrap();
    let entries = Log::new(&bytes).unwrap();
    let paths = entries.entries().map(|entry| String::from_utf8_lossy(entry.unwrap().path).into_owned());
    Some((log["first_entry"].as_u64().unwrap_or(0), paths.collect()))
}
