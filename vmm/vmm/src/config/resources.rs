//! Bounds of processors, memory and NUMA nodes.

use std::collections::BTreeSet;

use api::VmConfig;
use api::config::{MemoryConfig, MemoryZoneConfig, NumaConfig};
use machine::layout::{BLOCK_SIZE, MAX_VCPUS};
use machine::topology::LOCAL_DISTANCE;

use super::ConfigError;
use super::validate::check;

/// Most NUMA nodes: the distances are a table with a row and a column for each.
const MAX_NODES: usize = 64;

/// Processors of the host that sched_setaffinity(2) can name.
const HOST_CPUS: u32 = 1024;

pub fn validate(config: &VmConfig) -> Result<(), ConfigError> {
    cpus(config)?;
    memory(&config.memory)?;
    numa(config)
}

fn cpus(config: &VmConfig) -> Result<(), ConfigError> {
    let cpus = &config.cpus;
    let (boots, vcpus) = (cpus.boot_vcpus, cpus.max());
    check((1..=MAX_VCPUS).contains(&boots), "cpus.boot_vcpus", boots, || format!("1 to {MAX_VCPUS}"))?;
    check((boots..=MAX_VCPUS).contains(&vcpus), "cpus.max_vcpus", vcpus, || {
        format!("{boots} to {MAX_VCPUS}")
    })?;
    check(config.realm.is_none() || vcpus == boots, "cpus.max_vcpus", vcpus, || {
        format!("{boots}, as many as boot_vcpus: the vCPUs of a Realm are made when it is launched, and stay")
    })?;
    if let Some(topology) = cpus.topology {
        let dies = topology.dies_per_package;
        check(dies == 1, "cpus.topology.dies_per_package", dies, || "1: arm64 knows no dies".into())?;
        let product = [topology.threads_per_core, topology.cores_per_die, topology.packages]
            .into_iter()
            .try_fold(1_u16, u16::checked_mul);
        let shown = format!(
            "{} threads of {} cores of {} packages",
            topology.threads_per_core, topology.cores_per_die, topology.packages
        );
        check(product == Some(vcpus), "cpus.topology", shown.as_str(), || {
            format!("a product of {vcpus}, the number of vCPUs that the VM can have")
        })?;
    }
    let mut seen = BTreeSet::new();
    for affinity in &cpus.affinity {
        let vcpu = affinity.vcpu;
        check(vcpu < vcpus && seen.insert(vcpu), "cpus.affinity.vcpu", vcpu, || {
            format!("each vCPU once, from 0 to {}", vcpus - 1)
        })?;
        host_cpus("cpus.affinity.host_cpus", &affinity.host_cpus)?;
    }
    Ok(())
}

/// Processors of the host on which a thread may run.
pub fn host_cpus(field: &'static str, cpus: &[u32]) -> Result<(), ConfigError> {
    let largest = cpus.iter().max();
    let shown = largest.map_or_else(|| "none".into(), ToString::to_string);
    check(largest.is_some_and(|&cpu| cpu < HOST_CPUS), field, shown.as_str(), || {
        format!("processors of the host, from 0 to {}", HOST_CPUS - 1)
    })
}

