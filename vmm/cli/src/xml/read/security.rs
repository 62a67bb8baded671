//! What makes the VM confidential.

use api::config::RealmConfig;
use serde_json::{Value, json};

use super::super::node::Node;
use super::super::{BACKENDS, XmlError};
use super::from_fields;

/// Reads `<launchSecurity>`.
pub fn realm(node: &mut Node<'_>) -> Result<RealmConfig, XmlError> {
    let names: Vec<_> = BACKENDS.iter().map(|(xml, _)| *xml).collect();
    let backend = node.require("type", &names.join(", "))?;
    let Some((_, backend)) = BACKENDS.iter().find(|(xml, _)| *xml == backend) else {
        return Err(node.wrong("/@type", backend, &names.join(", ")));
    };
    let mut attribute = |name: &str| node.attribute(name).map_or(Value::Null, Value::from);
    let mut fields = json!({
        "backend": backend,
        "measurement_algorithm": attribute("measurement-algo"),
        "personalization_value": attribute("personalization-value"),
        "rmm": attribute("rmm"),
        "fault": attribute("fault"),
    });
    let platform = node.child("platform", |node| {
        let components = node.each("component", |node| {
            Ok(json!({
                "component_type": node.require("type", "the role of the component")?,
                "measurement": node.require("measurement", "SHA-256 in hex")?,
                "version": node.require("version", "a version")?,
                "signer_id": node.require("signer-id", "SHA-256 in hex")?,
            }))
        })?;
        let fields = json!({
            "key": node.require("key", "a private key in PEM")?,
            "instance_id": node.attribute("instance-id"),
            "config": node.attribute("config"),
            "components": components,
        });
        from_fields::<Value>(node, fields)
    })?;
    if let (Some(platform), Value::Object(fields)) = (platform, &mut fields) {
        fields.insert("platform".into(), platform);
    }
    from_fields(node, fields)
}
