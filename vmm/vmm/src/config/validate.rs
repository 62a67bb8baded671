//! What a configuration must fulfil before anything is opened or created.

use std::path::{Path, PathBuf};

use api::VmConfig;
use api::config::{
    ConsoleMode, DiskConfig, ImageType, NetConfig, RateLimitGroupConfig, RateLimiterConfig, RealmConfig,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use devices::virtio::blk::MAX_QUEUES;
use devices::virtio::net::MAX_PAIRS;
use thiserror::Error;

use super::{OptionsError, names, pmem, realm, resources, sandbox, unsupported, vhost_user};

/// Longest serial number of a disk: virtio's GET_ID answer (virtio 1.2, 5.2.6).
const DISK_SERIAL_LIMIT: usize = 20;

/// Smallest MTU of IPv6 (RFC 8200, section 5), below which virtio has none either.
const SMALLEST_MTU: u16 = 1280;

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
    #[error("--realm: found {found:?}, expected cca, virtcca or soft")]
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
    /// Two devices have the same name.
    #[error("{field}: found {id:?}, which another device has; expected a name of its own")]
    DuplicateName {
        /// Path of the field in the JSON form.
        field: &'static str,
        /// The name.
        id: String,
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
    names::check(config)?;
    resources::validate(config)?;
    let vcpus = config.cpus.boot_vcpus;
    let groups = &config.rate_limit_groups;
    for (index, group) in groups.iter().enumerate() {
        let earlier = groups.iter().take(index).any(|earlier| earlier.id == group.id);
        check(!earlier && !group.id.is_empty(), "rate_limit_groups.id", &group.id, || {
            "a name that no other group has".into()
        })?;
        rate_limits("rate_limit_groups.rate_limiter_config", &group.rate_limiter_config)?;
    }
    vhost_user::validate(config)?;
    for disk in &config.disks {
        validate_disk(disk, groups, vcpus)?;
    }
    for net in &config.net {
        validate_net(net, vcpus)?;
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
    if let Some(balloon) = &config.balloon {
        let most = config.memory.total_size();
        check(balloon.size < most, "balloon.size", balloon.size, || format!("less than the memory, {most}"))?;
        check(config.realm.is_none(), "balloon", "a balloon in a Realm", || {
            "no balloon: the host cannot take pages from a Realm, which would lose their content".into()
        })?;
    }
    pmem::validate(config)?;
    realm::validate(config)?;
    if let Some(realm) = &config.realm {
        personalization_value(realm)?;
    }
    sandbox::validate(config)
}

fn validate_disk(disk: &DiskConfig, groups: &[RateLimitGroupConfig], vcpus: u16) -> Result<(), ConfigError> {
    check(disk.path.is_some() || disk.vhost_user, "disks.path", "nothing", || {
        "an image or block device".into()
    })?;
    let serial = disk.serial.as_deref().unwrap_or_default();
    check(serial.len() <= DISK_SERIAL_LIMIT, "disks.serial", serial, || {
        format!("at most {DISK_SERIAL_LIMIT} bytes")
    })?;
    let queues = disk.num_queues;
    let most = vcpus.min(u16::try_from(MAX_QUEUES).unwrap_or(u16::MAX));
    check((1..=most).contains(&queues), "disks.num_queues", queues, || {
        format!("1 to {most}: at most one for each vCPU")
    })?;
    // Two descriptors of a request hold its header and its status.
    let size = disk.queue_size;
    check(size.is_power_of_two() && (4..=32_768).contains(&size), "disks.queue_size", size, || {
        "a power of two from 4 to 32768".into()
    })?;
    for (index, affinity) in disk.queue_affinity.iter().enumerate() {
        let queue = affinity.queue_index;
        let earlier = disk.queue_affinity.iter().take(index).any(|earlier| earlier.queue_index == queue);
        check(queue < queues && !earlier, "disks.queue_affinity", queue, || {
            format!("each queue once, from 0 to {}", queues - 1)
        })?;
        resources::host_cpus("disks.queue_affinity", &affinity.host_cpus)?;
    }
    if let Some(group) = &disk.rate_limit_group {
        let known = groups.iter().any(|known| known.id == *group);
        check(known, "disks.rate_limit_group", group, || "the id of one of rate_limit_groups".into())?;
        check(disk.rate_limiter_config.is_none(), "disks.rate_limit_group", group, || {
            "no rate_limiter_config besides: a disk has its own limits or those of a group".into()
        })?;
    }
    let raw = disk.image_type != ImageType::Raw;
    check(raw || !disk.backing_files, "disks.backing_files", "true", || {
        "false for an image of the type Raw, which refers to no other".into()
    })?;
    disk.rate_limiter_config.map_or(Ok(()), |limits| rate_limits("disks.rate_limiter_config", &limits))
}

fn validate_net(net: &NetConfig, vcpus: u16) -> Result<(), ConfigError> {
    let queues = net.num_queues;
    let pairs = queues / 2;
    let most = vcpus.min(u16::try_from(MAX_PAIRS).unwrap_or(u16::MAX));
    let even = queues.is_multiple_of(2) && (1..=most.max(1)).contains(&pairs);
    check(even, "net.num_queues", queues, || {
        format!("two for each pair, and at most {most} pairs: one for each vCPU")
    })?;
    let given = net.fds.len();
    check(given == 0 || given == usize::from(pairs), "net.fds", given, || {
        format!("{pairs}, one for each pair")
    })?;
    let named = net.tap.is_some() || net.ip.is_some() || net.host_mac.is_some();
    check(given == 0 || !named, "net.fds", given, || {
        "no tap, ip and host_mac besides: who opened the device has set it up".into()
    })?;
    let size = net.queue_size;
    check(size.is_power_of_two() && (4..=32_768).contains(&size), "net.queue_size", size, || {
        "a power of two from 4 to 32768".into()
    })?;
    check(net.ip.is_some() == net.mask.is_some(), "net.ip", "one of ip and mask", || "both or none".into())?;
    let mtu = net.mtu.unwrap_or(SMALLEST_MTU);
    check(mtu >= SMALLEST_MTU, "net.mtu", mtu, || format!("from {SMALLEST_MTU} on"))?;
    for (field, address) in [("net.mac", &net.mac), ("net.host_mac", &net.host_mac)] {
        if let Some(text) = address {
            hardware_address(field, text)?;
        }
    }
    let offloads = net.offload_csum || !net.offload_tso && !net.offload_ufo;
    check(offloads, "net.offload_csum", "false", || {
        "true, or offload_tso and offload_ufo false as well".into()
    })?;
    net.rate_limiter_config.map_or(Ok(()), |limits| rate_limits("net.rate_limiter_config", &limits))
}

fn rate_limits(field: &'static str, limits: &RateLimiterConfig) -> Result<(), ConfigError> {
    for bucket in [limits.bandwidth, limits.ops].into_iter().flatten() {
        check(bucket.size > 0 && bucket.refill_time > 0, field, "0", || {
            "a size and a refill_time (in milliseconds) above 0".into()
        })?;
    }
    Ok(())
}

/// The address of an Ethernet station, written as six bytes in hexadecimal with colons between them.
///
/// # Errors
///
/// [`ConfigError::Field`] that names `field`, also for the address of a group.
pub fn hardware_address(field: &'static str, text: &str) -> Result<[u8; 6], ConfigError> {
    let byte = |part: &str| {
        let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u8::from_str_radix(part, 16).ok()).flatten()
    };
    let bytes: Option<Vec<u8>> = text.split(':').map(byte).collect();
    let address: Option<[u8; 6]> = bytes.and_then(|bytes| bytes.try_into().ok());
    address.filter(|[first, ..]| first & 1 == 0).ok_or_else(|| ConfigError::Field {
        field,
        found: text.into(),
        expected: "six bytes such as 52:54:00:12:34:56, the first of them even".into(),
    })
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

pub(super) fn check(
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
            (r#"{"payload":{"kernel":"/k"},"net":[{"num_queues":3}]}"#, "net.num_queues"),
            (r#"{"payload":{"kernel":"/k"},"net":[{"num_queues":4}]}"#, "net.num_queues"),
            (r#"{"payload":{"kernel":"/k"},"net":[{"queue_size":100}]}"#, "net.queue_size"),
            (r#"{"payload":{"kernel":"/k"},"net":[{"ip":"10.0.0.1"}]}"#, "net.ip"),
            (r#"{"payload":{"kernel":"/k"},"net":[{"mtu":1000}]}"#, "net.mtu"),
            (r#"{"payload":{"kernel":"/k"},"net":[{"mac":"52:54:00:12:34"}]}"#, "net.mac"),
            (r#"{"payload":{"kernel":"/k"},"net":[{"mac":"53:54:00:12:34:56"}]}"#, "net.mac"),
            (r#"{"payload":{"kernel":"/k"},"net":[{"offload_csum":false}]}"#, "net.offload_csum"),
            (
                r#"{"payload":{"kernel":"/k"},"net":[{"rate_limiter_config":{"ops":{"size":0,"refill_time":1}}}]}"#,
                "net.rate_limiter_config",
            ),
            (r#"{"payload":{"kernel":"/k"},"console":{"mode":"Pty","socket":"/s"}}"#, "console"),
            (
                r#"{"payload":{"kernel":"/k"},"disks":[{"path":"/d","serial":"123456789012345678901"}]}"#,
                "disks.serial",
            ),
            (r#"{"payload":{"kernel":"/k"},"disks":[{"path":"/d","num_queues":2}]}"#, "disks.num_queues"),
            (r#"{"payload":{"kernel":"/k"},"disks":[{"path":"/d","queue_size":2}]}"#, "disks.queue_size"),
            (
                r#"{"payload":{"kernel":"/k"},"disks":[{"path":"/d","queue_affinity":[{"queue_index":1,"host_cpus":[0]}]}]}"#,
                "disks.queue_affinity",
            ),
            (
                r#"{"payload":{"kernel":"/k"},"disks":[{"path":"/d","queue_affinity":[{"queue_index":0,"host_cpus":[]}]}]}"#,
                "disks.queue_affinity",
            ),
            (
                r#"{"payload":{"kernel":"/k"},"disks":[{"path":"/d","rate_limit_group":"none"}]}"#,
                "disks.rate_limit_group",
            ),
            (
                r#"{"payload":{"kernel":"/k"},"disks":[{"path":"/d","image_type":"Raw","backing_files":true}]}"#,
                "disks.backing_files",
            ),
            (
                r#"{"payload":{"kernel":"/k"},"rate_limit_groups":[{"id":"a","rate_limiter_config":{}},{"id":"a","rate_limiter_config":{}}]}"#,
                "rate_limit_groups.id",
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
