use std::net::SocketAddr;
use std::sync::Arc;

use evidence::envelope::{Dialect, Evidence};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;

use super::*;
use crate::agent::{App, Judge, KeySource, Setup, TokenRules};
use crate::collect::{EvidenceSource, Guest};
use crate::service::Challenge;
use crate::testing::{Asked, Clock, FakeService, Honest, NOW, Reply, SECRET, places_in, realm, token_for};

struct Running {
    address: SocketAddr,
    agent: Arc<Agent>,
    clock: Arc<Clock>,
    stop: oneshot::Sender<()>,
    stopped: tokio::task::JoinHandle<()>,
}

async fn start(answer: impl Fn(&Asked, &Honest) -> Reply + Send + Sync + 'static) -> Running {
    start_with(answer, realm(), Vec::new()).await
}

async fn start_with(
    answer: impl Fn(&Asked, &Honest) -> Reply + Send + Sync + 'static,
    source: Arc<dyn EvidenceSource>,
    apps: Vec<App>,
) -> Running {
    let service = FakeService::start(answer).await;
    let clock = Arc::new(Clock::default());
    let agent = Arc::new(Agent::new(Setup {
        judge: Judge::Service(service.client()),
        source,
        environment: clock.clone(),
        rules: TokenRules { keys: KeySource::Service, issuer: Some("fake".to_owned()), audience: None },
        dialect: Dialect::Compact,
        apps,
    }));
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap(), 0o600).await.unwrap();
    let ListenAddress::Tcp(address) = listener.address().unwrap() else { panic!() };
    let (stop, stopping) = oneshot::channel();
    let stopped = tokio::spawn(serve(agent.clone(), vec![listener], async {
        let _ = stopping.await;
    }));
    Running { address, agent, clock, stop, stopped }
}

impl Running {
    async fn ask(&self, method: Method, path: &str, body: impl Into<Bytes>) -> (u16, String, String) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .body(Full::new(body.into()))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        assert_eq!(response.headers()["cache-control"], "no-store");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn ok(&self, method: Method, path: &str, body: &Value) -> String {
        let (status, _, text) = self.ask(method, path, body.to_string()).await;
        assert_eq!(status, 200, "{path}: {text}");
        text
    }

    /// The status and the code of a problem document.
    async fn problem(&self, path: &str, body: &Value) -> (u16, String) {
        let (status, kind, text) = self.ask(Method::POST, path, body.to_string()).await;
        assert_eq!(kind, "application/problem+json", "{text}");
        let problem: Value = serde_json::from_str(&text).unwrap();
        let code = problem["code"].as_str().unwrap();
        assert_eq!(problem["type"], format!("urn:redoubt:problem:{code}"));
        assert_eq!((&problem["status"], &problem["error"]), (&json!(status), &json!(code)));
        assert!(problem["title"].is_string() && problem["detail"].is_string());
        (status, code.to_owned())
    }
}

fn honest(asked: &Asked, honest: &Honest) -> Reply {
    honest.answer(asked)
}

fn key_of_the_demo() -> Value {
    json!({"vendor": "demo", "path": "disk/key"})
}

#[tokio::test]
async fn a_program_gets_a_secret_in_one_request() {
    let agent = start(honest).await;
    for method in [Method::GET, Method::POST] {
        let text =
            agent.ok(method, "/resource/storage", &json!({"uuid": "x", "resource": key_of_the_demo()})).await;
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), SECRET);
    }
}

#[tokio::test]
async fn a_program_gets_challenge_evidence_token_and_secret_step_by_step() {
    let agent = start(honest).await;
    for method in [Method::GET, Method::POST] {
        let (status, kind, challenge) = agent.ask(method.clone(), "/challenge", "").await;
        assert_eq!((status, kind.as_str()), (200, "text/plain; charset=utf-8"));
        let bytes = *Challenge::from_text(&challenge).unwrap().bytes();
        let evidence =
            agent.ok(method.clone(), "/evidence", &json!({"challenge": challenge, "uuid": "x"})).await;
        assert_eq!(Evidence::from_json(evidence.as_bytes()).unwrap(), Evidence::cca(token_for(&bytes)));
        let parameters = json!({"challenge": challenge, "uuid": "x", "ima": false, "policy_id": null});
        let token = agent.ok(method.clone(), "/token", &parameters).await;
        assert_eq!(token.split('.').count(), 3);
        // The service takes a challenge once; the agent remembers what it got for it.
        assert_eq!(agent.ok(method.clone(), "/token", &parameters).await, token);
        let parameters = json!({"challenge": challenge, "resource": key_of_the_demo()});
        let secret = agent.ok(method, "/resource/storage", &parameters).await;
        assert_eq!(serde_json::from_str::<String>(&secret).unwrap(), SECRET);
    }
}

