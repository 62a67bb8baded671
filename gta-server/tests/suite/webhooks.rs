//! What happens to nodes is told to whom the tenant wants it told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gta_server::health::{Health, Reason, Report, Verdict};
use gta_server::model::{AttesterType, Role};
use gta_server::service::Settings;
use gta_server::store::State as _;
use gta_server::webhooks::Delivery;
use gta_server::webhooks::postman::Postman;
use serde_json::{Value, json};
use service_kit::serve;
use service_kit::serve::tls::{Tls, TlsFiles};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::support::{Client, Instance, OTHER, TENANT, World, strict};

/// A message as it came.
#[derive(Clone, Debug)]
struct Came {
    path: String,
    id: String,
    timestamp: i64,
    signature: String,
    body: String,
}

impl Came {
    fn data(&self) -> Value {
        serde_json::from_str::<Value>(&self.body).unwrap()["data"].clone()
    }

    /// Whether it is signed with this secret, by the formula of the specification written down a second time.
    fn is_signed(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let signature = STANDARD.decode(self.signature.strip_prefix("v1,").unwrap()).unwrap();
        let signed = [&self.id, ".", &self.timestamp.to_string(), ".", &self.body].concat();
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes(), &signature).is_ok()
    }
}

/// How a receiver answers.
#[derive(Clone)]
struct Desk {
    status: Arc<AtomicU16>,
    /// Messages that are left before it does not answer any more.
    patience: Arc<AtomicUsize>,
    came: Arc<Mutex<Vec<Came>>>,
}

