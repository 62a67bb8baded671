use std::net::SocketAddr;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use jose::Curve;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::*;
use crate::testing::{Asked, FakeService, Honest, Reply, SECRET, realm, token_for};

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    stopped: tokio::task::JoinHandle<()>,
}

async fn start(answer: impl Fn(&Asked, &Honest) -> Reply + Send + Sync + 'static) -> Running {
    start_with(answer, realm()).await
}

async fn start_with(
    answer: impl Fn(&Asked, &Honest) -> Reply + Send + Sync + 'static,
    source: Arc<dyn EvidenceSource>,
) -> Running {
    let service = FakeService::start(answer).await;
    let new_key = || EphemeralKey::generate(Curve::P256, &mut rand::rng());
    let daemon = Arc::new(Daemon::new(service.client(), source, Box::new(new_key)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = oneshot::channel();
    let stopped = tokio::spawn(serve(daemon, listener, async {
        let _ = stopping.await;
    }));
    Running { address, stop, stopped }
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
        assert_eq!(problem["status"], status);
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
    let no_realm = crate::tsm::TsmReports::new(&directory.path().join("tsm/report"));
    let agent = start_with(honest, Arc::new(no_realm)).await;
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
async fn says_what_it_does_not_offer_instead_of_passing_over_it() {
    let agent = start(honest).await;
    let challenge = agent.ok(Method::GET, "/challenge", &json!({})).await;
    for (path, body) in [
        ("/evidence", json!({"challenge": challenge, "ima": true})),
        ("/evidence", json!({"challenge": challenge, "evidence": "{}"})),
        ("/token", json!({"challenge": challenge, "ima": true})),
        ("/token", json!({"token": "a.b.c"})),
        ("/resource/storage", json!({"resource": key_of_the_demo(), "ima": true})),
    ] {
        assert_eq!(agent.problem(path, &body).await, (501, "not_supported".to_owned()), "{path} {body}");
    }
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
