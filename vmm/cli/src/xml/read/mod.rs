//! From elements to a domain.

mod compute;
mod console;
mod devices;
mod security;

use api::VmConfig;
use api::config::{ConsoleConfig, ConsoleMode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::node::{Leftovers, Node};
use super::overlay;
use super::tree::Element;
use super::{Device, Lenient, NAMESPACE, XmlError};
use crate::domain::{Domain, OnReboot};

/// Reads a document whose root is what `read` expects.
pub fn document<T>(
    text: &str,
    lenient: bool,
    read: impl FnOnce(&mut Node<'_>) -> Result<T, XmlError>,
) -> Result<Lenient<T>, XmlError> {
    let element = Element::parse(text)?;
    let leftovers = Leftovers::new(lenient);
    let value = Node::root(element, &leftovers).read(read)?;
    Ok(leftovers.with(value))
}

/// Reads `<domain>`.
pub fn domain(node: &mut Node<'_>) -> Result<Domain, XmlError> {
    expect_name(node, "domain")?;
    node.neutral("type", &["kvm"])?;
    node.neutral("xmlns:redoubt", &[NAMESPACE])?;
    // Every libvirt dump has it; it says which process ran then.
    node.attribute("id");
    let name = require(node, "name", "the name of the domain", |node| Ok(node.text().trim().to_owned()))?;
    let uuid = node.child("uuid", |node| node.value("a uuid", |text| text.parse().ok()))?;
    let title = node.child("title", |node| Ok(node.text()))?;
    let description = node.child("description", |node| Ok(node.text()))?;
    let on_reboot = lifecycle(node)?;
    let kernel = require(node, "os", "what to boot", boot)?;
    let mut config = VmConfig { payload: kernel.payload, ..kernel };
    neutral_features(node)?;
    compute::read(node, &mut config)?;
    // A domain says which consoles it has; a configuration has a serial port unless it says otherwise.
    config.serial = ConsoleConfig::of(ConsoleMode::Off);
    let emulator = node
        .child("devices", |node| {
            let emulator = node.child("emulator", |node| Ok(node.text().into()))?;
            devices::read(node, &mut config)?;
            Ok(emulator)
        })?
        .flatten();
    compute::balloon(node, &mut config)?;
    config.realm = node.child("launchSecurity", security::realm)?;
    let mut domain = Domain {
        name,
        uuid: uuid.unwrap_or_else(Uuid::new_v4),
        title,
        description,
        autostart: false,
        emulator,
        on_reboot,
        config,
    };
    let own = node.child("redoubt:config", |node| {
        node.neutral("xmlns:redoubt", &[NAMESPACE])?;
        domain.autostart = node.switch("autostart", "yes", "no")?.unwrap_or(false);
        fields(node, &domain.config)
    })?;
    domain.config = own.unwrap_or(domain.config);
    Ok(domain)
}

/// Reads an element that is one device.
pub fn device(node: &mut Node<'_>) -> Result<Device, XmlError> {
    match node.name() {
        "disk" => devices::disk(node).map(Device::Disk),
        "interface" => devices::interface(node).map(Device::Net),
        "filesystem" => devices::filesystem(node).map(Device::Fs),
        "memory" => devices::pmem(node).map(Device::Pmem),
        "vsock" => devices::vsock(node).map(Device::Vsock),
        _ => {
            let found = node.name().to_owned();
            Err(node.wrong("", found, "disk, interface, filesystem, memory or vsock"))
        }
    }
}

fn lifecycle(node: &mut Node<'_>) -> Result<OnReboot, XmlError> {
    for name in ["on_poweroff", "on_crash"] {
        node.child(name, |node| node.value("destroy", |text| (text == "destroy").then_some(())))?;
    }
    let on_reboot = node.child("on_reboot", |node| {
        node.value("restart or destroy", |text| match text {
            "restart" => Some(OnReboot::Restart),
            "destroy" => Some(OnReboot::Destroy),
            _ => None,
        })
    })?;
    Ok(on_reboot.unwrap_or_default())
}

fn boot(node: &mut Node<'_>) -> Result<VmConfig, XmlError> {
    node.child("type", |node| {
        node.neutral("arch", &["aarch64"])?;
        node.convert("machine", "virt", |text| (text == "virt" || text.starts_with("virt-")).then_some(()))?;
        node.value("hvm", |text| (text == "hvm").then_some(()))
    })?;
    let loader = node.child("loader", |node| {
        node.neutral("readonly", &["yes"])?;
        node.neutral("type", &["rom"])?;
        Ok(node.text())
    })?;
    let kernel = match &loader {
        Some(_) => node.child("kernel", |node| Ok(node.text()))?,
        None => Some(require(node, "kernel", "the kernel to boot, or a loader", |node| Ok(node.text()))?),
    };
    let mut config = VmConfig::booting(std::path::PathBuf::new());
    config.payload.kernel = kernel.map(Into::into);
    config.payload.firmware = loader.map(Into::into);
    config.payload.initramfs = node.child("initrd", |node| Ok(node.text().into()))?;
    config.payload.cmdline = node.child("cmdline", |node| Ok(node.text()))?.unwrap_or_default();
    Ok(config)
}

/// Features and clocks that say what is so anyway.
fn neutral_features(node: &mut Node<'_>) -> Result<(), XmlError> {
    node.child("features", |node| {
        node.child("gic", |node| node.neutral("version", &["3", "host"]))?;
        Ok(())
    })?;
    node.child("clock", |node| node.neutral("offset", &["utc"]))?;
    Ok(())
}

/// Reads `<redoubt:set>`: fields for which there is no element.
fn fields(node: &mut Node<'_>, config: &VmConfig) -> Result<VmConfig, XmlError> {
    let fields = node.each("redoubt:set", |node| {
        let pointer = node.require("path", "a JSON pointer such as /net/0/queue_size")?;
        let value: Value = node.value("a JSON value", |text| serde_json::from_str(text).ok())?;
        Ok((pointer, value, node.path().to_owned()))
    })?;
    let mut json = to_json(config).ok_or(XmlError::NoForm)?;
    for (pointer, value, path) in fields {
        if !overlay::set(&mut json, &pointer, value) {
            let expected = "a field of the configuration, the parent of which is there".to_owned();
            return Err(XmlError::Value { path: format!("{path}/@path"), found: pointer, expected });
        }
    }
    serde_json::from_value(json).map_err(|error| XmlError::Value {
        path: node.path().to_owned(),
        found: error.to_string(),
        expected: "fields of a configuration".into(),
    })
}

pub fn to_json(config: &VmConfig) -> Option<Value> {
    serde_json::to_value(config).ok()
}

/// Makes a part of the configuration of its fields in JSON, so that the others have their defaults.
fn from_fields<T: DeserializeOwned>(node: &Node<'_>, fields: Value) -> Result<T, XmlError> {
    let fields = match fields {
        Value::Object(fields) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        other => other,
    };
    serde_json::from_value(fields)
        .map_err(|error| node.wrong("", error.to_string(), "what this version knows"))
}

fn require<T>(
    node: &mut Node<'_>,
    name: &str,
    expected: &str,
    read: impl FnOnce(&mut Node<'_>) -> Result<T, XmlError>,
) -> Result<T, XmlError> {
    let found = node.child(name, |child| read(child))?;
    found.ok_or_else(|| XmlError::Missing {
        path: format!("{}/{name}", node.path()),
        expected: expected.into(),
    })
}

fn expect_name(node: &Node<'_>, name: &str) -> Result<(), XmlError> {
    if node.name() == name {
        return Ok(());
    }
    Err(XmlError::Value { path: "/".into(), found: node.name().into(), expected: name.into() })
}
