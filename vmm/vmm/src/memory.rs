//! Guest memory: zones of the configuration, mapped one after the other from the start of RAM.

use std::fs::File;
use std::sync::Arc;

use api::VmConfig;
use api::config::{MemoryConfig, MemoryZoneConfig};
use guest_memory::{Backing, HugePages, Options};
use machine::layout::{Layout, Region};
use machine::topology::{CpuTopology, NumaNode};
use vm_memory::{GuestMemoryMmap, GuestRegionMmap};

use crate::Error;

/// A part of RAM with a backing of its own.
struct Zone<'a> {
    /// Name, for messages and NUMA nodes; memory without zones has none.
    id: Option<&'a str>,
    region: Region,
    options: Options,
}

/// Gives `layout` the groups of vCPUs and memory that `config` describes.
pub fn describe(layout: &mut Layout, config: &VmConfig) {
    if let Some(topology) = config.cpus.topology {
        layout.topology = CpuTopology {
            packages: topology.packages,
            cores: topology.cores_per_die,
            threads: topology.threads_per_core,
        };
    }
    let zones = zones(&config.memory, layout.ram);
    layout.nodes = config
        .numa
        .iter()
        .map(|numa| NumaNode {
            id: numa.guest_numa_id,
            memory: zones
                .iter()
                .filter(|zone| zone.id.is_some_and(|id| numa.memory_zones.iter().any(|name| name == id)))
                .map(|zone| zone.region)
                .collect(),
            vcpus: numa.cpus.clone(),
            distances: numa.distances.iter().map(|to| (to.destination, to.distance)).collect(),
        })
        .collect();
}

/// Maps the RAM of `layout` as `config` asks for, or from the file that `file` has for a part of so many bytes, and
/// below it ordinary memory for firmware; `slot` makes each part known to the VM.
///
/// # Errors
///
/// [`Error::Memory`] that names the zone, or what `file` and `slot` give.
pub fn map(
    config: &MemoryConfig,
    layout: &Layout,
    firmware: Option<Region>,
    mut file: impl FnMut(u64) -> Result<Option<File>, Error>,
    mut slot: impl FnMut(&Arc<GuestRegionMmap>) -> Result<(), Error>,
) -> Result<GuestMemoryMmap, Error> {
    let mut regions = Vec::new();
    let firmware = firmware.map(|region| Zone {
        id: Some("firmware"),
        region,
        options: Options { size: region.size, ..Options::default() },
    });
    for zone in firmware.into_iter().chain(zones(config, layout.ram)) {
        let field = zone.id.map_or_else(|| "memory".into(), |id| format!("memory.zones {id}"));
        let Region { base, size } = zone.region;
        let region = match file(size)? {
            Some(file) => guest_memory::map_file(base, file, size, true),
            None => guest_memory::map(base, &zone.options),
        };
        let region = region.map_err(|source| Error::Memory { field, source: Box::new(source) })?;
        let region = Arc::new(region);
        slot(&region)?;
        regions.push(region);
    }
    GuestMemoryMmap::from_arc_regions(regions)
        .map_err(|source| Error::Memory { field: "memory".into(), source: source.into() })
}

fn zones(config: &MemoryConfig, ram: Region) -> Vec<Zone<'_>> {
    if config.zones.is_empty() {
        let options = Options {
            size: ram.size,
            backing: Backing::Anonymous,
            shared: config.shared,
            huge_pages: huge_pages(config.hugepages, config.hugepage_size),
            host_node: None,
            prefault: config.prefault,
            reserve: config.reserve,
            transparent_huge_pages: config.thp,
            mergeable: config.mergeable,
        };
        return vec![Zone { id: None, region: ram, options }];
    }
    let mut base = ram.base;
    let place = |zone| {
        let options = zone_options(zone, config.thp);
        let region = Region::new(base, options.size);
        base = region.end();
        Zone { id: Some(&zone.id), region, options }
    };
    config.zones.iter().map(place).collect()
}

fn zone_options(zone: &MemoryZoneConfig, thp: bool) -> Options {
    Options {
        size: zone.size,
        backing: zone.file.clone().map_or(Backing::Anonymous, Backing::Path),
        shared: zone.shared,
        huge_pages: huge_pages(zone.hugepages, zone.hugepage_size),
        host_node: zone.host_numa_node,
        prefault: zone.prefault,
        reserve: zone.reserve,
        transparent_huge_pages: thp,
        mergeable: zone.mergeable,
    }
}

fn huge_pages(wanted: bool, size: Option<u64>) -> Option<HugePages> {
    wanted.then(|| size.map_or(HugePages::Default, HugePages::Size))
}

#[cfg(test)]
mod tests {
    use machine::layout::VmKind;
    use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

    use super::*;

    const MIB: u64 = 1 << 20;

    fn config(json: &str) -> VmConfig {
        serde_json::from_str(json).unwrap()
    }

    fn layout(config: &VmConfig) -> Layout {
        let size = config.memory.total_size();
        let mut layout = Layout::new(VmKind::Plain, size, config.cpus.boot_vcpus, 40).unwrap();
        describe(&mut layout, config);
        layout
    }

    #[test]
    fn zones_lie_one_after_the_other_and_belong_to_their_nodes() {
        let config = config(
            r#"{"payload":{"kernel":"/k"},"cpus":{"boot_vcpus":2},
                "memory":{"zones":[{"id":"a","size":4194304},{"id":"b","size":2097152,"shared":true}]},
                "numa":[{"guest_numa_id":0,"cpus":[1],"memory_zones":["b"]},
                        {"guest_numa_id":1,"cpus":[0],"memory_zones":["a"],"distances":[{"destination":0,"distance":30}]}]}"#,
        );
        let layout = layout(&config);
        let base = layout.ram.base;
        assert_eq!(layout.nodes[0].memory, [Region::new(base + 4 * MIB, 2 * MIB)]);
        assert_eq!(layout.nodes[1].memory, [Region::new(base, 4 * MIB)]);
        assert_eq!(layout.nodes[1].distances, [(0, 30)]);
        let mut slots = Vec::new();
        let memory = map(
            &config.memory,
            &layout,
            None,
            |_| Ok(None),
            |region| {
                slots.push((region.start_addr().0, region.len()));
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(slots, [(base, 4 * MIB), (base + 4 * MIB, 2 * MIB)]);
        // A segment of the launch plan may lie across two zones.
        memory.write_slice(&[7; 4096], GuestAddress(base + 4 * MIB - 2048)).unwrap();
        assert_eq!(memory.num_regions(), 2);
    }

    #[test]
    fn memory_that_cannot_be_had_names_its_zone() {
        let config = config(
            r#"{"payload":{"kernel":"/k"},"memory":{"zones":[{"id":"far","size":4194304,"host_numa_node":999}]}}"#,
        );
        let error = map(&config.memory, &layout(&config), None, |_| Ok(None), |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("memory.zones far"), "{error}");
    }

    #[test]
    fn topology_is_as_the_configuration_says() {
        let config = config(
            r#"{"payload":{"kernel":"/k"},"cpus":{"boot_vcpus":8,
                "topology":{"threads_per_core":2,"cores_per_die":2,"dies_per_package":1,"packages":2}}}"#,
        );
        assert_eq!(layout(&config).topology, CpuTopology { packages: 2, cores: 2, threads: 2 });
    }
}
