//! What this process must be able to open, by its configuration.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use api::VmConfig;
use api::config::{ConsoleConfig, ConsoleMode, VhostMode};
use sandbox::{PathAccess, PathRule};

use crate::config::ProcessBounds;
use crate::endpoint::Endpoint;
use crate::{Error, RunOptions};

/// Every path that the VM is made of, if there is one, for each of its launches, and what the operator allows besides.
///
/// A file that the VMM would create is created now: a rule is about a file that exists.
///
/// # Errors
///
/// [`Error::Device`] or [`Error::LaunchLog`] when such a file cannot be created.
pub fn rules(
    asked: &ProcessBounds,
    vm: Option<&VmConfig>,
    options: &RunOptions,
) -> Result<Vec<PathRule>, Error> {
    let mut rules = Rules(Vec::new());
    if let Some(config) = vm {
        rules.vm(config)?;
    }
    if let Some(Endpoint::Path(path)) = &options.api_socket {
        // Its file goes when the VMM ends.
        rules.add("--api-socket", directory(path), PathAccess::Sockets);
    }
    if let Some(path) = &options.launch_log {
        create(path).map_err(|source| Error::LaunchLog { path: path.clone(), source })?;
        rules.add("--launch-log", path, PathAccess::Write);
    }
    for rule in &asked.landlock_rules {
        let access = match rule.access.as_str() {
            "r" => PathAccess::Read,
            "w" => PathAccess::Write,
            _ => PathAccess::ReadWrite,
        };
        rules.add("landlock_rules", &rule.path, access);
    }
    Ok(rules.0)
}

struct Rules(Vec<PathRule>);

impl Rules {
    fn vm(&mut self, config: &VmConfig) -> Result<(), Error> {
        // A field that is new has to be thought of here.
        let VmConfig {
            payload,
            cpus: _,
            memory,
            numa: _,
            rate_limit_groups: _,
            disks,
            net,
            rng,
            balloon: _,
            // The socket of a server is connected to, which needs no right.
            fs: _,
            pmem,
            serial,
            console,
            vsock,
            watchdog: _,
            landlock_enable: _,
            landlock_rules: _,
            realm,
            sandbox: _,
        } = config;
        if let Some(path) = &payload.kernel {
            self.add("payload.kernel", path, PathAccess::Read);
        }
        if let Some(path) = &payload.firmware {
            self.add("payload.firmware", path, PathAccess::Read);
        }
        if let Some(path) = &payload.initramfs {
            self.add("payload.initramfs", path, PathAccess::Read);
        }
        for file in memory.zones.iter().filter_map(|zone| zone.file.as_ref()) {
            self.add("memory.zones.file", file, PathAccess::ReadWrite);
        }
        // What the host has of huge pages and nodes; a kernel without them has no such directory.
        let huge = memory.hugepages || memory.zones.iter().any(|zone| zone.hugepages);
        let bound = memory.zones.iter().any(|zone| zone.host_numa_node.is_some());
        for (wanted, path) in
            [(huge, "/sys/kernel/mm/hugepages"), (huge, "/proc/meminfo"), (bound, "/sys/devices/system/node")]
        {
            if wanted && Path::new(path).exists() {
                self.add("memory", Path::new(path), PathAccess::Read);
            }
        }
        for disk in disks {
            if let Some(path) = &disk.path {
                self.add("disks.path", path, unless(disk.readonly));
            }
        }
        // Tap devices are open by now, and a server that listens is connected to, which needs no right.
        for net in net.iter().filter(|net| net.vhost_mode == VhostMode::Server) {
            if let Some(path) = &net.vhost_socket {
                self.add("net.vhost_socket", directory(path), PathAccess::Sockets);
            }
        }
        self.add("rng.src", &rng.src, PathAccess::Read);
        for pmem in pmem {
            self.add("pmem.file", &pmem.file, unless(pmem.discard_writes));
        }
        self.console("serial", serial)?;
        self.console("console", console)?;
        if let Some(vsock) = vsock {
            self.add("vsock.socket", directory(&vsock.socket), PathAccess::Sockets);
        }
        if let Some(platform) = realm.as_ref().and_then(|realm| realm.platform.as_ref()) {
            self.add("realm.platform.key", &platform.key, PathAccess::Read);
            if platform.components.is_empty() {
                // The program itself is what the platform then accounts for.
                let program = Path::new("/proc/self/exe");
                self.add("realm.platform.components", program, PathAccess::Read);
            }
        }
        Ok(())
    }

