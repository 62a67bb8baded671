//! A fleet that reports in time: ten thousand agents, each once a minute, against the program on SQLite over TLS, every
//! report with a connection and a nonce of its own. `cargo bench -p gta-server --bench fleet [-- NODES MINUTES]`.
//!
//! Agents and server share the machine. It prints what the server used, and fails if a report was late or refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark is a test")]

#[path = "../tests/process/connection.rs"]
mod connection;
#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use connection::{Connection, trusting};
use futures_util::stream::{self, StreamExt as _};
use hyper::Method;
use rcgen::PKCS_ECDSA_P384_SHA384;
use serde_json::{Value, json};
use support::{Database, Machine, qualifying};
use tokio_rustls::TlsConnector;
use verifier::testing::Authority;

const DATABASE: Database = Database::Sqlite;

const BINARY: &str = env!("CARGO_BIN_EXE_gta-server");
/// Seconds between two reports of a node.
const INTERVAL: u32 = 60;
/// Nodes that are registered at once.
const REGISTRARS: usize = 32;

fn run(directory: &Path, arguments: &[&str]) -> Value {
    let output = Command::new(BINARY).current_dir(directory).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

struct Server {
    process: Child,
    address: SocketAddr,
    tls: TlsConnector,
}

impl Server {
    fn start(directory: &Path) -> Self {
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(directory.join("cert.pem"), certified.cert.pem()).unwrap();
        std::fs::write(directory.join("key.pem"), certified.signing_key.serialize_pem()).unwrap();
        let arguments =
            ["serve", "--listen", "127.0.0.1:0", "--tls-cert", "cert.pem", "--tls-key", "key.pem"];
        let mut process = Command::new(BINARY)
            .current_dir(directory)
            .args(arguments)
            .args(["--rate", "0"])
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let address = ready["listening"].as_str().unwrap().parse().unwrap();
        Self { process, address, tls: trusting(&certified.cert.pem()) }
    }

    /// What the kernel says of the server: a field of `/proc/PID/status` in KiB.
    fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Seconds of processor time that it has used.
    fn processor(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

async fn connect(server: &Server) -> Connection {
    Connection::open(server.address, &server.tls).await.unwrap()
}

/// What is answered to a request, which must be taken.
async fn ask(connection: &mut Connection, key: &Value, method: Method, path: &str, body: &Value) -> Value {
    let (status, answer) = connection.ask(key, method, path, body).await.unwrap();
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

async fn report(server: &Server, agent: &Value, machine: &Machine) {
    let mut connection = connect(server).await;
    let wanted = json!({ "attester_type": ["tpm_boot"], "node_id": machine.name });
    let nonce = ask(&mut connection, agent, Method::POST, "/challenge", &wanted).await;
    let nonce = nonce["nonce"].as_str().unwrap();
    let registers: Vec<u32> = (0..24).collect();
    let evidence = machine.evidence("tpm_boot", &registers, &qualifying(nonce, None));
    let mut measurement = machine.measurement(nonce, &[evidence]);
    measurement["report_interval"] = json!(INTERVAL);
    let answer =
        ask(&mut connection, agent, Method::POST, "/attest", &json!({ "measurements": [measurement] })).await;
    assert_eq!(answer["tokens"][0]["attestation_status"], "pass", "{answer}");
}

#[tokio::main]
async fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let (nodes, minutes) = (numbers.first().copied().unwrap_or(10_000), numbers.get(1).copied().unwrap_or(5));
    let home = tempfile::tempdir().unwrap();
    let admin = run(home.path(), &["add-tenant", "acme"]);
    let agent = run(home.path(), &["add-key", "acme", "agent"]);
    let server = Arc::new(Server::start(home.path()));
    let maker = Authority::root(Authority::ca_params("Maker", 1), &PKCS_ECDSA_P384_SHA384);
    let machines: Arc<Vec<Machine>> =
        Arc::new((0..nodes).map(|number| Machine::new(&format!("node-{number}"), &maker)).collect());
    let empty = server.memory("VmRSS");
    stream::iter(machines.iter())
        .for_each_concurrent(REGISTRARS, |machine| async {
            let key = STANDARD.encode(machine.tpm.attestation_public().encode());
            let node = json!({ "node_id": machine.name, "ak_public": key });
            ask(&mut connect(&server).await, &admin, Method::POST, "/node", &node).await;
        })
        .await;
    let enrolled = server.memory("VmRSS");
    println!("{nodes} nodes registered: the server has {empty} KiB before, {enrolled} KiB after");
    let (late, worst) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (before, begin) = (server.processor(), tokio::time::Instant::now());
    let interval = Duration::from_secs(INTERVAL.into());
    let agents: Vec<_> = (0..nodes)
        .map(|number| {
            let (server, machines, agent) = (Arc::clone(&server), Arc::clone(&machines), agent.clone());
            let (late, worst) = (Arc::clone(&late), Arc::clone(&worst));
            // Agents spread their reports over the interval.
            let first = begin + interval.mul_f64(number as f64 / nodes as f64);
            tokio::spawn(async move {
                for round in 0..minutes {
                    let due = first + interval * u32::try_from(round).unwrap();
                    tokio::time::sleep_until(due).await;
                    report(&server, &agent, &machines[number]).await;
                    let took = due.elapsed();
                    worst.fetch_max(usize::try_from(took.as_millis()).unwrap(), Ordering::Relaxed);
                    if took > interval {
                        late.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for agent in agents {
        agent.await.unwrap();
    }
    let (took, used) = (begin.elapsed().as_secs_f64(), server.processor() - before);
    let counts = ask(&mut connect(&server).await, &admin, Method::GET, "/status?limit=1", &Value::Null).await;
    println!(
        "{} reports in {took:.0} s: {} late, the slowest {} ms; the server used {:.0} % of a core, and {} KiB at most; \
         nodes now: {}",
        nodes * minutes,
        late.load(Ordering::Relaxed),
        worst.load(Ordering::Relaxed),
        100.0 * used / took,
        server.memory("VmHWM"),
        counts["counts"],
    );
    assert_eq!(counts["counts"], json!({ "passed": nodes }));
    assert_eq!(late.load(Ordering::Relaxed), 0);
}
