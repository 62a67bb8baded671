//! Devices other than consoles.

use std::net::Ipv4Addr;

use api::VmConfig;
use api::config::{
    BalloonConfig, DiskConfig, FsConfig, ImageType, NetConfig, PmemConfig, RateLimiterConfig, RngConfig,
    TokenBucketConfig, VhostMode, VsockConfig,
};
use serde_json::json;

use super::super::XmlError;
use super::super::node::Node;
use super::{compute, console, from_fields, require};

pub fn read(node: &mut Node<'_>, config: &mut VmConfig) -> Result<(), XmlError> {
    config.disks = node.each("disk", disk)?;
    config.net = node.each("interface", interface)?;
    config.fs = node.each("filesystem", filesystem)?;
    config.pmem = node.each("memory", pmem)?;
    config.vsock = node.child("vsock", vsock)?;
    config.rng = node.child("rng", rng)?.unwrap_or_default();
    config.balloon = node.child("memballoon", balloon)?.flatten();
    config.watchdog = node
        .child("watchdog", |node| {
            node.neutral("model", &["virtio"])?;
            node.neutral("action", &["reset"])
        })?
        .is_some();
    console::read(node, config)
}

/// Reads `<disk>`.
pub fn disk(node: &mut Node<'_>) -> Result<DiskConfig, XmlError> {
    node.neutral("device", &["disk"])?;
    let kind = node.attribute("type").unwrap_or_else(|| "file".into());
    let source = match kind.as_str() {
        "file" => "file",
        "block" => "dev",
        "vhostuser" => "path",
        _ => return Err(node.wrong("/@type", kind, "file, block or vhostuser")),
    };
    let vhost_user = kind == "vhostuser";
    let path = node.child("source", |node| {
        if vhost_user {
            node.neutral("type", &["unix"])?;
        }
        Ok(node.attribute(source))
    })?;
    let mut disk = DiskConfig { vhost_user, image_type: ImageType::Raw, ..DiskConfig::default() };
    let path = path.flatten().map(Into::into);
    if vhost_user {
        disk.vhost_socket = path;
    } else {
        disk.path = path;
    }
    node.child("driver", |node| disk_driver(node, &mut disk))?;
    // An empty one says that the image builds on no other, as is so unless `backing_files` is set.
    node.flag("backingStore")?;
    disk.id = Some(require(node, "target", "dev='vda' or another name", |node| {
        node.neutral("bus", &["virtio"])?;
        node.require("dev", "a name such as vda")
    })?);
    disk.readonly = node.flag("readonly")?;
    disk.serial = node.child("serial", |node| Ok(node.text()))?;
    disk.rate_limiter_config = node
        .child("iotune", |node| {
            let bandwidth = per_second(node, "total_bytes_sec")?;
            let ops = per_second(node, "total_iops_sec")?;
            Ok((bandwidth.is_some() || ops.is_some()).then_some(RateLimiterConfig { bandwidth, ops }))
        })?
        .flatten();
    (_, disk.pci_device_id) = place(node)?;
    Ok(disk)
}

fn disk_driver(node: &mut Node<'_>, disk: &mut DiskConfig) -> Result<(), XmlError> {
    node.neutral("name", &["qemu", "redoubt"])?;
    let image_type = node.convert("type", "raw, qcow2 or auto", |text| match text {
        "raw" => Some(ImageType::Raw),
        "qcow2" => Some(ImageType::Qcow2),
        "auto" => Some(ImageType::Unknown),
        _ => None,
    })?;
    disk.image_type = image_type.unwrap_or(ImageType::Raw);
    disk.direct = node
        .convert("cache", "none, writeback or default", |text| match text {
            "none" => Some(true),
            "writeback" | "default" => Some(false),
            _ => None,
        })?
        .unwrap_or(false);
    disk.sparse = node.switch("discard", "unmap", "ignore")?.unwrap_or(true);
    disk.disable_io_uring = node.switch("io", "threads", "io_uring")?.unwrap_or(false);
    disk.num_queues = node.number("queues")?.unwrap_or(disk.num_queues);
    disk.queue_size = node.number("queue_size")?.unwrap_or(disk.queue_size);
    Ok(())
}

/// A limit in units per second; 0 is none.
fn per_second(node: &mut Node<'_>, name: &str) -> Result<Option<TokenBucketConfig>, XmlError> {
    let limit = node.child(name, |node| node.value("a number", |text| text.parse().ok()))?;
    Ok(limit.filter(|limit| *limit != 0).map(|size| TokenBucketConfig {
        size,
        one_time_burst: None,
        refill_time: 1000,
    }))
}

