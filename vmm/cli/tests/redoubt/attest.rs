//! A domain proves what it is, by an agent that a test plays behind the VMM's vsock socket.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::{Host, kernel};

/// What the fake VMM measures.
const RIM: &str = "ab12";

/// How the guest behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guest {
    Honest,
    /// Nobody listens on the port.
    Deaf,
    /// The connection is open, and nothing comes.
    Silent,
    /// The answer does not end.
    Endless,
    /// What listens speaks something else.
    Babbling,
    /// The challenge is not for the nonce.
    Replaying,
    /// Something else was launched.
    Other,
    /// The service refuses the evidence.
    Refused,
    /// Policies that are asked for are kept from the service.
    Lenient,
}

struct Agent {
    key: rcgen::KeyPair,
    guest: Guest,
}

impl Agent {
    fn start(socket: &Path, guest: Guest) -> Arc<Self> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let agent = Arc::new(Self { key, guest });
        let listener = UnixListener::bind(socket).unwrap();
        let server = Arc::clone(&agent);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that has heard enough hangs up.
                let _ = server.converse(stream.unwrap());
            }
        });
        agent
    }

    fn converse(&self, stream: UnixStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        assert_eq!(line, "CONNECT 8081\n");
        let mut stream = reader.get_ref().try_clone()?;
        match self.guest {
            Guest::Deaf => return Ok(()),
            Guest::Babbling => return stream.write_all(b"220 ready\r\n"),
            _ => stream.write_all(b"OK 1073741824\n")?,
        }
        if self.guest == Guest::Silent {
            std::thread::sleep(Duration::from_secs(30));
            return Ok(());
        }
        let (path, body) = request(&mut reader)?;
        if self.guest == Guest::Endless {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            loop {
                stream.write_all(&[b'x'; 65536])?;
            }
        }
        let (status, text) = self.answer(&path, &body);
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
            text.len()
        )
    }

    fn answer(&self, path: &str, body: &Value) -> (&'static str, String) {
        match path {
            "/challenge" => {
                let mut nonce: Vec<u8> = serde_json::from_value(body["user_data"].clone()).unwrap();
                assert_eq!(nonce.len(), 32);
                if self.guest == Guest::Replaying {
                    nonce[31] ^= 1;
                }
                ("200 OK", URL_SAFE_NO_PAD.encode([vec![3; 32], nonce].concat()))
            }
            "/token" if self.guest == Guest::Refused => {
                let problem = json!({"code": "rim_mismatch", "detail": "no reference\u{1b}[2J"});
                ("403 Forbidden", problem.to_string())
            }
            "/token" => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
                let rim = if self.guest == Guest::Other { "cd34" } else { RIM };
                let mut report =
                    json!({"default_cca.rego": "{\"allow\":true}", "ima": {"/init": true}, "event": null});
                let asked = body["policy_id"].as_array().filter(|_| self.guest != Guest::Lenient);
                for id in asked.into_iter().flatten() {
                    report[id.as_str().unwrap()] = json!("{\"allow\":true}");
                }
                let claims = json!({"iss": "redoubt", "nbf": now, "exp": now + 300, "nonce": body["challenge"],
                    "evaluation_reports": {"eval_result": true, "report": report},
                    "tcb_status": {"cca.realm.rim": rim,
                        "cca.platform.lifecycle": {"state": "secured", "value": 0x3003}}});
                let key = EncodingKey::from_ec_der(self.key.serialized_der());
                ("200 OK", jsonwebtoken::encode(&Header::new(Algorithm::ES384), &claims, &key).unwrap())
            }
            _ => ("404 Not Found", String::new()),
        }
    }
}

fn request(reader: &mut BufReader<UnixStream>) -> std::io::Result<(String, Value)> {
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let (mut header, mut len) = (String::new(), 0);
    while reader.read_line(&mut header)? > 2 {
        if let Some(value) = header.to_lowercase().strip_prefix("content-length: ") {
            len = value.trim().parse().unwrap();
        }
        header.clear();
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body)?;
    Ok((first.split(' ').nth(1).unwrap().to_owned(), serde_json::from_slice(&body).unwrap()))
}

/// A domain that runs, and the file with the key of its service.
fn running(guest: Guest) -> (Host, String) {
    let host = Host::new();
    let mut config = kernel();
    config["realm"] = json!({"backend": "soft"});
    config["vsock"] = json!({"cid": 3, "socket": host.path("vsock")});
    host.define("web", &config);
    host.redoubt(&["start", "web"]);
    let agent = Agent::start(&host.path("vsock"), guest);
    let key = write(&host, "service.pem", &agent.key.public_key_pem());
    (host, key)
}

