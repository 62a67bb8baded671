//! What is known of files besides their digests: what is left out, whose keys and buffers are known, and keylime's policies.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::ima::{FileDigest, Template};
use serde_json::{Value, json};

use crate::support::{Answer, Machine, Tenant};

struct Fleet {
    tenant: Tenant,
    machine: Machine,
}

impl Fleet {
    /// A machine that has used `/usr/bin/a`.
    async fn new() -> Self {
        let tenant = Tenant::new().await;
        let mut machine = tenant.world.machine("node-1").await;
        machine.measure("/usr/bin/a", &[0x11; 32]);
        Self { tenant, machine }
    }

    async fn register(&self, name: &str, payload: &Value) -> Answer {
        self.tenant.register(name, "tpm_ima", payload).await
    }

    async fn attest(&self) -> (String, Value) {
        self.tenant.judge(&self.machine, "tpm_ima").await
    }

    async fn demand(&self, name: &str, rules: Value) {
        self.tenant.demand(name, "tpm_ima", rules).await;
    }
}

fn keylime() -> Value {
    json!({
        "meta": { "version": 1, "generator": 1 },
        "release": 0,
        "digests": { "/usr/bin/a": ["11".repeat(32)], "boot_aggregate": ["00".repeat(32)] },
        "excludes": ["/var/log"],
        "keyrings": { ".ima": ["22".repeat(32)] },
        "ima": { "ignored_keyrings": [".builtin_trusted_keys"], "log_hash_alg": "sha1", "dm_policy": null },
        "ima-buf": {},
        "verification-keys": "",
    })
}

fn buffer(machine: &mut Machine, name: &str, byte: u8) {
    let value = [byte; 32];
    let digest = FileDigest { verity: false, algorithm: "sha256", value: &value };
    machine.log(|list| list.measure(10, Template::ImaBuf, digest, name.as_bytes(), &[b"a key"]));
}

#[tokio::test]
async fn a_runtime_policy_of_keylime_says_which_files_keys_and_buffers_are_known() {
    let mut fleet = Fleet::new().await;
    fleet.register("fleet", &json!({ "runtimePolicy": keylime() })).await.ok();
    assert_eq!(fleet.attest().await.0, "pass");
    fleet.machine.measure("/var/log/syslog", &[0x77; 32]);
    buffer(&mut fleet.machine, ".ima", 0x22);
    buffer(&mut fleet.machine, ".builtin_trusted_keys", 0x99);
    let (status, log) = fleet.attest().await;
    assert_eq!((status.as_str(), &log["accepted"]["excluded"]), ("pass", &json!(2)), "{log}");
    for (path, what) in [("/usr/log/syslog", "not excluded"), ("/usr/bin/b", "another file")] {
        let mut fleet = Fleet::new().await;
        fleet.register("fleet", &json!({ "runtimePolicy": keylime() })).await.ok();
        fleet.machine.measure(path, &[0x11; 32]);
        let (status, log) = fleet.attest().await;
        assert_eq!(status, "fail", "{what}");
        assert!(log["reason"]["detail"].as_str().unwrap().contains(path), "{log}");
    }
    // A buffer that is ignored is none of the files that are.
    let mut fleet = Fleet::new().await;
    fleet.register("fleet", &json!({ "runtimePolicy": keylime() })).await.ok();
    fleet.machine.measure(".builtin_trusted_keys", &[0x99; 32]);
    assert_eq!(fleet.attest().await.0, "fail");
    buffer(&mut fleet.machine, ".ima", 0x23);
    assert_eq!(fleet.attest().await.0, "fail");
}

#[tokio::test]
async fn policies_of_the_tenant_see_the_entries_of_the_list() {
    let mut fleet = Fleet::new().await;
    fleet.register("fleet", &json!({ "runtimePolicy": keylime() })).await.ok();
    let rego = format!(
        "package verification\ndefault result := {{\"policy_matched\": false}}\n\
         result := {{\"policy_matched\": true}} if {{\n\
         some entry in input.evidence.logs[0].log_data\n\
         entry.file_path == \"/var/log/wanted\"\nentry.file_hash == \"sha256:{}\"\n\
         entry.pcr_index == 10\nentry.template_name == \"ima-ng\"\n}}",
        "44".repeat(32)
    );
    let policy = json!({ "name": "wanted", "attester_type": ["tpm_ima"], "content_type": "text", "is_default": true,
        "content": STANDARD.encode(rego) });
    let tenant = &fleet.tenant;
    tenant.world.admin.post(&tenant.world.instance, "/policy", &policy).await.ok();
    assert_eq!(fleet.attest().await.0, "fail");
    fleet.machine.measure("/var/log/wanted", &[0x44; 32]);
    assert_eq!(fleet.attest().await.0, "pass");
}