/// Reads `<interface>`.
pub fn interface(node: &mut Node<'_>) -> Result<NetConfig, XmlError> {
    let kind = node.attribute("type").unwrap_or_default();
    let vhost_user = match kind.as_str() {
        "ethernet" => false,
        "vhostuser" => true,
        _ => {
            let expected = "ethernet (add the tap device to a bridge yourself) or vhostuser";
            return Err(node.wrong("/@type", kind, expected));
        }
    };
    let mut net = NetConfig { vhost_user, ..NetConfig::default() };
    if vhost_user {
        require(node, "source", "type='unix' path='SOCKET' mode='client'", |node| {
            node.neutral("type", &["unix"])?;
            net.vhost_socket = node.attribute("path").map(Into::into);
            let server = node.switch("mode", "server", "client")?.unwrap_or(false);
            net.vhost_mode = if server { VhostMode::Server } else { VhostMode::Client };
            Ok(())
        })?;
    } else {
        node.child("source", |node| host_address(node, &mut net))?;
    }
    net.mac = node.child("mac", |node| node.require("address", "a hardware address"))?;
    net.tap = node.child("target", |node| {
        // The tap device is created when there is none, whatever is said.
        node.neutral("managed", &["yes", "no"])?;
        node.require("dev", "the name of a tap device")
    })?;
    node.child("model", |node| node.neutral("type", &["virtio"]))?;
    net.mtu = node.child("mtu", |node| node.number("size"))?.flatten();
    node.child("driver", |node| interface_driver(node, &mut net))?;
    net.rate_limiter_config = node.child("bandwidth", bandwidth)?.flatten();
    (net.id, net.pci_device_id) = place(node)?;
    Ok(net)
}

fn host_address(node: &mut Node<'_>, net: &mut NetConfig) -> Result<(), XmlError> {
    node.child("ip", |node| {
        node.neutral("family", &["ipv4"])?;
        let expected = "an IPv4 address";
        net.ip = node.convert("address", expected, |text| text.parse().ok())?;
        let prefix =
            node.convert("prefix", "0 to 32", |text| text.parse().ok().filter(|bits| *bits <= 32))?;
        net.mask = prefix.map(|bits: u32| Ipv4Addr::from(u32::MAX.checked_shl(32 - bits).unwrap_or(0)));
        Ok(())
    })?;
    Ok(())
}

fn interface_driver(node: &mut Node<'_>, net: &mut NetConfig) -> Result<(), XmlError> {
    node.neutral("name", &["qemu", "redoubt"])?;
    let pairs: Option<u16> = node.number("queues")?;
    if let Some(pairs) = pairs {
        net.num_queues = pairs
            .checked_mul(2)
            .ok_or_else(|| node.wrong("/@queues", pairs.to_string(), "at most 32767 pairs of queues"))?;
    }
    let receive: Option<u16> = node.number("rx_queue_size")?;
    let transmit: Option<u16> = node.number("tx_queue_size")?;
    match (receive, transmit) {
        (None, None) => {}
        (Some(receive), Some(transmit)) if receive == transmit => net.queue_size = receive,
        _ => return Err(node.wrong("", "rx_queue_size and tx_queue_size", "both, and the same")),
    }
    node.child("host", |node| {
        net.offload_csum = node.switch("csum", "on", "off")?.unwrap_or(true);
        net.offload_tso = node.switch("tso4", "on", "off")?.unwrap_or(true);
        net.offload_ufo = node.switch("ufo", "on", "off")?.unwrap_or(true);
        Ok(())
    })?;
    Ok(())
}

/// Reads `<bandwidth>`: kilobytes in a second, the same each way.
fn bandwidth(node: &mut Node<'_>) -> Result<Option<RateLimiterConfig>, XmlError> {
    let direction = |node: &mut Node<'_>| {
        let average: Option<u64> = node.number("average")?;
        let bytes = average.unwrap_or(0).checked_mul(1000);
        bytes.ok_or_else(|| node.wrong("/@average", "too much", "at most 2^64 bytes in a second"))
    };
    let inbound = node.child("inbound", direction)?.unwrap_or(0);
    let outbound = node.child("outbound", direction)?.unwrap_or(0);
    if inbound != outbound {
        let found = format!("inbound {inbound}, outbound {outbound} bytes in a second");
        return Err(node.wrong("", found, "the same both ways"));
    }
    let bucket = TokenBucketConfig { size: inbound, one_time_burst: None, refill_time: 1000 };
    Ok((inbound != 0).then_some(RateLimiterConfig { bandwidth: Some(bucket), ops: None }))
}

