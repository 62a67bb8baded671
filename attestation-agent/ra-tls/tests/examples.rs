//! The examples against each other, with an agent that a test plays.
#![expect(clippy::unwrap_used, reason = "helpers outside of test functions")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jose::{Curve, Jwk};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// The agent and the service behind it: tokens about whatever challenge they are asked for.
struct Agent {
    key: rcgen::KeyPair,
    verdict: bool,
}

impl Agent {
    fn start(verdict: bool) -> (Arc<Self>, String) {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let agent = Arc::new(Self { key, verdict });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = agent.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                server.answer(stream.unwrap());
            }
        });
        (agent, address)
    }

    fn answer(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let (mut header, mut len) = (String::new(), 0);
        while reader.read_line(&mut header).unwrap() > 2 {
            if let Some(value) = header.to_lowercase().strip_prefix("content-length: ") {
                len = value.trim().parse().unwrap();
            }
            header.clear();
        }
        let mut body = vec![0; len];
        reader.read_exact(&mut body).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let text = if line.contains("/challenge") {
            let user_data: Vec<u8> = serde_json::from_value(body["user_data"].clone()).unwrap();
            URL_SAFE_NO_PAD.encode([vec![3; 32], user_data].concat())
        } else {
            self.token(&body["challenge"])
        };
        let mut stream = reader.into_inner();
        let len = text.len();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n{text}")
            .unwrap();
    }

    fn token(&self, challenge: &Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({"nbf": now, "exp": now + 300, "nonce": challenge, "tee": "virtcca",
            "evaluation_reports": {"eval_result": self.verdict}});
        let key = EncodingKey::from_ec_der(self.key.serialized_der());
        jsonwebtoken::encode(&Header::new(Algorithm::ES384), &claims, &key).unwrap()
    }

    fn write_keys(&self, to: &Path) {
        let jwk = Jwk::from_sec1(Curve::P384, self.key.public_key_raw()).unwrap();
        std::fs::write(to, json!({ "keys": [jwk] }).to_string()).unwrap();
    }
}

fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples").join(name)
}

struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(agent: &str, keys: &Path) -> Server {
    let mut child = Command::new(example("ra_tls_server"))
        .args(["--listen", "127.0.0.1:0", "--mutual", "--agent", agent, "--token-keys"])
        .arg(keys)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
    Server { child, address }
}

fn ask(server: &Server, agent: &str, keys: &Path) -> Output {
    Command::new(example("ra_tls_client"))
        .args(["--connect", &server.address, "--mutual", "--agent", agent, "--token-keys"])
        .arg(keys)
        .output()
        .unwrap()
}

#[test]
fn client_and_server_prove_themselves_to_each_other() {
    let (agent, address) = Agent::start(true);
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("jwks.json");
    agent.write_keys(&keys);
    let output = ask(&serve(&address, &keys), &address, &keys);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("an attested server (\"virtcca\") says: hello, an attested client"), "{output:?}");
}

#[test]
fn the_client_refuses_a_server_with_a_bad_verdict_or_a_foreign_token() {
    let (agent, address) = Agent::start(false);
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("jwks.json");
    agent.write_keys(&keys);
    let server = serve(&address, &keys);
    let output = ask(&server, &address, &keys);
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    let other = directory.path().join("other.json");
    Agent::start(true).0.write_keys(&other);
    let output = ask(&server, &address, &other);
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
}