#[tokio::test]
async fn a_runtime_policy_that_would_mean_something_else_is_refused() {
    let fleet = Fleet::new().await;
    for (pointer, value, complaint) in [
        ("/digests/~1usr~1bin~1a/0", json!("11".repeat(20)), "SHA-1"),
        ("/excludes/0", json!(".*"), "not all of /"),
        ("/ima/dm_policy", json!({}), "dm_policy"),
    ] {
        let mut policy = keylime();
        *policy.pointer_mut(pointer).unwrap() = value;
        let refused = fleet.register("fleet", &json!({ "runtimePolicy": policy })).await;
        assert_eq!(refused.problem(), (400, "ref_value_invalid"));
        assert!(refused.message().contains(complaint), "{refused:?}");
    }
    let nothing = json!({ "runtimePolicy": { "meta": { "version": 1 } } });
    assert_eq!(fleet.register("fleet", &nothing).await.problem(), (400, "ref_value_invalid"));
    let many: Vec<String> = (0..257).map(|number| format!("/var/{number}")).collect();
    let refused = fleet.register("fleet", &json!({ "ima": { "exclude": many } })).await;
    assert_eq!(refused.problem(), (400, "ref_value_invalid"));
}

#[tokio::test]
async fn sets_add_to_each_other_and_are_found_again_after_a_restart() {
    let mut fleet = Fleet::new().await;
    fleet.machine.measure("/usr/lib/b.so", &[0x22; 32]);
    fleet.machine.measure("/var/cache/c", &[0x33; 32]);
    let a = json!({ "referenceValues": [{ "fileName": "/usr/bin/a", "sha256": "11".repeat(32) }] });
    let b = json!({ "ima": {
        "files": { "/usr/lib/b.so": [format!("sha256:{}", "22".repeat(32))] },
        "exclude": ["/var/cache/*"],
    } });
    fleet.register("a", &a).await.ok();
    assert_eq!(fleet.attest().await.0, "fail");
    fleet.register("b", &b).await.ok();
    assert_eq!(fleet.attest().await.0, "pass");
    fleet.tenant.world.instance = fleet.tenant.world.home.open(crate::support::strict()).await;
    assert_eq!(fleet.attest().await.0, "pass");
}

#[tokio::test]
async fn a_violation_fails_unless_every_policy_allows_it() {
    let mut fleet = Fleet::new().await;
    let files = json!({ "referenceValues": [{ "fileName": "/usr/bin/a", "sha256": "11".repeat(32) }] });
    fleet.register("a", &files).await.ok();
    fleet.machine.log(|list| list.violate(10, b"/var/log/wtmp"));
    let (status, log) = fleet.attest().await;
    assert_eq!((status.as_str(), &log["reason"]["code"]), ("fail", &json!("ima_violation")));
    let lenient = json!({ "logs": { "ima": { "violations": true } } });
    fleet.demand("lenient", lenient.clone()).await;
    let (status, log) = fleet.attest().await;
    assert_eq!((status.as_str(), &log["accepted"]["violations"]), ("pass", &json!(1)), "{log}");
    fleet.demand("strict", json!({})).await;
    assert_eq!(fleet.attest().await.0, "fail");
}

/// Whoever hands in evidence may name policies, and cannot loosen anything by that.
#[tokio::test]
async fn a_client_cannot_allow_violations() {
    let mut fleet = Fleet::new().await;
    let files = json!({ "referenceValues": [{ "fileName": "/usr/bin/a", "sha256": "11".repeat(32) }] });
    fleet.register("a", &files).await.ok();
    fleet.machine.log(|list| list.violate(10, b"/var/log/wtmp"));
    let rego = "package verification\nresult := {\"policy_matched\": true}";
    let policy = json!({ "name": "easy", "attester_type": ["tpm_ima"], "content_type": "text",
        "content": STANDARD.encode(rego), "rules": { "logs": { "ima": { "violations": true } } } });
    let world = &fleet.tenant.world;
    let id = world.admin.post(&world.instance, "/policy", &policy).await.ok()["policy"]["id"].clone();
    let mut measurement = fleet.machine.good(world, "tpm_ima").await;
    measurement["evidences"][0]["policy_ids"] = json!([id]);
    let (status, token) = world.result(world.attest(measurement).await).await;
    let reason = &token["tpm_ima"]["evidence"]["logs"][0]["reason"]["code"];
    assert_eq!((status.as_str(), reason), ("fail", &json!("ima_violation")));
}
