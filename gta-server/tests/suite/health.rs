//! How nodes are, and what is told of it.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::bank::Bank;
use evidence::tcg::EventType;
use gta_server::model::Role;
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::{Client, Instance, Machine, Signer, TENANT, World, strict};

async fn report(world: &World, machine: &Machine, interval: Option<u32>) -> Value {
    let mut measurement = machine.good(world, "tpm_ima").await;
    if let Some(interval) = interval {
        measurement["report_interval"] = json!(interval);
    }
    world.attest(measurement).await.ok()
}

async fn knows(world: &World, path: &str) {
    let signer = Signer::new();
    let certificate = json!({ "name": "signer", "type": ["refvalue"], "content": signer.pem });
    world.admin.post(&world.instance, "/cert", &certificate).await.ok();
    let files = json!({ "referenceValues": [{ "fileName": path, "sha256": "01".repeat(32) }] });
    let values = json!({ "name": "files", "attester_type": "tpm_ima", "content": signer.sign(&files) });
    world.admin.post(&world.instance, "/ref_value", &values).await.ok();
}

async fn status(world: &World, node: &str) -> Value {
    let answer = world.admin.get(&world.instance, &format!("/status?ids={node}")).await.ok();
    answer["nodes"][0].clone()
}

/// What happened, the first first: how the node was and is.
async fn events(world: &World) -> Vec<(Value, Value)> {
    let answer = world.admin.get(&world.instance, "/event?after=0").await.ok();
    let events = answer["events"].as_array().unwrap();
    events.iter().map(|event| (event["before"].clone(), event["status"].clone())).collect()
}

#[tokio::test]
async fn a_change_of_how_a_node_is_is_an_event_and_tells_why() {
    let world = World::new().await;
    knows(&world, "/a").await;
    let mut machine = world.machine("node-1").await;
    assert_eq!(status(&world, "node-1").await, Value::Null);
    machine.measure("/a", &[1; 32]);
    report(&world, &machine, None).await;
    world.home.clock.advance(10);
    report(&world, &machine, None).await;
    let now = status(&world, "node-1").await;
    assert_eq!((&now["status"], &now["reports"]), (&json!("passed"), &json!(2)));
    assert_eq!(now["reported_at"].as_i64().unwrap() - now["since"].as_i64().unwrap(), 10);
    assert_eq!((&now["attester_types"], &now["deadline"]), (&json!(["tpm_ima"]), &Value::Null));
    machine.measure("/evil", &[1; 32]);
    report(&world, &machine, None).await;
    let now = status(&world, "node-1").await;
    assert_eq!(now["status"], "failed");
    assert_eq!(
        (&now["reason"]["code"], &now["reason"]["attester_type"]),
        (&json!("ima_entry_unknown"), &json!("tpm_ima"))
    );
    assert!(now["reason"]["detail"].as_str().unwrap().contains("/evil"));
    assert_eq!(events(&world).await, [(Value::Null, json!("passed")), (json!("passed"), json!("failed"))]);
    let listed = world.admin.get(&world.instance, "/status?status=failed").await.ok();
    assert_eq!(listed["counts"], json!({ "failed": 1 }));
    assert_eq!(listed["nodes"][0]["node_id"], "node-1");
}

#[tokio::test]
async fn a_policy_that_does_not_match_is_the_reason() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    report(&world, &machine, None).await;
    let now = status(&world, "node-1").await;
    assert_eq!((&now["status"], &now["reason"]["code"]), (&json!("failed"), &json!("policy_unmatched")));
    assert!(now["reason"]["detail"].as_str().unwrap().contains("default"), "{now}");
}