async fn take(State(desk): State<Desk>, uri: Uri, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(headers["content-type"], "application/json");
    let came = Came {
        path: uri.to_string(),
        id: text("webhook-id"),
        timestamp: text("webhook-timestamp").parse().unwrap(),
        signature: text("webhook-signature"),
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    desk.came.lock().unwrap().push(came);
    if desk.patience.fetch_sub(1, Ordering::SeqCst) == 0 {
        std::future::pending::<()>().await;
    }
    let status = StatusCode::from_u16(desk.status.load(Ordering::SeqCst)).unwrap();
    (status, [(header::LOCATION, "/elsewhere")], "what nobody reads")
}

/// Who is told.
struct Receiver {
    url: String,
    ca: String,
    desk: Desk,
    _directory: TempDir,
    _running: watch::Sender<bool>,
}

impl Receiver {
    /// One who speaks TLS, and whom nobody knows but by `ca`.
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(at("cert.pem"), certified.cert.pem()).unwrap();
        std::fs::write(at("key.pem"), certified.signing_key.serialize_pem()).unwrap();
        let files = TlsFiles { certificate: at("cert.pem"), key: at("key.pem"), client_ca: None };
        let tls = Arc::new(Tls::load(files).unwrap());
        let desk = Desk {
            status: Arc::new(AtomicU16::new(204)),
            patience: Arc::new(AtomicUsize::new(usize::MAX)),
            came: Arc::default(),
        };
        let router = Router::new().fallback(take).with_state(desk.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/hook?for=acme", listener.local_addr().unwrap().port());
        let (running, stopped) = watch::channel(false);
        tokio::spawn(serve::public(listener, tls, router, stopped));
        Self { url, ca: certified.cert.pem(), desk, _directory: directory, _running: running }
    }

    fn answers(&self, status: u16) {
        self.desk.status.store(status, Ordering::SeqCst);
    }

    /// What has come since this was asked.
    fn came(&self) -> Vec<Came> {
        std::mem::take(&mut self.desk.came.lock().unwrap())
    }

    /// Which nodes it was told of since this was asked.
    fn nodes(&self) -> Vec<String> {
        self.came().iter().map(|came| came.data()["node_id"].as_str().unwrap().to_owned()).collect()
    }
}

/// An instance's postman, who works until the second is dropped.
fn postman(instance: &Instance) -> (Postman, watch::Sender<bool>) {
    let (running, stopped) = watch::channel(false);
    (Postman::new(Arc::clone(&instance.service), stopped), running)
}

/// Brings everything that there is to bring now.
async fn deliver(postman: &mut Postman) {
    while postman.look().await.unwrap() > 0 {
        postman.finish().await;
    }
}

fn open() -> Settings {
    Settings { webhook_allow_private: true, ..strict() }
}

async fn happens(world: &World, node: &str, passed: bool) {
    let reason = (!passed).then(|| Reason::new(Some(AttesterType::TpmIma), "ima_entry_unknown", "/evil", []));
    let evidences = BTreeMap::from([(AttesterType::TpmIma, Verdict::of(reason))]);
    let report = Report { evidences, report_interval: None };
    world.instance.service.note_report(TENANT, node, &report).await.unwrap();
}

async fn register(world: &World, receiver: &Receiver, events: &[Health]) -> (String, String) {
    let webhook = json!({ "name": "pager", "url": receiver.url, "ca": receiver.ca, "events": events });
    let answer = world.admin.post(&world.instance, "/webhook", &webhook).await.ok();
    let text = |member: &str| answer["webhook"][member].as_str().unwrap().to_owned();
    (text("id"), text("secret"))
}

async fn shown(world: &World, id: &str) -> Value {
    let answer = world.admin.get(&world.instance, &format!("/webhook?ids={id}")).await.ok();
    answer["webhooks"][0].clone()
}

#[tokio::test]
async fn events_are_told_in_order_again_and_again_until_they_are_taken_whoever_is_left_to_tell_them() {
    let world = World::with(open()).await;
    let receiver = Receiver::start().await;
    happens(&world, "before", false).await;
    let (id, secret) = register(&world, &receiver, &Health::ALL).await;
    let (mut first, running) = postman(&world.instance);
    deliver(&mut first).await;
    assert!(receiver.came().is_empty());

    happens(&world, "web-7", true).await;
    deliver(&mut first).await;
    let [came] = &receiver.came()[..] else { panic!("one event") };
    assert_eq!(came.path, "/hook?for=acme");
    let body: Value = serde_json::from_str(&came.body).unwrap();
    assert_eq!((&body["type"], &body["tenant"]), (&json!("node.status"), &json!(TENANT)));
    let events = world.admin.get(&world.instance, "/event?limit=1").await.ok();
    assert_eq!(body["data"], events["events"][0]);
    assert_eq!(came.timestamp, world.instance.service.now());
    assert!(came.is_signed(&secret));
    let other = format!("whsec_{}", STANDARD.encode([7; 32]));
    assert!(!came.is_signed(&other));

    // Nobody takes it for a while.
    receiver.answers(500);
    happens(&world, "web-7", false).await;
    happens(&world, "web-8", false).await;
    for failures in 1..=3 {
        deliver(&mut first).await;
        assert_eq!(receiver.nodes(), ["web-7"], "the first, once");
        let delivery = shown(&world, &id).await["delivery"].clone();
        assert_eq!((&delivery["failures"], &delivery["seq"]), (&json!(failures), &json!(2)), "{delivery}");
        assert_eq!(delivery["problem"], "it answered 500 Internal Server Error");
        let wait = delivery["next_at"].as_i64().unwrap() - world.instance.service.now();
        assert!((5..=3600).contains(&wait), "{wait}");
        world.home.clock.advance(wait);
        deliver(&mut first).await;
        assert!(receiver.came().is_empty(), "not before its time");
        world.home.clock.advance(1);
    }
    // The instance is gone, and what it knew with it.
    drop((first, running));
    happens(&world, "web-9", false).await;
    receiver.answers(200);
    let replica = world.home.open(open()).await;
    let (mut second, _running) = postman(&replica);
    deliver(&mut second).await;
    let came = receiver.came();
    let told: Vec<Value> = came.iter().map(|came| came.data()["seq"].clone()).collect();
    assert_eq!(told, [3, 4, 5]);
    assert!(came.iter().all(|came| came.is_signed(&secret) && !came.is_signed(&other)));
    let delivery = shown(&world, &id).await["delivery"].clone();
    assert_eq!(delivery, json!({ "seq": 5, "failures": 0 }));
    deliver(&mut second).await;
    assert!(receiver.came().is_empty());
    assert!(world.instance.service.store.fsck(&[]).await.unwrap().broken.is_empty());
}

#[tokio::test]
async fn an_instance_that_dies_with_a_message_in_its_hands_is_followed_by_another() {
    let world = World::with(open()).await;
    let receiver = Receiver::start().await;
    register(&world, &receiver, &Health::ALL).await;
    // It gets the second message, and does not answer.
    receiver.desk.patience.store(1, Ordering::SeqCst);
    happens(&world, "a", false).await;
    happens(&world, "b", false).await;
    let (mut first, running) = postman(&world.instance);
    assert_eq!(first.look().await.unwrap(), 1);
    let begun = Instant::now();
    while receiver.desk.came.lock().unwrap().len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop((first, running));
    let told = receiver.came();
    receiver.desk.patience.store(usize::MAX, Ordering::SeqCst);
    let (mut second, _running) = postman(&world.instance);
    deliver(&mut second).await;
    assert!(receiver.came().is_empty(), "it may still be at work");
    world.home.clock.advance(61);
    deliver(&mut second).await;
    let [again] = &receiver.came()[..] else { panic!("what was taken is not told again") };
    assert_eq!((&again.id, &again.body), (&told[1].id, &told[1].body));
}

#[tokio::test]
async fn who_is_told_to_stop_puts_down_what_others_take_up_at_once() {
    let world = World::with(open()).await;
    let receiver = Receiver::start().await;
    let (id, _) = register(&world, &receiver, &Health::ALL).await;
    receiver.desk.patience.store(0, Ordering::SeqCst);
    happens(&world, "a", false).await;
    let (running, stopped) = watch::channel(false);
    let working = tokio::spawn(Postman::new(Arc::clone(&world.instance.service), stopped).run());
    let begun = Instant::now();
    while receiver.desk.came.lock().unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.send_replace(true);
    working.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(shown(&world, &id).await["delivery"], json!({ "seq": 0, "failures": 0 }));
    receiver.came();
    let (mut second, _running) = postman(&world.instance);
    deliver(&mut second).await;
    assert_eq!(receiver.nodes(), ["a"]);
}

#[tokio::test]
async fn instances_share_the_work() {
    let world = World::with(open()).await;
    let receiver = Receiver::start().await;
    register(&world, &receiver, &Health::ALL).await;
    let replica = world.home.open(open()).await;
    let ((mut one, _a), (mut other, _b)) = (postman(&world.instance), postman(&replica));
    let nodes: Vec<String> = (0..5).map(|number| format!("node-{number}")).collect();
    for node in &nodes {
        happens(&world, node, false).await;
        let (began, also) = tokio::join!(one.look(), other.look());
        assert!(began.unwrap() + also.unwrap() <= 1);
        tokio::join!(one.finish(), other.finish());
    }
    tokio::join!(deliver(&mut one), deliver(&mut other));
    assert_eq!(receiver.nodes(), nodes);
}

#[tokio::test]
async fn only_what_is_asked_for_is_told_and_of_one_tenant() {
    let world = World::with(open()).await;
    let receiver = Receiver::start().await;
    let (id, _) = register(&world, &receiver, &[Health::Refused, Health::Failed]).await;
    let theirs = json!({ "name": "theirs", "url": receiver.url, "ca": receiver.ca });
    world.other.post(&world.instance, "/webhook", &theirs).await.ok();
    let (mut postman, _running) = postman(&world.instance);
    for (node, passed) in [("a", true), ("b", false), ("b", true)] {
        happens(&world, node, passed).await;
    }
    deliver(&mut postman).await;
    let told = receiver.came();
    assert_eq!(told.iter().map(|came| came.data()["status"].clone()).collect::<Vec<_>>(), ["failed"]);
    assert_eq!(shown(&world, &id).await["delivery"]["seq"], 3);
}

#[tokio::test]
async fn a_receiver_that_is_another_or_sends_elsewhere_or_hangs_is_not_spoken_to() {
    let world = World::with(Settings { webhook_timeout: Duration::from_secs(1), ..open() }).await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    let (id, _) = register(&world, &receiver, &Health::ALL).await;
    let (mut postman, _running) = postman(&world.instance);
    happens(&world, "a", false).await;
    let problem = async |postman: &mut Postman, changes: Value| {
        let mut change = json!({ "id": id });
        change.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        world.admin.send(&world.instance, Method::PUT, "/webhook", &change).await.ok();
        deliver(postman).await;
        let delivery = shown(&world, &id).await["delivery"].clone();
        assert_eq!((&delivery["failures"], &delivery["seq"]), (&json!(1), &json!(0)), "{delivery}");
        delivery["problem"].as_str().unwrap().to_owned()
    };
    for changes in [json!({ "ca": other.ca }), json!({ "ca": "" })] {
        let told = problem(&mut postman, changes).await;
        assert!(told.contains("no trusted TLS connection"), "{told}");
    }
    // The certificate is of localhost.
    let by_number = receiver.url.replace("localhost", "127.0.0.1");
    let told = problem(&mut postman, json!({ "ca": receiver.ca, "url": by_number })).await;
    assert!(told.contains("no trusted TLS connection"), "{told}");
    assert!(receiver.came().is_empty());
    for status in [301, 302, 307, 308] {
        receiver.answers(status);
        let told = problem(&mut postman, json!({ "url": receiver.url })).await;
        assert!(told.contains("redirects are not followed"), "{told}");
        assert_eq!(
            receiver.came().iter().map(|came| came.path.as_str()).collect::<Vec<_>>(),
            ["/hook?for=acme"]
        );
    }
    receiver.desk.patience.store(0, Ordering::SeqCst);
    let begun = Instant::now();
    let told = problem(&mut postman, json!({ "description": "slow" })).await;
    assert_eq!(told, "no answer within 1 s");
    assert!(begun.elapsed() < Duration::from_secs(10));
    // Nobody listens there.
    let told = problem(&mut postman, json!({ "url": "https://localhost:1/" })).await;
    assert!(told.contains("no connection"), "{told}");
}

/// A tenant must not use the server to reach what is behind its firewall.
#[tokio::test]
async fn the_servers_own_network_is_out_of_reach_unless_its_operator_says_otherwise() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    for url in [
        "https://127.0.0.1:8443/",
        "https://169.254.169.254/latest/meta-data",
        "https://10.1.2.3/",
        "https://[::1]/",
        "https://[fe80::1]/",
        "http://127.0.0.1:80/",
        "http://hooks.example/",
        "https://user@hooks.example/",
    ] {
        let webhook = json!({ "name": "inside", "url": url });
        let refused = world.admin.post(&world.instance, "/webhook", &webhook).await;
        assert_eq!(refused.problem(), (400, "url_invalid"), "{url}");
    }
    // A name leads there only when it is looked up.
    let (id, _) = register(&world, &receiver, &Health::ALL).await;
    let change = json!({ "id": id, "url": "https://192.168.0.1/" });
    let refused = world.admin.send(&world.instance, Method::PUT, "/webhook", &change).await;
    assert_eq!(refused.problem(), (400, "url_invalid"));
    happens(&world, "a", false).await;
    let (mut guarded, _a) = postman(&world.instance);
    deliver(&mut guarded).await;
    let delivery = shown(&world, &id).await["delivery"].clone();
    assert!(delivery["problem"].as_str().unwrap().contains("not a public address"), "{delivery}");
    assert!(receiver.came().is_empty());
    world.home.clock.advance(60);
    let (mut lenient, _b) = postman(&world.home.open(open()).await);
    deliver(&mut lenient).await;
    assert_eq!(receiver.nodes(), ["a"]);
}

