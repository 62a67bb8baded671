//! Rego as policies use it: the features of OPA that secGear's policies need, secGear's entry points, and the limits.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed test panics")]

mod bounds;
mod starved;

use serde_json::{Value, json};
use verifier::rego::{Document, Rego};

fn output(text: &str, input: Value) -> Result<Value, String> {
    Rego::appraisal("test.rego", text).map_err(|error| error.to_string())?.evaluate(&Document::from(input))
}

/// The value of the expression `rule` with `input`, as OPA documents it.
#[track_caller]
fn check(rule: &str, input: &Value, expected: &Value) {
    let text = format!("package attestation\nimport rego.v1\noutput := x if {{ x := {rule} }}");
    assert_eq!(output(&text, input.clone()).as_ref(), Ok(expected), "{rule}");
}

#[test]
fn features_of_opa_evaluate_as_documented() {
    let input = json!({ "a": "1", "list": [3, 1, 2], "object": { "x": 1, "y": null }, "version": "21.23.0" });
    for (rule, expected) in [
        (r#"input["a"]"#, json!("1")),
        (r#"input["a"] != null"#, json!(true)),
        (r#"input.object["y"] == null"#, json!(true)),
        ("object.keys(input.object)", json!(["x", "y"])),
        (r#""x" in object.keys(input.object)"#, json!(true)),
        (r#"object.get(input, "none", 7)"#, json!(7)),
        ("count(input.list)", json!(3)),
        ("sort(input.list)", json!([1, 2, 3])),
        ("[item | some item in input.list; item > 1]", json!([3, 2])),
        ("{item | some item in input.list}", json!([1, 2, 3])),
        ("{name: true | some name, _ in input.object}", json!({ "x": true, "y": true })),
        (r#"every_positive"#, json!(true)),
        (r#"{"b", "a"} | {"c"}"#, json!(["a", "b", "c"])),
        (r#"{"b", "a"} - {"b"}"#, json!(["a"])),
        (r#"startswith("virtcca", "virt")"#, json!(true)),
        (r#"split("a/b", "/")"#, json!(["a", "b"])),
        (r#"concat("-", ["a", "b"])"#, json!("a-b")),
        (r#"sprintf("%s=%d", ["a", 1])"#, json!("a=1")),
        ("lower(\"ABC\")", json!("abc")),
        (r#"semver.compare(input.version, "21.5.0")"#, json!(1)),
        (r#"regex.match("^[0-9a-f]+$", "0af")"#, json!(true)),
        (r#"glob.match("acme/*", ["/"], "acme/key")"#, json!(true)),
        (r#"base64url.encode_no_pad("a?>")"#, json!("YT8-")),
        (r#"hex.encode("az")"#, json!("617a")),
        ("json.unmarshal(\"{\\\"a\\\": [1]}\").a", json!([1])),
        ("numbers.range(3, 1)", json!([3, 2, 1])),
    ] {
        if rule == "every_positive" {
            let text =
                "package attestation\nimport rego.v1\noutput if { every item in input.list { item > 0 } }";
            assert_eq!(output(text, input.clone()), Ok(expected));
        } else {
            check(rule, &input, &expected);
        }
    }
}

/// The shape of secGear's default policy for virtCCA: `else` chains and members with dotted names.
const SECGEAR_DEFAULT: &str = r#"
package attestation
import future.keywords.if

components := [{"firware_name": "tf_bl2", "measurement": "aa", "firware_version": "21.23.0"}]

verified := true if {
    input["vcca.is_platform"] == false
} else := input["vcca.platform.measure_value"] == components

allow := true if {
    input["vcca.cvm.rim"] != null
} else := false

output := {"allow": allow, "vcca.platform.verify": verified, "vcca.cvm.rim": input["vcca.cvm.rim"]}
"#;

#[test]
fn secgears_default_policy_evaluates_alike() {
    let component = json!({ "firware_name": "tf_bl2", "measurement": "aa", "firware_version": "21.23.0" });
    for (rim, platform, components, allow, verified) in [
        (json!("11"), true, json!([component]), true, true),
        (json!("11"), true, json!([]), true, false),
        (json!("11"), true, json!([component, component]), true, false),
        // As in secGear: evidence without a platform token passes the platform check of this policy.
        (json!("11"), false, json!([]), true, true),
        (json!(null), true, json!([component]), false, true),
    ] {
        let input = json!({
            "vcca.cvm.rim": rim,
            "vcca.is_platform": platform,
            "vcca.platform.measure_value": components,
        });
        let expected = json!({ "allow": allow, "vcca.platform.verify": verified, "vcca.cvm.rim": rim });
        assert_eq!(output(SECGEAR_DEFAULT, input), Ok(expected));
    }
}

#[test]
fn secgears_default_policy_with_its_rule_defined_twice_is_an_error_and_no_verdict() {
    let twice = format!("{SECGEAR_DEFAULT}\nverified := \"Not Verified\"\n");
    let input = json!({ "vcca.cvm.rim": "11", "vcca.is_platform": false, "vcca.platform.measure_value": [] });
    assert!(output(&twice, input).is_err());
}

#[test]
fn secgears_first_policy_gives_an_empty_object_for_unknown_evidence() {
    let text = r#"
        package attestation
        import rego.v1
        expect_keys := ["vcca.cvm.rim"]
        input_keys := object.keys(input)
        output[exist] := input[exist] if {
            some exist in expect_keys
            exist in input_keys
        }"#;
    assert_eq!(output(text, json!({ "vcca.cvm.rim": "11" })), Ok(json!({ "vcca.cvm.rim": "11" })));
    assert_eq!(output(text, json!({})), Ok(json!({})));
}

#[test]
fn resource_policies_see_the_claims_and_the_resource_in_the_older_dialect_too() {
    let older = "package oeas.virtcca\ndefault allow = false\nallow { input[\"tee\"] == \"vcca\"; data.resource == \"oeas/key\" }";
    let newer = "package oeas.virtcca\ndefault allow := false\nallow if { input.tee == \"vcca\"; data.resource == \"oeas/key\" }";
    for text in [older, newer] {
        let policy = Rego::compile("oeas/virtcca.rego", "data.oeas.virtcca.allow", text).unwrap();
        for (tee, resource, allowed) in
            [("vcca", "oeas/key", true), ("cca", "oeas/key", false), ("vcca", "oeas/other", false)]
        {
            let (input, data) =
                (Document::from(json!({ "tee": tee })), Document::from(json!({ "resource": resource })));
            assert_eq!(policy.evaluate_with(&input, &data), Ok(json!(allowed)), "{tee} {resource}");
        }
    }
}

#[test]
fn a_module_without_its_entry_point_is_refused_when_it_is_compiled() {
    for text in ["package oeas.other\nallow := true", "package oeas.virtcca\ndeny := true", "", "package"] {
        assert!(Rego::compile("oeas/virtcca.rego", "data.oeas.virtcca.allow", text).is_err(), "{text}");
    }
}

#[test]
fn a_policy_cannot_ask_for_a_list_of_any_length_or_reach_outside() {
    for rule in [
        "numbers.range(1, 1000000000000)",
        "numbers.range(-9223372036854775807, 9223372036854775807)",
        "numbers.range_step(1, 1000000000000, 1)",
        "bits.lsh(1, 1000000000)",
        "http.send({\"method\": \"get\", \"url\": \"http://localhost\"})",
        "opa.runtime()",
        "time.now_ns()",
        "rand.intn(\"x\", 10)",
    ] {
        let text = format!("package attestation\nimport rego.v1\noutput := {{\"allow\": {rule} != 0}}");
        assert!(output(&text, json!({})).is_err(), "{rule}");
    }
}

#[test]
fn a_result_with_shared_parts_is_not_written_out() {
    let doubled: String = (1..40).map(|n| format!("x{n} := [x{0}, x{0}]\n", n - 1)).collect();
    let text = format!("package attestation\nx0 := 1\n{doubled}output := {{\"allow\": true, \"x\": x39}}");
    let error = output(&text, json!({})).unwrap_err();
    assert!(error.contains("too many values"), "{error}");
}

#[test]
fn a_result_that_is_nested_too_deeply_is_not_written_out() {
    let nested: String = (1..200).map(|n| format!("x{n} := [x{}]\n", n - 1)).collect();
    let text = format!("package attestation\nx0 := 1\n{nested}output := {{\"allow\": true, \"x\": x199}}");
    assert!(output(&text, json!({})).is_err());
}

#[test]
fn an_evaluation_that_takes_too_long_is_stopped() {
    let text = "package attestation
        n := numbers.range(1, 3000)
        output := {\"allow\": count([1 | some a in n; some b in n; a + b < 0]) == 0}";
    let error = output(text, json!({})).unwrap_err();
    assert!(error.contains("time limit"), "{error}");
}
