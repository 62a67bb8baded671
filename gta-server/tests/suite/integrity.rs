//! W4: whoever can write into the database is not trusted by that.

use gta_server::store::fsck::Head;
use gta_server::store::{Purpose, StoreError};
use serde_json::json;

use crate::support::World;

const POLICY: &str = "package verification\nresult := {\"policy_matched\": true}";

/// A world with two policies, `a` of two versions' worth of journal, and a node.
async fn world() -> World {
    let world = World::new().await;
    add(&world, "a").await;
    add(&world, "b").await;
    world.machine("node-1").await;
    world
}

async fn add(world: &World, name: &str) {
    let rego = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, POLICY);
    let policy =
        json!({ "name": name, "attester_type": ["tpm_boot"], "content_type": "text", "content": rego });
    world.admin.post(&world.instance, "/policy", &policy).await.ok();
}

async fn broken(world: &World, heads: &[Head]) -> Vec<String> {
    let report = world.instance.service.store.fsck(heads).await.unwrap();
    report.broken.iter().map(ToString::to_string).collect()
}

/// Asserts that `statement` breaks something, that fsck names it, and that the service does not use it.
async fn tampered(statement: &'static str, complaint: &str) {
    let world = world().await;
    assert_eq!(broken(&world, &[]).await, [""; 0]);
    assert!(world.home.sql(statement).await > 0, "{statement}");
    let found = broken(&world, &[]).await;
    assert!(found.iter().any(|line| line.starts_with("policy ") && line.ends_with(complaint)), "{found:?}");
    let answer = world.admin.get(&world.instance, "/policy").await;
    assert_eq!(answer.problem(), (503, "integrity_violation"), "{statement}");
}

#[tokio::test]
async fn a_row_that_was_changed_is_found() {
    tampered(
        "UPDATE documents SET body = replace(body, 'false', 'true') WHERE kind = 'policy' AND name = 'a'",
        "the row was changed",
    )
    .await;
    tampered("UPDATE documents SET name = 'c' WHERE kind = 'policy' AND name = 'a'", "the row was changed")
        .await;
    tampered("UPDATE documents SET version = 2 WHERE kind = 'policy' AND name = 'a'", "the row was changed")
        .await;
}

#[tokio::test]
async fn a_row_that_was_removed_is_found() {
    tampered("DELETE FROM documents WHERE kind = 'policy' AND name = 'a'", "the row was removed").await;
}

#[tokio::test]
async fn rows_that_changed_places_are_found() {
    tampered(
        "UPDATE documents SET body = (SELECT o.body FROM documents o WHERE o.kind = 'policy' AND o.name = 'b'),
        tag = (SELECT o.tag FROM documents o WHERE o.kind = 'policy' AND o.name = 'b')
        WHERE kind = 'policy' AND name = 'a'",
        "the row was changed",
    )
    .await;
}

/// A row of another tenant, whose tag is good there.
#[tokio::test]
async fn a_row_that_was_added_is_found() {
    let world = world().await;
    let copied = world
        .home
        .sql(
            "INSERT INTO documents (kind, tenant, id, name, version, body, key_id, tag)
            SELECT kind, 'umbrella', id, name, version, body, key_id, tag FROM documents WHERE kind = 'policy'",
        )
        .await;
    assert_eq!(copied, 2);
    let found = broken(&world, &[]).await;
    assert_eq!(
        found
            .iter()
            .filter(|line| line.starts_with("policy umbrella/") && line.ends_with("the row was added"))
            .count(),
        2,
        "{found:?}"
    );
    assert_eq!(world.other.get(&world.instance, "/policy").await.problem(), (503, "integrity_violation"));
    // Whom it does not concern, it does not disturb.
    world.admin.get(&world.instance, "/policy").await.ok();
}

