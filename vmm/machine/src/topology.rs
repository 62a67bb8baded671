//! How the guest sees its vCPUs and its memory grouped.

use crate::layout::Region;

/// Distance of a NUMA node to itself, and of nodes about which nothing is said (ACPI 6.5, 5.2.17).
pub const LOCAL_DISTANCE: u8 = 10;
/// Distance of two nodes about which nothing is said.
pub const REMOTE_DISTANCE: u8 = 20;

/// Packages of cores of threads; their product is the number of vCPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTopology {
    /// Packages.
    pub packages: u16,
    /// Cores of each package.
    pub cores: u16,
    /// Threads of each core.
    pub threads: u16,
}

impl CpuTopology {
    /// One package of `vcpus` cores.
    pub const fn flat(vcpus: u16) -> Self {
        Self { packages: 1, cores: vcpus, threads: 1 }
    }

    /// Number of vCPUs, if it can be told.
    pub fn vcpus(&self) -> Option<u16> {
        self.packages.checked_mul(self.cores)?.checked_mul(self.threads)
    }
}

/// A NUMA node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumaNode {
    /// Its number.
    pub id: u32,
    /// Its memory.
    pub memory: Vec<Region>,
    /// Its vCPUs.
    pub vcpus: Vec<u16>,
    /// Distances to other nodes, by their number.
    pub distances: Vec<(u32, u8)>,
}

/// The node that has vCPU `index`.
pub fn node_of_vcpu(nodes: &[NumaNode], index: u16) -> Option<u32> {
    nodes.iter().find(|node| node.vcpus.contains(&index)).map(|node| node.id)
}

/// The distance from one node to another: what is said of it, or else of the way back.
pub fn distance(from: &NumaNode, to: &NumaNode) -> u8 {
    if from.id == to.id {
        return LOCAL_DISTANCE;
    }
    let said =
        |a: &NumaNode, b: &NumaNode| a.distances.iter().find(|(id, _)| *id == b.id).map(|&(_, value)| value);
    said(from, to).or_else(|| said(to, from)).unwrap_or(REMOTE_DISTANCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u32, distances: &[(u32, u8)]) -> NumaNode {
        NumaNode { id, memory: Vec::new(), vcpus: Vec::new(), distances: distances.into() }
    }

    #[test]
    fn distance_is_what_is_said_or_that_of_the_way_back() {
        let [a, b, c] = [node(0, &[(1, 15)]), node(1, &[(2, 30)]), node(2, &[(1, 31)])];
        assert_eq!((distance(&a, &a), distance(&a, &b), distance(&b, &a)), (10, 15, 15));
        assert_eq!((distance(&b, &c), distance(&c, &b)), (30, 31));
        assert_eq!(distance(&a, &c), 20);
    }

    #[test]
    fn numbers_that_overflow_are_no_topology() {
        assert_eq!(CpuTopology { packages: 2, cores: 3, threads: 2 }.vcpus(), Some(12));
        assert_eq!(CpuTopology { packages: 256, cores: 256, threads: 1 }.vcpus(), None);
    }
}
