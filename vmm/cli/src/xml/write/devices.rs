//! Devices other than consoles.

use api::VmConfig;
use api::config::{
    DiskConfig, FsConfig, ImageType, NetConfig, PmemConfig, TokenBucketConfig, VhostMode, VsockConfig,
};

use super::super::tree::Element;
use super::super::units::size;
use crate::domain::disk_name;

pub fn elements(config: &VmConfig) -> Vec<Element> {
    let mut elements: Vec<_> =
        config.disks.iter().enumerate().map(|(number, entry)| disk(entry, number)).collect();
    elements.extend(config.net.iter().map(interface));
    elements.extend(config.fs.iter().map(filesystem));
    elements.extend(config.pmem.iter().map(pmem));
    elements.extend(config.vsock.as_ref().map(vsock));
    let rng = &config.rng;
    let source = Element::text("backend", rng.src.to_string_lossy()).attribute("model", "random");
    let place = place(rng.id.as_ref(), rng.pci_device_id);
    elements.push(Element::new("rng").attribute("model", "virtio").child(source).children(place));
    elements.push(balloon(config));
    if config.watchdog {
        elements.push(Element::new("watchdog").attribute("model", "virtio").attribute("action", "reset"));
    }
    elements
}

fn disk(disk: &DiskConfig, number: usize) -> Element {
    let (kind, attribute, path) = match &disk.path {
        _ if disk.vhost_user => ("vhostuser", "path", disk.vhost_socket.as_ref()),
        Some(path) if path.starts_with("/dev") => ("block", "dev", Some(path)),
        path => ("file", "file", path.as_ref()),
    };
    let source = path.map(|path| {
        let unix = disk.vhost_user.then_some("unix");
        Element::new("source").maybe("type", unix).attribute(attribute, path.display())
    });
    let standard = DiskConfig::default();
    let driver = Element::new("driver")
        .attribute(
            "type",
            match disk.image_type {
                ImageType::Raw => "raw",
                ImageType::Qcow2 => "qcow2",
                ImageType::Unknown => "auto",
            },
        )
        .maybe("cache", disk.direct.then_some("none"))
        .attribute("discard", if disk.sparse { "unmap" } else { "ignore" })
        .maybe("io", disk.disable_io_uring.then_some("threads"))
        .maybe("queues", (disk.num_queues != standard.num_queues).then_some(disk.num_queues))
        .maybe("queue_size", (disk.queue_size != standard.queue_size).then_some(disk.queue_size));
    let name = disk.id.clone().unwrap_or_else(|| disk_name(number));
    let limits = disk.rate_limiter_config.as_ref();
    let tune = Element::new("iotune")
        .children(limits.and_then(|limits| per_second("total_bytes_sec", limits.bandwidth)))
        .children(limits.and_then(|limits| per_second("total_iops_sec", limits.ops)));
    Element::new("disk")
        .attribute("type", kind)
        .attribute("device", "disk")
        .child(driver)
        .children(source)
        .child(Element::new("target").attribute("dev", name).attribute("bus", "virtio"))
        .children((!tune.is_bare()).then_some(tune))
        .children(disk.readonly.then(|| Element::new("readonly")))
        .children(disk.serial.as_ref().map(|serial| Element::text("serial", serial)))
        .children(place(None, disk.pci_device_id))
}

fn per_second(name: &str, bucket: Option<TokenBucketConfig>) -> Option<Element> {
    let bucket = bucket.filter(|bucket| bucket.refill_time == 1000)?;
    Some(Element::text(name, bucket.size.to_string()))
}

