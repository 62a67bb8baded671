//! What others make of the service: Python's PyJWT verifies its tokens, curl attests and fetches as a CoCo guest does.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::path::Path;
use std::process::Command;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use evidence::hash::HashAlgorithm;
use jose::{Curve, EphemeralKey};
use serde_json::{Value, json};
use support::mint::{ANCHOR, Mint};
use support::process::Running;
use support::{Database, Home, Instance, jwks};

const DATABASE: Database = Database::Sqlite;

/// Verifies the token in the file of the second argument with the key set in that of the first, at the service's time.
const PYTHON: &str = r#"
import json, sys, jwt
keys = jwt.PyJWKSet.from_json(open(sys.argv[1]).read()).keys
token = open(sys.argv[2]).read()
header = jwt.get_unverified_header(token)
key = next(key for key in keys if key.key_id == header["kid"])
claims = jwt.decode(token, key.key, algorithms=[header["alg"]], issuer="redoubt", audience="redoubt",
                    options={"verify_exp": False, "verify_nbf": False, "verify_iat": False})
print(json.dumps({"alg": header["alg"], "claims": claims}))
"#;

/// Debian's Python, for which `cargo xtask test` installs PyJWT.
fn python(directory: &Path, key_set: &Value, token: &str) -> Result<Value, String> {
    let (keys, file) = (directory.join("jwks.json"), directory.join("token.jwt"));
    std::fs::write(&keys, key_set.to_string()).unwrap();
    std::fs::write(&file, token).unwrap();
    let output = Command::new("/usr/bin/python3").args(["-c", PYTHON]).arg(keys).arg(file).output().unwrap();
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap());
    }
    Err(String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn pyjwt_verifies_tokens_of_both_algorithms_from_the_key_set() {
    let (instance, home) = Instance::ready().await;
    for algorithm in ["ES384", "PS256"] {
        let challenge = instance.challenge(&[]).await;
        let mint = Mint::new(challenge.attested());
        let answer = instance.attest(&challenge, &mint, json!({ "token_alg": algorithm })).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let (keys, token) = (jwks(&instance).await, answer.text());

        let verified = python(home.path(), &keys, &token).unwrap();
        assert_eq!(verified["alg"], algorithm);
        assert_eq!(verified["claims"]["nonce"], challenge.text);
        assert_eq!(verified["claims"]["evaluation_reports"]["eval_result"], true);

        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[10] ^= 1;
        let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes));
        let refused = python(home.path(), &keys, &forged).unwrap_err();
        assert!(refused.contains("InvalidSignatureError"), "{refused}");
    }
}

/// curl as a guest: it keeps its cookies, and every call goes into a transcript.
struct Curl<'a> {
    running: &'a Running,
    transcript: String,
}

impl Curl<'_> {
    fn call(&mut self, title: &str, path: &str, more: &[&str]) -> Value {
        let listening = self.running.ready["listening"].as_str().unwrap();
        let port = listening.rsplit_once(':').unwrap().1;
        let url = format!("https://localhost:{port}{path}");
        let (roots, jar) = (self.running.path("tls.pem"), self.running.path("cookies"));
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--include", "--tlsv1.3"])
            .arg("--resolve")
            .arg(format!("localhost:{port}:127.0.0.1"))
            .arg("--cacert")
            .arg(&roots)
            .arg("--cookie")
            .arg(&jar)
            .arg("--cookie-jar")
            .arg(&jar)
            .args(more)
            .arg(&url)
            .output()
            .expect("curl is installed by `cargo xtask test`");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answer = String::from_utf8(output.stdout).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let wanted = |line: &&str| {
            line.starts_with("HTTP")
                || line.to_lowercase().starts_with("set-cookie")
                || line.starts_with("content-type")
        };
        let head: Vec<&str> = head.lines().filter(wanted).collect();
        let address = format!("https://localhost{path}");
        let command = [&["curl"], more, &[&address]].concat().join(" ");
        self.transcript += &format!("# {title}\n$ {command}\n{}\n\n{body}\n\n", head.join("\n"));
        serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"))
    }
}

fn register(running: &Running, mint: &Mint) {
    std::fs::write(running.path("cpak.pem"), mint.public_key_pem()).unwrap();
    std::fs::write(running.path("secret"), support::SECRET).unwrap();
    let (implementation, instance) =
        (hex::encode(mint.platform.implementation_id), hex::encode(mint.platform.instance_id));
    let (key, secret) = (running.path("cpak.pem"), running.path("secret"));
    let (key, secret) = (key.to_str().unwrap(), secret.to_str().unwrap());
    let anchor = ["trust-anchor", "add", "--name", ANCHOR, "--implementation-id", &implementation];
    running.told(&[&anchor[..], &["--instance-id", &instance, "--key", key]].concat());
    running.told(&["reference", "add", "--name", "guest", "--rim", &mint.realm.rim.to_string()]);
    running.told(&["resource", "add", "acme/disk/key", "--file", secret, "--policy", "oeas/affirming.rego"]);
}

#[test]
fn curl_attests_and_fetches_a_secret_by_the_key_broker_protocol() {
    let running = Running::start(Home::new());
    register(&running, &Mint::new([0; 64]));
    let mut curl = Curl { running: &running, transcript: String::new() };
    const JSON: [&str; 2] = ["--header", "Content-Type: application/json"];

    let request = json!({ "version": "0.4.0", "tee": "cca", "extra-params": {} }).to_string();
    let challenge =
        curl.call("Request and challenge", "/kbs/v0/auth", &[&JSON[..], &["--data", &request]].concat());

    let key = EphemeralKey::generate(Curve::P256, &mut rand::rng());
    let mut jwk = json!(key.public_jwk());
    jwk["alg"] = json!("ECDH-ES+A256KW");
    let signed =
        json!({ "additional-evidence": "", "nonce": challenge["nonce"], "tee-pubkey": jwk }).to_string();
    let mut report_data = [0; 64];
    report_data[..48].copy_from_slice(HashAlgorithm::Sha384.digest(signed.as_bytes()).as_bytes());
    let attestation = json!({
        "runtime-data": { "nonce": challenge["nonce"], "tee-pubkey": jwk },
        "tee-evidence": {
            "primary_evidence": { "token": Mint::new(report_data).token() },
            "additional_evidence": "",
        },
    });
    std::fs::write(running.path("attestation.json"), attestation.to_string()).unwrap();
    let file = format!("@{}", running.path("attestation.json").display());
    let token =
        curl.call("Attestation and token", "/kbs/v0/attest", &[&JSON[..], &["--data", &file]].concat());
    assert!(token["token"].as_str().unwrap().split('.').count() == 3);

    let sealed = curl.call("Resource, by the session", "/kbs/v0/resource/acme/disk/key", &[]);
    let parts = ["protected", "encrypted_key", "iv", "ciphertext", "tag"];
    let compact = parts.map(|part| sealed[part].as_str().unwrap()).join(".");
    assert_eq!(key.decrypt(&compact).unwrap().as_slice(), support::SECRET);

    let refused = curl.call("A resource that is not there", "/kbs/v0/resource/acme/no/thing", &[]);
    assert_eq!(refused["code"], "resource_unknown");
    let transcript = curl.transcript.replace(&format!("{}/", running.home.path().display()), "");
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("rcar.txt"), transcript).unwrap();
}
