//! Processors and memory.

use api::VmConfig;
use api::config::{CpuTopology, MemoryZoneConfig, NumaConfig};

use super::super::tree::Element;
use super::super::units::{print_set, size};

/// Flags of memory that XML has.
struct Backing {
    hugepages: bool,
    hugepage_size: Option<u64>,
    shared: bool,
    prefault: bool,
}

pub fn elements(config: &VmConfig) -> Vec<Element> {
    let zones = &config.memory.zones;
    let cells = cells(config);
    let total = if cells.is_empty() {
        zones.iter().map(|zone| zone.size).fold(config.memory.size, u64::saturating_add)
    } else {
        cells.iter().map(|(_, size)| *size).fold(0, u64::saturating_add)
    };
    let balloon = config.balloon.as_ref().map_or(0, |balloon| balloon.size);
    let cpus = &config.cpus;
    let max = cpus.max_vcpus.unwrap_or(cpus.boot_vcpus);
    let vcpu = Element::text("vcpu", max.to_string())
        .attribute("placement", "static")
        .maybe("current", cpus.max_vcpus.map(|_| cpus.boot_vcpus));
    let mut elements = vec![sized("memory", total), sized("currentMemory", total.saturating_sub(balloon))];
    elements.extend(backing(config));
    elements.push(vcpu);
    if !cpus.affinity.is_empty() {
        elements.push(Element::new("cputune").children(cpus.affinity.iter().map(|pin| {
            Element::new("vcpupin").attribute("vcpu", pin.vcpu).attribute("cpuset", print_set(&pin.host_cpus))
        })));
    }
    elements.extend(binding(config, &cells));
    if cpus.topology.is_some() || !cells.is_empty() {
        let numa = (!cells.is_empty())
            .then(|| Element::new("numa").children(cells.iter().map(|(numa, size)| cell(numa, *size))));
        elements.push(
            Element::new("cpu")
                .attribute("mode", "host-passthrough")
                .children(cpus.topology.as_ref().map(topology))
                .children(numa),
        );
    }
    elements
}

/// NUMA nodes, each with the size of its memory. Nodes without zones have no size that could be written.
fn cells(config: &VmConfig) -> Vec<(&NumaConfig, u64)> {
    if config.memory.zones.is_empty() {
        return Vec::new();
    }
    let size = |numa: &NumaConfig| zones_of(config, numa).map(|zone| zone.size).fold(0, u64::saturating_add);
    config.numa.iter().map(|numa| (numa, size(numa))).collect()
}

fn zones_of<'a>(config: &'a VmConfig, numa: &'a NumaConfig) -> impl Iterator<Item = &'a MemoryZoneConfig> {
    config.memory.zones.iter().filter(|zone| numa.memory_zones.contains(&zone.id))
}

fn sized(name: &str, bytes: u64) -> Element {
    let (value, unit) = size(bytes);
    Element::text(name, value.to_string()).attribute("unit", unit)
}

fn backing(config: &VmConfig) -> Option<Element> {
    let memory = &config.memory;
    let backing = match memory.zones.first() {
        Some(zone) => Backing {
            hugepages: zone.hugepages,
            hugepage_size: zone.hugepage_size,
            shared: zone.shared,
            prefault: zone.prefault,
        },
        None => Backing {
            hugepages: memory.hugepages,
            hugepage_size: memory.hugepage_size,
            shared: memory.shared,
            prefault: memory.prefault,
        },
    };
    let page = backing.hugepage_size.filter(|_| backing.hugepages).map(|bytes| {
        let (value, unit) = size(bytes);
        Element::new("page").attribute("size", value).attribute("unit", unit)
    });
    let element = Element::new("memoryBacking")
        .children(backing.hugepages.then(|| Element::new("hugepages").children(page)))
        .children(backing.shared.then(|| Element::new("access").attribute("mode", "shared")))
        .children(backing.prefault.then(|| Element::new("allocation").attribute("mode", "immediate")));
    (!element.is_bare()).then_some(element)
}

fn binding(config: &VmConfig, cells: &[(&NumaConfig, u64)]) -> Option<Element> {
    let strict = |name: &str| Element::new(name).attribute("mode", "strict");
    let all = config.memory.zones.first().and_then(|zone| zone.host_numa_node).filter(|_| cells.is_empty());
    let nodes = cells.iter().filter_map(|(numa, _)| {
        let host = zones_of(config, numa).next()?.host_numa_node?;
        let cell = Element::new("memnode").attribute("cellid", numa.guest_numa_id);
        Some(cell.attribute("mode", "strict").attribute("nodeset", host))
    });
    let element = Element::new("numatune")
        .children(all.map(|host| strict("memory").attribute("nodeset", host)))
        .children(nodes);
    (!element.is_bare()).then_some(element)
}

fn topology(topology: &CpuTopology) -> Element {
    Element::new("topology")
        .attribute("sockets", topology.packages)
        .attribute("dies", topology.dies_per_package)
        .attribute("cores", topology.cores_per_die)
        .attribute("threads", topology.threads_per_core)
}

fn cell(numa: &NumaConfig, bytes: u64) -> Element {
    let (value, unit) = size(bytes);
    let distances = (!numa.distances.is_empty()).then(|| {
        Element::new("distances").children(numa.distances.iter().map(|distance| {
            Element::new("sibling")
                .attribute("id", distance.destination)
                .attribute("value", distance.distance)
        }))
    });
    Element::new("cell")
        .attribute("id", numa.guest_numa_id)
        .maybe("cpus", (!numa.cpus.is_empty()).then(|| print_set(&numa.cpus)))
        .attribute("memory", value)
        .attribute("unit", unit)
        .children(distances)
}