fn interface(net: &NetConfig) -> Element {
    let standard = NetConfig::default();
    let kind = if net.vhost_user { "vhostuser" } else { "ethernet" };
    let source = if net.vhost_user {
        let mode = match net.vhost_mode {
            VhostMode::Client => "client",
            VhostMode::Server => "server",
        };
        let path = net.vhost_socket.as_ref().map(|path| path.display());
        Some(Element::new("source").attribute("type", "unix").maybe("path", path).attribute("mode", mode))
    } else {
        host_address(net)
    };
    let size = (net.queue_size != standard.queue_size).then_some(net.queue_size);
    let off = |on: bool| (!on).then_some("off");
    let host = Element::new("host")
        .maybe("csum", off(net.offload_csum))
        .maybe("tso4", off(net.offload_tso))
        .maybe("ufo", off(net.offload_ufo));
    let driver = Element::new("driver")
        .maybe("queues", (net.num_queues != standard.num_queues).then_some(net.num_queues / 2))
        .maybe("rx_queue_size", size)
        .maybe("tx_queue_size", size)
        .children((!host.is_bare()).then_some(host));
    let target = net.tap.as_ref().map(|tap| Element::new("target").attribute("dev", tap));
    Element::new("interface")
        .attribute("type", kind)
        .children(net.mac.as_ref().map(|mac| Element::new("mac").attribute("address", mac)))
        .children(source)
        .children(target)
        .child(Element::new("model").attribute("type", "virtio"))
        .children((!driver.is_bare()).then_some(driver))
        .children(net.mtu.map(|mtu| Element::new("mtu").attribute("size", mtu)))
        .children(bandwidth(net))
        .children(place(net.id.as_ref(), net.pci_device_id))
}

fn host_address(net: &NetConfig) -> Option<Element> {
    let mask = net.mask.map(u32::from);
    let prefix = mask.filter(|mask| mask.leading_ones() == mask.count_ones()).map(u32::count_ones);
    (net.ip.is_some() || prefix.is_some()).then(|| {
        let ip = Element::new("ip").attribute("family", "ipv4");
        Element::new("source").child(ip.maybe("address", net.ip).maybe("prefix", prefix))
    })
}

fn bandwidth(net: &NetConfig) -> Option<Element> {
    let bucket = net.rate_limiter_config?.bandwidth?;
    (bucket.refill_time == 1000 && bucket.size.is_multiple_of(1000)).then(|| {
        let way = |name: &str| Element::new(name).attribute("average", bucket.size / 1000);
        Element::new("bandwidth").child(way("inbound")).child(way("outbound"))
    })
}

fn filesystem(fs: &FsConfig) -> Element {
    let driver = Element::new("driver")
        .attribute("type", "virtiofs")
        .attribute("queue", fs.queue_size)
        .maybe("queues", (fs.num_queues != 1).then_some(fs.num_queues));
    Element::new("filesystem")
        .attribute("type", "mount")
        .child(driver)
        .child(Element::new("source").attribute("socket", fs.socket.display()))
        .child(Element::new("target").attribute("dir", &fs.tag))
        .children(place(fs.id.as_ref(), fs.pci_device_id))
}

fn pmem(pmem: &PmemConfig) -> Element {
    let target = pmem.size.map(|bytes| {
        let (value, unit) = size(bytes);
        Element::new("target").child(Element::text("size", value.to_string()).attribute("unit", unit))
    });
    Element::new("memory")
        .attribute("model", "virtio-pmem")
        .attribute("access", if pmem.discard_writes { "private" } else { "shared" })
        .child(Element::new("source").child(Element::text("path", pmem.file.to_string_lossy())))
        .children(target)
        .children(place(pmem.id.as_ref(), pmem.pci_device_id))
}

fn vsock(vsock: &VsockConfig) -> Element {
    let source = Element::new("source").attribute("type", "unix");
    Element::new("vsock")
        .attribute("model", "virtio")
        .child(Element::new("cid").attribute("auto", "no").attribute("address", vsock.cid))
        .child(source.attribute("path", vsock.socket.display()))
        .children(place(vsock.id.as_ref(), vsock.pci_device_id))
}

fn balloon(config: &VmConfig) -> Element {
    let element = Element::new("memballoon");
    let Some(balloon) = &config.balloon else { return element.attribute("model", "none") };
    element
        .attribute("model", "virtio")
        .maybe("autodeflate", balloon.deflate_on_oom.then_some("on"))
        .maybe("freePageReporting", balloon.free_page_reporting.then_some("on"))
        .children(place(balloon.id.as_ref(), balloon.pci_device_id))
}

fn place(id: Option<&String>, slot: Option<u8>) -> impl Iterator<Item = Element> {
    let alias = id.map(|id| Element::new("alias").attribute("name", id));
    let address = slot.map(|slot| {
        Element::new("address")
            .attribute("type", "pci")
            .attribute("domain", "0x0000")
            .attribute("bus", "0x00")
            .attribute("slot", format!("{slot:#04x}"))
            .attribute("function", "0x0")
    });
    alias.into_iter().chain(address)
}
