//! What the device tree says about the board.

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property, ToCellInt};

/// Number of vCPUs that fit on a board with one redistributor region.
const MAX_CPUS: usize = 123;

/// The parts of the device tree that the cases need.
pub struct Board {
    /// The case to run, from `case=` on the kernel command line.
    pub case: &'static str,
    /// Whether PSCI is reached through SMC.
    pub smc: bool,
    /// RAM: first address and first address after it.
    pub ram: (u64, u64),
    /// The PL011's registers.
    pub uart: u64,
    /// The PL031's registers.
    pub clock: u64,
    /// The PL061's registers.
    pub gpio: u64,
    /// PCIe configuration space, and where 32-bit BARs may be placed.
    pub pci: Option<Pci>,
    cpus: [u64; MAX_CPUS],
    cpu_count: usize,
}

/// The PCIe host bridge.
#[derive(Clone, Copy)]
pub struct Pci {
    /// Base of the configuration space.
    pub ecam: u64,
    /// Base of the 32-bit window.
    pub mmio32: u64,
}

impl Board {
    /// Reads the device tree at `address`; the error names what is missing.
    ///
    /// # Safety
    /// `address` is that of a device tree which nothing changes while the guest runs.
    pub unsafe fn read(address: u64) -> Result<Self, &'static str> {
        // SAFETY: the caller's promise; the tree carries its own length.
        let tree = unsafe { Fdt::from_raw(address as *const u8) }.map_err(|_| "not a device tree")?;
        let chosen = tree.find_node("/chosen").ok_or("no /chosen")?;
        let bootargs = text(&chosen, "bootargs").ok_or("no bootargs")?;
        let case = bootargs.split_whitespace().find_map(|word| word.strip_prefix("case="));
        let psci = tree.find_node("/psci").ok_or("no /psci")?;
        let uart = tree.find_node("/pl011").and_then(reg).ok_or("no /pl011")?;
        let clock = tree.find_node("/pl031").and_then(reg).ok_or("no /pl031")?;
        let gpio = tree.find_node("/pl061").and_then(reg).ok_or("no /pl061")?;
        let (base, size) = tree.find_node("/memory").and_then(reg).ok_or("no /memory")?;
        let mut board = Self {
            case: case.ok_or("no case= in bootargs")?,
            smc: text(&psci, "method") == Some("smc"),
            ram: (base, base + size),
            uart: uart.0,
            clock: clock.0,
            gpio: gpio.0,
            pci: tree.find_node("/pcie").and_then(pci),
            cpus: [0; MAX_CPUS],
            cpu_count: 0,
        };
        let cpus = tree.find_node("/cpus").ok_or("no /cpus")?;
        for cpu in cpus.children().filter(|node| node.name_without_address() == "cpu") {
            let slot = board.cpus.get_mut(board.cpu_count).ok_or("more than 123 CPUs")?;
            *slot = reg(cpu).ok_or("a CPU without reg")?.0;
            board.cpu_count += 1;
        }
        Ok(board)
    }

    /// The affinities of all vCPUs, in the order of the device tree.
    pub fn cpus(&self) -> &[u64] {
        &self.cpus[..self.cpu_count]
    }
}

fn text(node: &FdtNode<'static>, name: &str) -> Option<&'static str> {
    node.property(name)?.value_as().ok()
}

/// The first address and size in `reg`; the size is 0 where the bus has none.
fn reg(node: FdtNode<'static>) -> Option<(u64, u64)> {
    let first = node.reg().ok()??.next()?;
    let size = if first.size.as_ref().is_empty() { 0 } else { first.size.to_int().ok()? };
    Some((first.address.to_int().ok()?, size))
}

fn pci(node: FdtNode<'static>) -> Option<Pci> {
    const SPACE_MASK: u32 = 0x0300_0000;
    const SPACE_MMIO32: u32 = 0x0200_0000;
    let mut ranges = node.ranges().ok()??;
    let window = ranges.find(|range| {
        range.child_bus_address.as_ref().first().is_some_and(|high| high.get() & SPACE_MASK == SPACE_MMIO32)
    })?;
    Some(Pci { ecam: reg(node)?.0, mmio32: window.parent_bus_address().ok()? })
}