fn memory(memory: &MemoryConfig) -> Result<(), ConfigError> {
    let size = memory.size;
    if memory.zones.is_empty() {
        check(size > 0 && size.is_multiple_of(BLOCK_SIZE), "memory.size", size, || {
            "a multiple of 2 MiB, in bytes".into()
        })?;
        return backing(
            ["memory.hugepage_size", "memory.mergeable", "memory.size"],
            memory.hugepages,
            memory.hugepage_size,
            memory.mergeable && (memory.shared || memory.hugepages),
            size,
        );
    }
    check(size == 0, "memory.size", size, || "0, as memory.zones say how much there is".into())?;
    let MemoryConfig { mergeable, shared, hugepages, hugepage_size, prefault, reserve, .. } = memory;
    let said = [*mergeable, *shared, *hugepages, hugepage_size.is_some(), *prefault, *reserve];
    check(!said.contains(&true), "memory", "zones and a backing besides", || {
        "the backing of each zone in memory.zones".into()
    })?;
    let mut names = BTreeSet::new();
    let total = memory.zones.iter().try_fold(0_u64, |total, zone| total.checked_add(zone.size));
    check(total.is_some(), "memory.zones.size", "a sum above 2^64", || "less memory".into())?;
    for zone in &memory.zones {
        let MemoryZoneConfig { id, size, file, .. } = zone;
        check(!id.is_empty() && names.insert(id), "memory.zones.id", id, || {
            "a name that no other zone has".into()
        })?;
        check(*size > 0 && size.is_multiple_of(BLOCK_SIZE), "memory.zones.size", size, || {
            "a multiple of 2 MiB, in bytes".into()
        })?;
        check(file.is_none() || !zone.hugepages, "memory.zones.hugepages", "true", || {
            "false with a file: a file on a hugetlbfs is made of huge pages anyway".into()
        })?;
        backing(
            ["memory.zones.hugepage_size", "memory.zones.mergeable", "memory.zones.size"],
            zone.hugepages,
            zone.hugepage_size,
            zone.mergeable && (zone.shared || zone.hugepages || file.is_some()),
            *size,
        )?;
    }
    Ok(())
}

