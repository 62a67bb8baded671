//! The description of the interface, judged by somebody else. That answers are as described, `support` asserts of every
//! one.

use std::collections::BTreeSet;

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::{World, described};

#[tokio::test]
async fn is_served_valid_and_every_operation_is_told_apart() {
    let world = World::new().await;
    let document = world.instance.send(&[], Method::GET, "/openapi.json", &Value::Null).await.ok();
    assert_eq!(document, *described());
    let spec = oas3::from_json(document.to_string()).unwrap();
    spec.validate_version().unwrap();
    let operations: Vec<_> = spec.operations().collect();
    assert!(operations.len() >= 28, "{}", operations.len());
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations {
        assert!(operation.summary.is_some(), "{method} {path}");
        assert!(ids.insert(operation.operation_id.clone().unwrap()), "{method} {path}");
        assert!(operation.responses(&spec).contains_key("200"), "{method} {path}");
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    let document = described();
    let mut references = Vec::new();
    collect(document, &mut references);
    assert!(references.len() > 30);
    for reference in references {
        assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
    }
}

/// Whoever has no key gets what is described as needing none, and nothing else.
#[tokio::test]
async fn what_needs_no_key_is_described_so() {
    let world = World::new().await;
    for (path, operations) in described()["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let answer = world.instance.send(&[], method.clone(), path, &json!({})).await;
            let open = operation["security"] == json!([{}]);
            assert_eq!(answer.status == 200, open, "{method} {path}: {answer:?}");
        }
    }
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if name == "$ref" => found.push(text.clone()),
                    _ => collect(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}
