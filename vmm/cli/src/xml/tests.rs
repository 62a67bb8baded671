use std::path::PathBuf;

use api::VmConfig;
use api::config::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::*;
use crate::domain::OnReboot;

/// What a user of libvirt would write, with most of the subset in it.
const FULL: &str = include_str!("tests/full.xml");

fn config_of(inner: &str) -> Result<VmConfig, XmlError> {
    parse(&format!(
        "<domain type='kvm'><name>a</name><memory unit='MiB'>64</memory>\
         <os><kernel>/k</kernel></os>{inner}</domain>"
    ))
    .map(|domain| domain.config)
}

fn devices_of(inner: &str) -> Result<VmConfig, XmlError> {
    config_of(&format!("<devices>{inner}</devices>"))
}

fn refusal(result: Result<impl std::fmt::Debug, XmlError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_full_domain_means_what_it_says() {
    let domain = parse(FULL).unwrap();
    assert_eq!(domain.name, "full");
    assert_eq!(domain.title.as_deref(), Some("Ends & means"));
    assert_eq!(domain.on_reboot, OnReboot::Destroy);
    let config = &domain.config;
    assert_eq!(config.payload.cmdline, "console=hvc0 root=/dev/vda ro");
    assert_eq!((config.cpus.boot_vcpus, config.cpus.max_vcpus), (2, Some(4)));
    assert_eq!(config.cpus.affinity[0].host_cpus, [0, 1, 3]);
    assert_eq!(config.memory.size, 0);
    assert_eq!(config.memory.zones.len(), 2);
    let zone = &config.memory.zones[1];
    assert_eq!((zone.id.as_str(), zone.size, zone.host_numa_node), ("cell1", 512 << 20, Some(1)));
    assert_eq!(zone.hugepage_size, Some(2 << 20));
    assert!(zone.hugepages && zone.shared && zone.prefault);
    assert_eq!(config.numa[0].distances, [NumaDistance { destination: 1, distance: 21 }]);
    assert_eq!(config.balloon.as_ref().unwrap().size, 256 << 20);
    let disk = &config.disks[0];
    assert_eq!((disk.image_type, disk.direct, disk.num_queues), (ImageType::Qcow2, true, 2));
    assert_eq!(disk.rate_limiter_config.unwrap().bandwidth.unwrap().size, 1_048_576);
    assert!(config.disks[1].readonly && config.disks[1].path == Some("/dev/vg/data".into()));
    assert!(config.disks[2].vhost_user);
    let net = &config.net[0];
    assert_eq!((net.tap.as_deref(), net.mtu, net.num_queues), (Some("tap0"), Some(9000), 4));
    assert_eq!(net.mask, Some("255.255.255.0".parse().unwrap()));
    assert_eq!(net.rate_limiter_config.unwrap().bandwidth.unwrap().size, 125_000);
    assert_eq!(config.net[1].vhost_mode, VhostMode::Server);
    assert_eq!(config.serial.mode, ConsoleMode::File);
    assert_eq!(config.console.mode, ConsoleMode::Pty);
    assert_eq!(config.vsock.as_ref().unwrap().cid, 3);
    assert_eq!((config.fs[0].tag.as_str(), config.pmem[0].size), ("share", Some(1 << 30)));
    assert!(config.watchdog && config.pmem[0].discard_writes);
    let realm = config.realm.as_ref().unwrap();
    assert_eq!(realm.measurement_algorithm, HashName::Sha512);
    assert_eq!(realm.platform.as_ref().unwrap().key, PathBuf::from("/etc/platform.pem"));
    assert_eq!(config.sandbox.cgroup.as_deref(), Some("machine/full"));
    assert!(domain.autostart);
}

#[test]
fn what_is_written_is_read_and_written_the_same() {
    let domain = parse(FULL).unwrap();
    let text = print(&domain).unwrap();
    assert_eq!(parse(&text).unwrap(), domain);
    assert_eq!(print(&parse(&text).unwrap()).unwrap(), text);
}

#[test]
fn a_small_domain_has_no_fields_of_ours() {
    let domain = Domain::new("a", VmConfig::booting("/k".into()));
    let text = print(&domain).unwrap();
    assert!(!text.contains("redoubt:"), "{text}");
    assert!(text.contains("<memory unit='KiB'>524288</memory>"), "{text}");
}

#[test]
fn what_is_not_in_the_subset_is_named_by_its_path() {
    for (inner, path) in [
        ("<sound/>", "/domain/devices/sound"),
        ("<graphics type='vnc'/>", "/domain/devices/graphics"),
        ("<disk type='file'><target dev='vda'/><geometry/></disk>", "/domain/devices/disk[1]/geometry"),
        ("<disk><target dev='vda' removable='on'/></disk>", "/domain/devices/disk[1]/target/@removable"),
        ("<disk>text<target dev='vda'/></disk>", "/domain/devices/disk[1]/text()"),
        ("<disk snapshot='no'><target dev='vda'/></disk>", "/domain/devices/disk[1]/@snapshot"),
        ("<disk><target dev='vda'/><backingStore><source/></backingStore></disk>", "backingStore/source"),
    ] {
        let error = refusal(devices_of(inner));
        assert!(error.contains(path) && error.contains("--lenient"), "{inner}: {error}");
    }
    for inner in
        ["<memtune/>", "<features><acpi/></features>", "<os/>", "<memoryBacking><locked/></memoryBacking>"]
    {
        config_of(inner).unwrap_err();
    }
}

#[test]
fn lenient_reading_passes_over_it_and_tells() {
    let text = "<domain id='3'><name>a</name><memory>65536</memory><os><kernel>/k</kernel></os>\
                <features><acpi/></features><devices><sound model='ich9'/></devices></domain>";
    let found = parse_lenient(text).unwrap();
    assert_eq!(found.ignored, ["/domain/features/acpi", "/domain/devices/sound"]);
    assert_eq!(found.value.config.memory.size, 64 << 20);
    // A value that is wrong is wrong all the same.
    parse_lenient(&text.replace("65536", "much")).unwrap_err();
}

#[test]
fn wrong_values_say_where_what_and_what_instead() {
    for (inner, parts) in [
        ("<disk type='network'><target dev='a'/></disk>", ["disk[1]/@type", "network", "vhostuser"]),
        ("<disk device='cdrom'><target dev='a'/></disk>", ["disk[1]/@device", "cdrom", "disk"]),
        ("<disk><target dev='a' bus='ide'/></disk>", ["target/@bus", "ide", "virtio"]),
        ("<disk><driver cache='unsafe'/><target dev='a'/></disk>", ["@cache", "unsafe", "none"]),
        ("<disk/>", ["disk[1]/target", "none", "vda"]),
        ("<interface type='bridge'/>", ["interface[1]/@type", "bridge", "ethernet"]),
        (
            "<interface type='ethernet'><driver rx_queue_size='1'/></interface>",
            ["driver", "queue_size", "both"],
        ),
        (
            "<interface type='ethernet'><bandwidth><inbound average='1'/></bandwidth></interface>",
            ["bandwidth", "1000", "both"],
        ),
        ("<vsock><cid auto='yes'/></vsock>", ["cid/@auto", "yes", "no"]),
        ("<vsock><cid address='3'/></vsock>", ["vsock/source", "none", "unix"]),
        ("<watchdog model='i6300esb'/>", ["watchdog/@model", "i6300esb", "virtio"]),
        ("<serial type='tcp'/>", ["serial/@type", "tcp", "pty"]),
        ("<filesystem><target dir='t'/></filesystem>", ["filesystem[1]/source", "none", "virtiofsd"]),
    ] {
        let error = refusal(devices_of(inner));
        assert!(parts.iter().all(|part| error.contains(part)), "{inner}: {error}");
    }
    for (inner, parts) in [
        ("<on_crash>preserve</on_crash>", ["/domain/on_crash", "preserve", "destroy"]),
        ("<currentMemory unit='GiB'>1</currentMemory>", ["currentMemory", "1073741824", "at most"]),
        ("<cputune><vcpupin vcpu='0' cpuset='0-9999999'/></cputune>", ["cpuset", "9999999", "0-3"]),
        ("<cpu><numa><cell id='0' memory='1'/></numa></cpu>", ["/domain/memory", "67108864", "cells"]),
        ("<launchSecurity type='sev'/>", ["launchSecurity/@type", "sev", "cca"]),
        ("<launchSecurity type='soft' rmm='9'/>", ["launchSecurity", "9", "knows"]),
        (
            "<redoubt:config><redoubt:set path='/x/y'>1</redoubt:set></redoubt:config>",
            ["set[1]/@path", "/x/y", "parent"],
        ),
        (
            "<redoubt:config><redoubt:set path='/watchdog'>7</redoubt:set></redoubt:config>",
            ["config", "7", "fields"],
        ),
        ("<features><gic version='2'/></features>", ["gic/@version", "2", "3"]),
    ] {
        let error = refusal(config_of(inner));
        assert!(parts.iter().all(|part| error.contains(part)), "{inner}: {error}");
    }
    assert!(refusal(parse("<domain/>")).contains("/domain/name"));
    assert!(refusal(parse("<network/>")).contains("domain"));
}

#[test]
fn an_element_that_can_be_there_once_is_not_there_twice() {
    for inner in [
        "<vcpu>1</vcpu><vcpu>2</vcpu>",
        "<devices/><devices/>",
        "<devices><serial type='pty'/><console type='null'/></devices>",
        "<devices><console type='pty'/><console type='pty'/></devices>",
    ] {
        let error = refusal(config_of(inner));
        assert!(error.contains("more than one"), "{inner}: {error}");
    }
    // libvirt writes the serial port a second time.
    let config =
        devices_of("<serial type='pty'/><console type='pty'><target type='serial'/></console>").unwrap();
    assert_eq!((config.serial.mode, config.console.mode), (ConsoleMode::Pty, ConsoleMode::Off));
}

#[test]
fn hostile_documents_are_refused_with_bounds() {
    let entity = "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain><name>&x;</name></domain>";
    assert!(refusal(parse(entity)).contains("document type"));
    assert!(refusal(parse("<domain><name>&x;</name></domain>")).contains("&x;"));
    assert!(refusal(parse("<?php x?><domain/>")).contains("processing instruction"));
    assert!(refusal(parse(&"<a>".repeat(100_000))).contains("levels"));
    assert!(refusal(parse(&format!("<a>{}</a>", "<b/>".repeat(30_000)))).contains("elements"));
    assert!(refusal(parse(&" ".repeat(2 << 20))).contains("bytes"));
    let attributes: String = (0..100).map(|number| format!(" a{number}=''")).collect();
    assert!(refusal(parse(&format!("<a{attributes}/>"))).contains("attributes"));
    for text in [
        "",
        "text",
        "<a>",
        "<a></b>",
        "<a/><b/>",
        "<a/>x",
        "<a x='1' x='2'/>",
        "<a x=1/>",
        "<a>&#0;</a>",
        "<a>\u{1}</a>",
        "<a x='&#1;'/>",
    ] {
        parse(text).unwrap_err();
    }
}

#[test]
fn text_that_xml_cannot_hold_is_refused_before_it_is_written() {
    let mut config = VmConfig::booting("/k".into());
    config.payload.cmdline = "a\u{1}b".into();
    assert!(refusal(print(&Domain::new("a", config))).contains("--format json"));
}

#[test]
fn devices_can_be_read_alone() {
    let Device::Disk(disk) = parse_device("<disk><source file='/d'/><target dev='vdb'/></disk>").unwrap()
    else {
        panic!("not a disk")
    };
    assert_eq!((disk.id.as_deref(), disk.path), (Some("vdb"), Some("/d".into())));
    assert!(matches!(parse_device("<interface type='ethernet'/>").unwrap(), Device::Net(_)));
    assert!(refusal(parse_device("<domain/>")).contains("disk, interface"));
    assert!(refusal(parse_device("<disk><target dev='a'/><x/></disk>")).contains("/disk/x"));
}

/// Text that XML can hold, with what has to be escaped.
fn text() -> impl Strategy<Value = String> {
    "[ -~\t\n\r\u{a0}-\u{ff}\u{10000}]{0,12}"
}

fn path() -> impl Strategy<Value = PathBuf> {
    text().prop_map(|text| format!("/{text}").into())
}

fn bucket() -> impl Strategy<Value = TokenBucketConfig> {
    (any::<u64>(), of(any::<u64>()), prop_oneof![Just(1000), any::<u64>()]).prop_map(
        |(size, one_time_burst, refill_time)| TokenBucketConfig { size, one_time_burst, refill_time },
    )
}

fn limits() -> impl Strategy<Value = Option<RateLimiterConfig>> {
    of((of(bucket()), of(bucket())).prop_map(|(bandwidth, ops)| RateLimiterConfig { bandwidth, ops }))
}

fn disk() -> impl Strategy<Value = DiskConfig> {
    let kind = prop_oneof![Just(ImageType::Unknown), Just(ImageType::Raw), Just(ImageType::Qcow2)];
    let switches = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let numbers = (any::<u16>(), any::<u16>(), of(any::<u8>()), any::<u16>());
    (of(text()), of(path()), kind, switches, numbers, of(text()), limits(), of(path())).prop_map(
        |(id, path, image_type, switches, numbers, serial, rate_limiter_config, vhost_socket)| DiskConfig {
            id,
            path,
            image_type,
            readonly: switches.0,
            direct: switches.1,
            sparse: switches.2,
            backing_files: switches.3,
            disable_io_uring: switches.4,
            vhost_user: switches.5,
            num_queues: numbers.0,
            queue_size: numbers.1,
            pci_device_id: numbers.2,
            pci_segment: numbers.3,
            serial,
            rate_limiter_config,
            vhost_socket,
            ..DiskConfig::default()
        },
    )
}

fn net() -> impl Strategy<Value = NetConfig> {
    let switches = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let numbers = (any::<u16>(), any::<u16>(), of(any::<u16>()), of(any::<u8>()));
    let address = (of(any::<u32>()), of(any::<u32>()));
    let mode = prop_oneof![Just(VhostMode::Client), Just(VhostMode::Server)];
    (of(text()), of(text()), of(text()), switches, numbers, address, limits(), (of(path()), mode)).prop_map(
        |(id, tap, mac, switches, numbers, (ip, mask), rate_limiter_config, (vhost_socket, vhost_mode))| {
            NetConfig {
                id,
                tap,
                mac,
                ip: ip.map(Into::into),
                mask: mask.map(Into::into),
                offload_csum: switches.0,
                offload_tso: switches.1,
                offload_ufo: switches.2,
                vhost_user: switches.3,
                num_queues: numbers.0,
                queue_size: numbers.1,
                mtu: numbers.2,
                pci_device_id: numbers.3,
                rate_limiter_config,
                vhost_socket,
                vhost_mode,
                ..NetConfig::default()
            }
        },
    )
}

fn cpus() -> impl Strategy<Value = CpusConfig> {
    let topology = (1..9_u16, 1..9_u16, 1..9_u16, 1..9_u16).prop_map(|(a, b, c, d)| CpuTopology {
        threads_per_core: a,
        cores_per_die: b,
        dies_per_package: c,
        packages: d,
    });
    let pin =
        (any::<u16>(), vec(0..64_u32, 0..6)).prop_map(|(vcpu, host_cpus)| CpuAffinity { vcpu, host_cpus });
    (any::<u16>(), of(any::<u16>()), of(topology), vec(pin, 0..4)).prop_map(
        |(boot_vcpus, max_vcpus, topology, affinity)| CpusConfig {
            boot_vcpus,
            max_vcpus,
            topology,
            affinity,
        },
    )
}

fn zone() -> impl Strategy<Value = MemoryZoneConfig> {
    let switches = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let id = prop_oneof![Just("ram".to_owned()), Just("cell0".to_owned()), Just("cell1".to_owned()), text()];
    (id, any::<u64>(), of(path()), switches, of(any::<u64>()), of(any::<u32>())).prop_map(
        |(id, size, file, switches, hugepage_size, host_numa_node)| MemoryZoneConfig {
            id,
            size,
            file,
            mergeable: switches.0,
            shared: switches.1,
            hugepages: switches.2,
            hugepage_size,
            host_numa_node,
            prefault: switches.3,
            reserve: false,
        },
    )
}

fn memory() -> impl Strategy<Value = (MemoryConfig, Vec<NumaConfig>)> {
    let switches = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let distance = (any::<u32>(), any::<u8>())
        .prop_map(|(destination, distance)| NumaDistance { destination, distance });
    let numa = (0..3_u32, vec(0..16_u16, 0..4), vec(distance, 0..3), vec("cell[01]", 0..2)).prop_map(
        |(guest_numa_id, cpus, distances, memory_zones)| NumaConfig {
            guest_numa_id,
            cpus,
            distances,
            memory_zones,
        },
    );
    let size = prop_oneof![Just(0), Just(64 << 20), any::<u64>()];
    (size, switches, of(any::<u64>()), vec(zone(), 0..3), vec(numa, 0..3)).prop_map(
        |(size, switches, hugepage_size, zones, numa)| {
            let memory = MemoryConfig {
                size,
                mergeable: switches.0,
                shared: switches.1,
                hugepages: switches.2,
                prefault: switches.3,
                thp: switches.4,
                hugepage_size,
                reserve: false,
                zones,
            };
            (memory, numa)
        },
    )
}

fn console() -> impl Strategy<Value = ConsoleConfig> {
    let mode = prop_oneof![
        Just(ConsoleMode::Off),
        Just(ConsoleMode::Null),
        Just(ConsoleMode::Tty),
        Just(ConsoleMode::File),
        Just(ConsoleMode::Pty),
        Just(ConsoleMode::Socket)
    ];
    (mode, of(path()), of(path())).prop_map(|(mode, file, socket)| ConsoleConfig { mode, file, socket })
}

fn realm() -> impl Strategy<Value = RealmConfig> {
    let component =
        (text(), text(), text(), text()).prop_map(|(component_type, measurement, version, signer_id)| {
            PlatformComponent { component_type, measurement, version, signer_id }
        });
    let platform = (path(), of(text()), text(), vec(component, 0..2)).prop_map(
        |(key, instance_id, config, components)| PlatformConfig { key, instance_id, config, components },
    );
    (any::<bool>(), any::<bool>(), of(text()), of(platform), any::<bool>()).prop_map(
        |(sha512, v2, value, platform, lies)| {
            let json = serde_json::json!({
                "backend": "soft",
                "measurement_algorithm": if sha512 { "sha512" } else { "sha256" },
                "rmm": if v2 { "2.0" } else { "1.0" },
                "personalization_value": value,
                "fault": lies.then_some("signature"),
                "platform": platform,
            });
            serde_json::from_value(json).unwrap()
        },
    )
}

fn balloon() -> impl Strategy<Value = BalloonConfig> {
    (of(text()), any::<u64>(), any::<bool>(), any::<bool>()).prop_map(
        |(id, size, deflate_on_oom, free_page_reporting)| BalloonConfig {
            id,
            size,
            deflate_on_oom,
            free_page_reporting,
            ..BalloonConfig::default()
        },
    )
}

fn others() -> impl Strategy<Value = (Vec<FsConfig>, Vec<PmemConfig>, Option<VsockConfig>)> {
    let fs =
        (text(), path(), any::<u16>(), any::<u16>()).prop_map(|(tag, socket, num_queues, queue_size)| {
            FsConfig { id: None, tag, socket, num_queues, queue_size, pci_segment: 0, pci_device_id: None }
        });
    let pmem = (path(), of(any::<u64>()), any::<bool>()).prop_map(|(file, size, discard_writes)| {
        PmemConfig { id: None, file, size, discard_writes, iommu: false, pci_segment: 0, pci_device_id: None }
    });
    let vsock = (any::<u32>(), path()).prop_map(|(cid, socket)| VsockConfig {
        id: None,
        cid,
        socket,
        iommu: false,
        pci_segment: 0,
        pci_device_id: None,
    });
    (vec(fs, 0..2), vec(pmem, 0..2), of(vsock))
}

fn any_domain() -> impl Strategy<Value = Domain> {
    let payload = (path(), of(path()), text());
    let parts = (vec(disk(), 0..3), vec(net(), 0..2), of(balloon()), console(), console(), others());
    let rest = (of(realm()), any::<bool>(), of(text()), any::<bool>());
    let outside = (any::<u128>(), of(text()), of(text()), any::<bool>(), of(path()), any::<bool>());
    (payload, cpus(), memory(), parts, rest, outside).prop_map(
        |(payload, cpus, (memory, numa), parts, rest, outside)| {
            let mut config = VmConfig::booting(payload.0);
            (config.payload.initramfs, config.payload.cmdline) = (payload.1, payload.2);
            (config.cpus, config.memory, config.numa) = (cpus, memory, numa);
            (config.disks, config.net, config.balloon) = (parts.0, parts.1, parts.2);
            (config.serial, config.console) = (parts.3, parts.4);
            (config.fs, config.pmem, config.vsock) = parts.5;
            (config.realm, config.watchdog) = (rest.0, rest.1);
            (config.sandbox.cgroup, config.landlock_enable) = (rest.2, rest.3);
            Domain {
                uuid: uuid::Uuid::from_u128(outside.0),
                title: outside.1,
                description: outside.2,
                autostart: outside.3,
                emulator: outside.4,
                on_reboot: if outside.5 { OnReboot::Destroy } else { OnReboot::Restart },
                ..Domain::new("name", config)
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever a domain is, its XML means the same, and is written the same again.
    #[test]
    fn any_domain_goes_to_xml_and_back(domain in any_domain()) {
        let text = print(&domain).unwrap();
        let back = parse(&text).unwrap();
        prop_assert_eq!(&back, &domain);
        prop_assert_eq!(print(&back).unwrap(), text);
    }

    /// No text makes the reader panic; what it accepts can be written, and read again.
    #[test]
    fn any_text_is_read_or_refused(text in "(<|>|/|'|=| |domain|name|&|;|#|[a-z]|\\PC){0,60}") {
        if let Ok(domain) = parse(&text) {
            let written = print(&domain).unwrap();
            prop_assert_eq!(parse(&written).unwrap(), domain);
        }
    }
}
