//! What a configuration must fulfil before anything is opened or created.

use std::path::{Path, PathBuf};

use api::VmConfig;
use api::config::{ConsoleMode, RealmConfig};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use machine::layout::{BLOCK_SIZE, MAX_VCPUS};
use thiserror::Error;

use super::{OptionsError, unsupported};

/// Longest serial number of a disk: virtio's GET_ID answer (virtio 1.2, 5.2.6).
const DISK_SERIAL_LIMIT: usize = 20;

/// First context identifier that is not reserved (virtio 1.2, 5.10.4).
const FIRST_GUEST_CID: u32 = 3;

/// A configuration that no VM can be made of.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Neither a file nor a kernel.
    #[error("nothing to boot: give --kernel FILE, or --config FILE with a payload")]
    NothingToBoot,
    /// The file cannot be read.
    #[error("--config {path}: cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a configuration.
    #[error("--config {path}: not a VM configuration")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Which field, line and column.
        #[source]
        source: serde_json::Error,
    },
    /// A command-line option is wrong.
    #[error(transparent)]
    Option(#[from] OptionsError),
    /// A back-end that does not exist.
    #[error("--realm: found {found:?}, expected soft")]
    RealmBackend {
        /// What was found.
        found: String,
    },
    /// A field that this VMM does not have, or not with this value.
    #[error("{field}: not supported by this VMM beyond {expected}")]
    Unsupported {
        /// Path of the field in the JSON form.
        field: &'static str,
        /// What it can be.
        expected: &'static str,
    },
    /// A field is out of bounds.
    #[error("{field}: found {found}, expected {expected}")]
    Field {
        /// Path of the field in the JSON form.
        field: &'static str,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
}

/// Reads a configuration from a JSON file.
///
/// # Errors
///
/// [`ConfigError::Read`] or [`ConfigError::Parse`].
pub fn from_file(path: &Path) -> Result<VmConfig, ConfigError> {
    let bytes = std::fs::read(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| ConfigError::Parse { path: path.into(), source })
}

/// Checks every bound that does not need the outside world.
///
/// # Errors
///
/// [`ConfigError::Field`].
pub fn validate(config: &VmConfig) -> Result<(), ConfigError> {
    unsupported::refuse(config)?;
    let vcpus = config.cpus.boot_vcpus;
    check((1..=MAX_VCPUS).contains(&vcpus), "cpus.boot_vcpus", vcpus, || format!("1 to {MAX_VCPUS}"))?;
    let size = config.memory.size;
    check(size > 0 && size.is_multiple_of(BLOCK_SIZE), "memory.size", size, || {
        "a multiple of 2 MiB, in bytes".into()
    })?;
    for disk in &config.disks {
        check(disk.path.is_some(), "disks.path", "nothing", || "an image or block device".into())?;
        let serial = disk.serial.as_deref().unwrap_or_default();
        check(serial.len() <= DISK_SERIAL_LIMIT, "disks.serial", serial, || {
            format!("at most {DISK_SERIAL_LIMIT} bytes")
        })?;
    }
    if let Some(vsock) = &config.vsock {
        check((FIRST_GUEST_CID..u32::MAX).contains(&vsock.cid), "vsock.cid", vsock.cid, || {
            format!("{FIRST_GUEST_CID} to {}", u32::MAX - 1)
        })?;
    }
    for (field, console) in [("serial", &config.serial), ("console", &config.console)] {
        let mode = format!("{:?}", console.mode);
        // A pseudo-terminal's path is what the VMM answers; a client may send the answer back.
        let file = match console.mode {
            ConsoleMode::File => console.file.is_some(),
            ConsoleMode::Pty => true,
            _ => console.file.is_none(),
        };
        check(file, field, mode.as_str(), || "a file with the mode File, and with no other".into())?;
        let wants_socket = console.mode == ConsoleMode::Socket;
        check(wants_socket == console.socket.is_some(), field, mode.as_str(), || {
            "a socket with the mode Socket, and with no other".into()
        })?;
    }
    let two_ttys = config.serial.mode == ConsoleMode::Tty && config.console.mode == ConsoleMode::Tty;
    check(!two_ttys, "console.mode", "Tty", || "another mode, as serial has the terminal already".into())?;
    if let Some(realm) = &config.realm {
        personalization_value(realm)?;
    }
    Ok(())
}

/// The Realm personalisation value, padded with zeros.
///
/// # Errors
///
/// [`ConfigError::Field`] when it is not base64 or longer than 64 bytes.
pub fn personalization_value(realm: &RealmConfig) -> Result<[u8; 64], ConfigError> {
    let text = realm.personalization_value.as_deref().unwrap_or_default();
    let mut rpv = [0; 64];
    let bytes = STANDARD.decode(text).ok();
    let slot = bytes.as_ref().and_then(|bytes| rpv.get_mut(..bytes.len()).map(|slot| (slot, bytes)));
    let Some((slot, bytes)) = slot else {
        return Err(ConfigError::Field {
            field: "realm.personalization_value",
            found: text.into(),
            expected: "base64 of at most 64 bytes".into(),
        });
    };
    slot.copy_from_slice(bytes);
    Ok(rpv)
}

fn check(
    holds: bool,
    field: &'static str,
    found: impl std::fmt::Display + Copy,
    expected: impl FnOnce() -> String,
) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError::Field { field, found: found.to_string(), expected: expected() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<VmConfig, String> {
        let config: VmConfig = serde_json::from_str(json).map_err(|error| error.to_string())?;
        validate(&config).map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn a_kernel_is_enough() {
        let config = parse(r#"{"payload":{"kernel":"/k"}}"#).unwrap();
        assert_eq!((config.cpus.boot_vcpus, config.memory.size), (1, 512 << 20));
        assert!(config.realm.is_none());
    }

    #[test]
    fn an_unknown_field_is_named() {
        let error = parse(r#"{"payload":{"kernel":"/k","initrd":"/i"}}"#).unwrap_err();
        assert!(error.contains("initrd"), "{error}");
        let error =
            parse(r#"{"payload":{"kernel":"/k"},"realm":{"backend":"soft","measure":1}}"#).unwrap_err();
        assert!(error.contains("measure"), "{error}");
    }

    #[test]
    fn bounds_name_the_field_and_what_was_expected() {
        for (json, field) in [
            (r#"{"payload":{"kernel":"/k"},"cpus":{"boot_vcpus":0}}"#, "cpus.boot_vcpus"),
            (r#"{"payload":{"kernel":"/k"},"cpus":{"boot_vcpus":124}}"#, "cpus.boot_vcpus"),
            (r#"{"payload":{"kernel":"/k"},"memory":{"size":4096}}"#, "memory.size"),
            (r#"{"payload":{"kernel":"/k"},"vsock":{"cid":2,"socket":"/s"}}"#, "vsock.cid"),
            (r#"{"payload":{"kernel":"/k"},"serial":{"mode":"File"}}"#, "serial"),
            (r#"{"payload":{"kernel":"/k"},"serial":{"mode":"Null","file":"/f"}}"#, "serial"),
            (r#"{"payload":{"kernel":"/k"},"console":{"mode":"Socket"}}"#, "console"),
            (r#"{"payload":{"kernel":"/k"},"console":{"mode":"Pty","socket":"/s"}}"#, "console"),
            (
                r#"{"payload":{"kernel":"/k"},"disks":[{"path":"/d","serial":"123456789012345678901"}]}"#,
                "disks.serial",
            ),
            (
                r#"{"payload":{"kernel":"/k"},"serial":{"mode":"Tty"},"console":{"mode":"Tty"}}"#,
                "console.mode",
            ),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.starts_with(field) && error.contains("expected"), "{error}");
        }
    }

    #[test]
    fn personalisation_value_is_padded_and_bounded() {
        let realm = |value: &str| {
            let json = format!(
                r#"{{"payload":{{"kernel":"/k"}},"realm":{{"backend":"soft","personalization_value":"{value}"}}}}"#
            );
            parse(&json).map(|config| personalization_value(&config.realm.unwrap()).unwrap())
        };
        assert_eq!(realm("YWI=").unwrap()[..3], *b"ab\0");
        assert!(realm("not base64").is_err());
        assert!(realm(&STANDARD.encode([0; 65])).unwrap_err().contains("64 bytes"));
    }
}
