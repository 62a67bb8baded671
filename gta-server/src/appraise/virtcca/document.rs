//! What policies see of a virtCCA machine, with the member names of the Global Trust Authority (`vcca_*`), and the
//! verifier's own claims beside them. Of evidence that is not accepted, only why.

use evidence::envelope::Logs;
use serde_json::{Map, Value, json};
use verifier::logs::Role;
use verifier::{Appraisal, Refusal, Step};

/// Evidence that is known and allowed.
pub fn accepted(logs: &Logs, appraisal: &Appraisal) -> Value {
    let claims = serde_json::to_value(&appraisal.claims).unwrap_or_default();
    let cvm = |name: &str| claims.pointer(&format!("/cvm/{name}")).cloned().unwrap_or_default();
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| drop(members.insert(format!("vcca_{name}"), value));
    put("ref_value_match_status", json!("matched"));
    put("reference", json!(appraisal.reference.name));
    put("rpv", cvm("personalization_value"));
    put("rim", cvm("initial_measurement"));
    let rems = cvm("extensible_measurements");
    for (index, rem) in rems.as_array().into_iter().flatten().enumerate() {
        put(&format!("rem{index}"), rem.clone());
    }
    put("cvm_token_hash_alg", cvm("hash_algorithm"));
    let platform = claims.get("platform").filter(|platform| !platform.is_null());
    put("is_platform", json!(platform.is_some()));
    if let Some(platform) = platform {
        let member = |name: &str| platform.get(name).cloned().unwrap_or_default();
        put("platform_token_profile", member("profile"));
        put("platform_token_implementation", member("implementation_id"));
        put("platform_token_instance", member("instance_id"));
        put("platform_token_config", member("config"));
        put("platform_token_lifecycle", platform.pointer("/lifecycle/value").cloned().unwrap_or_default());
        put("platform_token_sw_components", components(&member("software_components")));
        put("platform_token_verification_service", member("verification_service"));
        put("platform_token_hash_algo", member("hash_algorithm"));
    }
    for (log, sent, judged) in [
        ("ima", logs.ima.is_some(), appraisal.logs.ima.is_some()),
        ("ccel", logs.boot.is_some(), appraisal.logs.boot.is_some()),
    ] {
        put(&format!("{log}_log_status"), json!(if sent { "replay_success" } else { "no_log" }));
        put(&format!("{log}_ref_value_match_status"), json!(if judged { "matched" } else { "ignore" }));
    }
    put("ccel_log_data", firmware_state(appraisal));
    put("ima_log_data", json!(appraisal.logs.ima.as_ref().map(|ima| &ima.paths)));
    json!({ "evidence": members, "claims": claims })
}

/// Evidence that is not.
pub fn rejected(logs: &Logs, refusal: &Refusal) -> Value {
    let replay = |sent: bool| match (sent, refusal.step == Step::Logs) {
        (false, _) => "no_log",
        (true, true) => "replay_failure",
        (true, false) => "ignore",
    };
    json!({ "evidence": {
        "vcca_ref_value_match_status": "unmatched",
        "vcca_ima_log_status": replay(logs.ima.is_some()),
        "vcca_ccel_log_status": replay(logs.boot.is_some()),
        "reason": { "step": refusal.step.as_str(), "code": refusal.code.as_str(), "detail": refusal.detail },
    }})
}

/// Spelt as secGear and the Global Trust Authority spell it.
fn components(components: &Value) -> Value {
    let spelt = |component: &Value| {
        let member = |name: &str| component.get(name).cloned().unwrap_or_default();
        json!({
            "firware_name": member("type"),
            "firware_version": member("version"),
            "measurement": member("measurement"),
        })
    };
    components.as_array().into_iter().flatten().map(spelt).collect()
}

/// What was booted, each digest in the role that the log proves. Without references for the log nothing is told.
fn firmware_state(appraisal: &Appraisal) -> Value {
    let Some(boot) = &appraisal.logs.boot else { return Value::Null };
    let digests = |role: Role| -> Vec<&str> {
        boot.components.get(&role).into_iter().flatten().map(|component| component.digest.as_str()).collect()
    };
    let first = |role: Role| digests(role).first().map(|digest| json!(digest)).unwrap_or_default();
    let images = [digests(Role::Shim), digests(Role::Grub)].concat();
    json!({
        "firmware_state": {
            "grub_cfg": first(Role::GrubCfg),
            "kernel": first(Role::Kernel),
            "initramfs": first(Role::Initramfs),
            "grub_image_list": images,
        },
        "secure_boot": boot.secure_boot,
        "components": boot.components,
    })
}
