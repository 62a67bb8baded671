//! Devices that servers in other processes have: on the command line, and their bounds.

use std::path::Path;

use api::VmConfig;
use api::config::{DiskConfig, FsConfig, ImageType, NetConfig};
use devices::virtio::vhost_user::TAG_LIMIT;

use super::ConfigError;
use super::options::Options;
use super::validate::check;

/// Most request queues of a directory: each costs a doorbell and a vector.
const MAX_FS_QUEUES: u16 = 64;

/// One `--fs`.
pub fn fs(text: &str) -> Result<FsConfig, ConfigError> {
    let options = Options::parse("--fs", text, &["id", "tag", "socket", "num_queues", "queue_size"])?;
    let number = |key| options.convert(key, "a number", |value| value.parse().ok());
    Ok(FsConfig {
        id: options.get("id").map(Into::into),
        tag: options.require("tag")?.into(),
        socket: options.require("socket")?.into(),
        num_queues: number("num_queues")?.unwrap_or(1),
        queue_size: number("queue_size")?.unwrap_or(1024),
        pci_segment: 0,
        pci_device_id: None,
    })
}

/// What holds of servers of any kind, and what a server decides alone and therefore cannot be asked of the VMM.
///
/// # Errors
///
/// [`ConfigError::Field`].
pub fn validate(config: &VmConfig) -> Result<(), ConfigError> {
    for disk in &config.disks {
        if both("disks.vhost_socket", disk.vhost_user, disk.vhost_socket.as_deref())? {
            environment("disks.vhost_user", config)?;
            validate_disk(disk)?;
        }
    }
    for net in &config.net {
        if both("net.vhost_socket", net.vhost_user, net.vhost_socket.as_deref())? {
            environment("net.vhost_user", config)?;
            validate_net(net)?;
        }
    }
    for fs in &config.fs {
        environment("fs", config)?;
        validate_fs(fs)?;
        let same = config.fs.iter().filter(|other| other.tag == fs.tag).count();
        check(same == 1, "fs.tag", &fs.tag, || "a tag that no other directory has".into())?;
    }
    Ok(())
}

fn both(field: &'static str, vhost_user: bool, socket: Option<&Path>) -> Result<bool, ConfigError> {
    let found = if vhost_user { "vhost_user without a socket" } else { "a socket without vhost_user" };
    check(vhost_user == socket.is_some(), field, found, || "vhost_user and the socket of its server".into())?;
    Ok(vhost_user)
}

/// A server maps the guest's memory: it must be there to be mapped, and not be the guest's secret.
fn environment(field: &'static str, config: &VmConfig) -> Result<(), ConfigError> {
    check(config.realm.is_none(), field, "a vhost-user device of a Realm", || {
        "a device of this VMM: a server in another process reaches all memory, and a Realm shares only some of its own"
            .into()
    })?;
    let memory = &config.memory;
    let shared =
        if memory.zones.is_empty() { memory.shared } else { memory.zones.iter().all(|zone| zone.shared) };
    check(shared, field, "memory that is not shared", || {
        "memory.shared=true (--memory shared=on), in every zone: the server maps the guest's memory".into()
    })
}

fn validate_disk(disk: &DiskConfig) -> Result<(), ConfigError> {
    let says = || "nothing besides vhost_user: the server decides".to_owned();
    for (field, given) in [
        ("disks.path", disk.path.is_some()),
        ("disks.readonly", disk.readonly),
        ("disks.direct", disk.direct),
        ("disks.serial", disk.serial.is_some()),
        ("disks.backing_files", disk.backing_files),
        ("disks.image_type", disk.image_type != ImageType::Unknown),
        ("disks.sparse", !disk.sparse),
        ("disks.disable_io_uring", disk.disable_io_uring),
        ("disks.queue_affinity", !disk.queue_affinity.is_empty()),
        ("disks.rate_limiter_config", disk.rate_limiter_config.is_some()),
        ("disks.rate_limit_group", disk.rate_limit_group.is_some()),
    ] {
        check(!given, field, "a value", says)?;
    }
    Ok(())
}

fn validate_net(net: &NetConfig) -> Result<(), ConfigError> {
    let says = || "nothing besides vhost_user: the server has the network".to_owned();
    for (field, given) in [
        ("net.tap", net.tap.is_some()),
        ("net.fds", !net.fds.is_empty()),
        ("net.ip", net.ip.is_some() || net.mask.is_some()),
        ("net.host_mac", net.host_mac.is_some()),
        ("net.rate_limiter_config", net.rate_limiter_config.is_some()),
    ] {
        check(!given, field, "a value", says)?;
    }
    Ok(())
}

