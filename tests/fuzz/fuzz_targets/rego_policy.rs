//! Any text as a policy: refused, or evaluated, in time and without running over the stack.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use verifier::Rego;
use verifier::rego::Document;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(policy) = Rego::appraisal("policy.rego", text) else { return };
    let input =
        Document::from(json!({ "tee": "cca", "claims": { "cca.realm.rim": "aa" }, "list": [1, "a", null] }));
    let _ = policy.evaluate(&input);
    let _ = policy.why_not(&input, "allow");
});