fn write(host: &Host, name: &str, text: &str) -> String {
    let path = host.path(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn domain_proves_that_it_is_what_is_defined() {
    let (host, key) = running(Guest::Honest);
    let attest = ["attest", "web", "--service-key", &key, "--issuer", "redoubt"];
    let table = host.redoubt(&attest);
    for line in [
        "Domain:         web",
        "State:          running",
        "Realm:          soft",
        "Expected RIM:   ab12",
        "Attested RIM:   ab12",
        "Verdict:        accepted by default_cca.rego",
        "Lifecycle:      secured (0x3003)",
    ] {
        assert!(table.lines().any(|found| found == line), "{line} in {table}");
    }
    assert!(table.contains("Token expires:  20") && table.contains(" UTC"), "{table}");
    let json = host.redoubt(&[&attest[..], &["--format", "json"]].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["attested_rim"], &json["verdict"]), (&json!(RIM), &json!("accepted")));
    assert!(json["token_expires"].as_i64().is_some());
    let strict = host.redoubt(&[&attest[..], &["--policy", "strict.rego"]].concat());
    assert!(strict.contains("accepted by default_cca.rego, strict.rego\n"), "{strict}");
    let issuer = host.refusal(&["attest", "web", "--service-key", &key, "--issuer", "other"]);
    assert!(issuer.contains("\"other\" was expected"), "{issuer}");
}

#[test]
fn guest_that_proves_nothing_is_refused_with_the_reason() {
    for (guest, reasons) in [
        (Guest::Deaf, &["attestation-agent daemon --listen vsock:8081", "nobody in the guest listens"][..]),
        (Guest::Babbling, &["no vsock device"]),
        (Guest::Silent, &["did not answer /challenge within 1 s"]),
        (Guest::Endless, &["the answer is too long"]),
        (Guest::Replaying, &["nonce", "nothing is proven"]),
        (Guest::Other, &["RIM ab12 is expected, and cd34 was attested"]),
        (Guest::Refused, &["rim_mismatch", "no reference[2J"]),
        (Guest::Lenient, &["the policy strict.rego accepted the guest"]),
    ] {
        let (host, key) = running(guest);
        let start = Instant::now();
        let policy = ["--policy", "strict.rego"];
        let output =
            host.output(&[&["attest", "web", "--service-key", &key, "--timeout", "1"], &policy[..]].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{guest:?}");
        assert!(output.stdout.is_empty(), "{guest:?}");
        assert!(start.elapsed() < Duration::from_secs(20), "{guest:?}");
        for reason in reasons.iter().chain(&["domain \"web\" has not proven"]) {
            assert!(error.contains(reason), "{guest:?}: {error}");
        }
    }
}

#[test]
fn token_of_another_service_is_refused() {
    let (host, _) = running(Guest::Honest);
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let key = write(&host, "other.pem", &other.public_key_pem());
    let error = host.refusal(&["attest", "web", "--service-key", &key]);
    assert!(error.contains("signature is not valid"), "{error}");
    let none = write(&host, "none.jwks", r#"{"keys":[]}"#);
    let error = host.refusal(&["attest", "web", "--jwks", &none]);
    assert!(error.contains("none.jwks has no keys") && error.contains("public key"), "{error}");
    for wrong in [&["attest", "web"][..], &["attest", "web", "--jwks", "a", "--service-key", "b"]] {
        assert!(host.refusal(wrong).contains("--service-key"), "{wrong:?}");
    }
}

#[test]
fn what_cannot_be_asked_is_told_what_it_lacks() {
    let host = Host::new();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let key = write(&host, "service.pem", &key.public_key_pem());
    let attest = ["attest", "web", "--service-key", key.as_str()];
    host.define("web", &kernel());
    assert!(host.refusal(&attest).contains("shut off"));
    host.redoubt(&["start", "web"]);
    assert!(host.refusal(&attest).contains("<launchSecurity>"));
    host.redoubt(&["suspend", "web"]);
    assert!(host.refusal(&attest).contains("paused"));

    let mut config = kernel();
    config["realm"] = json!({"backend": "soft"});
    host.define("db", &config);
    host.redoubt(&["start", "db"]);
    let error = host.refusal(&["attest", "db", "--service-key", &key]);
    assert!(error.contains("no vsock device") && error.contains("<cid address='3'/>"), "{error}");
}