    fn add(&mut self, field: &str, path: &Path, access: PathAccess) {
        self.0.push(PathRule { purpose: field.into(), path: path.into(), access });
    }

    fn console(&mut self, field: &'static str, config: &ConsoleConfig) -> Result<(), Error> {
        match config.mode {
            ConsoleMode::Off | ConsoleMode::Tty => {}
            ConsoleMode::Null => self.add(field, Path::new("/dev/null"), PathAccess::Write),
            ConsoleMode::File => {
                if let Some(path) = &config.file {
                    create(path).map_err(|source| Error::Device {
                        field,
                        path: path.clone(),
                        source: source.into(),
                    })?;
                    // A FIFO is opened for both.
                    self.add(field, path, PathAccess::ReadWrite);
                }
            }
            ConsoleMode::Pty => {
                self.add(field, Path::new("/dev/ptmx"), PathAccess::ReadWrite);
                self.add(field, Path::new("/dev/pts"), PathAccess::ReadWrite);
            }
            ConsoleMode::Socket => {
                if let Some(path) = &config.socket {
                    self.add(field, directory(path), PathAccess::Sockets);
                }
            }
        }
        Ok(())
    }
}

fn unless(read_only: bool) -> PathAccess {
    if read_only { PathAccess::Read } else { PathAccess::ReadWrite }
}

/// Where a socket is made.
fn directory(socket: &Path) -> &Path {
    match socket.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Creates the file for its owner alone, unless there is one.
fn create(path: &PathBuf) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(config: &VmConfig, path: &Path) -> Option<PathAccess> {
        let rules = rules(&ProcessBounds::of(config), Some(config), &RunOptions::default()).unwrap();
        rules.into_iter().find(|rule| rule.path == path).map(|rule| rule.access)
    }

    fn config(json: &str) -> VmConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_path_of_the_configuration_gets_the_access_that_it_needs() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("serial.log");
        let json = serde_json::json!({
            "payload": {"kernel": "/k", "initramfs": "/i"},
            "disks": [{"path": "/rw"}, {"path": "/ro", "readonly": true}],
            "rng": {"src": "/dev/random"},
            "serial": {"mode": "File", "file": log},
            "console": {"mode": "Socket", "socket": "/run/vm/console"},
            "vsock": {"cid": 3, "socket": "vsock"},
            "realm": {"backend": "soft", "platform": {"key": "/pem"}},
            "landlock_rules": [{"path": "/a", "access": "r"}, {"path": "/b", "access": "rw"}],
        });
        let config = config(&json.to_string());
        for (path, expected) in [
            ("/k", PathAccess::Read),
            ("/i", PathAccess::Read),
            ("/rw", PathAccess::ReadWrite),
            ("/ro", PathAccess::Read),
            ("/dev/random", PathAccess::Read),
            ("/run/vm", PathAccess::Sockets),
            (".", PathAccess::Sockets),
            ("/pem", PathAccess::Read),
            ("/proc/self/exe", PathAccess::Read),
            ("/a", PathAccess::Read),
            ("/b", PathAccess::ReadWrite),
        ] {
            assert_eq!(access(&config, Path::new(path)), Some(expected), "{path}");
        }
        assert_eq!(access(&config, &log), Some(PathAccess::ReadWrite));
        assert!(log.is_file(), "a rule needs the file");
        assert_eq!(access(&config, Path::new("/")), None);
    }

    #[test]
    fn file_that_exists_keeps_its_content() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "before").unwrap();
        create(&file.path().to_path_buf()).unwrap();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "before");
    }
}
