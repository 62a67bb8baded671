//! Fields of the interface that this VMM refuses: each is named, none is ignored.

use api::VmConfig;
use api::config::{LockGranularity, VhostMode};

use super::ConfigError;

/// Refuses what is not built.
///
/// # Errors
///
/// [`ConfigError::Unsupported`] that names the field.
pub fn refuse(config: &VmConfig) -> Result<(), ConfigError> {
    let VmConfig {
        payload: _,
        cpus: _,
        memory: _,
        numa: _,
        rate_limit_groups: _,
        disks,
        net,
        rng,
        balloon,
        fs,
        pmem,
        serial: _,
        console: _,
        vsock,
        watchdog: _,
        landlock_enable: _,
        landlock_rules: _,
        realm: _,
        sandbox: _,
    } = config;
    for disk in disks {
        only(disk.lock_granularity == LockGranularity::Full, "disks.lock_granularity", "Full")?;
        only(!disk.iommu, "disks.iommu", "false")?;
        only(
            disk.pci_segment == 0 && disk.pci_device_id.is_none(),
            "disks",
            "no pci_segment and no pci_device_id",
        )?;
    }
    for net in net {
        let served = net.vhost_mode == VhostMode::Client || net.vhost_user;
        only(served, "net.vhost_mode", "Client, unless with vhost_user")?;
        only(!net.iommu, "net.iommu", "false")?;
        only(
            net.pci_segment == 0 && net.pci_device_id.is_none(),
            "net",
            "no pci_segment and no pci_device_id",
        )?;
    }
    if let Some(balloon) = balloon {
        let free = balloon.pci_segment == 0 && balloon.pci_device_id.is_none();
        only(free, "balloon", "no pci_segment and no pci_device_id")?;
    }
    for fs in fs {
        only(fs.pci_segment == 0 && fs.pci_device_id.is_none(), "fs", "no pci_segment and no pci_device_id")?;
    }
    for pmem in pmem {
        only(!pmem.iommu, "pmem.iommu", "false")?;
        let free = pmem.pci_segment == 0 && pmem.pci_device_id.is_none();
        only(free, "pmem", "no pci_segment and no pci_device_id")?;
    }

    only(!rng.iommu, "rng.iommu", "false")?;
    let placed = [
        ("rng", rng.pci_segment, rng.pci_device_id),
        (
            "vsock",
            vsock.as_ref().map_or(0, |vsock| vsock.pci_segment),
            vsock.as_ref().and_then(|vsock| vsock.pci_device_id),
        ),
    ];
    for (field, segment, slot) in placed {
        only(segment == 0 && slot.is_none(), field, "no pci_segment and no pci_device_id")?;
    }
    only(!vsock.as_ref().is_some_and(|vsock| vsock.iommu), "vsock.iommu", "false")
}

fn only(holds: bool, field: &'static str, expected: &'static str) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::Unsupported { field, expected }) }
}
