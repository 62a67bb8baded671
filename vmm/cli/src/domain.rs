//! What a domain is: a VM with a name.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use api::VmConfig;
use api::config::{ConsoleMode, NetConfig};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

/// Longest name. Names are parts of socket paths, which the kernel bounds at 107 bytes.
const MAX_NAME: usize = 50;

/// A VM with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// Name; no two domains have the same.
    pub name: String,
    /// Identifier; no two domains have the same.
    #[serde(default = "Uuid::new_v4")]
    pub uuid: Uuid,
    /// A line about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether it starts with the host.
    #[serde(default)]
    pub autostart: bool,
    /// The VMM that runs it; by default the one beside `redoubt`, then the one in the search path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulator: Option<PathBuf>,
    /// What happens when the guest asks for a reset.
    #[serde(default)]
    pub on_reboot: OnReboot,
    /// What the VM is made of.
    pub config: VmConfig,
}

/// What happens when the guest asks for a reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnReboot {
    /// It is launched anew.
    #[default]
    Restart,
    /// It ends.
    Destroy,
}

/// A definition that no domain can have.
#[derive(Debug, Error)]
pub enum DomainError {
    /// The name cannot be used.
    #[error(
        "name: found {found:?}, expected 1 to {MAX_NAME} letters, digits and . _ : + -, the first a letter or digit"
    )]
    Name {
        /// What was found.
        found: String,
    },
    /// A console on a terminal that a domain does not have.
    #[error(
        "{field}: found the mode Tty, expected Pty, Socket, File, Null or Off: a domain has no terminal of its own"
    )]
    Terminal {
        /// `config.serial` or `config.console`.
        field: &'static str,
    },
    /// A path that depends on where the command was given.
    #[error("{field}: found {}, expected an absolute path", found.display())]
    Relative {
        /// Path of the field.
        field: String,
        /// What was found.
        found: PathBuf,
    },
    /// Two devices have the same name.
    #[error("found two devices with the name {id:?}, expected a name for each")]
    SameId {
        /// The name.
        id: String,
    },
}

impl Domain {
    /// A domain of this name, with a new identifier.
    #[must_use]
    pub fn new(name: impl Into<String>, config: VmConfig) -> Self {
        Self {
            name: name.into(),
            uuid: Uuid::new_v4(),
            title: None,
            description: None,
            autostart: false,
            emulator: None,
            on_reboot: OnReboot::default(),
            config,
        }
    }

    /// Gives a name to every disk and interface and a hardware address to every interface that has none, so that they
    /// stay the same from one start to the next.
    pub fn complete(&mut self) {
        let mut taken: BTreeSet<String> = self.device_ids().map(str::to_owned).collect();
        for disk in &mut self.config.disks {
            disk.id.get_or_insert_with(|| free_name(&mut taken, disk_name));
        }
        for net in &mut self.config.net {
            complete_net(net, &mut taken);
        }
        for fs in &mut self.config.fs {
            fs.id.get_or_insert_with(|| free_name(&mut taken, |number| format!("fs{number}")));
        }
        for pmem in &mut self.config.pmem {
            pmem.id.get_or_insert_with(|| free_name(&mut taken, |number| format!("pmem{number}")));
        }
    }

    /// Checks what does not depend on the VMM: that is the VMM's to say.
    ///
    /// # Errors
    ///
    /// [`DomainError`] that names the field.
    pub fn check(&self) -> Result<(), DomainError> {
        check_name(&self.name)?;
        for (field, console) in
            [("config.serial", &self.config.serial), ("config.console", &self.config.console)]
        {
            if console.mode == ConsoleMode::Tty {
                return Err(DomainError::Terminal { field });
            }
        }
        for (field, path) in self.clone().paths_mut() {
            if !path.is_absolute() {
                return Err(DomainError::Relative { field, found: path.clone() });
            }
        }
        let mut seen = BTreeSet::new();
        match self.device_ids().find(|id| !seen.insert(*id)) {
            Some(id) => Err(DomainError::SameId { id: id.to_owned() }),
            None => Ok(()),
        }
    }

