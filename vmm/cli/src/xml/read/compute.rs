//! Processors and memory.

use std::collections::BTreeMap;

use api::VmConfig;
use api::config::{
    BalloonConfig, CpuAffinity, CpuTopology, CpusConfig, MemoryConfig, MemoryZoneConfig, NumaConfig,
    NumaDistance,
};

use super::super::XmlError;
use super::super::node::Node;
use super::super::units::{parse_set, unit};
use super::require;

/// Most pinned vCPUs and most cells; there is no board for more.
const MAX_PARTS: usize = 512;

/// Name of the zone that is all of the memory.
pub const WHOLE_ZONE: &str = "ram";

/// Name of the zone of a cell.
pub fn zone_of_cell(cell: u32) -> String {
    format!("cell{cell}")
}

/// Reads all that is about processors and memory, but not the balloon.
pub fn read(node: &mut Node<'_>, config: &mut VmConfig) -> Result<(), XmlError> {
    config.cpus = node.child("vcpu", vcpus)?.unwrap_or_default();
    if let Some(affinity) = node.child("cputune", |node| {
        node.each("vcpupin", |node| {
            Ok(CpuAffinity {
                vcpu: required_number(node, "vcpu")?,
                host_cpus: cpuset(node, "cpuset")?.unwrap_or_default(),
            })
        })
    })? {
        bounded(&affinity, "vcpupin elements")?;
        config.cpus.affinity = affinity;
    }
    let cells = node.child("cpu", |node| cpu(node, &mut config.cpus))?.unwrap_or_default();
    bounded(&cells, "cells")?;
    let size = require(node, "memory", "the size of the memory", size)?;
    let backing = node.child("memoryBacking", backing)?.unwrap_or_default();
    let binding = node.child("numatune", binding)?.unwrap_or_default();
    if cells.is_empty() {
        if let Some((cell, _)) = binding.cells.first_key_value() {
            return Err(node.wrong("/numatune/memnode", cell.to_string(), "the id of a cell in cpu/numa"));
        }
        match binding.all {
            Some(host) => {
                config.memory = MemoryConfig {
                    size: 0,
                    zones: vec![backing.zone(WHOLE_ZONE.into(), size, Some(host))],
                    ..MemoryConfig::default()
                };
            }
            None => config.memory = MemoryConfig { size, ..backing },
        }
        return Ok(());
    }
    let sum = cells.iter().fold(0, |sum: u64, cell| sum.saturating_add(cell.size));
    if sum != size {
        return Err(node.wrong(
            "/memory",
            format!("{size} bytes"),
            &format!("{sum} bytes, as the cells have"),
        ));
    }
    let mut zones = Vec::new();
    for Cell { numa, size } in cells {
        let id = zone_of_cell(numa.guest_numa_id);
        let host = binding.cells.get(&numa.guest_numa_id).copied().or(binding.all);
        zones.push(backing.zone(id, size, host));
        config.numa.push(numa);
    }
    config.memory = MemoryConfig { size: 0, zones, ..MemoryConfig::default() };
    Ok(())
}

/// Reads `<currentMemory>`: what is missing from the memory is in the balloon.
pub fn balloon(node: &mut Node<'_>, config: &mut VmConfig) -> Result<(), XmlError> {
    let Some(current) = node.child("currentMemory", size)? else { return Ok(()) };
    let zones = config.memory.zones.iter().map(|zone| zone.size);
    let size = zones.fold(config.memory.size, u64::saturating_add);
    let Some(given_up) = size.checked_sub(current) else {
        return Err(node.wrong("/currentMemory", format!("{current} bytes"), "at most the memory"));
    };
    match &mut config.balloon {
        Some(balloon) => balloon.size = given_up,
        None if given_up == 0 => {}
        None => config.balloon = Some(BalloonConfig { size: given_up, ..BalloonConfig::default() }),
    }
    Ok(())
}

fn vcpus(node: &mut Node<'_>) -> Result<CpusConfig, XmlError> {
    node.neutral("placement", &["static"])?;
    let current = node.number("current")?;
    let max = node.value("a number of vCPUs", |text| text.parse().ok())?;
    Ok(match current {
        Some(current) => CpusConfig { boot_vcpus: current, max_vcpus: Some(max), ..CpusConfig::default() },
        None => CpusConfig { boot_vcpus: max, ..CpusConfig::default() },
    })
}

struct Cell {
    numa: NumaConfig,
    size: u64,
}

fn cpu(node: &mut Node<'_>, cpus: &mut CpusConfig) -> Result<Vec<Cell>, XmlError> {
    node.neutral("mode", &["host-passthrough"])?;
    node.neutral("check", &["none"])?;
    cpus.topology = node.child("topology", |node| {
        node.neutral("clusters", &["1"])?;
        Ok(CpuTopology {
            packages: required_number(node, "sockets")?,
            dies_per_package: node.number("dies")?.unwrap_or(1),
            cores_per_die: required_number(node, "cores")?,
            threads_per_core: required_number(node, "threads")?,
        })
    })?;
    let cells = node.child("numa", |node| node.each("cell", cell))?;
    Ok(cells.unwrap_or_default())
}