#[tokio::test]
async fn a_reason_points_at_the_files_and_the_line_of_the_policy() {
    let world = World::new().await;
    knows(&world, "/a").await;
    let mut machine = world.machine("node-1").await;
    machine.measure("/evil", &[9; 32]);
    machine.measure("/a", &[1; 32]);
    machine.measure("/worse", &[8; 32]);
    report(&world, &machine, None).await;
    let now = status(&world, "node-1").await;
    let file = |entry: u64, path: &str, digest: &str| json!({ "kind": "file", "entry": entry, "path": path, "digest": format!("sha256:{}", digest.repeat(32)) });
    let policy = json!({ "kind": "policy", "id": "default", "name": "default", "version": 0, "lines": [11] });
    assert_eq!(
        now["reason"]["findings"],
        json!([file(1, "/evil", "09"), file(3, "/worse", "08"), policy]),
        "{now}"
    );
    // The line is one of the text that is shown.
    let shown = world.admin.get(&world.instance, "/policy/built_in").await.ok();
    let built_in = &shown["policies"][1];
    assert_eq!((&built_in["id"], &built_in["attester_type"]), (&json!("default"), &json!(["tpm_ima"])));
    let text = String::from_utf8(STANDARD.decode(built_in["content"].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!(text.lines().nth(10).unwrap().trim(), "log.ref_value_match_status == \"matched\"");
    // The event has what was found then.
    let events = world.admin.get(&world.instance, "/event").await.ok();
    assert_eq!(events["events"][0]["reason"], now["reason"]);
}

#[tokio::test]
async fn a_reason_points_at_the_registers_that_a_log_does_not_lead_to() {
    let world = World::new().await;
    let mut machine = world.machine("node-1").await;
    let quoted = machine.tpm.register(4).to_string();
    machine.boot.measure(4, EventType::IPL, b"another loader", &b"another loader"[..]);
    let measurement = machine.good(&world, "tpm_boot").await;
    world.attest(measurement).await.ok();
    let now = status(&world, "node-1").await;
    assert_eq!((&now["status"], &now["reason"]["code"]), (&json!("failed"), &json!("log_mismatch")));
    let finding = &now["reason"]["findings"][0];
    assert_eq!((&finding["kind"], &finding["index"]), (&json!("pcr"), &json!(4)));
    assert_eq!(finding["found"], quoted);
    assert_eq!(finding["expected"].as_str().unwrap().len(), Bank::Sha256.len() * 2);
    assert_ne!(finding["expected"], finding["found"]);
}

/// A machine chooses what is in its log, and a state is read with every list.
#[tokio::test]
async fn a_reason_is_no_longer_than_what_is_kept() {
    let world = World::new().await;
    knows(&world, "/a").await;
    let mut machine = world.machine("node-1").await;
    for number in 0..40 {
        machine.measure(&format!("/{number}/{}<script>", "\u{202e}".repeat(1300)), &[9; 32]);
    }
    report(&world, &machine, None).await;
    let reason = status(&world, "node-1").await["reason"].clone();
    assert_eq!(reason["detail"].as_str().unwrap().chars().count(), 1024);
    let findings = reason["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 9, "{findings:?}");
    assert!(findings[..8].iter().all(|file| file["path"].as_str().unwrap().chars().count() == 257));
}

#[tokio::test]
async fn nodes_are_found_by_what_is_in_their_names() {
    let world = World::new().await;
    for name in ["Web-1", "web-2", "db-1", "db-1,web-2"] {
        report(&world, &world.machine(name).await, None).await;
    }
    let names = async |path: &str| -> Vec<String> {
        let answer = world.admin.get(&world.instance, path).await.ok();
        let nodes = answer["nodes"].as_array().unwrap().iter();
        nodes.map(|node| node["node_id"].as_str().unwrap().to_owned()).collect()
    };
    for path in ["/status", "/node"] {
        assert_eq!(names(&format!("{path}?search=WEB")).await, ["Web-1", "db-1,web-2", "web-2"]);
        assert_eq!(names(&format!("{path}?search=web&limit=1&cursor=Web-1")).await, ["db-1,web-2"]);
        assert!(names(&format!("{path}?search=nothing")).await.is_empty());
        // A name that has a comma is found by the whole of it.
        assert_eq!(names(&format!("{path}?ids=db-1,web-2")).await, ["db-1", "db-1,web-2", "web-2"]);
    }
    assert_eq!(names("/status?search=web&status=passed").await, Vec::<String>::new());
}

#[tokio::test]
async fn untrue_evidence_of_an_enrolled_node_is_noted_and_that_of_a_stranger_is_not() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let mut forged = machine.good(&world, "tpm_boot").await;
    forged["evidences"][0]["evidence"]["pcrs"]["pcr_values"][0]["pcr_value"] = json!("22".repeat(32));
    assert_eq!(world.attest(forged).await.status, StatusCode::BAD_REQUEST);
    let now = status(&world, "node-1").await;
    assert_eq!((&now["status"], &now["reason"]["code"]), (&json!("refused"), &json!("pcr_digest_mismatch")));
    let mut unknown = machine.good(&world, "tpm_boot").await;
    unknown["node_id"] = json!("nobody");
    unknown["nonce"] = json!(world.agent.nonce(&world.instance, Some("nobody")).await);
    assert_eq!(world.attest(unknown).await.problem(), (400, "node_unknown"));
    assert_eq!(status(&world, "nobody").await, Value::Null);
}

#[tokio::test]
async fn a_report_that_does_not_come_is_missed_once() {
    let world = World::new().await;
    knows(&world, "/a").await;
    let machine = world.machine("node-1").await;
    let replica = world.home.open(strict()).await;
    report(&world, &machine, Some(60)).await;
    let deadline = status(&world, "node-1").await["deadline"].as_i64().unwrap();
    world.home.clock.advance(90);
    assert_eq!(replica.service.note_missed().await.unwrap(), 0);
    world.home.clock.advance(1);
    let (one, other) = tokio::join!(world.instance.service.note_missed(), replica.service.note_missed());
    assert_eq!(one.unwrap() + other.unwrap(), 1);
    assert_eq!(world.instance.service.note_missed().await.unwrap(), 0);
    let now = status(&world, "node-1").await;
    assert_eq!((&now["status"], &now["reason"]["code"]), (&json!("missed"), &json!("report_missed")));
    assert_eq!(now["since"], deadline + 1);
    report(&world, &machine, Some(60)).await;
    let seen: Vec<Value> = events(&world).await.into_iter().map(|(_, now)| now).collect();
    assert_eq!(seen, ["passed", "missed", "passed"]);
    let mut measurement = machine.good(&world, "tpm_ima").await;
    measurement["report_interval"] = json!(9);
    assert_eq!(world.attest(measurement).await.problem(), (400, "report_interval_invalid"));
}

/// Evidence of several types for one nonce.
async fn report_of(world: &World, machine: &Machine, kinds: &[&str], interval: Option<u32>) -> Value {
    let nonce = world.agent.nonce(&world.instance, Some(&machine.name)).await;
    let evidences: Vec<Value> =
        kinds.iter().map(|kind| machine.for_nonce(&nonce, kind)["evidences"][0].clone()).collect();
    let mut measurement = machine.measurement(&nonce, &evidences);
    if let Some(interval) = interval {
        measurement["report_interval"] = json!(interval);
    }
    world.attest(measurement).await.ok()
}

#[tokio::test]
async fn a_report_about_less_lifts_nothing_that_it_is_not_about() {
    let world = World::new().await;
    knows(&world, "/a").await;
    let mut machine = world.machine("node-1").await;
    let both = ["tpm_boot", "tpm_ima"];
    report_of(&world, &machine, &both, Some(60)).await;
    let first = status(&world, "node-1").await;
    assert_eq!((&first["status"], &first["attester_types"]), (&json!("passed"), &json!(both)));
    // A program wants to know about the boot only, and announces nothing.
    world.home.clock.advance(20);
    report_of(&world, &machine, &both[..1], None).await;
    let now = status(&world, "node-1").await;
    assert_eq!((&now["attester_types"], &now["deadline"]), (&json!(both), &first["deadline"]));

    machine.measure("/evil", &[1; 32]);
    report_of(&world, &machine, &both, None).await;
    report_of(&world, &machine, &both[..1], None).await;
    let now = status(&world, "node-1").await;
    assert_eq!((&now["status"], &now["reason"]["code"]), (&json!("failed"), &json!("ima_entry_unknown")));
    assert_eq!(now["evidences"]["tpm_boot"]["status"], "passed");

    let mut forged = machine.good(&world, "tpm_ima").await;
    forged["evidences"][0]["evidence"]["pcrs"]["pcr_values"][0]["pcr_value"] = json!("22".repeat(32));
    assert_eq!(world.attest(forged).await.status, StatusCode::BAD_REQUEST);
    report_of(&world, &machine, &both[..1], None).await;
    assert_eq!(status(&world, "node-1").await["status"], "refused");

    // Nothing of the files comes any more, and the boot does.
    world.home.clock.advance(91);
    report_of(&world, &machine, &both[..1], None).await;
    assert_eq!(world.instance.service.note_missed().await.unwrap(), 1);
    report_of(&world, &machine, &both[..1], None).await;
    let now = status(&world, "node-1").await;
    assert_eq!((&now["status"], &now["reason"]["attester_type"]), (&json!("missed"), &json!("tpm_ima")));
    let seen: Vec<Value> = events(&world).await.into_iter().map(|(_, now)| now).collect();
    assert_eq!(seen, ["passed", "failed", "refused", "missed"]);
}

#[tokio::test]
async fn an_announcement_holds_until_there_is_another_or_the_node_is_forgotten() {
    let world = World::new().await;
    knows(&world, "/a").await;
    let machine = world.machine("node-1").await;
    report(&world, &machine, Some(60)).await;
    report(&world, &machine, None).await;
    world.home.clock.advance(91);
    assert_eq!(world.instance.service.note_missed().await.unwrap(), 1);
    report(&world, &machine, Some(6000)).await;
    world.home.clock.advance(91);
    assert_eq!(world.instance.service.note_missed().await.unwrap(), 0);
    world.admin.delete(&world.instance, "/status", &json!({ "ids": ["node-1"] })).await.ok();
    report(&world, &machine, None).await;
    world.home.clock.advance(100_000);
    assert_eq!(world.instance.service.note_missed().await.unwrap(), 0);
}

#[tokio::test]
async fn what_a_client_demands_beside_the_tenant_does_not_make_the_node_fail() {
    let world = World::new().await;
    knows(&world, "/a").await;
    let machine = world.machine("node-1").await;
    let policy = |name: &str, matched: bool, is_default: bool| {
        let rego = format!("package verification\nresult := {{\"policy_matched\": {matched}}}");
        json!({ "name": name, "attester_type": ["tpm_ima"], "content_type": "text",
            "content": STANDARD.encode(rego), "is_default": is_default })
    };
    let never = world.admin.post(&world.instance, "/policy", &policy("never", false, false)).await.ok();
    let asked = async || {
        let mut measurement = machine.good(&world, "tpm_ima").await;
        measurement["evidences"][0]["policy_ids"] = json!([never["policy"]["id"]]);
        world.result(world.attest(measurement).await).await.0
    };
    assert_eq!(
        (asked().await.as_str(), &status(&world, "node-1").await["status"]),
        ("fail", &json!("passed"))
    );
    // One that has nothing to say of it is the client's own fault.
    let silent = json!({ "name": "silent", "attester_type": ["tpm_ima"], "content_type": "text",
        "content": STANDARD.encode("package verification\nresult := {\"policy_matched\": input.nothing}") });
    let silent = world.admin.post(&world.instance, "/policy", &silent).await.ok();
    let mut measurement = machine.good(&world, "tpm_ima").await;
    measurement["evidences"][0]["policy_ids"] = json!([silent["policy"]["id"]]);
    assert_eq!(world.attest(measurement).await.problem(), (400, "policy_error"));
    assert_eq!(status(&world, "node-1").await["status"], "passed");
    // What the tenant demands of all does.
    world.admin.post(&world.instance, "/policy", &policy("default", false, true)).await.ok();
    assert_eq!(
        (asked().await.as_str(), &status(&world, "node-1").await["status"]),
        ("fail", &json!("failed"))
    );
    let detail = status(&world, "node-1").await["reason"]["detail"].as_str().unwrap().to_owned();
    assert!(!detail.contains(never["policy"]["id"].as_str().unwrap()), "{detail}");
}

#[tokio::test]
async fn evidence_of_which_the_tenants_policy_says_nothing_fails() {
    let world = World::new().await;
    knows(&world, "/a").await;
    let machine = world.machine("node-1").await;
    report(&world, &machine, None).await;
    let silent = json!({ "name": "silent", "attester_type": ["tpm_ima"], "content_type": "text",
        "content": STANDARD.encode("package verification\nresult := {\"policy_matched\": input.nothing}"),
        "is_default": true });
    world.admin.post(&world.instance, "/policy", &silent).await.ok();
    let measurement = machine.good(&world, "tpm_ima").await;
    assert_eq!(world.attest(measurement).await.problem(), (400, "policy_error"));
    let now = status(&world, "node-1").await;
    assert_eq!((&now["status"], &now["reason"]["code"]), (&json!("failed"), &json!("policy_error")));
}

/// Only the relying party can tell whether its nonce is fresh: the quote may be as old as it likes.
#[tokio::test]
async fn evidence_for_a_nonce_of_somebody_else_says_nothing_about_how_the_node_is() {
    let world = World::new().await;
    knows(&world, "/a").await;
    let mut machine = world.machine("node-1").await;
    let nonce = STANDARD.encode([5; 32]);
    let mut old = machine.for_nonce(&nonce, "tpm_ima");
    old["nonce_type"] = json!("user");
    old["report_interval"] = json!(6000);
    world.attest(old.clone()).await.ok();
    assert_eq!(status(&world, "node-1").await, Value::Null);
    machine.measure("/evil", &[1; 32]);
    report(&world, &machine, Some(60)).await;
    let before = status(&world, "node-1").await;
    world.attest(old).await.ok();
    assert_eq!(status(&world, "node-1").await, before);
}

/// As rows were before states were kept by type of evidence.
#[derive(Serialize, Deserialize)]
struct OldHealth {
    status: String,
    since: i64,
    reported_at: i64,
    reports: u64,
    attester_types: [String; 2],
    reason: Option<Value>,
    report_interval: Option<u32>,
}

impl gta_server::store::State for OldHealth {
    const KIND: &'static str = "node_health";

    fn due_at(&self) -> Option<i64> {
        self.report_interval.map(|interval| self.reported_at + i64::from(interval) + 30)
    }
}

#[tokio::test]
async fn a_row_of_the_older_shape_is_read_as_all_of_its_types() {
    let world = World::new().await;
    knows(&world, "/a").await;
    let machine = world.machine("node-1").await;
    let at = world.instance.service.now() - 10;
    let old = OldHealth {
        status: "failed".to_owned(),
        since: at,
        reported_at: at,
        reports: 7,
        attester_types: ["tpm_boot", "tpm_ima"].map(str::to_owned),
        reason: Some(json!({ "attester_type": "tpm_ima", "code": "ima_entry_unknown", "detail": "/evil" })),
        report_interval: Some(60),
    };
    world.instance.service.store.set_state(TENANT, "node-1", None, &old).await.unwrap();
    assert!(world.instance.service.store.fsck(&[]).await.unwrap().broken.is_empty());
    let now = status(&world, "node-1").await;
    assert_eq!(
        (&now["status"], &now["since"], &now["deadline"]),
        (&json!("failed"), &json!(at), &json!(at + 90))
    );
    report(&world, &machine, None).await;
    let now = status(&world, "node-1").await;
    assert_eq!((&now["status"], &now["reports"]), (&json!("failed"), &json!(8)));
    assert_eq!(
        (&now["evidences"]["tpm_ima"]["status"], &now["deadline"]),
        (&json!("passed"), &json!(at + 90))
    );
    world.home.clock.advance(81);
    assert_eq!(world.instance.service.note_missed().await.unwrap(), 1);
}

#[tokio::test]
async fn a_node_that_is_deleted_is_not_missed() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    report(&world, &machine, Some(60)).await;
    world
        .admin
        .delete(&world.instance, "/node", &json!({ "delete_type": "id", "ids": ["node-1"] }))
        .await
        .ok();
    world.home.clock.advance(1000);
    assert_eq!(world.instance.service.note_missed().await.unwrap(), 0);
    assert_eq!(status(&world, "node-1").await, Value::Null);
    // So is one that was never enrolled, and is forgotten.
    let machine = world.machine("node-2").await;
    report(&world, &machine, Some(60)).await;
    let ids = json!({ "ids": ["node-2"] });
    assert_eq!(world.agent.delete(&world.instance, "/status", &ids).await.problem(), (403, "role_missing"));
    world.other.delete(&world.instance, "/status", &ids).await.ok();
    assert_eq!(status(&world, "node-2").await["status"], "failed");
    world.admin.delete(&world.instance, "/status", &ids).await.ok();
    world.home.clock.advance(1000);
    assert_eq!(world.instance.service.note_missed().await.unwrap(), 0);
}

#[tokio::test]
async fn pages_of_nodes_and_events_follow_each_other() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        report(&world, &world.machine(name).await, None).await;
    }
    let get = async |path: &str| world.admin.get(&world.instance, path).await.ok();
    let first = get("/status?limit=2").await;
    assert_eq!((&first["nodes"][1]["node_id"], &first["next_cursor"]), (&json!("b"), &json!("b")));
    let second = get("/status?limit=2&cursor=b").await;
    assert_eq!((&second["nodes"][0]["node_id"], &second["next_cursor"]), (&json!("c"), &Value::Null));
    let last = get("/event?limit=2").await;
    assert_eq!(last["events"][0]["node_id"], "c");
    let before = get(&format!("/event?limit=2&before={}", last["events"][1]["seq"])).await;
    assert_eq!(
        (&before["events"][0]["node_id"], before["events"].as_array().unwrap().len()),
        (&json!("a"), 1)
    );
    assert_eq!(get("/event?node_id=b").await["events"].as_array().unwrap().len(), 1);
    for path in ["/status?limit=0", "/event?limit=101"] {
        assert_eq!(world.admin.get(&world.instance, path).await.problem(), (400, "limit_invalid"));
    }
    for path in ["/status?color=red", "/status?status=blue", "/event?after=x"] {
        assert_eq!(world.admin.get(&world.instance, path).await.problem(), (400, "query_unsupported"));
    }
}

