use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::json;

use super::bytes::BASE64URL;
use super::*;
use crate::token::MAX_TOKEN_SIZE;

fn envelope(tee: &str, inner: &str) -> Vec<u8> {
    json!({ "tee": tee, "evidence": inner }).to_string().into_bytes()
}

fn read(tee: &str, inner: &str) -> Result<Vec<u8>, EnvelopeError> {
    Evidence::from_json(&envelope(tee, inner)).map(|evidence| match evidence {
        Evidence::Cca(evidence) => evidence.token,
        Evidence::Virtcca(evidence) => evidence.token,
    })
}

fn virtcca() -> VirtccaEvidence {
    VirtccaEvidence {
        token: vec![0xfb, 0xff, 1],
        device_certificate: vec![0xfe, 0xff, 2],
        logs: Logs {
            ima: Some(vec![0xfb, 3]),
            boot: Some(BootLog { table: Vec::new(), data: vec![0xff, 4] }),
        },
    }
}

#[test]
fn writes_the_documented_form() {
    let json = Evidence::cca(vec![0xfb, 0xff, 0x01]).to_json();
    let outer: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(outer, json!({ "tee": "cca", "evidence": "{\"token\":\"-_8B\"}" }));
}

#[test]
fn reads_tokens_as_base64url_and_as_array() {
    for inner in
        [r#"{"token":"-_8B"}"#, r#"{"token":[251,255,1]}"#, r#"{"token":[251,255,1],"ima_log":null}"#]
    {
        assert_eq!(read("cca", inner).unwrap(), [0xfb, 0xff, 0x01], "{inner}");
    }
    assert_eq!(read("cca", r#"{"token":"_w=="}"#).unwrap(), [0xff]);
}

#[test]
fn reads_every_spelling_of_the_tee() {
    for tee in ["cca", "CCA", "Cca", "rustcca", "Rustcca", "RUSTCCA"] {
        assert_eq!(read(tee, r#"{"token":[1]}"#).unwrap(), [1], "{tee}");
    }
}

#[test]
fn refuses_other_tees_by_name() {
    for tee in ["", "virt_cca", "invalid", "cca ", "\u{212a}ca", "x\u{1b}[31m"] {
        let error = read(tee, r#"{"token":[1]}"#).unwrap_err();
        assert!(
            matches!(&error, EnvelopeError::Tee { found } if !found.contains('\u{1b}')),
            "{tee}: {error}"
        );
    }
}

#[test]
fn refuses_what_is_no_envelope() {
    for json in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"tee":"cca"}"#,
        r#"{"evidence":"{}"}"#,
        r#"{"tee":"cca","evidence":{"token":[1]}}"#,
        r#"{"tee":"cca","tee":"cca","evidence":"{\"token\":[1]}"}"#,
        r#"{"tee":"cca","evidence":"{\"token\":[1]}"} x"#,
    ] {
        assert!(matches!(Evidence::from_json(json.as_bytes()), Err(EnvelopeError::Outer(_))), "{json}");
    }
}

#[test]
fn refuses_what_is_no_token() {
    for inner in [
        "",
        "{}",
        r#"{"token":null}"#,
        r#"{"token":1}"#,
        r#"{"token":[256]}"#,
        r#"{"token":[-1]}"#,
        r#"{"token":[1.0]}"#,
        r#"{"token":["1"]}"#,
        r#"{"token":"+/8B"}"#,
        r#"{"token":"-_8"}x"#,
        r#"{"token":[1],"token":[2]}"#,
    ] {
        assert!(matches!(read("cca", inner), Err(EnvelopeError::Inner { .. })), "{inner}");
    }
}

#[test]
fn largest_token_fits_in_both_forms_and_one_byte_more_does_not() {
    let array = |len| json!({ "token": vec![255u8; len] }).to_string();
    let text = |len| json!({ "token": BASE64URL.encode(vec![255u8; len]) }).to_string();
    for form in [&array as &dyn Fn(usize) -> String, &text] {
        assert_eq!(read("cca", &form(MAX_TOKEN_SIZE)).unwrap().len(), MAX_TOKEN_SIZE);
        assert!(matches!(read("cca", &form(MAX_TOKEN_SIZE + 1)), Err(EnvelopeError::Inner { .. })));
    }
    let padded = [&envelope("cca", r#"{"token":[1]}"#)[..], &vec![b' '; MAX_ENVELOPE_SIZE]].concat();
    assert!(matches!(Evidence::from_json(&padded), Err(EnvelopeError::TooLarge { .. })));
}

#[test]
fn reads_the_cca_evidence_of_secgears_attester() {
    let inner = BASE64URL.encode(r#"{"token":[251,255,1]}"#);
    assert_eq!(read("cca", &inner).unwrap(), [0xfb, 0xff, 0x01]);
    assert!(matches!(read("cca", "e30*"), Err(EnvelopeError::Inner { .. })));
}

/// T13: one model, whatever the dialect and the spelling.
#[test]
fn t13_every_dialect_and_spelling_gives_the_same_evidence() {
    let arrays = json!({ "evidence": [251, 255, 1], "dev_cert": [254, 255, 2], "ima_log": [251, 3] });
    let with = |name: &str, value| {
        let mut inner = arrays.clone();
        inner[name] = value;
        inner.to_string()
    };
    let inners = [
        with("event_log", json!([255, 4])),
        with("uefi_log", json!({ "ccel_table": [], "ccel_data": [255, 4] })),
        json!({ "evidence": "-_8B", "dev_cert": "_v8C", "ima_log": "-wM", "event_log": "_wQ=" }).to_string(),
    ];
    for inner in &inners {
        for tee in ["virtcca", "Virtcca", "VIRTCCA", "vcca", "Vcca", "VCCA"] {
            let evidence = Evidence::from_json(&envelope(tee, inner)).unwrap();
            assert_eq!(evidence, Evidence::Virtcca(virtcca()), "{tee} {inner}");
        }
    }
    let gta = json!({ "attester_type": "virt_cca", "evidence": {
        "vcca_token": "+/8B", "dev_cert": "/v8C",
        "logs": [{"log_type": "ImaLog", "log_data": "+wM="}, {"log_type": "CCEL", "log_data": "/wQ="}],
    }});
    assert_eq!(Evidence::from_json(gta.to_string().as_bytes()).unwrap(), Evidence::Virtcca(virtcca()));
    // It has no place for the ACPI table.
    let written = virtcca().to_gta_json();
    assert_eq!(VirtccaEvidence::from_gta_json(written.as_bytes()).unwrap(), virtcca());
}

#[test]
fn writes_what_secgear_reads() {
    let mut evidence = virtcca();
    evidence.logs.boot.as_mut().unwrap().table = vec![9];
    let evidence = Evidence::Virtcca(evidence);
    let inner = |dialect, tee: &str| -> serde_json::Value {
        let outer: serde_json::Value = serde_json::from_str(&evidence.to_json_as(dialect)).unwrap();
        assert_eq!(outer["tee"], tee);
        serde_json::from_str(outer["evidence"].as_str().unwrap()).unwrap()
    };
    let mut expected = json!({ "evidence": [251, 255, 1], "dev_cert": [254, 255, 2], "ima_log": [251, 3], "event_log": [255, 4] });
    assert_eq!(inner(Dialect::SecGear2509, "Virtcca"), expected);
    expected.as_object_mut().unwrap().remove("event_log");
    expected["uefi_log"] = json!({ "ccel_table": [9], "ccel_data": [255, 4] });
    assert_eq!(inner(Dialect::SecGear, "virtcca"), expected);
    assert_eq!(
        Evidence::cca(vec![1]).to_json_as(Dialect::SecGear2509),
        r#"{"evidence":"{\"token\":[1]}","tee":"Rustcca"}"#
    );
}

#[test]
fn logs_under_two_names_and_of_unknown_types_are_refused_and_not_lost() {
    let inner =
        r#"{"evidence":[1],"dev_cert":[2],"event_log":[3],"uefi_log":{"ccel_table":[],"ccel_data":[3]}}"#;
    assert!(matches!(read("vcca", inner), Err(EnvelopeError::DuplicateLog { log: "boot log" })));
    let gta = |logs: serde_json::Value| {
        let evidence = json!({ "vcca_token": "AQ==", "dev_cert": "AQ==", "logs": logs });
        Evidence::from_json(
            json!({ "attester_type": "virt_cca", "evidence": evidence }).to_string().as_bytes(),
        )
    };
    let log = |kind: &str| json!({ "log_type": kind, "log_data": "AQ==" });
    assert!(matches!(gta(json!([log("ImaLog"), log("ImaLog")])), Err(EnvelopeError::DuplicateLog { .. })));
    assert!(matches!(gta(json!([log("TDEL")])), Err(EnvelopeError::LogType { .. })));
    let long = STANDARD.encode(vec![0; MAX_BOOT_LOG_SIZE + 1]);
    assert!(matches!(
        gta(json!([{ "log_type": "CCEL", "log_data": long }])),
        Err(EnvelopeError::BootLogSize { .. })
    ));
    for absent in [json!(null), json!([])] {
        assert!(gta(absent).unwrap().logs() == &Logs::default());
    }
}

#[test]
fn an_empty_log_is_no_log() {
    for inner in [
        r#"{"evidence":[1],"dev_cert":[2],"ima_log":[],"event_log":[]}"#,
        r#"{"evidence":[1],"dev_cert":[2],"ima_log":null,"uefi_log":null,"event_log":null}"#,
        r#"{"evidence":[1],"dev_cert":[2],"uefi_log":{"ccel_table":[1],"ccel_data":[]}}"#,
    ] {
        let evidence = Evidence::from_json(&envelope("virtcca", inner)).unwrap();
        assert_eq!(evidence.logs(), &Logs::default(), "{inner}");
    }
}

#[test]
fn virtcca_evidence_needs_token_and_certificate() {
    for inner in [r#"{"evidence":[1]}"#, r#"{"dev_cert":[1]}"#, r#"{"token":[1],"dev_cert":[1]}"#] {
        let error = read("virtcca", inner).unwrap_err();
        assert!(matches!(error, EnvelopeError::Inner { tee: Tee::Virtcca, .. }), "{inner}: {error}");
    }
    let long = json!({ "evidence": [1], "dev_cert": vec![0; MAX_CERTIFICATE_SIZE + 1] }).to_string();
    assert!(matches!(read("virtcca", &long), Err(EnvelopeError::Inner { .. })));
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..300)
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        token in any_bytes(),
        certificate in prop::option::of(any_bytes()),
        ima in prop::option::of(any_bytes()),
        data in prop::option::of(any_bytes()),
    ) {
        let logs = Logs { ima, boot: data.map(|data| BootLog { table: Vec::new(), data }) };
        let evidence = match certificate {
            None => Evidence::Cca(CcaEvidence { token, logs }),
            Some(device_certificate) => Evidence::Virtcca(VirtccaEvidence { token, device_certificate, logs }),
        };
        for dialect in [Dialect::Compact, Dialect::SecGear2509, Dialect::SecGear] {
            let json = evidence.to_json_as(dialect);
            prop_assert_eq!(&Evidence::from_json(json.as_bytes()).unwrap(), &evidence);
        }
    }

    #[test]
    fn foreign_bytes_never_panic(json in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Evidence::from_json(&json);
        let _ = Evidence::from_json(&envelope("virtcca", &String::from_utf8_lossy(&json)));
    }
}
