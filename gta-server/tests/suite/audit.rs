//! Who changed what.

use serde_json::{Value, json};

use crate::support::World;

async fn audit(world: &World, query: &str) -> Value {
    world.admin.get(&world.instance, &format!("/audit{query}")).await.ok()
}

fn changes(answer: &Value) -> Vec<String> {
    let entries = answer["entries"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| format!("{} {}", entry["kind"].as_str().unwrap(), entry["change"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn every_change_is_listed_with_who_made_it() {
    let world = World::new().await;
    world.home.clock.advance(10);
    world.machine("node-1").await;
    world.home.clock.advance(10);
    world
        .admin
        .delete(&world.instance, "/node", &json!({ "delete_type": "id", "ids": ["node-1"] }))
        .await
        .ok();
    let seen = audit(&world, "").await;
    assert_eq!(
        changes(&seen),
        ["node deleted", "node added", "cert added", "api_key added", "api_key added"]
    );
    let actor = |key: &str| json!(format!("key:{}", &key[..8]));
    assert_eq!(seen["entries"][0]["actor"], actor(&world.admin.key));
    assert_eq!(seen["entries"][1]["actor"], actor(&world.agent.key));
    assert_eq!((&seen["entries"][1]["id"], &seen["entries"][1]["version"]), (&json!("node-1"), &json!(1)));
    assert_eq!(changes(&audit(&world, "?kind=node").await), ["node deleted", "node added"]);
    // Page by page, of changes in the same second, too, whatever was asked for on the same connection before.
    for kind in ["node", "cert", "api_key", "policy"] {
        for _ in 0..4 {
            audit(&world, &format!("?kind={kind}")).await;
        }
        let (mut pages, mut query) = (Vec::new(), "?limit=1".to_owned());
        loop {
            let page = audit(&world, &query).await;
            pages.extend(changes(&page));
            match page["next_cursor"].as_str() {
                Some(cursor) => query = format!("?limit=1&cursor={cursor}"),
                None => break,
            }
        }
        assert_eq!(pages, changes(&seen), "after {kind}");
    }
}

#[tokio::test]
async fn only_a_tenants_auditors_and_administrators_may_look() {
    let world = World::new().await;
    assert_eq!(world.agent.get(&world.instance, "/audit").await.problem(), (403, "role_missing"));
    let seen = world.other.get(&world.instance, "/audit").await.ok();
    assert_eq!(changes(&seen), ["api_key added"]);
    for (query, code) in
        [("kind=color", "kind_unknown"), ("limit=0", "limit_invalid"), ("cursor=1.2", "cursor_invalid")]
    {
        let refused = world.admin.get(&world.instance, &format!("/audit?{query}")).await;
        assert_eq!(refused.problem(), (400, code));
    }
}

#[tokio::test]
async fn an_entry_that_was_changed_is_not_shown_as_if_it_were_true() {
    let world = World::new().await;
    world.home.sql("UPDATE journal SET actor = 'nobody' WHERE kind = 'cert'").await;
    assert_eq!(world.admin.get(&world.instance, "/audit").await.problem(), (503, "integrity_violation"));
}
