//! A new master key.

use gta_server::service::Settings;
use gta_server::store::StoreError;
use serde_json::json;

use crate::support::{Instance, World};

/// Three keys and the secret of a webhook.
const SECRETS: u64 = 4;

/// A world in which everything is used that is sealed.
async fn world() -> World {
    let world = World::new().await;
    let machine = world.machine("node-1").await;
    let measurement = machine.good(&world, "tpm_boot").await;
    world.attest(measurement).await.ok();
    let webhook = json!({ "name": "pager", "url": "https://pager.example/", "events": ["failed"] });
    world.admin.post(&world.instance, "/webhook", &webhook).await.ok();
    world
}

async fn rewrap(instance: &Instance) -> Result<u64, StoreError> {
    gta_server::rewrap::rewrap(&instance.service.store, "operator").await
}

#[tokio::test]
async fn a_new_master_key_takes_everything_over_while_servers_go_on() {
    let world = world().await;
    let both = world.home.open_under("new", &["key"], Settings::default()).await;
    assert_eq!(both.service.store.fsck(&[]).await.unwrap().broken, []);
    assert_eq!(rewrap(&both).await.unwrap(), SECRETS);
    assert_eq!(rewrap(&both).await.unwrap(), 0);
    for instance in [&world.instance, &both] {
        world.agent.nonce(instance, Some("node-1")).await;
    }
    let new = world.home.open_under("new", &[], Settings::default()).await;
    assert_eq!(new.service.store.fsck(&[]).await.unwrap().broken, []);
    world.agent.nonce(&new, Some("node-1")).await;
    let old = world.home.open(Settings::default()).await;
    assert!(matches!(old.service.store.fsck(&[]).await, Err(StoreError::Vault(_))));
    // Back again: all of it is under the new one, and nothing else was lost.
    let back = world.home.open_under("key", &["new"], Settings::default()).await;
    assert_eq!(rewrap(&back).await.unwrap(), SECRETS);
    let audit = world.admin.get(&world.instance, "/audit").await.ok();
    let by_operator = audit["entries"].as_array().unwrap().iter();
    let by_operator = by_operator.filter(|entry| entry["kind"] == "webhook" && entry["actor"] == "operator");
    assert_eq!(by_operator.count(), 2, "{audit}");
}

#[tokio::test]
async fn without_the_key_of_before_nothing_is_taken_over() {
    let world = world().await;
    let stranger = world.home.open_under("new", &["other"], Settings::default()).await;
    assert!(matches!(rewrap(&stranger).await, Err(StoreError::Vault(_))));
    let reopened = world.home.open(Settings::default()).await;
    assert_eq!(rewrap(&reopened).await.unwrap(), 0, "all is as it was");
    assert_eq!(reopened.service.store.fsck(&[]).await.unwrap().broken, []);
}