#[tokio::test]
async fn a_program_can_put_its_own_data_into_the_challenge() {
    let agent = start(honest).await;
    let challenge = agent.ok(Method::GET, "/challenge", &json!({"user_data": vec![7; 20]})).await;
    let parsed = Challenge::from_text(&challenge).unwrap();
    assert_eq!(parsed.bytes()[32..52], [7; 20]);
    assert_eq!(parsed.bytes()[52..], [0; 12]);
    agent.ok(Method::GET, "/token", &json!({"challenge": challenge})).await;
    // There is no key in it that a secret could be sealed to.
    let parameters = json!({"challenge": challenge, "resource": key_of_the_demo()});
    assert_eq!(
        agent.problem("/resource/storage", &parameters).await,
        (422, "challenge_not_bound".to_owned())
    );
}

#[tokio::test]
async fn a_token_under_other_policies_is_asked_for_anew() {
    let agent = start(honest).await;
    let challenge = agent.ok(Method::GET, "/challenge", &json!({})).await;
    agent.ok(Method::GET, "/token", &json!({"challenge": challenge, "policy_id": ["a.rego"]})).await;
    let other = agent.problem("/token", &json!({"challenge": challenge, "policy_id": ["b.rego"]})).await;
    assert_eq!(other, (409, "challenge_used".to_owned()));
}

#[tokio::test]
async fn refuses_secrets_for_a_challenge_that_is_not_its_own() {
    let agent = start(honest).await;
    let foreign = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, [1; 64]);
    let parameters = json!({"challenge": foreign, "resource": key_of_the_demo()});
    assert_eq!(
        agent.problem("/resource/storage", &parameters).await,
        (422, "challenge_not_bound".to_owned())
    );
}

#[tokio::test]
async fn passes_on_what_the_service_refuses() {
    let agent = start(|asked, honest| match asked.path.as_str() {
        "/attestation" => Reply::problem(403, "rim_mismatch", Some("reference_values")),
        _ => honest.answer(asked),
    })
    .await;
    let (status, _, text) =
        agent.ask(Method::GET, "/resource/storage", json!({"resource": key_of_the_demo()}).to_string()).await;
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, 403);
    assert_eq!((&problem["code"], &problem["step"]), (&json!("rim_mismatch"), &json!("reference_values")));
}