#[tokio::test]
async fn a_secret_is_shown_once_and_can_be_replaced() {
    let world = World::with(open()).await;
    let receiver = Receiver::start().await;
    let (id, secret) = register(&world, &receiver, &Health::ALL).await;
    let admin = &world.admin;
    for path in ["/webhook".to_owned(), format!("/webhook?ids={id}")] {
        let answer = admin.get(&world.instance, &path).await.ok().to_string();
        assert!(answer.contains(&receiver.url) && !answer.contains("secret"), "{answer}");
        assert!(!answer.contains(secret.strip_prefix("whsec_").unwrap()), "{answer}");
    }
    let renamed = json!({ "id": id, "name": "siren", "events": ["failed"] });
    let renamed = admin.send(&world.instance, Method::PUT, "/webhook", &renamed).await.ok();
    assert_eq!(renamed["webhook"], json!({ "id": id, "name": "siren", "version": 2 }));
    assert_eq!(shown(&world, &id).await["events"], json!(["failed"]));
    let renewed = json!({ "id": id, "new_secret": true });
    let renewed = admin.send(&world.instance, Method::PUT, "/webhook", &renewed).await.ok();
    let renewed = renewed["webhook"]["secret"].as_str().unwrap();
    happens(&world, "a", false).await;
    let (mut postman, _running) = postman(&world.instance);
    deliver(&mut postman).await;
    let [came] = &receiver.came()[..] else { panic!("one event") };
    assert!(came.is_signed(renewed) && !came.is_signed(&secret));
}