/// Reads `<filesystem>`.
pub fn filesystem(node: &mut Node<'_>) -> Result<FsConfig, XmlError> {
    node.neutral("type", &["mount"])?;
    node.neutral("accessmode", &["passthrough"])?;
    let driver = node.child("driver", |node| {
        node.neutral("type", &["virtiofs"])?;
        Ok((node.number::<u16>("queue")?, node.number::<u16>("queues")?))
    })?;
    let (queue_size, num_queues) = driver.unwrap_or((None, None));
    let socket = require(node, "source", "socket='SOCKET' of a virtiofsd", |node| {
        node.require("socket", "the socket of a virtiofsd")
    })?;
    let tag = require(node, "target", "dir='TAG'", |node| {
        node.require("dir", "the name by which the guest mounts it")
    })?;
    let (id, pci_device_id) = place(node)?;
    from_fields(
        node,
        json!({"id": id, "tag": tag, "socket": socket, "num_queues": num_queues, "queue_size": queue_size,
               "pci_device_id": pci_device_id}),
    )
}

/// Reads `<memory>` among the devices: a file as persistent memory.
pub fn pmem(node: &mut Node<'_>) -> Result<PmemConfig, XmlError> {
    let model = node.require("model", "nvdimm or virtio-pmem")?;
    if model != "nvdimm" && model != "virtio-pmem" {
        return Err(node.wrong("/@model", model, "nvdimm or virtio-pmem"));
    }
    let private = node.switch("access", "private", "shared")?;
    let file = require(node, "source", "the file", |node| {
        require(node, "path", "the file", |node| Ok(node.text()))
    })?;
    let size = node.child("target", |node| node.child("size", compute::size))?.flatten();
    let (id, pci_device_id) = place(node)?;
    from_fields(
        node,
        json!({"id": id, "file": file, "size": size, "discard_writes": private,
               "pci_device_id": pci_device_id}),
    )
}

/// Reads `<vsock>`.
pub fn vsock(node: &mut Node<'_>) -> Result<VsockConfig, XmlError> {
    node.neutral("model", &["virtio"])?;
    let cid = require(node, "cid", "address='3' or more", |node| {
        node.neutral("auto", &["no"])?;
        node.require("address", "a number from 3 on")
    })?;
    let cid: u32 = cid.parse().map_err(|_| node.wrong("/cid/@address", cid, "a number from 3 on"))?;
    let socket = require(node, "source", "type='unix' path='SOCKET'", |node| {
        node.neutral("type", &["unix"])?;
        node.require("path", "the socket on which the VMM listens")
    })?;
    let (id, pci_device_id) = place(node)?;
    from_fields(node, json!({"id": id, "cid": cid, "socket": socket, "pci_device_id": pci_device_id}))
}

fn rng(node: &mut Node<'_>) -> Result<RngConfig, XmlError> {
    node.neutral("model", &["virtio"])?;
    let src = node.child("backend", |node| {
        node.neutral("model", &["random"])?;
        Ok(node.text())
    })?;
    let (id, pci_device_id) = place(node)?;
    let default = RngConfig::default();
    let src = src.filter(|src| !src.is_empty()).map_or(default.src.clone(), Into::into);
    Ok(RngConfig { id, src, pci_device_id, ..default })
}

fn balloon(node: &mut Node<'_>) -> Result<Option<BalloonConfig>, XmlError> {
    let there = node.switch("model", "virtio", "none")?.unwrap_or(true);
    let deflate_on_oom = node.switch("autodeflate", "on", "off")?.unwrap_or(false);
    let free_page_reporting = node.switch("freePageReporting", "on", "off")?.unwrap_or(false);
    let (id, pci_device_id) = place(node)?;
    let balloon =
        BalloonConfig { id, deflate_on_oom, free_page_reporting, pci_device_id, ..BalloonConfig::default() };
    Ok(there.then_some(balloon))
}

/// Name of a device, and its slot on the PCI bus.
fn place(node: &mut Node<'_>) -> Result<(Option<String>, Option<u8>), XmlError> {
    let id = node.child("alias", |node| node.require("name", "the name of the device"))?;
    let slot = node.child("address", |node| {
        node.neutral("type", &["pci"])?;
        for part in ["domain", "bus", "function"] {
            node.convert(part, "0: there is one bus", |text| (number(text) == Some(0)).then_some(()))?;
        }
        node.convert("slot", "a slot, 0x00 to 0x1f", number)
    })?;
    Ok((id, slot.flatten()))
}

/// A number as libvirt writes those of PCI: in hexadecimal.
fn number(text: &str) -> Option<u8> {
    match text.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
