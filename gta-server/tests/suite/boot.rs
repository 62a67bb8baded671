//! Boots that are known.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::bank::Bank;
use evidence::tcg::EventType;
use serde_json::json;
use verifier::tpm::boot_references;

use crate::support::{Machine, Tenant};

/// Vouches for how a machine has booted.
async fn vouch(tenant: &Tenant, name: &str, machine: &Machine) {
    let boot = boot_references(&machine.boot.encode(), Bank::Sha256, name).unwrap();
    tenant.register(name, "tpm_boot", &json!({ "boot": boot })).await.ok();
}

/// A machine that loads this, too.
async fn machine(tenant: &Tenant, name: &str, module: &[u8]) -> Machine {
    let mut machine = tenant.world.machine(name).await;
    machine.boot.measure(9, EventType::IPL, module, &b"/module\0"[..]);
    machine.tpm.extend(9, Bank::Sha256.hash([module]).as_bytes());
    machine
}

#[tokio::test]
async fn a_machine_boots_as_one_of_the_known_boots_says_or_fails() {
    let tenant = Tenant::new().await;
    let (one, two, three) = (
        machine(&tenant, "node-1", b"one").await,
        machine(&tenant, "node-2", b"two").await,
        machine(&tenant, "node-3", b"three").await,
    );
    let (status, log) = tenant.judge(&three, "tpm_boot").await;
    assert_eq!(
        (status.as_str(), &log["ref_value_match_status"]),
        ("pass", &json!("ignore")),
        "nothing is known"
    );
    vouch(&tenant, "release 1", &one).await;
    vouch(&tenant, "release 2", &two).await;
    for (machine, set) in [(&one, "release 1"), (&two, "release 2")] {
        let (status, log) = tenant.judge(machine, "tpm_boot").await;
        assert_eq!((status.as_str(), &log["matched"]["ref_value"]), ("pass", &json!(set)), "{log}");
    }
    let (status, log) = tenant.judge(&three, "tpm_boot").await;
    assert_eq!((status.as_str(), &log["reason"]["code"]), ("fail", &json!("boot_event_unknown")), "{log}");
    assert!(log["reason"]["detail"].as_str().unwrap().contains("/module"), "{log}");
    // What one tenant knows, another does not.
    let gone = json!({ "delete_type": "all" });
    tenant.world.other.delete(&tenant.world.instance, "/ref_value", &gone).await.ok();
    assert_eq!(tenant.judge(&three, "tpm_boot").await.0, "fail");
    tenant.world.admin.delete(&tenant.world.instance, "/ref_value", &gone).await.ok();
    assert_eq!(tenant.judge(&three, "tpm_boot").await.0, "pass");
}

#[tokio::test]
async fn policies_of_the_tenant_see_the_events_of_the_boot() {
    let tenant = Tenant::new().await;
    let machine = machine(&tenant, "node-1", b"one").await;
    for (variable, expected) in [("SecureBoot", "pass"), ("SetupMode", "fail")] {
        let rego = format!(
            "package verification\ndefault result := {{\"policy_matched\": false}}\n\
             result := {{\"policy_matched\": true}} if {{\n\
             some event in input.evidence.logs[0].log_data\n\
             event.event.unicode_name == \"{variable}\"\nevent.event.variable_data.enabled == \"Yes\"\n\
             event.pcr_index == 7\nevent.digest_verified\n}}"
        );
        let policy = json!({ "name": variable, "attester_type": ["tpm_boot"], "content_type": "text",
            "is_default": true, "content": STANDARD.encode(rego) });
        tenant.world.admin.post(&tenant.world.instance, "/policy", &policy).await.ok();
        assert_eq!(tenant.judge(&machine, "tpm_boot").await.0, expected);
    }
}

#[tokio::test]
async fn what_policies_demand_of_the_boot_is_demanded() {
    let tenant = Tenant::new().await;
    let machine = machine(&tenant, "node-1", b"one").await;
    tenant.demand("secure", "tpm_boot", json!({ "logs": { "boot": { "secure_boot": true } } })).await;
    let (status, log) = tenant.judge(&machine, "tpm_boot").await;
    assert_eq!((status.as_str(), &log["reason"]["code"]), ("fail", &json!("log_reference_missing")));
    vouch(&tenant, "release 1", &machine).await;
    assert_eq!(tenant.judge(&machine, "tpm_boot").await.0, "pass");
    tenant.demand("kernel", "tpm_boot", json!({ "logs": { "boot": { "roles": ["kernel"] } } })).await;
    let (status, log) = tenant.judge(&machine, "tpm_boot").await;
    assert_eq!((status.as_str(), &log["reason"]["code"]), ("fail", &json!("boot_role_missing")));
}

/// Whoever hands in evidence may demand more than the tenant does; the node is no worse for that.
#[tokio::test]
async fn what_a_client_demands_of_the_boot_is_demanded_of_its_answer_alone() {
    let tenant = Tenant::new().await;
    let world = &tenant.world;
    let machine = machine(&tenant, "node-1", b"one").await;
    vouch(&tenant, "release 1", &machine).await;
    let rego = include_str!("../../../policies/gta/tpm_boot.rego");
    let policy = json!({ "name": "kernel", "attester_type": ["tpm_boot"], "content_type": "text",
        "content": STANDARD.encode(rego), "rules": { "logs": { "boot": { "roles": ["kernel"] } } } });
    let id = world.admin.post(&world.instance, "/policy", &policy).await.ok()["policy"]["id"].clone();
    let mut measurement = machine.good(world, "tpm_boot").await;
    measurement["evidences"][0]["policy_ids"] = json!([id]);
    let (status, token) = world.result(world.attest(measurement).await).await;
    let reason = &token["tpm_boot"]["evidence"]["logs"][0]["reason"]["code"];
    assert_eq!((status.as_str(), reason), ("fail", &json!("boot_role_missing")));
    let nodes = world.admin.get(&world.instance, "/status").await.ok();
    assert_eq!(nodes["nodes"][0]["status"], "passed", "{nodes}");
}

#[tokio::test]
async fn a_boot_is_judged_only_as_a_whole() {
    let tenant = Tenant::new().await;
    let mut machine = machine(&tenant, "node-1", b"one").await;
    vouch(&tenant, "release 1", &machine).await;
    machine.boot.measure(14, EventType::IPL, b"a key", &b"MokList\0"[..]);
    machine.tpm.extend(14, Bank::Sha256.hash([&b"a key"[..]]).as_bytes());
    let (status, log) = tenant.judge(&machine, "tpm_boot").await;
    assert_eq!((status.as_str(), &log["reason"]["code"]), ("fail", &json!("log_missing")));
    assert!(log["reason"]["detail"].as_str().unwrap().contains("PCR 14"), "{log}");
}

#[tokio::test]
async fn reference_values_are_of_the_evidence_that_they_are_registered_for() {
    let tenant = Tenant::new().await;
    let boot = json!({ "boot": {} });
    let files = json!({ "referenceValues": [{ "fileName": "/a", "sha256": "11".repeat(32) }] });
    for (kind, payload) in
        [("tpm_ima", &boot), ("tpm_boot", &files), ("virt_cca", &boot), ("tpm_boot", &json!({}))]
    {
        assert_eq!(tenant.register("x", kind, payload).await.problem(), (400, "ref_value_invalid"), "{kind}");
    }
    let unknown = json!({ "boot": { "kernal": [] } });
    assert_eq!(tenant.register("x", "tpm_boot", &unknown).await.problem().0, 400);
}
