//! The description of the public plane, judged by somebody else.

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::{Home, Instance, request, send};

async fn document() -> (Instance, Home, Value) {
    let home = Home::new();
    let instance = Instance::open(&home).await;
    let answer = send(&instance.public, request(Method::GET, "/openapi.json", &json!(null))).await;
    let document = answer.json();
    (instance, home, document)
}

#[tokio::test]
async fn is_valid_and_every_operation_is_described() {
    let (_instance, _home, document) = document().await;
    let spec = oas3::from_json(document.to_string()).unwrap();
    spec.validate_version().unwrap();
    let operations: Vec<_> = spec.operations().collect();
    assert!(operations.len() >= 17, "{}", operations.len());
    for (path, method, operation) in operations {
        let name = format!("{method} {path}");
        assert!(operation.operation_id.is_some() && operation.summary.is_some(), "{name}");
        assert!(!operation.responses(&spec).is_empty(), "{name}");
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    let (_instance, _home, document) = document().await;
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 30);
    for reference in references {
        assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn every_described_operation_is_served() {
    let (instance, _home, document) = document().await;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let path = path.replace(['{', '}'], "");
            let answer = send(&instance.public, request(method.clone(), &path, &json!({}))).await;
            assert!(![404, 405, 500].contains(&answer.status.as_u16()), "{method} {path}: {}", answer.status);
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