#[tokio::test]
async fn another_tenant_sees_nothing() {
    let world = World::new().await;
    report(&world, &world.machine("node-1").await, None).await;
    let seen = world.other.get(&world.instance, "/status").await.ok();
    assert_eq!(seen, json!({ "nodes": [], "counts": {} }));
    assert_eq!(world.other.get(&world.instance, "/event").await.ok(), json!({ "events": [] }));
    for path in ["/status", "/event"] {
        assert_eq!(world.agent.get(&world.instance, path).await.problem(), (403, "role_missing"), "{path}");
    }
    // A stream that is let in would not end.
    let answer = world.instance.respond(subscription(&world.agent, None)).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_state_that_was_changed_is_not_believed() {
    let world = World::new().await;
    report(&world, &world.machine("node-1").await, Some(60)).await;
    let fine = async || world.instance.service.store.fsck(&[]).await.unwrap().broken.is_empty();
    assert!(fine().await);
    // Without its time nobody would miss the node.
    assert_eq!(world.home.sql("UPDATE states SET due_at = NULL WHERE kind = 'node_health'").await, 1);
    assert!(!fine().await);
    assert_eq!(world.admin.get(&world.instance, "/status").await.problem(), (503, "integrity_violation"));
}

/// The lines that come within a few seconds, until one of them has `text`.
async fn read_until(body: &mut Body, text: &str) -> String {
    let mut read = String::new();
    while !read.contains(text) {
        let frame = tokio::time::timeout(Duration::from_secs(10), body.frame()).await;
        let frame = frame.unwrap_or_else(|_| panic!("no {text:?} in {read:?}"));
        let frame = frame.unwrap_or_else(|| panic!("the stream ends after {read:?}")).unwrap();
        read += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
    }
    read
}

fn subscription(client: &Client, last: Option<&str>) -> Request<Body> {
    let path = format!("{}/event/stream", gta_server::api::BASE);
    let mut request = Request::get(path).header("User-Id", &client.tenant).header("API-Key", &client.key);
    if let Some(last) = last {
        request = request.header("Last-Event-ID", last);
    }
    request.body(Body::empty()).unwrap()
}

async fn subscribe(instance: &Instance, client: &Client, last: Option<&str>) -> Body {
    let response = instance.respond(subscription(client, last)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response.into_body()
}

#[tokio::test]
async fn events_are_streamed_from_where_the_client_was() {
    let world = World::new().await;
    let replica = world.home.open(strict()).await;
    let watcher = Client {
        tenant: TENANT.to_owned(),
        key: world.instance.service.add_key(TENANT, Role::RelyingParty, "test").await.unwrap(),
    };
    report(&world, &world.machine("before").await, None).await;
    let mut body = subscribe(&replica, &watcher, None).await;
    report(&world, &world.machine("node-1").await, None).await;
    let read = read_until(&mut body, "node-1").await;
    assert!(read.contains("event: failed") && !read.contains("before\""), "{read}");
    let mut body = subscribe(&replica, &watcher, Some("0")).await;
    let read = read_until(&mut body, "node-1").await;
    assert!(read.contains("id: 1") && read.contains("\"node_id\":\"before\""), "{read}");
    // Whose key is taken away hears no more.
    watcher.post(&world.instance, "/register", &Value::Null).await.ok();
    report(&world, &world.machine("node-2").await, None).await;
    let mut rest = String::new();
    while let Some(frame) = tokio::time::timeout(Duration::from_secs(10), body.frame()).await.unwrap() {
        rest += std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap();
    }
    assert!(!rest.contains("node-2"), "{rest}");
}

#[tokio::test]
async fn a_stream_ends_with_the_service() {
    let world = World::new().await;
    let mut body = subscribe(&world.instance, &world.admin, None).await;
    world.instance.service.stop();
    assert!(tokio::time::timeout(Duration::from_secs(10), body.frame()).await.unwrap().is_none());
}

/// Of two reports that overtake each other, one is told so.
#[tokio::test]
async fn a_state_is_replaced_only_as_it_was_read() {
    use gta_server::health::NodeHealth;
    use gta_server::store::StoreError;
    let world = World::new().await;
    report(&world, &world.machine("node-1").await, Some(60)).await;
    let store = &world.instance.service.store;
    let before = store.state::<NodeHealth>(TENANT, "node-1").await.unwrap().unwrap();
    store.set_state(TENANT, "node-1", Some(&before), &before.state).await.unwrap();
    for stale in [Some(&before), None] {
        let refused = store.set_state(TENANT, "node-1", stale, &before.state).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
        let mut change = store.change("test").await.unwrap();
        let refused = change.set_state(TENANT, "node-1", stale, &before.state).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    }
}