#[tokio::test]
async fn tells_apart_why_it_cannot_serve() {
    let agent = start(|_, _| Reply { status: 500, ..Reply::ok("boom") }).await;
    assert_eq!(agent.problem("/challenge", &json!({})).await, (502, "service_unavailable".to_owned()));
    let agent = start(|_, _| Reply::problem(429, "challenges_exhausted", None)).await;
    assert_eq!(agent.problem("/challenge", &json!({})).await, (503, "challenges_exhausted".to_owned()));
    let agent = start(|_, _| Reply::ok(format!("\"{}\"", "A".repeat(43)))).await;
    assert_eq!(agent.problem("/challenge", &json!({})).await, (502, "challenge_foreign".to_owned()));
    let directory = tempfile::tempdir().unwrap();
    let no_realm = Guest::new(places_in(directory.path()));
    let agent = start_with(honest, Arc::new(no_realm), Vec::new()).await;
    let challenge = agent.ok(Method::GET, "/challenge", &json!({})).await;
    for path in ["/evidence", "/token"] {
        let refusal = agent.problem(path, &json!({"challenge": challenge})).await;
        assert_eq!(refusal, (503, "tee_unavailable".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn refuses_malformed_requests() {
    let agent = start(honest).await;
    for (path, body) in [
        ("/challenge", json!([1])),
        ("/challenge", json!({"user_data": "text"})),
        ("/challenge", json!({"user_data": [256]})),
        ("/challenge", json!({"user_data": vec![0; 33]})),
        ("/evidence", json!({})),
        ("/evidence", json!({"challenge": ""})),
        ("/evidence", json!({"challenge": "A".repeat(100)})),
        ("/token", json!({})),
        ("/token", json!({"challenge": "c", "token": "t"})),
        ("/token", json!({"challenge": "c", "policy_id": vec!["p"; 17]})),
        ("/token", json!({"challenge": "not base64!"})),
        ("/resource/storage", json!({})),
        ("/resource/storage", json!({"resource": "demo/key"})),
        ("/resource/storage", json!({"resource": {"path": 1}})),
    ] {
        assert_eq!(agent.problem(path, &body).await, (400, "request_malformed".to_owned()), "{path} {body}");
    }
    for body in ["{", "\u{fffd}", ""] {
        let (status, _, text) = agent.ask(Method::GET, "/evidence", body).await;
        assert_eq!(status, 400, "{text}");
    }
}

#[tokio::test]
async fn verifies_evidence_for_a_program() {
    let agent = start(honest).await;
    let challenge = agent.ok(Method::GET, "/challenge", &json!({"user_data": [1]})).await;
    let evidence = agent.ok(Method::GET, "/evidence", &json!({"challenge": challenge})).await;
    let body = json!({"challenge": challenge, "evidence": evidence, "policy_id": null});
    let claims: Value = serde_json::from_str(&agent.ok(Method::POST, "/evidence", &body).await).unwrap();
    assert_eq!(claims["evaluation_reports"]["eval_result"], true);
    assert_eq!(claims["nonce"], challenge);
    let body = json!({"challenge": challenge, "evidence": "{}"});
    assert_eq!(agent.problem("/evidence", &body).await, (409, "challenge_used".to_owned()));
}

#[tokio::test]
async fn verifies_a_token_for_a_program() {
    let agent = start(honest).await;
    let challenge = agent.ok(Method::GET, "/challenge", &json!({})).await;
    let token = agent.ok(Method::GET, "/token", &json!({"challenge": challenge})).await;
    let answer = agent.ok(Method::POST, "/token", &json!({"token": token})).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    // Both are JSON in JSON on secGear's wire.
    let header: Value = serde_json::from_str(answer["header"].as_str().unwrap()).unwrap();
    let claim: Value = serde_json::from_str(answer["claim"].as_str().unwrap()).unwrap();
    assert_eq!((&header["alg"], &claim["iss"]), (&json!("ES384"), &json!("fake")));
    let mut forged = token.clone();
    let middle = token.find('.').unwrap() + 5;
    forged.replace_range(middle..=middle, if &token[middle..=middle] == "A" { "B" } else { "A" });
    let refused = (422, "token_invalid".to_owned());
    assert_eq!(agent.problem("/token", &json!({"token": forged})).await, refused);
    agent.clock.set(NOW + 300);
    assert_eq!(agent.problem("/token", &json!({"token": token})).await, refused);
}

#[tokio::test]
async fn a_query_serves_as_well_as_a_body() {
    let agent = start(honest).await;
    let (status, _, challenge) = agent.ask(Method::GET, "/challenge?user_data=AQID", "").await;
    assert_eq!(status, 200);
    assert_eq!(Challenge::from_text(&challenge).unwrap().bytes()[32..35], [1, 2, 3]);
    let path = "/resource/storage?vendor=demo&path=disk%2Fkey";
    let (_, _, secret) = agent.ask(Method::GET, path, "").await;
    assert_eq!(serde_json::from_str::<String>(&secret).unwrap(), SECRET);
}

fn application() -> Vec<App> {
    vec![serde_json::from_value(json!({"uuid": "db", "platform": "cca"})).unwrap()]
}

async fn until_cached(agent: &Running) -> Value {
    for _ in 0..600 {
        let text = agent.ok(Method::GET, "/current_token", &json!(null)).await;
        let state: Value = serde_json::from_str(&text).unwrap();
        if state["apps"][0]["has_token"] == true {
            return state["apps"][0].clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("no token was got")
}

#[tokio::test]
async fn keeps_a_token_at_hand_and_proves_that_the_guest_is_alive() {
    let agent = start_with(honest, realm(), application()).await;
    let nonce = "22".repeat(32);
    let path = format!("/active_token?uuid=db&nonce={nonce}");
    let (status, _, early) = agent.ask(Method::GET, &path, "").await;
    assert!(status == 503 && early.contains("no_token_available"), "{early}");
    tokio::spawn(agent.agent.clone().keep_tokens());
    let state = until_cached(&agent).await;
    assert_eq!((&state["app_uuid"], &state["ttl_seconds"]), (&json!("db"), &json!(300)));
    let (_, _, active) = agent.ask(Method::GET, &path, "").await;
    let active: Value = serde_json::from_str(&active).unwrap();
    let mut challenge = [0; 64];
    challenge[..32].fill(0x22);
    assert_eq!(active["cvm_token"], STANDARD.encode(token_for(&challenge)));
    assert_eq!((&active["dev_cert"], &active["error"]), (&Value::Null, &Value::Null));
    assert_eq!(active["jwt_token"].as_str().unwrap().split('.').count(), 3);
    agent.clock.set(NOW + 300);
    let (status, ..) = agent.ask(Method::GET, &path, "").await;
    assert_eq!(status, 503, "an expired token was handed out");
}

#[tokio::test]
async fn a_token_with_a_bad_verdict_is_not_kept() {
    let agent =
        start_with(|asked, honest| honest.with_verdict(false).answer(asked), realm(), application()).await;
    let refreshing = tokio::spawn(agent.agent.clone().keep_tokens());
    for _ in 0..600 {
        let text = agent.ok(Method::GET, "/current_token", &json!(null)).await;
        let state: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(state["apps"][0]["has_token"], false);
        if state["apps"][0]["failure_count"] == 1 {
            refreshing.abort();
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("nothing was tried");
}

#[tokio::test]
async fn active_tokens_are_for_known_applications_on_their_platform() {
    let apps = vec![serde_json::from_value(json!({"uuid": "db", "platform": "virtcca"})).unwrap()];
    let agent = start_with(honest, realm(), apps).await;
    let ask = |uuid: &str| json!({"uuid": uuid, "nonce": "22".repeat(32)});
    assert_eq!(agent.problem("/active_token", &ask("web")).await, (404, "app_not_found".to_owned()));
    assert_eq!(agent.problem("/active_token", &ask("db")).await, (400, "platform_mismatch".to_owned()));
}

#[tokio::test]
async fn one_program_cannot_ask_for_active_tokens_all_the_time() {
    let agent = start_with(honest, realm(), application()).await;
    let path = format!("/active_token?uuid=web&nonce={}", "22".repeat(32));
    let mut limited = 0;
    for _ in 0..40 {
        let (status, _, _) = agent.ask(Method::GET, &path, "").await;
        limited += usize::from(status == 429);
    }
    assert!(limited > 0);
}

#[tokio::test]
async fn serves_over_a_unix_socket() {
    let agent = start(honest).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    let listener = Listener::bind(&ListenAddress::Unix(path.clone()), 0o600).await.unwrap();
    tokio::spawn(serve(agent.agent.clone(), vec![listener], std::future::pending()));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /challenge HTTP/1.1\r\nhost: agent\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn bounds_paths_methods_and_sizes() {
    let agent = start(honest).await;
    assert_eq!(agent.problem("/", &json!({})).await, (404, "not_found".to_owned()));
    assert_eq!(agent.problem("/challenge/", &json!({})).await, (404, "not_found".to_owned()));
    let (status, ..) = agent.ask(Method::DELETE, "/token", "").await;
    assert_eq!(status, 405);
    let long = json!({"challenge": "A".repeat(100_000)});
    assert_eq!(agent.problem("/token", &long).await, (413, "request_too_large".to_owned()));
}

#[tokio::test]
async fn survives_clients_that_do_not_speak_http() {
    let agent = start(honest).await;
    for bytes in [&b"\0\0\0\0"[..], b"GET", b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(agent.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
    agent.ok(Method::GET, "/challenge", &json!({})).await;
}

#[tokio::test]
async fn stops_when_asked_to() {
    let agent = start(honest).await;
    agent.ok(Method::GET, "/challenge", &json!({})).await;
    agent.stop.send(()).unwrap();
    agent.stopped.await.unwrap();
    assert!(TcpStream::connect(agent.address).await.is_err());
}
