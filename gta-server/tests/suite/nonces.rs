//! W3: a nonce is answered once, in time, by whom it was given to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gta_server::service::Settings;
use gta_server::store::Purpose;
use serde_json::{Value, json};

use crate::support::{World, qualifying, strict};

fn body(nonce: &str) -> Value {
    serde_json::from_slice(&STANDARD.decode(nonce).unwrap()).unwrap()
}

fn with(nonce: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut body = body(nonce);
    change(&mut body);
    STANDARD.encode(body.to_string())
}

#[tokio::test]
async fn a_nonce_is_used_once() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let measurement = machine.good(&world, "tpm_boot").await;
    world.attest(measurement.clone()).await.ok();
    assert_eq!(world.attest(measurement).await.problem(), (400, "nonce_used"));
}

#[tokio::test]
async fn a_nonce_that_was_refused_is_used_up_too() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let nonce = world.agent.nonce(&world.instance, None).await;
    let wrong = machine.evidence("tpm_boot", &[0], &[0; 32]);
    let answer = world.attest(machine.measurement(&nonce, &[wrong])).await;
    assert_eq!(answer.problem(), (400, "nonce_mismatch"));
    let right = machine.for_nonce(&nonce, "tpm_boot");
    assert_eq!(world.attest(right).await.problem(), (400, "nonce_used"));
}

#[tokio::test]
async fn a_digit_that_moves_from_the_value_into_the_time_breaks_the_nonce() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    for _ in 0..200 {
        let nonce = world.agent.nonce(&world.instance, None).await;
        let value = body(&nonce)["value"].as_str().unwrap().to_owned();
        let Some(digit) = value.chars().next().and_then(|first| first.to_digit(10)) else { continue };
        let shifted = with(&nonce, |body| {
            body["iat"] = json!(body["iat"].as_i64().unwrap() * 10 + i64::from(digit));
            body["value"] = json!(value[1..]);
        });
        let answer = world.attest(machine.for_nonce(&shifted, "tpm_boot")).await;
        assert!(["nonce_malformed", "nonce_invalid"].contains(&answer.problem().1), "{answer:?}");
        return;
    }
    panic!("no value began with a digit");
}

#[tokio::test]
async fn an_altered_nonce_is_refused() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let fresh = async || world.agent.nonce(&world.instance, Some("node-1")).await;
    for (what, nonce) in [
        ("later", with(&fresh().await, |body| body["iat"] = json!(body["iat"].as_i64().unwrap() + 1))),
        ("from the future", with(&fresh().await, |body| body["iat"] = json!(i64::MAX))),
        ("for every node", with(&fresh().await, |body| drop(body.as_object_mut().unwrap().remove("node")))),
        ("of another key", with(&fresh().await, |body| body["key"] = json!("00"))),
        ("another value", with(&fresh().await, |body| body["value"] = json!(STANDARD.encode([1; 64])))),
        ("without a signature", with(&fresh().await, |body| body["signature"] = json!(""))),
    ] {
        let answer = world.attest(machine.for_nonce(&nonce, "tpm_boot")).await;
        assert_eq!(answer.problem(), (400, "nonce_invalid"), "{what}");
        assert_eq!(answer.message(), "Invalid nonce.");
    }
}

#[tokio::test]
async fn an_old_nonce_is_refused() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let measurement = machine.good(&world, "tpm_boot").await;
    world.home.clock.advance(121);
    let answer = world.attest(measurement).await;
    assert_eq!((answer.problem(), answer.message()), ((400, "nonce_expired"), "Nonce expired."));
    let measurement = machine.good(&world, "tpm_boot").await;
    world.home.clock.advance(119);
    world.attest(measurement).await.ok();
}

/// Another instance's clock is ahead.
#[tokio::test]
async fn a_nonce_from_the_future_is_refused() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    for (ahead, good) in [(60, true), (61, false)] {
        world.home.clock.advance(ahead);
        let measurement = machine.good(&world, "tpm_boot").await;
        world.home.clock.advance(-ahead);
        let answer = world.attest(measurement).await;
        match good {
            true => drop(answer.ok()),
            false => assert_eq!(answer.problem(), (400, "nonce_invalid")),
        }
    }
}

