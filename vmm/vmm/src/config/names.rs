//! Names of devices: every device has one, and no two have the same.

use std::collections::BTreeSet;

use api::VmConfig;

use super::ConfigError;

/// Longest name. Names are in file names, logs and metrics; without the bound a client could fill them.
const LONGEST: usize = 64;

/// Name of the serial port, which is part of the board.
pub const SERIAL: &str = "_serial";
/// Name of the virtio console.
pub const CONSOLE: &str = "_console";

/// A device's name and the field that it stands in.
type Slot<'a> = (&'static str, &'a mut Option<String>);

/// Gives every device that has no name the first of `_disk0`, `_disk1` .. that is free (and so on), or `_rng` and the
/// like where there is only one. What is removed or added later then changes nobody's name.
pub fn assign(config: &mut VmConfig) {
    let mut taken: BTreeSet<String> = slots(config).into_iter().filter_map(|(_, id)| id.clone()).collect();
    for (field, id) in slots(config) {
        if id.is_none() {
            let name = free_name(field, &taken);
            taken.insert(name.clone());
            *id = Some(name);
        }
    }
}

fn free_name(field: &str, taken: &BTreeSet<String>) -> String {
    let (stem, many) = match field {
        "disks" => ("_disk", true),
        "net" => ("_net", true),
        "fs" => ("_fs", true),
        "pmem" => ("_pmem", true),
        "rng" => ("_rng", false),
        "vsock" => ("_vsock", false),
        _ => ("_balloon", false),
    };
    let numbered = (0_u64..).map(|number| format!("{stem}{number}"));
    let plain = (!many).then(|| stem.to_owned());
    plain.into_iter().chain(numbered).find(|name| !taken.contains(name)).unwrap_or_default()
}

/// Checks that names can be told apart and can be written down.
///
/// # Errors
///
/// [`ConfigError::DuplicateName`] or [`ConfigError::Field`].
pub fn check(config: &VmConfig) -> Result<(), ConfigError> {
    let mut seen = BTreeSet::from([SERIAL, CONSOLE]);
    for (field, id) in names(config) {
        let Some(id) = id else { continue };
        let plain = |character: char| character.is_ascii_graphic() && !matches!(character, '/' | '"' | '\\');
        if id.is_empty() || id.len() > LONGEST || !id.chars().all(plain) || id.starts_with("__") {
            return Err(ConfigError::Field {
                field,
                found: id.chars().take(LONGEST).collect(),
                expected: format!(
                    "an id of 1 to {LONGEST} printable ASCII characters without space, / \" \\ and not starting with __"
                ),
            });
        }
        if !seen.insert(id) {
            return Err(ConfigError::DuplicateName { field, id: id.to_owned() });
        }
    }
    Ok(())
}

/// Every field that names a device, for reading.
fn names(config: &VmConfig) -> Vec<(&'static str, Option<&str>)> {
    let VmConfig { disks, net, rng, balloon, fs, pmem, vsock, .. } = config;
    let mut names: Vec<(&'static str, Option<&str>)> = vec![("rng.id", rng.id.as_deref())];
    names.extend(disks.iter().map(|disk| ("disks.id", disk.id.as_deref())));
    names.extend(net.iter().map(|net| ("net.id", net.id.as_deref())));
    names.extend(fs.iter().map(|fs| ("fs.id", fs.id.as_deref())));
    names.extend(pmem.iter().map(|pmem| ("pmem.id", pmem.id.as_deref())));
    names.extend(vsock.iter().map(|vsock| ("vsock.id", vsock.id.as_deref())));
    names.extend(balloon.iter().map(|balloon| ("balloon.id", balloon.id.as_deref())));
    names
}

/// Every field that names a device, for writing.
fn slots(config: &mut VmConfig) -> Vec<Slot<'_>> {
    let VmConfig { disks, net, rng, balloon, fs, pmem, vsock, .. } = config;
    let mut slots: Vec<Slot<'_>> = vec![("rng", &mut rng.id)];
    slots.extend(disks.iter_mut().map(|disk| ("disks", &mut disk.id)));
    slots.extend(net.iter_mut().map(|net| ("net", &mut net.id)));
    slots.extend(fs.iter_mut().map(|fs| ("fs", &mut fs.id)));
    slots.extend(pmem.iter_mut().map(|pmem| ("pmem", &mut pmem.id)));
    slots.extend(vsock.iter_mut().map(|vsock| ("vsock", &mut vsock.id)));
    slots.extend(balloon.iter_mut().map(|balloon| ("balloon", &mut balloon.id)));
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> VmConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_device_gets_a_free_name_and_keeps_its_own() {
        let mut config = config(
            r#"{"payload":{"kernel":"/k"},"disks":[{"path":"/a"},{"path":"/b","id":"_disk0"},{"path":"/c"}],
                "net":[{}],"vsock":{"cid":3,"socket":"/s"},"rng":{"src":"/r","id":"entropy"}}"#,
        );
        assign(&mut config);
        let disks: Vec<_> = config.disks.iter().map(|disk| disk.id.as_deref().unwrap()).collect();
        assert_eq!(disks, ["_disk1", "_disk0", "_disk2"]);
        assert_eq!(config.net[0].id.as_deref(), Some("_net0"));
        assert_eq!(config.vsock.as_ref().unwrap().id.as_deref(), Some("_vsock"));
        assert_eq!(config.rng.id.as_deref(), Some("entropy"));
        check(&config).unwrap();
        let before = config.clone();
        assign(&mut config);
        assert_eq!(config, before);
    }

    #[test]
    fn a_name_is_taken_across_kinds_of_devices() {
        let json = r#"{"payload":{"kernel":"/k"},"disks":[{"path":"/a","id":"a"}],"net":[{"id":"a"}]}"#;
        let error = check(&config(json)).unwrap_err();
        assert!(matches!(&error, ConfigError::DuplicateName { field: "net.id", id } if id == "a"), "{error}");
        let json = r#"{"payload":{"kernel":"/k"},"disks":[{"path":"/a","id":"_serial"}]}"#;
        assert!(matches!(check(&config(json)), Err(ConfigError::DuplicateName { .. })));
    }

    #[test]
    fn names_that_cannot_be_written_down_are_refused() {
        let long = "x".repeat(65);
        for id in ["", "a b", "a/b", "__disk", "a\nb", "a\"b", long.as_str()] {
            let mut config = config(r#"{"payload":{"kernel":"/k"},"disks":[{"path":"/a"}]}"#);
            config.disks[0].id = Some(id.into());
            assert!(matches!(check(&config), Err(ConfigError::Field { field: "disks.id", .. })), "{id:?}");
        }
    }
}