#[tokio::test]
async fn webhooks_are_for_administrators_and_bounded_and_end_when_they_are_deleted() {
    let world = World::with(Settings { max_webhooks: 1, ..open() }).await;
    let receiver = Receiver::start().await;
    let webhook = |name: &str| json!({ "name": name, "url": receiver.url, "ca": receiver.ca });
    for role in [Role::Auditor, Role::Agent, Role::RelyingParty] {
        let key = world.instance.service.add_key(TENANT, role, "test").await.unwrap();
        let client = Client { tenant: TENANT.to_owned(), key };
        for (method, body) in [
            (Method::GET, Value::Null),
            (Method::POST, webhook("a")),
            (Method::PUT, json!({ "id": "a" })),
            (Method::DELETE, json!({ "delete_type": "all" })),
        ] {
            let answer = client.send(&world.instance, method, "/webhook", &body).await;
            assert_eq!(answer.problem(), (403, "role_missing"), "{role:?}");
        }
    }
    let add = async |body: &Value| world.admin.post(&world.instance, "/webhook", body).await;
    for (member, value, code) in [
        ("name", json!("a/b"), "name_invalid"),
        ("events", json!([]), "events_missing"),
        ("ca", json!("no certificate"), "ca_invalid"),
        ("ca", json!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "ca_invalid"),
        ("description", json!("a".repeat(513)), "description_invalid"),
    ] {
        let mut wrong = webhook("a");
        wrong[member] = value;
        assert_eq!(add(&wrong).await.problem(), (400, code));
    }
    let mut wrong = webhook("a");
    wrong["events"] = json!(["happy"]);
    assert_eq!(add(&wrong).await.problem(), (422, "body_invalid"));
    let id = add(&webhook("a")).await.ok()["webhook"]["id"].as_str().unwrap().to_owned();
    assert_eq!(add(&webhook("b")).await.problem(), (409, "quota_exceeded"));
    // What another tenant has is not there.
    let foreign = json!({ "delete_type": "id", "ids": [id] });
    assert_eq!(world.other.delete(&world.instance, "/webhook", &foreign).await.problem(), (404, "unknown"));
    assert_eq!(world.other.get(&world.instance, "/webhook").await.ok(), json!({ "webhooks": [] }));
    assert_eq!(OTHER, world.other.tenant);

    happens(&world, "a", false).await;
    world.admin.delete(&world.instance, "/webhook", &foreign).await.ok();
    let (mut postman, _running) = postman(&world.instance);
    deliver(&mut postman).await;
    assert!(receiver.came().is_empty());
    let left = world.instance.service.store.states::<Delivery>(TENANT).await.unwrap();
    assert!(left.is_empty());
    // So does one whose deletion was cut short.
    let store = &world.instance.service.store;
    store.set_state(TENANT, &id, None, &Delivery::new(0)).await.unwrap();
    happens(&world, "b", false).await;
    deliver(&mut postman).await;
    assert!(receiver.came().is_empty() && store.states::<Delivery>(TENANT).await.unwrap().is_empty());
    assert_eq!(Delivery::new(0).due_at(), None);
}

#[tokio::test]
async fn how_far_a_webhook_is_cannot_be_changed_unnoticed() {
    let world = World::with(open()).await;
    let receiver = Receiver::start().await;
    register(&world, &receiver, &Health::ALL).await;
    happens(&world, "a", false).await;
    let skip = "UPDATE states SET body = '{\"cursor\":9,\"failures\":0}' WHERE kind = 'webhook'";
    assert_eq!(world.home.sql(skip).await, 1);
    let (mut postman, _running) = postman(&world.instance);
    assert!(postman.look().await.unwrap_err().to_string().contains("changed behind the service's back"));
    assert_eq!(world.admin.get(&world.instance, "/webhook").await.problem(), (503, "integrity_violation"));
    assert!(!world.instance.service.store.fsck(&[]).await.unwrap().broken.is_empty());
}
