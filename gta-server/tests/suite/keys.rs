//! Keys are replaced on schedule and taken away in time, by one of many instances, and nobody notices.

use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gta_server::schedule::{MAX_TOKEN_LIFETIME, Rotation};
use gta_server::service::Settings;
use gta_server::store::Purpose;
use serde_json::{Value, json};

use crate::support::{Database, Instance, Machine, World, strict};

const DAY: i64 = 86_400;
/// For how long the key of a token is kept that was replaced.
const KEPT: i64 = DAY + 3600;

/// A world in which a key of each purpose is in use.
async fn world(settings: Settings) -> (World, Machine) {
    let world = World::with(settings).await;
    let machine = world.machine("node-1").await;
    token(&world, &machine).await;
    (world, machine)
}

async fn token(world: &World, machine: &Machine) -> String {
    let measurement = machine.good(world, "tpm_boot").await;
    world.attest(measurement).await.ok()["tokens"][0]["token"].as_str().unwrap().to_owned()
}

fn key_of(token: &str) -> String {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

async fn published(world: &World) -> Vec<String> {
    let keys = world.instance.send(&[], Method::GET, "/jwks", &Value::Null).await.ok();
    keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

async fn verified(world: &World, token: &str) -> Value {
    world.other.post(&world.instance, "/token/verify", &json!({ "token": token })).await.ok()
}

/// How many keys there are for rows, nonces and tokens.
async fn present(world: &World) -> [u64; 3] {
    [
        world.home.sql("UPDATE \"keys\" SET generation = generation WHERE purpose = 'row'").await,
        world.home.sql("UPDATE \"keys\" SET generation = generation WHERE purpose = 'nonce'").await,
        world.home.sql("UPDATE \"keys\" SET generation = generation WHERE purpose = 'token'").await,
    ]
}

/// All instances look at the same time.
async fn look(instances: [&Instance; 3]) {
    let [first, second, third] = instances.map(|instance| instance.service.look_after_keys());
    let looked = tokio::join!(first, second, third);
    looked.0.and(looked.1).and(looked.2).unwrap();
}

#[tokio::test]
async fn of_many_instances_one_replaces_a_key_whose_time_has_come() {
    let settings = Settings { rotation: Rotation { row: 4, nonce: 2, token: 3 }, ..strict() };
    let (world, _) = world(settings.clone()).await;
    let (second, third) = (world.home.open(settings.clone()).await, world.home.open(settings).await);
    for (later, expected) in [
        (0, [1, 1, 1]),
        (2 * DAY - 1, [1, 1, 1]),
        (1, [1, 2, 1]),
        // A key of nonces is kept for two hours beyond its replacement, one of tokens for 25, and one of rows for ever.
        (DAY - 1, [1, 1, 1]),
        (1, [1, 1, 2]),
        (DAY - 1, [1, 1, 2]),
        (1, [2, 2, 2]),
        (3601, [2, 2, 1]),
    ] {
        world.home.clock.advance(later);
        for _ in 0..2 {
            look([&world.instance, &second, &third]).await;
            assert_eq!(present(&world).await, expected, "{later} s later");
        }
    }
}

#[tokio::test]
async fn keys_that_are_never_to_be_replaced_are_not() {
    let settings = Settings { rotation: Rotation { row: 0, nonce: 0, token: 0 }, ..strict() };
    let (world, _) = world(settings).await;
    world.home.clock.advance(10_000 * DAY);
    world.instance.service.look_after_keys().await.unwrap();
    assert_eq!(present(&world).await, [1, 1, 1]);
}

#[tokio::test]
async fn tokens_outlive_the_key_that_signed_them_and_the_key_goes_when_they_are_gone() {
    let (world, machine) = world(Settings { token_lifetime: MAX_TOKEN_LIFETIME.into(), ..strict() }).await;
    let replica = world.home.open(strict()).await;
    world.home.clock.advance(90 * DAY);
    let old = token(&world, &machine).await;
    replica.service.look_after_keys().await.unwrap();
    assert_eq!(published(&world).await.len(), 2);
    world.home.clock.advance(i64::from(MAX_TOKEN_LIFETIME) - 1);
    look([&world.instance, &replica, &replica]).await;
    assert_eq!(verified(&world, &old).await["verification_pass"], true);
    world.home.clock.advance(KEPT - i64::from(MAX_TOKEN_LIFETIME) + 1);
    replica.service.look_after_keys().await.unwrap();
    assert_eq!(published(&world).await.len(), 2);
    assert_eq!(verified(&world, &old).await["message"], "Token is expired.");
    world.home.clock.advance(1);
    look([&replica, &world.instance, &replica]).await;
    let new = token(&world, &machine).await;
    assert_eq!(published(&world).await, [key_of(&new)]);
    let refused = verified(&world, &old).await;
    assert_eq!(refused["message"], "Token is not issued by this service, or its key was taken away.");
    assert_eq!(verified(&world, &new).await["verification_pass"], true);
}

#[tokio::test]
async fn nonces_outlive_their_key_and_the_key_is_forgotten_by_every_instance() {
    let (world, machine) = world(strict()).await;
    let replica = world.home.open(strict()).await;
    world.home.clock.advance(30 * DAY);
    let (first, second) = (machine.good(&world, "tpm_boot").await, machine.good(&world, "tpm_boot").await);
    look([&world.instance, &replica, &replica]).await;
    world.attest(first).await.ok();
    world.home.clock.advance(7201);
    replica.service.look_after_keys().await.unwrap();
    assert_eq!(world.attest(second.clone()).await.problem(), (400, "nonce_expired"));
    world.instance.service.look_after_keys().await.unwrap();
    assert_eq!(world.attest(second).await.problem(), (400, "nonce_invalid"));
    let measurement = machine.good(&world, "tpm_boot").await;
    world.attest(measurement).await.ok();
}

#[tokio::test]
async fn rows_and_enrolments_outlive_their_key() {
    let (world, _) = world(strict()).await;
    world.home.clock.advance(365 * DAY);
    let machine = Machine::new("node-2", &world.maker);
    let begun = world.agent.post(&world.instance, "/enroll", &machine.enrolment()).await.ok();
    world.instance.service.look_after_keys().await.unwrap();
    let credential = STANDARD.encode(machine.open(&begun).unwrap());
    let activation = json!({ "enrollment_id": begun["enrollment_id"], "credential": credential });
    world.agent.post(&world.instance, "/enroll/activate", &activation).await.ok();
    world.home.clock.advance(365 * DAY);
    world.instance.service.look_after_keys().await.unwrap();
    assert_eq!(present(&world).await[0], 3);
    assert_eq!(world.instance.service.store.fsck(&[]).await.unwrap().broken, []);
}

/// Whoever holds the database gives no old enrolment a new time.
#[tokio::test]
async fn an_enrolment_has_the_time_that_it_was_given() {
    let (world, _) = world(strict()).await;
    let machine = Machine::new("node-2", &world.maker);
    let begun = world.agent.post(&world.instance, "/enroll", &machine.enrolment()).await.ok();
    assert_eq!(world.home.sql("UPDATE enrolments SET expires_at = expires_at + 1").await, 1);
    let credential = STANDARD.encode(machine.open(&begun).unwrap());
    let activation = json!({ "enrollment_id": begun["enrollment_id"], "credential": credential });
    let answer = world.agent.post(&world.instance, "/enroll/activate", &activation).await;
    assert_eq!(answer.problem(), (403, "credential_wrong"));
}

#[tokio::test]
async fn the_age_of_each_key_is_measured() {
    let (world, _) = world(strict()).await;
    world.home.clock.advance(40 * DAY);
    world.instance.service.look_after_keys().await.unwrap();
    let text = world.instance.service.metrics.text();
    for (purpose, age) in [("row", 40 * DAY), ("nonce", 0), ("token", 40 * DAY)] {
        let line = format!("gta_key_age_seconds{{purpose=\"{purpose}\"}} {age}");
        assert!(text.contains(&line), "{line}\n{text}");
    }
}

/// Two keys of one generation, as instances could make them before; the one with the smaller id was in use.
#[tokio::test]
async fn keys_from_before_they_were_numbered_are_in_the_same_order_afterwards() {
    let (world, machine) = world(strict()).await;
    world.instance.service.store.keys().rotate(Purpose::Token).await.unwrap();
    let mut before = published(&world).await;
    before.sort();
    world
        .home
        .sql(match crate::DATABASE {
            Database::Mariadb => "ALTER TABLE \"keys\" DROP INDEX keys_generation",
            Database::Sqlite | Database::Postgres => "DROP INDEX keys_generation",
        })
        .await;
    world.home.sql("ALTER TABLE \"keys\" DROP COLUMN created_at").await;
    world.home.sql("ALTER TABLE \"keys\" ADD COLUMN public TEXT").await;
    world.home.sql("UPDATE \"keys\" SET generation = 7").await;
    world.home.sql("DELETE FROM _sqlx_migrations WHERE version = 5").await;
    let replica = world.home.open(strict()).await;
    let World { home, admin, agent, other, maker, .. } = world;
    let world = World { home, instance: replica, admin, agent, other, maker };
    let new = token(&world, &machine).await;
    assert_eq!(key_of(&new), before[0]);
    assert_eq!(published(&world).await, [before[1].as_str(), before[0].as_str()]);
    // They are as old as the change, so that no live token is invalidated by it.
    let made = world.instance.service.store.keys().made().await.unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(made.len() == 3 && made.iter().all(|(_, at)| at.abs_diff(now.cast_signed()) < 3600), "{made:?}");
}