    fn device_ids(&self) -> impl Iterator<Item = &str> {
        let config = &self.config;
        let disks = config.disks.iter().map(|disk| &disk.id);
        let nets = config.net.iter().map(|net| &net.id);
        let shares = config.fs.iter().map(|fs| &fs.id);
        let pmems = config.pmem.iter().map(|pmem| &pmem.id);
        disks.chain(nets).chain(shares).chain(pmems).filter_map(Option::as_deref)
    }

    /// Makes relative paths start at a directory: the VMM runs elsewhere.
    pub fn anchor(&mut self, directory: &Path) {
        for (_, path) in self.paths_mut() {
            if path.is_relative() {
                *path = directory.join(&*path);
            }
        }
    }

    /// Paths that the VMM opens, each with the name of its field.
    fn paths_mut(&mut self) -> Vec<(String, &mut PathBuf)> {
        let config = &mut self.config;
        let mut paths = vec![("config.rng.src".to_owned(), &mut config.rng.src)];
        let mut add = |field: String, path| paths.extend(Option::map(path, |path| (field, path)));
        add("emulator".into(), self.emulator.as_mut());
        add("config.payload.kernel".into(), config.payload.kernel.as_mut());
        add("config.payload.firmware".into(), config.payload.firmware.as_mut());
        add("config.payload.initramfs".into(), config.payload.initramfs.as_mut());
        for (name, console) in [("serial", &mut config.serial), ("console", &mut config.console)] {
            add(format!("config.{name}.file"), console.file.as_mut());
            add(format!("config.{name}.socket"), console.socket.as_mut());
        }
        for (index, zone) in config.memory.zones.iter_mut().enumerate() {
            add(format!("config.memory.zones[{index}].file"), zone.file.as_mut());
        }
        for (index, disk) in config.disks.iter_mut().enumerate() {
            add(format!("config.disks[{index}].path"), disk.path.as_mut());
            add(format!("config.disks[{index}].vhost_socket"), disk.vhost_socket.as_mut());
        }
        for (index, net) in config.net.iter_mut().enumerate() {
            add(format!("config.net[{index}].vhost_socket"), net.vhost_socket.as_mut());
        }
        for (index, fs) in config.fs.iter_mut().enumerate() {
            add(format!("config.fs[{index}].socket"), Some(&mut fs.socket));
        }
        for (index, pmem) in config.pmem.iter_mut().enumerate() {
            add(format!("config.pmem[{index}].file"), Some(&mut pmem.file));
        }
        add("config.vsock.socket".into(), config.vsock.as_mut().map(|vsock| &mut vsock.socket));
        for (index, rule) in config.landlock_rules.iter_mut().enumerate() {
            add(format!("config.landlock_rules[{index}].path"), Some(&mut rule.path));
        }
        let platform = config.realm.as_mut().and_then(|realm| realm.platform.as_mut());
        add("config.realm.platform.key".into(), platform.map(|platform| &mut platform.key));
        paths
    }
}

/// Checks a name of a domain.
///
/// # Errors
///
/// [`DomainError::Name`].
pub fn check_name(name: &str) -> Result<(), DomainError> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:+-".contains(&byte));
    if first && rest && name.len() <= MAX_NAME {
        Ok(())
    } else {
        Err(DomainError::Name { found: name.to_owned() })
    }
}

/// Gives an interface a name and a hardware address if it has none.
pub fn complete_net(net: &mut NetConfig, taken: &mut BTreeSet<String>) {
    net.id.get_or_insert_with(|| free_name(taken, |number| format!("net{number}")));
    net.mac.get_or_insert_with(random_mac);
}