fn cell(node: &mut Node<'_>) -> Result<Cell, XmlError> {
    let guest_numa_id = required_number(node, "id")?;
    let cpus = cpuset(node, "cpus")?.unwrap_or_default();
    let scale = scale(node)?;
    let memory: u64 = required_number(node, "memory")?;
    let size = scaled(node, "/@memory", memory, scale)?;
    let distances = node.child("distances", |node| {
        node.each("sibling", |node| {
            Ok(NumaDistance {
                destination: required_number(node, "id")?,
                distance: required_number(node, "value")?,
            })
        })
    })?;
    // libvirt writes the distance of a node to itself, which is always 10.
    let mut distances = distances.unwrap_or_default();
    distances.retain(|distance| distance.destination != guest_numa_id || distance.distance != 10);
    let memory_zones = vec![zone_of_cell(guest_numa_id)];
    Ok(Cell { numa: NumaConfig { guest_numa_id, cpus, distances, memory_zones }, size })
}

fn backing(node: &mut Node<'_>) -> Result<MemoryConfig, XmlError> {
    let page = node.child("hugepages", |node| {
        node.child("page", |node| {
            let scale = scale(node)?;
            let size: u64 = required_number(node, "size")?;
            scaled(node, "/@size", size, scale)
        })
    })?;
    let shared = node.child("access", |node| node.switch("mode", "shared", "private"))?.flatten();
    let prefault = node.child("allocation", |node| node.switch("mode", "immediate", "ondemand"))?.flatten();
    // Pages are not shared between VMs unless `mergeable` is set, and shared memory is a memfd.
    node.flag("nosharepages")?;
    node.child("source", |node| node.neutral("type", &["memfd"]))?;
    Ok(MemoryConfig {
        hugepages: page.is_some(),
        hugepage_size: page.flatten(),
        shared: shared.unwrap_or(false),
        prefault: prefault.unwrap_or(false),
        ..MemoryConfig::default()
    })
}

trait Zone {
    fn zone(&self, id: String, size: u64, host_numa_node: Option<u32>) -> MemoryZoneConfig;
}

impl Zone for MemoryConfig {
    fn zone(&self, id: String, size: u64, host_numa_node: Option<u32>) -> MemoryZoneConfig {
        MemoryZoneConfig {
            id,
            size,
            file: None,
            mergeable: self.mergeable,
            shared: self.shared,
            hugepages: self.hugepages,
            hugepage_size: self.hugepage_size,
            host_numa_node,
            prefault: self.prefault,
            reserve: self.reserve,
        }
    }
}

/// NUMA nodes of the host from which memory comes.
#[derive(Default)]
struct Binding {
    all: Option<u32>,
    cells: BTreeMap<u32, u32>,
}

fn binding(node: &mut Node<'_>) -> Result<Binding, XmlError> {
    let host = |node: &mut Node<'_>| {
        node.neutral("mode", &["strict"])?;
        required_number(node, "nodeset")
    };
    let all = node.child("memory", host)?;
    let cells = node.each("memnode", |node| Ok((required_number(node, "cellid")?, host(node)?)))?;
    Ok(Binding { all, cells: cells.into_iter().collect() })
}

/// Reads a size and its unit, KiB unless it is given.
pub fn size(node: &mut Node<'_>) -> Result<u64, XmlError> {
    let scale = scale(node)?;
    let size: u64 = node.value("a size", |text| text.parse().ok())?;
    scaled(node, "", size, scale)
}

fn scale(node: &mut Node<'_>) -> Result<u64, XmlError> {
    Ok(node.convert("unit", "b, KiB, MiB, GiB, TiB, KB, MB, GB or TB", unit)?.unwrap_or(1024))
}

fn scaled(node: &Node<'_>, below: &str, size: u64, scale: u64) -> Result<u64, XmlError> {
    size.checked_mul(scale).ok_or_else(|| node.wrong(below, size.to_string(), "a size below 2^64 bytes"))
}

fn cpuset<T: TryFrom<u32>>(node: &mut Node<'_>, name: &str) -> Result<Option<Vec<T>>, XmlError> {
    node.convert(name, "processors such as 0-3,^2,8", parse_set)
}

fn required_number<T: std::str::FromStr>(node: &mut Node<'_>, name: &str) -> Result<T, XmlError> {
    let found = node.number(name)?;
    found.ok_or_else(|| XmlError::Missing {
        path: format!("{}/@{name}", node.path()),
        expected: "a number".into(),
    })
}

fn bounded<T>(parts: &[T], what: &'static str) -> Result<(), XmlError> {
    if parts.len() > MAX_PARTS { Err(XmlError::TooMuch { what, limit: MAX_PARTS }) } else { Ok(()) }
}