#[tokio::test]
async fn an_old_row_that_was_restored_is_found() {
    let world = world().await;
    world.home.sql("CREATE TABLE kept AS SELECT * FROM documents WHERE kind = 'node'").await;
    world.admin.delete(&world.instance, "/node", &json!({ "delete_type": "all" })).await.ok();
    world.home.sql("INSERT INTO documents SELECT * FROM kept").await;
    assert_eq!(broken(&world, &[]).await, ["node acme/node-1: the row was deleted, and restored"]);
    assert_eq!(world.admin.get(&world.instance, "/node").await.problem(), (503, "integrity_violation"));
    world.home.sql("DELETE FROM documents WHERE kind = 'node'").await;
    // The machine comes again: the old row is an earlier version of that one.
    world.machine("node-1").await;
    world.home.sql("DELETE FROM documents WHERE kind = 'node'").await;
    world.home.sql("INSERT INTO documents SELECT * FROM kept").await;
    assert_eq!(broken(&world, &[]).await, ["node acme/node-1: the row is an earlier version, restored"]);
    let machine = crate::support::Machine::new("node-1", &world.maker);
    let measurement = machine.good(&world, "tpm_boot").await;
    assert_eq!(world.attest(measurement).await.problem(), (503, "integrity_violation"));
}

#[tokio::test]
async fn a_journal_that_was_changed_cut_or_put_in_another_order_is_found() {
    for (statement, complaint) in [
        (
            "UPDATE journal SET gone = 1 WHERE kind = 'policy' AND seq = 1",
            "journal policy 1: the entry was changed or added",
        ),
        (
            "UPDATE journal SET actor = 'nobody' WHERE kind = 'policy' AND seq = 2",
            "journal policy 2: the entry was changed or added",
        ),
        ("DELETE FROM journal WHERE kind = 'policy' AND seq = 1", "journal policy 1: the entry was removed"),
        (
            "DELETE FROM journal WHERE kind = 'policy' AND seq = 2",
            "journal policy 2: the journal does not end with this entry",
        ),
        (
            "UPDATE journal SET seq = CASE seq WHEN 1 THEN 2 ELSE 1 END + 10 WHERE kind = 'policy'",
            "journal policy 1: the entry was removed",
        ),
        (
            "UPDATE heads SET seq = 1 WHERE kind = 'policy'",
            "journal policy 1: the journal does not end with this entry",
        ),
        (
            "DELETE FROM heads WHERE kind = 'policy'",
            "journal policy 0: the journal does not end with this entry",
        ),
    ] {
        let world = world().await;
        assert!(world.home.sql(statement).await > 0);
        let found = broken(&world, &[]).await;
        assert!(found.iter().any(|line| line == complaint), "{statement}: {found:?}");
    }
}

/// Only somebody who remembers can tell that everything was put back.
#[tokio::test]
async fn a_table_that_was_put_back_as_a_whole_is_found_by_a_remembered_head() {
    let world = world().await;
    for statement in [
        "CREATE TABLE kept_documents AS SELECT * FROM documents",
        "CREATE TABLE kept_journal AS SELECT * FROM journal",
        "CREATE TABLE kept_heads AS SELECT * FROM heads",
    ] {
        world.home.sql(statement).await;
    }
    add(&world, "c").await;
    let heads = world.instance.service.store.fsck(&[]).await.unwrap().heads;
    assert_eq!(broken(&world, &heads).await, [""; 0]);
    for statement in [
        "DELETE FROM documents",
        "INSERT INTO documents SELECT * FROM kept_documents",
        "DELETE FROM journal",
        "INSERT INTO journal SELECT * FROM kept_journal",
        "DELETE FROM heads",
        "INSERT INTO heads SELECT * FROM kept_heads",
    ] {
        world.home.sql(statement).await;
    }
    assert_eq!(broken(&world, &[]).await, [""; 0]);
    let found = broken(&world, &heads).await;
    assert_eq!(found, ["journal policy 3: the journal once had another entry here: the table was put back"]);
}

#[tokio::test]
async fn the_state_of_a_tpm_that_was_changed_is_found() {
    let world = world().await;
    let machine = crate::support::Machine::new("node-2", &world.maker);
    machine.enrol(&world).await.ok();
    let measurement = machine.good(&world, "tpm_boot").await;
    world.attest(measurement).await.ok();
    assert_eq!(
        world
            .home
            .sql("UPDATE states SET body = replace(body, '\"reset_count\":1', '\"reset_count\":0') WHERE kind = 'tpm_state'")
            .await,
        1
    );
    let found = broken(&world, &[]).await;
    assert!(found.len() == 1 && found[0].starts_with("tpm_state acme/"), "{found:?}");
    let measurement = machine.good(&world, "tpm_boot").await;
    assert_eq!(world.attest(measurement).await.problem(), (503, "integrity_violation"));
}

