//! Which machines become nodes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::tpm::Attributes;
use rcgen::PKCS_ECDSA_P384_SHA384;
use serde_json::{Value, json};
use verifier::testing::Authority;

use crate::support::{Machine, World};

#[tokio::test]
async fn a_machine_that_opens_its_credential_becomes_a_node() {
    let world = World::new().await;
    let answer = Machine::new("node-1", &world.maker).enrol(&world).await.ok();
    assert_eq!(answer["node_id"], "node-1");
    assert_eq!(answer["provenance"]["kind"], "activated");
    let nodes = world.admin.get(&world.instance, "/node").await.ok();
    assert_eq!(nodes["nodes"][0]["provenance"]["root"], "C=CN, CN=Maker");
}

#[tokio::test]
async fn a_tpm_of_an_unknown_manufacturer_is_refused() {
    let world = World::new().await;
    let stranger = Authority::root(Authority::ca_params("Stranger", 1), &PKCS_ECDSA_P384_SHA384);
    let machine = Machine::new("node-1", &stranger);
    let answer = world.agent.post(&world.instance, "/enroll", &machine.enrolment()).await;
    assert_eq!(answer.problem(), (400, "certificate_untrusted"));
}

#[tokio::test]
async fn a_key_outside_the_tpm_is_refused() {
    let world = World::new().await;
    let machine = Machine::new("node-1", &world.maker);
    let mut key = machine.tpm.attestation_public();
    key.attributes.0 &= !Attributes::FIXED_TPM.0;
    let mut request = machine.enrolment();
    request["ak_public"] = json!(STANDARD.encode(key.encode()));
    let answer = world.agent.post(&world.instance, "/enroll", &request).await;
    assert_eq!(answer.problem(), (400, "tpm_key_unsuitable"));
    for field in ["ek_public", "ak_public"] {
        let mut request = machine.enrolment();
        request[field] = json!("AAAA");
        let answer = world.agent.post(&world.instance, "/enroll", &request).await;
        assert_eq!(answer.problem(), (400, "tpm_public_malformed"));
    }
}

/// W6: only a TPM that holds both keys can say what is in the credential.
#[tokio::test]
async fn whoever_cannot_open_the_credential_is_no_node() {
    let world = World::new().await;
    let (machine, other) = (Machine::new("node-1", &world.maker), Machine::new("node-2", &world.maker));
    // A genuine endorsement key beside an attestation key of another machine.
    let mut request = machine.enrolment();
    request["ak_public"] = other.enrolment()["ak_public"].clone();
    let begun = world.agent.post(&world.instance, "/enroll", &request).await.ok();
    assert_eq!(machine.open(&begun), None);
    assert_eq!(other.open(&begun), None);
    let begun = world.agent.post(&world.instance, "/enroll", &machine.enrolment()).await.ok();
    let wrong = json!({ "enrollment_id": begun["enrollment_id"], "credential": STANDARD.encode([0; 32]) });
    let answer = world.agent.post(&world.instance, "/enroll/activate", &wrong).await;
    assert_eq!(answer.problem(), (403, "credential_wrong"));
    // One try is all that there is.
    let credential = STANDARD.encode(machine.open(&begun).unwrap());
    let right = json!({ "enrollment_id": begun["enrollment_id"], "credential": credential });
    let answer = world.agent.post(&world.instance, "/enroll/activate", &right).await;
    assert_eq!(answer.problem(), (403, "credential_wrong"));
}

#[tokio::test]
async fn a_credential_is_good_for_a_while_and_for_its_tenant() {
    let world = World::new().await;
    let begin = async |machine: &Machine| {
        let begun = world.agent.post(&world.instance, "/enroll", &machine.enrolment()).await.ok();
        let credential = STANDARD.encode(machine.open(&begun).unwrap());
        json!({ "enrollment_id": begun["enrollment_id"], "credential": credential })
    };
    let activation = begin(&Machine::new("node-1", &world.maker)).await;
    let answer = world.other.post(&world.instance, "/enroll/activate", &activation).await;
    assert_eq!(answer.problem(), (403, "credential_wrong"));
    // That was not the one try.
    world.home.clock.advance(299);
    world.agent.post(&world.instance, "/enroll/activate", &activation).await.ok();
    let activation = begin(&Machine::new("node-2", &world.maker)).await;
    world.home.clock.advance(300);
    let answer = world.agent.post(&world.instance, "/enroll/activate", &activation).await;
    assert_eq!(answer.problem(), (403, "credential_wrong"));
}

#[tokio::test]
async fn another_machine_does_not_take_a_nodes_place() {
    let world = World::new().await;
    world.machine("node-1").await;
    let other = Machine::new("node-1", &world.maker);
    let answer = world.agent.post(&world.instance, "/enroll", &other.enrolment()).await;
    assert_eq!(answer.problem(), (409, "node_exists"));
    let gone = json!({ "delete_type": "id", "ids": ["node-1"] });
    world.admin.delete(&world.instance, "/node", &gone).await.ok();
    other.enrol(&world).await.ok();
}

#[tokio::test]
async fn an_administrator_can_pin_a_key() {
    let world = World::new().await;
    let machine = Machine::new("pinned", &world.maker);
    let pin = json!({ "node_id": "pinned", "ak_public": machine.enrolment()["ak_public"] });
    assert_eq!(world.agent.post(&world.instance, "/node", &pin).await.problem(), (403, "role_missing"));
    world.admin.post(&world.instance, "/node", &pin).await.ok();
    let measurement = machine.good(&world, "tpm_boot").await;
    assert_eq!(world.result(world.attest(measurement).await).await.0, "pass");
    let mut free = machine.tpm.attestation_public();
    free.attributes.0 &= !Attributes::RESTRICTED.0;
    let pin = json!({ "node_id": "free", "ak_public": STANDARD.encode(free.encode()) });
    assert_eq!(world.admin.post(&world.instance, "/node", &pin).await.problem(), (400, "tpm_key_unsuitable"));
}

#[tokio::test]
async fn what_is_no_certificate_is_told_so() {
    let world = World::new().await;
    let machine = Machine::new("node-1", &world.maker);
    for (certificate, code) in [("%", "certificate_malformed"), ("AAAA", "certificate_malformed")] {
        let mut request = machine.enrolment();
        request["ek_certificate"] = Value::from(certificate);
        let answer = world.agent.post(&world.instance, "/enroll", &request).await;
        assert_eq!(answer.problem(), (400, code));
    }
}