fn validate_fs(fs: &FsConfig) -> Result<(), ConfigError> {
    let len = fs.tag.len();
    check((1..=TAG_LIMIT).contains(&len) && !fs.tag.contains('\0'), "fs.tag", &fs.tag, || {
        format!("1 to {TAG_LIMIT} bytes, none of them zero")
    })?;
    let queues = fs.num_queues;
    check((1..=MAX_FS_QUEUES).contains(&queues), "fs.num_queues", queues, || {
        format!("1 to {MAX_FS_QUEUES}")
    })?;
    let size = fs.queue_size;
    check(size.is_power_of_two() && (4..=32_768).contains(&size), "fs.queue_size", size, || {
        "a power of two from 4 to 32768".into()
    })?;
    let socket = fs.socket.as_os_str();
    check(!socket.is_empty(), "fs.socket", "nothing", || "the socket of a virtiofsd".into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::validate as whole;

    fn good() -> Value {
        json!({
            "payload": {"kernel": "/k"},
            "cpus": {"boot_vcpus": 2},
            "memory": {"size": 2 << 20, "shared": true},
            "fs": [{"tag": "home", "socket": "/s"}],
            "disks": [{"vhost_user": true, "vhost_socket": "/d"}],
            "net": [{"vhost_user": true, "vhost_socket": "/n", "num_queues": 4}],
        })
    }

    fn refusal(config: Value) -> String {
        whole(&serde_json::from_value(config).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn servers_are_described_in_full() {
        whole(&serde_json::from_value(good()).unwrap()).unwrap();
        let fs = fs("tag=home,socket=/run/fs,num_queues=2,queue_size=512,id=h").unwrap();
        assert_eq!((fs.tag.as_str(), fs.num_queues, fs.queue_size), ("home", 2, 512));
        assert!(super::fs("tag=home").unwrap_err().to_string().contains("socket= is missing"));
        let disk = super::super::disk::disk("vhost_user=on,socket=/d,num_queues=2").unwrap();
        assert_eq!((disk.path, disk.vhost_socket.as_deref()), (None, Some(Path::new("/d"))));
    }

    #[test]
    fn interface_may_wait_for_its_server_to_come() {
        let mut config = good();
        config["net"][0]["vhost_mode"] = json!("Server");
        whole(&serde_json::from_value(config.clone()).unwrap()).unwrap();
        config["net"] = json!([{"vhost_mode": "Server"}]);
        assert!(refusal(config).starts_with("net.vhost_mode: "));
    }

    #[test]
    fn what_does_not_go_with_a_server_is_named() {
        for (pointer, value, field) in [
            ("/fs/0/tag", json!(""), "fs.tag"),
            ("/fs/0/tag", json!("x".repeat(37)), "fs.tag"),
            ("/fs/0/num_queues", json!(0), "fs.num_queues"),
            ("/fs/0/num_queues", json!(65), "fs.num_queues"),
            ("/fs/0/queue_size", json!(100), "fs.queue_size"),
            ("/fs/0/socket", json!(""), "fs.socket"),
            ("/disks/0/vhost_user", json!(false), "disks.vhost_socket"),
            ("/disks/0/path", json!("/image"), "disks.path"),
            ("/disks/0/readonly", json!(true), "disks.readonly"),
            ("/disks/0/serial", json!("one"), "disks.serial"),
            ("/net/0/vhost_socket", Value::Null, "net.vhost_socket"),
            ("/net/0/tap", json!("tap0"), "net.tap"),
            ("/net/0/host_mac", json!("02:00:00:00:00:01"), "net.host_mac"),
        ] {
            let mut config = good();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            config.pointer_mut(parent).unwrap()[name] = value;
            let error = refusal(config);
            assert!(error.starts_with(&format!("{field}: ")), "{pointer}: {error}");
        }
    }

    #[test]
    fn memory_must_be_shared_in_every_zone() {
        for only in ["fs", "disks", "net"] {
            let mut config = good();
            config["memory"] = json!({"zones": [{"id": "a", "size": 2 << 20, "shared": true},
                                                {"id": "b", "size": 2 << 20}]});
            for other in ["fs", "disks", "net"].iter().filter(|other| **other != only) {
                config.as_object_mut().unwrap().remove(*other);
            }
            let error = refusal(config);
            assert!(error.starts_with(only) && error.contains("shared=on"), "{error}");
        }
    }

    #[test]
    fn realm_has_no_servers() {
        let mut config = good();
        config["realm"] = json!({"backend": "soft"});
        assert!(refusal(config).contains("a Realm"));
    }
}