#[tokio::test]
async fn a_key_that_was_exchanged_opens_nothing() {
    let world = world().await;
    world.home.sql("UPDATE \"keys\" SET purpose = 'row' WHERE purpose = 'nonce'").await;
    let replica = world.home.open(gta_server::service::Settings::default()).await;
    let rows = replica.service.store.keys().rotate(Purpose::Token).await;
    rows.unwrap();
    let answer = world.admin.post(&replica, "/challenge", &json!({ "attester_type": ["tpm_boot"] })).await;
    answer.ok();
    world
        .home
        .sql("UPDATE \"keys\" SET content = (SELECT k.content FROM \"keys\" k WHERE k.purpose = 'token')")
        .await;
    let replica = world.home.open(gta_server::service::Settings::default()).await;
    assert_eq!(world.admin.get(&replica, "/policy").await.problem(), (503, "store_unavailable"));
}

#[tokio::test]
async fn rows_outlive_the_rotation_of_their_key() {
    let world = world().await;
    world.instance.service.store.keys().rotate(Purpose::Row).await.unwrap();
    add(&world, "c").await;
    assert_eq!(broken(&world, &[]).await, [""; 0]);
    world.admin.get(&world.instance, "/policy").await.ok();
}

#[tokio::test]
async fn many_writers_at_two_instances_keep_one_journal() {
    let world = World::new().await;
    let replica = world.home.open(gta_server::service::Settings::default()).await;
    let writes = (0..10).map(|number| {
        let service = if number % 2 == 0 { &world.instance.service } else { &replica.service };
        let service = std::sync::Arc::clone(service);
        tokio::spawn(async move { service.add_tenant(&format!("t{number}"), "test").await })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap().unwrap();
    }
    let report = world.instance.service.store.fsck(&[]).await.unwrap();
    assert_eq!(report.broken, []);
    let tenants = report.heads.iter().find(|head| head.kind == "tenant").unwrap();
    assert_eq!(tenants.seq, 12);
    let again = world.instance.service.add_tenant("t1", "test").await;
    assert!(matches!(again, Err(StoreError::Exists("tenant"))), "{again:?}");
}

#[tokio::test]
async fn what_is_written_while_fsck_looks_is_not_taken_for_broken() {
    let world = World::new().await;
    let service = std::sync::Arc::clone(&world.instance.service);
    let writer = tokio::spawn(async move {
        for number in 0..60 {
            service.add_tenant(&format!("t{number}"), "test").await.unwrap();
        }
    });
    let mut looks = 0;
    while !writer.is_finished() {
        assert_eq!(broken(&world, &[]).await, [""; 0]);
        looks += 1;
    }
    writer.await.unwrap();
    assert!(looks > 1, "it was not looked while there was a writer");
}

/// What is kept in memory follows the database, and is not used beside one that was changed.
#[tokio::test]
async fn reference_values_that_are_kept_follow_the_database() {
    let world = World::new().await;
    let replica = world.home.open(gta_server::service::Settings::default()).await;
    let signer = crate::support::Signer::new();
    let certificate = json!({ "name": "signer", "type": ["refvalue"], "content": signer.pem });
    world.admin.post(&world.instance, "/cert", &certificate).await.ok();
    let mut machine = world.machine("node-1").await;
    machine.measure("/a", &[1; 32]);
    let add = async |name: &str, digest: &str| {
        let files = json!({ "referenceValues": [{ "fileName": "/a", "sha256": digest.repeat(32) }] });
        let values = json!({ "name": name, "attester_type": "tpm_ima", "content": signer.sign(&files) });
        world.admin.post(&replica, "/ref_value", &values).await.ok()
    };
    let verdict = async || {
        let measurement = machine.good(&world, "tpm_ima").await;
        world.result(world.attest(measurement).await).await.0
    };
    add("wrong", "02").await;
    assert_eq!(verdict().await, "fail");
    let right = add("right", "01").await;
    assert_eq!(verdict().await, "pass");
    assert_eq!(verdict().await, "pass");
    let deletion = json!({ "delete_type": "id", "ids": [right["ref_value"]["id"]] });
    world.admin.delete(&replica, "/ref_value", &deletion).await.ok();
    assert_eq!(verdict().await, "fail");
    add("right", "01").await;
    assert_eq!(verdict().await, "pass");
    world.home.sql("DELETE FROM documents WHERE kind = 'ref_value' AND name = 'right'").await;
    let measurement = machine.good(&world, "tpm_ima").await;
    assert_eq!(world.attest(measurement).await.problem(), (503, "integrity_violation"));
}
