//! Processors, memory, NUMA nodes and the balloon on the command line.

use api::config::{
    BalloonConfig, CpuAffinity, CpuTopology, CpusConfig, MemoryConfig, MemoryZoneConfig, NumaConfig,
    NumaDistance,
};

use super::ConfigError;
use super::options::{self, Options};

const SIZE: &str = "a size such as 512M";
const NUMBER: &str = "a number";

/// `--cpus`.
pub fn cpus(text: &str) -> Result<CpusConfig, ConfigError> {
    let options = Options::parse("--cpus", text, &["boot", "max", "topology", "affinity"])?;
    options.require("boot")?;
    let boot = options.convert("boot", "a number of vCPUs", |value| value.parse().ok())?;
    let affinity =
        options.convert("affinity", "vCPUs and processors such as [0@[1,3]]", options::affinities)?;
    Ok(CpusConfig {
        boot_vcpus: boot.unwrap_or_default(),
        max_vcpus: options.convert("max", "a number of vCPUs", |value| value.parse().ok())?,
        topology: options.convert("topology", "threads:cores:dies:packages, such as 1:2:1:2", topology)?,
        affinity: affinity
            .unwrap_or_default()
            .into_iter()
            .map(|(vcpu, host_cpus)| CpuAffinity { vcpu, host_cpus })
            .collect(),
    })
}

fn topology(text: &str) -> Option<CpuTopology> {
    let numbers: Option<Vec<u16>> = text.split(':').map(|part| part.parse().ok()).collect();
    let [threads_per_core, cores_per_die, dies_per_package, packages] = numbers?.try_into().ok()?;
    Some(CpuTopology { threads_per_core, cores_per_die, dies_per_package, packages })
}

/// `--memory`.
pub fn memory(text: &str) -> Result<MemoryConfig, ConfigError> {
    const KEYS: [&str; 8] =
        ["size", "mergeable", "shared", "hugepages", "hugepage_size", "prefault", "reserve", "thp"];
    let options = Options::parse("--memory", text, &KEYS)?;
    options.require("size")?;
    Ok(MemoryConfig {
        size: options.convert("size", SIZE, options::size)?.unwrap_or_default(),
        mergeable: options.switch("mergeable")?,
        shared: options.switch("shared")?,
        hugepages: options.switch("hugepages")?,
        hugepage_size: options.convert("hugepage_size", SIZE, options::size)?,
        prefault: options.switch("prefault")?,
        reserve: options.switch("reserve")?,
        thp: options.switch_on("thp")?,
        zones: Vec::new(),
    })
}

/// One `--memory-zone`.
pub fn zone(text: &str) -> Result<MemoryZoneConfig, ConfigError> {
    const KEYS: [&str; 10] = [
        "id",
        "size",
        "file",
        "mergeable",
        "shared",
        "hugepages",
        "hugepage_size",
        "host_numa_node",
        "prefault",
        "reserve",
    ];
    let options = Options::parse("--memory-zone", text, &KEYS)?;
    options.require("size")?;
    Ok(MemoryZoneConfig {
        id: options.require("id")?.into(),
        size: options.convert("size", SIZE, options::size)?.unwrap_or_default(),
        file: options.get("file").map(Into::into),
        mergeable: options.switch("mergeable")?,
        shared: options.switch("shared")?,
        hugepages: options.switch("hugepages")?,
        hugepage_size: options.convert("hugepage_size", SIZE, options::size)?,
        host_numa_node: options.convert("host_numa_node", NUMBER, |value| value.parse().ok())?,
        prefault: options.switch("prefault")?,
        reserve: options.switch("reserve")?,
    })
}

/// One `--numa`.
pub fn numa(text: &str) -> Result<NumaConfig, ConfigError> {
    let known = ["guest_numa_id", "cpus", "distances", "memory_zones"];
    let options = Options::parse("--numa", text, &known)?;
    options.require("guest_numa_id")?;
    let id = options.convert("guest_numa_id", NUMBER, |value| value.parse().ok())?;
    let cpus = options.convert("cpus", "vCPUs such as [0-3]", options::integers)?;
    let distances = options.convert("distances", "nodes and distances such as [1@15]", distances)?;
    let zones = options.get("memory_zones").map(|text| {
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        inner.split(',').map(str::to_owned).collect()
    });
    Ok(NumaConfig {
        guest_numa_id: id.unwrap_or_default(),
        cpus: cpus.unwrap_or_default(),
        distances: distances.unwrap_or_default(),
        memory_zones: zones.unwrap_or_default(),
    })
}

/// `--balloon`.
pub fn balloon(text: &str) -> Result<BalloonConfig, ConfigError> {
    let known = ["id", "size", "deflate_on_oom", "free_page_reporting"];
    let options = Options::parse("--balloon", text, &known)?;
    options.require("size")?;
    Ok(BalloonConfig {
        id: options.get("id").map(Into::into),
        size: options.convert("size", SIZE, options::size)?.unwrap_or_default(),
        deflate_on_oom: options.switch("deflate_on_oom")?,
        free_page_reporting: options.switch("free_page_reporting")?,
        ..BalloonConfig::default()
    })
}

fn distances(text: &str) -> Option<Vec<NumaDistance>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let one = |part: &str| {
        let (destination, distance) = part.split_once('@')?;
        Some(NumaDistance { destination: destination.parse().ok()?, distance: distance.parse().ok()? })
    };
    inner.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_described_in_full() {
        let cpus = cpus("boot=4,topology=1:2:1:2,affinity=[0@[1],3@[2-3]]").unwrap();
        assert_eq!(cpus.topology.unwrap().cores_per_die, 2);
        assert_eq!(cpus.affinity[1], CpuAffinity { vcpu: 3, host_cpus: vec![2, 3] });
        assert!(super::cpus("boot=4,topology=1:2:1").is_err());
        assert!(super::cpus("topology=1:2:1:2").unwrap_err().to_string().contains("boot= is missing"));
    }

    #[test]
    fn memory_zones_and_nodes_are_described_in_full() {
        let memory = memory("size=1G,shared=on,hugepages=on,hugepage_size=2M,prefault=on,thp=off").unwrap();
        assert!(memory.shared && memory.hugepages && memory.prefault && !memory.thp);
        assert_eq!((memory.size, memory.hugepage_size), (1 << 30, Some(2 << 20)));
        let zone = zone("id=a,size=64M,host_numa_node=1,file=/dev/shm").unwrap();
        assert_eq!((zone.host_numa_node, zone.size), (Some(1), 64 << 20));
        let numa = numa("guest_numa_id=1,cpus=[0,2-3],distances=[0@15,2@30],memory_zones=[a,b]").unwrap();
        assert_eq!(numa.cpus, [0, 2, 3]);
        assert_eq!(numa.distances[1], NumaDistance { destination: 2, distance: 30 });
        assert_eq!(numa.memory_zones, ["a", "b"]);
        assert!(super::numa("guest_numa_id=1,distances=[0]").is_err());
        assert!(super::zone("size=1M").unwrap_err().to_string().contains("id= is missing"));
    }
}
