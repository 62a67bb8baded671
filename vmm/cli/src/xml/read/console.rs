//! Serial port and virtio console.

use api::VmConfig;
use api::config::{ConsoleConfig, ConsoleMode};

use super::super::XmlError;
use super::super::node::Node;

pub fn read(node: &mut Node<'_>, config: &mut VmConfig) -> Result<(), XmlError> {
    let serial = node.child("serial", |node| {
        let console = character_device(node)?;
        node.child("target", |node| {
            node.neutral("type", &["system-serial"])?;
            node.neutral("port", &["0"])?;
            node.child("model", |node| node.neutral("name", &["pl011"]))
        })?;
        Ok(console)
    })?;
    for (virtio, console) in node.each("console", console)? {
        let place = if virtio { &mut config.console } else { &mut config.serial };
        // libvirt writes the serial port a second time as a console.
        let mirrored = !virtio && serial.as_ref() == Some(&console);
        if place.mode != ConsoleMode::Off || serial.is_some() && !virtio && !mirrored {
            return Err(XmlError::Twice { path: format!("{}/console", node.path()) });
        }
        *place = console;
    }
    if let Some(serial) = serial {
        config.serial = serial;
    }
    Ok(())
}

/// Reads `<console>`: whether it is a virtio console, and the console.
fn console(node: &mut Node<'_>) -> Result<(bool, ConsoleConfig), XmlError> {
    let console = character_device(node)?;
    let virtio = node.child("target", |node| {
        node.neutral("port", &["0"])?;
        node.switch("type", "virtio", "serial")
    })?;
    Ok((virtio.flatten().unwrap_or(false), console))
}

fn character_device(node: &mut Node<'_>) -> Result<ConsoleConfig, XmlError> {
    let mode = node.convert("type", "pty, file, unix, null or stdio", |text| {
        Some(match text {
            "pty" => ConsoleMode::Pty,
            "file" => ConsoleMode::File,
            "unix" => ConsoleMode::Socket,
            "null" => ConsoleMode::Null,
            "stdio" => ConsoleMode::Tty,
            _ => return None,
        })
    })?;
    let mode = mode.ok_or_else(|| XmlError::Missing {
        path: format!("{}/@type", node.path()),
        expected: "pty, file, unix, null or stdio".into(),
    })?;
    let tty = node.attribute("tty");
    let source = node.child("source", |node| {
        if mode == ConsoleMode::Socket {
            node.neutral("mode", &["bind"])?;
        }
        Ok(node.attribute("path"))
    })?;
    let path = source.flatten().or(tty).map(Into::into);
    Ok(match mode {
        ConsoleMode::Socket => ConsoleConfig { mode, file: None, socket: path },
        _ => ConsoleConfig { mode, file: path, socket: None },
    })
}