#[tokio::test]
async fn a_nonce_of_another_tenant_or_node_is_refused() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let foreign = world.other.nonce(&world.instance, Some("node-1")).await;
    let answer = world.attest(machine.for_nonce(&foreign, "tpm_boot")).await;
    assert_eq!(answer.problem(), (400, "nonce_invalid"));
    let anothers = world.agent.nonce(&world.instance, Some("node-2")).await;
    let answer = world.attest(machine.for_nonce(&anothers, "tpm_boot")).await;
    assert_eq!(answer.problem(), (400, "nonce_used"));
}

#[tokio::test]
async fn evidence_without_a_nonce_is_refused() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let evidence = machine.evidence("tpm_boot", &[0], &[]);
    for (kind, nonce, code) in [
        ("ignore", None, "nonce_required"),
        ("ignore", Some("AAAA"), "nonce_required"),
        ("verifier", None, "nonce_missing"),
        ("user", None, "nonce_missing"),
        ("user", Some(""), "nonce_malformed"),
        ("verifier", Some("%"), "nonce_malformed"),
        ("verifier", Some("AAAA"), "nonce_malformed"),
    ] {
        let mut measurement = machine.measurement("", std::slice::from_ref(&evidence));
        measurement["nonce_type"] = json!(kind);
        measurement["nonce"] = json!(nonce);
        assert_eq!(world.attest(measurement).await.problem(), (400, code), "{kind} {nonce:?}");
    }
}

#[tokio::test]
async fn a_relying_partys_own_nonce_is_told_apart_in_the_token() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let nonce = STANDARD.encode([5; 32]);
    let mut measurement = machine.for_nonce(&nonce, "tpm_boot");
    measurement["nonce_type"] = json!("user");
    let (status, token) = world.result(world.attest(measurement).await).await;
    assert_eq!(
        (status.as_str(), &token["nonce_type"], &token["eat_nonce"]),
        ("pass", &json!("user"), &json!(nonce))
    );
}

#[tokio::test]
async fn a_tenant_has_a_bounded_number_of_open_nonces_and_takes_none_from_others() {
    let world = World::with(Settings { max_nonces: 3, ..strict() }).await;
    let request = json!({ "attester_type": ["tpm_boot"] });
    for _ in 0..3 {
        world.agent.post(&world.instance, "/challenge", &request).await.ok();
    }
    let answer = world.agent.post(&world.instance, "/challenge", &request).await;
    assert_eq!(answer.problem(), (429, "nonces_open"));
    world.other.post(&world.instance, "/challenge", &request).await.ok();
    world.home.clock.advance(121);
    world.agent.post(&world.instance, "/challenge", &request).await.ok();
    assert_eq!(world.instance.service.store.sweep().await.unwrap(), 4);
}

#[tokio::test]
async fn nonces_outlive_the_rotation_of_their_key_and_are_good_at_every_instance() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let measurement = machine.good(&world, "tpm_boot").await;
    let replica = world.home.open(strict()).await;
    replica.service.store.keys().rotate(Purpose::Nonce).await.unwrap();
    let request = json!({ "measurements": [measurement] });
    world.agent.post(&replica, "/attest", &request).await.ok();
    assert_eq!(world.agent.post(&world.instance, "/attest", &request).await.problem(), (400, "nonce_used"));
}

#[tokio::test]
async fn other_data_is_bound_in_the_order_in_which_it_was_sent() {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let send = async |sent: &str, bound: &str| {
        let nonce = world.agent.nonce(&world.instance, None).await;
        let evidence = machine.evidence("tpm_boot", &crate::support::BOOT, &qualifying(&nonce, Some(bound)));
        let text = format!(
            r#"{{"measurements":[{{"node_id":"node-1","nonce":"{nonce}","attester_data":{sent},"evidences":[{evidence}]}}]}}"#
        );
        world.agent.post_text(&world.instance, "/attest", text).await
    };
    send(r#"{ "z": 1, "a": [ true, null, "ä" ] }"#, r#"{"z":1,"a":[true,null,"ä"]}"#).await.ok();
    let reordered = send(r#"{"z":1,"a":2}"#, r#"{"a":2,"z":1}"#).await;
    assert_eq!(reordered.problem(), (400, "nonce_mismatch"));
    assert_eq!(send(r#"{"z":1}"#, r#"{"z":2}"#).await.problem(), (400, "nonce_mismatch"));
}
