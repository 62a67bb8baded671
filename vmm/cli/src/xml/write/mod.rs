//! From a domain to elements.

mod compute;
mod devices;

use api::VmConfig;
use api::config::{ConsoleConfig, ConsoleMode, RealmConfig};
use serde_json::Value;

use super::tree::Element;
use super::{BACKENDS, NAMESPACE, XmlError, overlay, read};
use crate::domain::{Domain, OnReboot};

/// Writes a domain: first in libvirt's words, then, as fields, what they cannot say.
pub fn domain(domain: &Domain) -> Result<String, XmlError> {
    let said = read::document(&elements(domain, None).print()?, false, read::domain)?.value.config;
    let (Some(from), Some(to)) = (read::to_json(&said), read::to_json(&domain.config)) else {
        return Err(XmlError::NoForm);
    };
    let fields = overlay::difference(&from, &to);
    let own = (domain.autostart || !fields.is_empty()).then(|| {
        Element::new("redoubt:config")
            .attribute("xmlns:redoubt", NAMESPACE)
            .maybe("autostart", domain.autostart.then_some("yes"))
            .children(fields.into_iter().map(|(pointer, value)| {
                Element::text("redoubt:set", value.to_string()).attribute("path", pointer)
            }))
    });
    let text = elements(domain, own).print()?;
    // Whoever reads it must get what was written.
    let back = read::document(&text, false, read::domain)?.value;
    if back == *domain { Ok(text) } else { Err(XmlError::NoForm) }
}

fn elements(domain: &Domain, own: Option<Element>) -> Element {
    let config = &domain.config;
    let action = |name: &str, action: &str| Element::text(name, action);
    let on_reboot = match domain.on_reboot {
        OnReboot::Restart => "restart",
        OnReboot::Destroy => "destroy",
    };
    Element::new("domain")
        .attribute("type", "kvm")
        .child(Element::text("name", &domain.name))
        .child(Element::text("uuid", domain.uuid.to_string()))
        .children(domain.title.as_ref().map(|title| Element::text("title", title)))
        .children(domain.description.as_ref().map(|text| Element::text("description", text)))
        .children(compute::elements(config))
        .child(boot(config))
        .child(action("on_poweroff", "destroy"))
        .child(action("on_reboot", on_reboot))
        .child(action("on_crash", "destroy"))
        .child(devices(domain))
        .children(config.realm.as_ref().and_then(realm))
        .children(own)
}

fn boot(config: &VmConfig) -> Element {
    let payload = &config.payload;
    let machine = Element::text("type", "hvm").attribute("arch", "aarch64").attribute("machine", "virt");
    let initrd = payload.initramfs.as_ref();
    Element::new("os")
        .child(machine)
        .children(payload.firmware.as_ref().map(|path| {
            Element::text("loader", path.to_string_lossy())
                .attribute("readonly", "yes")
                .attribute("type", "rom")
        }))
        .children(payload.kernel.as_ref().map(|path| Element::text("kernel", path.to_string_lossy())))
        .children(initrd.map(|path| Element::text("initrd", path.to_string_lossy())))
        .children((!payload.cmdline.is_empty()).then(|| Element::text("cmdline", &payload.cmdline)))
}

fn devices(domain: &Domain) -> Element {
    let config = &domain.config;
    let emulator = domain.emulator.as_ref();
    Element::new("devices")
        .children(emulator.map(|path| Element::text("emulator", path.to_string_lossy())))
        .children(devices::elements(config))
        .children(console("serial", &config.serial, Element::new("target").attribute("port", 0)))
        .children(console(
            "console",
            &config.console,
            Element::new("target").attribute("type", "virtio").attribute("port", 0),
        ))
}

fn console(name: &str, console: &ConsoleConfig, target: Element) -> Option<Element> {
    let (kind, path) = match console.mode {
        ConsoleMode::Off => return None,
        ConsoleMode::Null => ("null", &console.file),
        ConsoleMode::Tty => ("stdio", &console.file),
        ConsoleMode::File => ("file", &console.file),
        ConsoleMode::Pty => ("pty", &console.file),
        ConsoleMode::Socket => ("unix", &console.socket),
    };
    let source = path.as_ref().map(|path| {
        let mode = (console.mode == ConsoleMode::Socket).then_some("bind");
        Element::new("source").maybe("mode", mode).attribute("path", path.display())
    });
    let tty = path.as_ref().filter(|_| console.mode == ConsoleMode::Pty).map(|path| path.display());
    Some(Element::new(name).attribute("type", kind).maybe("tty", tty).children(source).child(target))
}

fn realm(realm: &RealmConfig) -> Option<Element> {
    let json = serde_json::to_value(realm).ok()?;
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let backend = text(&json, "backend")?;
    let (kind, _) = BACKENDS.iter().find(|(_, name)| *name == backend)?;
    let platform = realm.platform.as_ref().map(|platform| {
        Element::new("platform")
            .attribute("key", platform.key.display())
            .maybe("instance-id", platform.instance_id.as_ref())
            .maybe("config", (!platform.config.is_empty()).then_some(&platform.config))
            .children(platform.components.iter().map(|component| {
                Element::new("component")
                    .attribute("type", &component.component_type)
                    .attribute("measurement", &component.measurement)
                    .attribute("version", &component.version)
                    .attribute("signer-id", &component.signer_id)
            }))
    });
    Some(
        Element::new("launchSecurity")
            .attribute("type", kind)
            .maybe("measurement-algo", text(&json, "measurement_algorithm"))
            .maybe("personalization-value", text(&json, "personalization_value"))
            .maybe("rmm", text(&json, "rmm"))
            .maybe("fault", text(&json, "fault"))
            .children(platform),
    )
}