fn backing(
    [page_size_field, mergeable_field, size_field]: [&'static str; 3],
    hugepages: bool,
    page_size: Option<u64>,
    merges_what_cannot_be: bool,
    size: u64,
) -> Result<(), ConfigError> {
    if let Some(page_size) = page_size {
        check(hugepages && page_size.is_power_of_two(), page_size_field, page_size, || {
            "a power of two, and hugepages with it".into()
        })?;
        check(size.is_multiple_of(page_size), size_field, size, || {
            format!("a multiple of hugepage_size, {page_size}")
        })?;
    }
    check(!merges_what_cannot_be, mergeable_field, "true", || {
        "false for memory that is shared, of huge pages or in a file: the host merges private pages only"
            .into()
    })
}

fn numa(config: &VmConfig) -> Result<(), ConfigError> {
    let nodes = &config.numa;
    if nodes.is_empty() {
        return Ok(());
    }
    check(nodes.len() <= MAX_NODES, "numa", nodes.len(), || format!("at most {MAX_NODES} nodes"))?;
    let mut ids = BTreeSet::new();
    let (mut vcpus, mut zones) = (BTreeSet::new(), BTreeSet::new());
    for node in nodes {
        let id = node.guest_numa_id;
        let known = usize::try_from(id).is_ok_and(|id| id < MAX_NODES);
        check(known && ids.insert(id), "numa.guest_numa_id", id, || {
            format!("each number once, from 0 to {}", MAX_NODES - 1)
        })?;
        for &vcpu in &node.cpus {
            let known = vcpu < config.cpus.max();
            check(known && vcpus.insert(vcpu), "numa.cpus", vcpu, || {
                format!("each vCPU in one node, from 0 to {}", config.cpus.max() - 1)
            })?;
        }
        for zone in &node.memory_zones {
            let known = config.memory.zones.iter().any(|known| known.id == *zone);
            check(known && zones.insert(zone), "numa.memory_zones", zone, || {
                "each of memory.zones in one node".into()
            })?;
        }
    }
    let without_node = (0..config.cpus.max()).find(|vcpu| !vcpus.contains(vcpu));
    let without = format!("nothing about vCPU {}", without_node.unwrap_or(0));
    check(without_node.is_none(), "numa.cpus", without.as_str(), || "every vCPU in a node".into())?;
    check(zones.len() == config.memory.zones.len(), "numa.memory_zones", zones.len(), || {
        format!("every zone of memory.zones, of which there are {}", config.memory.zones.len())
    })?;
    check(!zones.is_empty(), "numa.memory_zones", "none", || "zones of memory.zones".into())?;
    nodes.iter().try_for_each(|node| distances(node, &ids))
}

fn distances(node: &NumaConfig, ids: &BTreeSet<u32>) -> Result<(), ConfigError> {
    let mut seen = BTreeSet::new();
    for to in &node.distances {
        let other = to.destination != node.guest_numa_id && ids.contains(&to.destination);
        check(other && seen.insert(to.destination), "numa.distances.destination", to.destination, || {
            "each other node at most once".into()
        })?;
        check(to.distance > LOCAL_DISTANCE, "numa.distances.distance", to.distance, || {
            format!("more than {LOCAL_DISTANCE}, the distance of a node to itself")
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        json!({
            "payload": {"kernel": "/k"},
            "cpus": {"boot_vcpus": 4,
                     "topology": {"threads_per_core": 1, "cores_per_die": 2, "dies_per_package": 1, "packages": 2},
                     "affinity": [{"vcpu": 0, "host_cpus": [0]}]},
            "memory": {"zones": [{"id": "a", "size": 2 << 20, "hugepages": true, "hugepage_size": 2 << 20},
                                 {"id": "b", "size": 4 << 20}]},
            "numa": [{"guest_numa_id": 0, "cpus": [0, 1], "memory_zones": ["a"],
                      "distances": [{"destination": 1, "distance": 15}]},
                     {"guest_numa_id": 1, "cpus": [2, 3], "memory_zones": ["b"]}],
        })
    }

    #[test]
    fn good_configuration_passes() {
        let config: VmConfig = serde_json::from_value(good()).unwrap();
        validate(&config).unwrap();
        assert_eq!(config.memory.total_size(), 6 << 20);
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        for (pointer, value, field) in [
            ("/cpus/boot_vcpus", json!(124), "cpus.boot_vcpus"),
            ("/cpus/topology/packages", json!(3), "cpus.topology"),
            ("/cpus/topology/packages", json!(40000), "cpus.topology"),
            ("/cpus/topology/dies_per_package", json!(2), "cpus.topology.dies_per_package"),
            ("/cpus/affinity/0/vcpu", json!(4), "cpus.affinity.vcpu"),
            ("/cpus/affinity/0/host_cpus", json!([]), "cpus.affinity.host_cpus"),
            ("/cpus/affinity/0/host_cpus", json!([1024]), "cpus.affinity.host_cpus"),
            ("/memory/size", json!(2 << 20), "memory.size"),
            ("/memory/shared", json!(true), "memory"),
            ("/memory/zones/0/id", json!("b"), "memory.zones.id"),
            ("/memory/zones/0/size", json!(4096), "memory.zones.size"),
            ("/memory/zones/0/size", json!(u64::MAX - 8), "memory.zones.size"),
            ("/memory/zones/0/hugepages", json!(false), "memory.zones.hugepage_size"),
            ("/memory/zones/0/hugepage_size", json!(3), "memory.zones.hugepage_size"),
            ("/memory/zones/0/hugepage_size", json!(1 << 30), "memory.zones.size"),
            ("/memory/zones/0/mergeable", json!(true), "memory.zones.mergeable"),
            ("/memory/zones/0/file", json!("/f"), "memory.zones.hugepages"),
            ("/numa/1/guest_numa_id", json!(0), "numa.guest_numa_id"),
            ("/numa/1/guest_numa_id", json!(64), "numa.guest_numa_id"),
            ("/numa/1/cpus", json!([2]), "numa.cpus"),
            ("/numa/1/cpus", json!([1, 2, 3]), "numa.cpus"),
            ("/numa/1/cpus", json!([2, 3, 4]), "numa.cpus"),
            ("/numa/1/memory_zones", json!(["a"]), "numa.memory_zones"),
            ("/numa/1/memory_zones", json!(["c"]), "numa.memory_zones"),
            ("/numa/1/memory_zones", json!([]), "numa.memory_zones"),
            ("/numa/0/distances/0/destination", json!(0), "numa.distances.destination"),
            ("/numa/0/distances/0/destination", json!(7), "numa.distances.destination"),
            ("/numa/0/distances/0/distance", json!(10), "numa.distances.distance"),
        ] {
            let mut config = good();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let parent = config.pointer_mut(parent).unwrap();
            match parent {
                Value::Array(items) => items[name.parse::<usize>().unwrap()] = value.clone(),
                parent => parent[name] = value.clone(),
            }
            let config: VmConfig = serde_json::from_value(config).unwrap();
            let error = validate(&config).map_err(|error| error.to_string()).unwrap_err();
            assert!(error.starts_with(&format!("{field}: ")), "{pointer} = {value}: {error}");
        }
    }
}