/// The first name that nobody has.
pub fn free_name(taken: &mut BTreeSet<String>, name: impl Fn(usize) -> String) -> String {
    let mut number = 0;
    loop {
        let candidate = name(number);
        if taken.insert(candidate.clone()) {
            return candidate;
        }
        number += 1;
    }
}

/// Name of a disk by its number: `vda` to `vdz`, then `vdaa`, as Linux counts.
#[must_use]
pub fn disk_name(number: usize) -> String {
    let mut letters = Vec::new();
    let mut rest = number;
    loop {
        letters.push(b'a' + u8::try_from(rest % 26).unwrap_or(0));
        if rest < 26 {
            break;
        }
        rest = rest / 26 - 1;
    }
    letters.reverse();
    format!("vd{}", String::from_utf8_lossy(&letters))
}

/// A hardware address in the range that KVM guests use.
fn random_mac() -> String {
    let random = Uuid::new_v4();
    let bytes = random.as_bytes();
    let mut mac = "52:54:00".to_owned();
    for byte in bytes.iter().take(3) {
        // Writing to a string cannot fail.
        let _ = write!(mac, ":{byte:02x}");
    }
    mac
}

#[cfg(test)]
mod tests {
    use api::config::{ConsoleConfig, DiskConfig};

    use super::*;

    fn domain(name: &str) -> Domain {
        Domain::new(name, VmConfig::booting("/k".into()))
    }

    #[test]
    fn names_are_parts_of_paths_and_units() {
        for name in ["a", "web-1", "db.example_2:x+y", &"n".repeat(50)] {
            domain(name).check().unwrap();
        }
        for name in ["", ".", "..", "-a", "a/b", "a b", "ä", "a\n", "a\0", &"n".repeat(51)] {
            let error = domain(name).check().unwrap_err();
            assert!(matches!(error, DomainError::Name { .. }), "{name:?}: {error}");
        }
    }

    #[test]
    fn devices_get_names_and_addresses_that_stay() {
        let mut domain = domain("a");
        let named = DiskConfig { id: Some("vda".into()), ..DiskConfig::default() };
        domain.config.disks = vec![DiskConfig::default(), named, DiskConfig::default()];
        domain.config.net = vec![NetConfig::default()];
        domain.complete();
        let ids: Vec<_> = domain.config.disks.iter().map(|disk| disk.id.as_deref().unwrap()).collect();
        assert_eq!(ids, ["vdb", "vda", "vdc"]);
        let net = domain.config.net[0].clone();
        assert_eq!(net.id.as_deref(), Some("net0"));
        assert!(net.mac.as_deref().unwrap().starts_with("52:54:00:"));
        domain.complete();
        assert_eq!(domain.config.net[0], net);
    }

    #[test]
    fn disks_are_counted_as_linux_does() {
        for (number, name) in [(0, "vda"), (25, "vdz"), (26, "vdaa"), (701, "vdzz"), (702, "vdaaa")] {
            assert_eq!(disk_name(number), name);
        }
    }

    #[test]
    fn what_cannot_work_in_the_background_is_refused() {
        let mut terminal = domain("a");
        terminal.config.console = ConsoleConfig::of(ConsoleMode::Tty);
        assert!(terminal.check().unwrap_err().to_string().contains("config.console"));

        let mut relative = domain("a");
        let disk = DiskConfig { path: Some("disk.img".into()), ..DiskConfig::default() };
        relative.config.disks = vec![disk];
        assert!(relative.check().unwrap_err().to_string().contains("config.disks[0].path"));
        relative.anchor(Path::new("/home"));
        assert_eq!(relative.config.disks[0].path.as_deref(), Some(Path::new("/home/disk.img")));
        relative.check().unwrap();

        let mut twice = domain("a");
        let disk = DiskConfig { id: Some("x".into()), ..DiskConfig::default() };
        twice.config.disks = vec![disk.clone(), disk];
        assert!(matches!(twice.check().unwrap_err(), DomainError::SameId { .. }));
    }
}
