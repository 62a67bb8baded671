//! Builds the device tree that describes the board to the guest kernel.
//!
//! The tree of a Realm is measured, so its bytes depend on nothing but the arguments of [`build`].

use vm_fdt::{FdtWriter, FdtWriterNode};

use crate::layout::{Layout, Region, VmKind, mpidr};
use crate::topology::{distance, node_of_vcpu};

/// Longest kernel command line in bytes, its final NUL included (`COMMAND_LINE_SIZE` on arm64). Linux cuts a longer
/// one silently, and would then run with other options than those that were measured.
pub const MAX_CMDLINE_SIZE: usize = 2048;

const PHANDLE_GIC: u32 = 1;
const PHANDLE_ITS: u32 = 2;
const PHANDLE_CLOCK: u32 = 3;
const PHANDLE_GPIO: u32 = 4;
const PHANDLE_CPU0: u32 = 0x100;

const IRQ_SPI: u32 = 0;
const IRQ_PPI: u32 = 1;
const IRQ_LEVEL_HIGH: u32 = 4;
/// Pin of the power button on the GPIO controller, as on QEMU's board.
const POWER_BUTTON_PIN: u32 = 3;
const GPIO_ACTIVE_HIGH: u32 = 0;
/// `KEY_POWER` of Linux's input event codes.
const KEY_POWER: u32 = 116;
/// Secure physical, non-secure physical, virtual and hypervisor timer.
const TIMER_PPIS: [u32; 4] = [13, 14, 11, 10];

const PCI_SPACE_IO: u32 = 0x0100_0000;
const PCI_SPACE_MMIO32: u32 = 0x0200_0000;
const PCI_SPACE_MMIO64: u32 = 0x0300_0000;

/// The device tree cannot be built from these arguments.
#[derive(Debug, thiserror::Error)]
pub enum FdtError {
    /// The command line contains a NUL, at which the kernel would cut it.
    #[error("the kernel command line has a NUL at byte {0}: remove it")]
    CmdlineNul(usize),
    /// The command line is longer than the kernel keeps.
    #[error("the kernel command line is {0} bytes long; the kernel keeps {max}: shorten it", max = MAX_CMDLINE_SIZE - 1)]
    CmdlineTooLong(usize),
    /// Seeds were given for a Realm.
    #[error(
        "random seeds in the device tree of a Realm would make its measurement unpredictable: leave them out"
    )]
    SeedsInRealm,
    /// The writer refused; not reachable with a [`Layout`] that was checked.
    #[error("cannot write the device tree")]
    Writer(#[from] vm_fdt::Error),
}

/// Random bytes for an early start of the guest's random number generator; plain VMs only.
#[derive(Clone)]
pub struct Seeds {
    /// `/chosen/rng-seed`.
    pub rng: [u8; 32],
    /// `/chosen/kaslr-seed`.
    pub kaslr: u64,
}

/// What the board tells the kernel about this boot, in `/chosen`.
#[derive(Clone, Default)]
pub struct BootArgs<'a> {
    /// Kernel command line.
    pub cmdline: &'a str,
    /// Where the initial RAM disk lies; `size` is its exact length.
    pub initrd: Option<Region>,
    /// Random seeds, refused in a Realm.
    pub seeds: Option<Seeds>,
}

/// The device tree blob for `layout`.
///
/// # Errors
/// [`FdtError`] when the command line is unfit or a Realm is given seeds.
pub fn build(layout: &Layout, boot: &BootArgs<'_>) -> Result<Vec<u8>, FdtError> {
    check(layout, boot)?;
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_string("compatible", "linux,dummy-virt")?;
    fdt.property_string("model", "linux,dummy-virt")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("interrupt-parent", PHANDLE_GIC)?;
    chosen(&mut fdt, layout, boot)?;
    memory(&mut fdt, layout)?;
    cpus(&mut fdt, layout)?;
    psci(&mut fdt, layout)?;
    timer(&mut fdt)?;
    gic(&mut fdt, layout)?;
    clock(&mut fdt)?;
    uart(&mut fdt, layout)?;
    rtc(&mut fdt, layout)?;
    gpio(&mut fdt, layout)?;
    pcie(&mut fdt, layout)?;
    fdt.end_node(root)?;
    Ok(fdt.finish()?)
}

fn check(layout: &Layout, boot: &BootArgs<'_>) -> Result<(), FdtError> {
    if let Some(at) = boot.cmdline.bytes().position(|byte| byte == 0) {
        return Err(FdtError::CmdlineNul(at));
    }
    if boot.cmdline.len() >= MAX_CMDLINE_SIZE {
        return Err(FdtError::CmdlineTooLong(boot.cmdline.len()));
    }
    if layout.kind == VmKind::Realm && boot.seeds.is_some() {
        return Err(FdtError::SeedsInRealm);
    }
    Ok(())
}

type Written = Result<(), vm_fdt::Error>;

fn chosen(fdt: &mut FdtWriter, layout: &Layout, boot: &BootArgs<'_>) -> Written {
    let node = fdt.begin_node("chosen")?;
    fdt.property_string("bootargs", boot.cmdline)?;
    fdt.property_string("stdout-path", &format!("/pl011@{:x}", layout.uart.region.base))?;
    if let Some(initrd) = boot.initrd {
        fdt.property_u64("linux,initrd-start", initrd.base)?;
        fdt.property_u64("linux,initrd-end", initrd.end())?;
    }
    if let Some(seeds) = &boot.seeds {
        fdt.property("rng-seed", &seeds.rng)?;
        fdt.property_u64("kaslr-seed", seeds.kaslr)?;
    }
    fdt.end_node(node)
}

fn memory(fdt: &mut FdtWriter, layout: &Layout) -> Written {
    if layout.nodes.is_empty() {
        let node = begin_at(fdt, "memory", layout.ram)?;
        fdt.property_string("device_type", "memory")?;
        return fdt.end_node(node);
    }
    for (numa, region) in
        layout.nodes.iter().flat_map(|node| node.memory.iter().map(move |&region| (node, region)))
    {
        let node = begin_at(fdt, "memory", region)?;
        fdt.property_string("device_type", "memory")?;
        fdt.property_u32("numa-node-id", numa.id)?;
        fdt.end_node(node)?;
    }
    let mut matrix = Vec::new();
    for from in &layout.nodes {
        for to in &layout.nodes {
            matrix.extend([from.id, to.id, u32::from(distance(from, to))]);
        }
    }
    let node = fdt.begin_node("distance-map")?;
    fdt.property_string("compatible", "numa-distance-map-v1")?;
    fdt.property_array_u32("distance-matrix", &matrix)?;
    fdt.end_node(node)
}

fn cpus(fdt: &mut FdtWriter, layout: &Layout) -> Written {
    let node = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 0)?;
    for index in 0..layout.vcpus {
        let affinity = mpidr(index);
        let cpu = fdt.begin_node(&format!("cpu@{affinity:x}"))?;
        fdt.property_string("device_type", "cpu")?;
        fdt.property_string("compatible", "arm,armv8")?;
        fdt.property_string("enable-method", "psci")?;
        fdt.property_u64("reg", affinity)?;
        fdt.property_phandle(PHANDLE_CPU0 + u32::from(index))?;
        if let Some(numa) = node_of_vcpu(&layout.nodes, index) {
            fdt.property_u32("numa-node-id", numa)?;
        }
        fdt.end_node(cpu)?;
    }
    cpu_map(fdt, layout)?;
    fdt.end_node(node)
}

/// Stated, because Linux would read groups of 16 vCPUs from the affinity values as clusters that share a cache.
fn cpu_map(fdt: &mut FdtWriter, layout: &Layout) -> Written {
    let topology = layout.topology;
    let mut vcpus = (PHANDLE_CPU0..).take(usize::from(layout.vcpus));
    let map = fdt.begin_node("cpu-map")?;
    for socket in 0..topology.packages {
        let socket = fdt.begin_node(&format!("socket{socket}"))?;
        let cluster = fdt.begin_node("cluster0")?;
        for core in 0..topology.cores {
            let core = fdt.begin_node(&format!("core{core}"))?;
            for (thread, phandle) in (0..topology.threads).zip(vcpus.by_ref()) {
                if topology.threads == 1 {
                    fdt.property_u32("cpu", phandle)?;
                } else {
                    let thread = fdt.begin_node(&format!("thread{thread}"))?;
                    fdt.property_u32("cpu", phandle)?;
                    fdt.end_node(thread)?;
                }
            }
            fdt.end_node(core)?;
        }
        fdt.end_node(cluster)?;
        fdt.end_node(socket)?;
    }
    fdt.end_node(map)
}

fn psci(fdt: &mut FdtWriter, layout: &Layout) -> Written {
    let node = fdt.begin_node("psci")?;
    fdt.property_string_list("compatible", vec!["arm,psci-1.0".into(), "arm,psci-0.2".into()])?;
    // A Realm has no HVC path to PSCI, and Linux looks for the Realm Services Interface only behind SMC.
    let method = match layout.kind {
        VmKind::Plain => "hvc",
        VmKind::Realm => "smc",
    };
    fdt.property_string("method", method)?;
    fdt.end_node(node)
}

fn timer(fdt: &mut FdtWriter) -> Written {
    let node = fdt.begin_node("timer")?;
    fdt.property_string("compatible", "arm,armv8-timer")?;
    let interrupts: Vec<u32> = TIMER_PPIS.iter().flat_map(|&ppi| [IRQ_PPI, ppi, IRQ_LEVEL_HIGH]).collect();
    fdt.property_array_u32("interrupts", &interrupts)?;
    fdt.property_null("always-on")?;
    fdt.end_node(node)
}

fn gic(fdt: &mut FdtWriter, layout: &Layout) -> Written {
    let (distributor, redistributors) = (layout.gic.distributor, layout.gic.redistributors);
    let node = fdt.begin_node(&format!("intc@{:x}", distributor.base))?;
    fdt.property_string("compatible", "arm,gic-v3")?;
    fdt.property_array_u64(
        "reg",
        &[distributor.base, distributor.size, redistributors.base, redistributors.size],
    )?;
    fdt.property_u32("#redistributor-regions", 1)?;
    fdt.property_null("interrupt-controller")?;
    fdt.property_u32("#interrupt-cells", 3)?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_null("ranges")?;
    fdt.property_phandle(PHANDLE_GIC)?;
    let its = begin_at(fdt, "its", layout.gic.its)?;
    fdt.property_string("compatible", "arm,gic-v3-its")?;
    fdt.property_null("msi-controller")?;
    fdt.property_u32("#msi-cells", 1)?;
    fdt.property_phandle(PHANDLE_ITS)?;
    fdt.end_node(its)?;
    fdt.end_node(node)
}

fn clock(fdt: &mut FdtWriter) -> Written {
    let node = fdt.begin_node("apb-pclk")?;
    fdt.property_string("compatible", "fixed-clock")?;
    fdt.property_u32("#clock-cells", 0)?;
    fdt.property_u32("clock-frequency", 24_000_000)?;
    fdt.property_string("clock-output-names", "clk24mhz")?;
    fdt.property_phandle(PHANDLE_CLOCK)?;
    fdt.end_node(node)
}

fn uart(fdt: &mut FdtWriter, layout: &Layout) -> Written {
    let node = begin_primecell(fdt, "pl011", layout.uart.region)?;
    fdt.property_array_u32("interrupts", &[IRQ_SPI, layout.uart.spi, IRQ_LEVEL_HIGH])?;
    fdt.property_array_u32("clocks", &[PHANDLE_CLOCK, PHANDLE_CLOCK])?;
    fdt.property_string_list("clock-names", vec!["uartclk".into(), "apb_pclk".into()])?;
    fdt.end_node(node)
}

fn rtc(fdt: &mut FdtWriter, layout: &Layout) -> Written {
    let node = begin_primecell(fdt, "pl031", layout.rtc)?;
    fdt.property_u32("clocks", PHANDLE_CLOCK)?;
    fdt.property_string("clock-names", "apb_pclk")?;
    fdt.end_node(node)
}

fn gpio(fdt: &mut FdtWriter, layout: &Layout) -> Written {
    let node = begin_primecell(fdt, "pl061", layout.gpio.region)?;
    fdt.property_array_u32("interrupts", &[IRQ_SPI, layout.gpio.spi, IRQ_LEVEL_HIGH])?;
    fdt.property_u32("#gpio-cells", 2)?;
    fdt.property_null("gpio-controller")?;
    fdt.property_u32("clocks", PHANDLE_CLOCK)?;
    fdt.property_string("clock-names", "apb_pclk")?;
    fdt.property_phandle(PHANDLE_GPIO)?;
    fdt.end_node(node)?;
    let keys = fdt.begin_node("gpio-keys")?;
    fdt.property_string("compatible", "gpio-keys")?;
    let button = fdt.begin_node("poweroff")?;
    fdt.property_string("label", "Power button")?;
    fdt.property_u32("linux,code", KEY_POWER)?;
    fdt.property_array_u32("gpios", &[PHANDLE_GPIO, POWER_BUTTON_PIN, GPIO_ACTIVE_HIGH])?;
    fdt.end_node(button)?;
    fdt.end_node(keys)
}

fn pcie(fdt: &mut FdtWriter, layout: &Layout) -> Written {
    let pcie = &layout.pcie;
    let last_bus = u32::try_from(pcie.buses().saturating_sub(1)).unwrap_or(u32::MAX);
    let node = begin_at(fdt, "pcie", pcie.ecam)?;
    fdt.property_string("compatible", "pci-host-ecam-generic")?;
    fdt.property_string("device_type", "pci")?;
    fdt.property_u32("#address-cells", 3)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("linux,pci-domain", 0)?;
    fdt.property_array_u32("bus-range", &[0, last_bus])?;
    fdt.property_null("dma-coherent")?;
    let ranges = [
        pci_range(PCI_SPACE_IO, 0, pcie.io),
        pci_range(PCI_SPACE_MMIO32, pcie.mmio32.base, pcie.mmio32),
        pci_range(PCI_SPACE_MMIO64, pcie.mmio64.base, pcie.mmio64),
    ];
    fdt.property_array_u32("ranges", ranges.as_flattened())?;
    // Requester IDs are ITS device IDs, one to one. There is no legacy INTx: every device here has MSI-X.
    fdt.property_array_u32("msi-map", &[0, PHANDLE_ITS, 0, 0x1_0000])?;
    fdt.end_node(node)
}

fn pci_range(space: u32, bus_address: u64, cpu: Region) -> [u32; 7] {
    let [bus_high, bus_low] = cells(bus_address);
    let [cpu_high, cpu_low] = cells(cpu.base);
    let [size_high, size_low] = cells(cpu.size);
    [space, bus_high, bus_low, cpu_high, cpu_low, size_high, size_low]
}

fn cells(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])]
}

fn begin_at(fdt: &mut FdtWriter, name: &str, region: Region) -> Result<FdtWriterNode, vm_fdt::Error> {
    let node = fdt.begin_node(&format!("{name}@{:x}", region.base))?;
    fdt.property_array_u64("reg", &[region.base, region.size])?;
    Ok(node)
}

fn begin_primecell(fdt: &mut FdtWriter, name: &str, region: Region) -> Result<FdtWriterNode, vm_fdt::Error> {
    let node = begin_at(fdt, name, region)?;
    fdt.property_string_list("compatible", vec![format!("arm,{name}"), "arm,primecell".into()])?;
    Ok(node)
}

#[cfg(test)]
mod tests {
    use dtoolkit::fdt::{Fdt, FdtNode};
    use dtoolkit::{Node, Property};

    use super::*;
    use crate::topology::{CpuTopology, NumaNode};

    fn layout(kind: VmKind, vcpus: u16) -> Layout {
        Layout::new(kind, 1 << 30, vcpus, 40).unwrap()
    }

    fn realm(cmdline: &str) -> Result<Vec<u8>, FdtError> {
        build(&layout(VmKind::Realm, 2), &BootArgs { cmdline, ..BootArgs::default() })
    }

    fn node<'a>(tree: &Fdt<'a>, path: &str) -> FdtNode<'a> {
        tree.find_node(path).unwrap_or_else(|| panic!("no node {path}"))
    }

    fn cells_of(node: &FdtNode<'_>, name: &str) -> Vec<u32> {
        let property = node.property(name).unwrap_or_else(|| panic!("no property {name}"));
        property.value().chunks(4).map(|c| u32::from_be_bytes(c.try_into().unwrap())).collect()
    }

    fn text_of<'a>(node: &FdtNode<'a>, name: &str) -> &'a str {
        node.property(name).unwrap().value_as::<&str>().unwrap()
    }

    #[test]
    fn realm_uses_smc_and_a_plain_vm_hvc() {
        for (kind, method) in [(VmKind::Realm, "smc"), (VmKind::Plain, "hvc")] {
            let blob = build(&layout(kind, 1), &BootArgs::default()).unwrap();
            let tree = Fdt::new(&blob).unwrap();
            assert_eq!(text_of(&node(&tree, "/psci"), "method"), method);
        }
    }

    #[test]
    fn every_vcpu_has_the_affinity_that_kvm_gives_it() {
        let blob = build(&layout(VmKind::Realm, 123), &BootArgs::default()).unwrap();
        let tree = Fdt::new(&blob).unwrap();
        for (index, affinity) in [(0, 0), (15, 0xf), (16, 0x100), (122, 0x70a)] {
            let cpu = node(&tree, &format!("/cpus/cpu@{affinity:x}"));
            assert_eq!(cells_of(&cpu, "reg"), [0, affinity]);
            let core = node(&tree, &format!("/cpus/cpu-map/socket0/cluster0/core{index}"));
            assert_eq!(cells_of(&core, "cpu"), cells_of(&cpu, "phandle"));
        }
        assert!(tree.find_node("/cpus/cpu@70b").is_none());
        let gic = node(&tree, "/intc@8000000");
        assert_eq!(cells_of(&gic, "reg"), [0, 0x800_0000, 0, 0x1_0000, 0, 0x80a_0000, 0, 123 * 0x2_0000]);
    }

    #[test]
    fn packages_cores_and_threads_are_told_apart() {
        let topology = CpuTopology { packages: 2, cores: 3, threads: 2 };
        let layout = Layout { topology, ..layout(VmKind::Plain, 12) };
        let blob = build(&layout, &BootArgs::default()).unwrap();
        let tree = Fdt::new(&blob).unwrap();
        let vcpu = |path: &str| cells_of(&node(&tree, &format!("/cpus/cpu-map/{path}")), "cpu")[0];
        assert_eq!(vcpu("socket0/cluster0/core0/thread1"), PHANDLE_CPU0 + 1);
        assert_eq!(vcpu("socket0/cluster0/core2/thread0"), PHANDLE_CPU0 + 4);
        assert_eq!(vcpu("socket1/cluster0/core2/thread1"), PHANDLE_CPU0 + 11);
        assert!(tree.find_node("/cpus/cpu-map/socket2").is_none());
    }

    #[test]
    fn numa_nodes_have_their_memory_their_vcpus_and_distances() {
        let mut layout = layout(VmKind::Plain, 2);
        let half = layout.ram.size / 2;
        let numa = |id: u32, vcpu: u16, distances: &[(u32, u8)]| NumaNode {
            id,
            memory: vec![Region::new(layout.ram.base + u64::from(id) * half, half)],
            vcpus: vec![vcpu],
            distances: distances.into(),
        };
        layout.nodes = vec![numa(0, 1, &[(1, 25)]), numa(1, 0, &[])];
        let blob = build(&layout, &BootArgs::default()).unwrap();
        let tree = Fdt::new(&blob).unwrap();
        let id = |path: &str| cells_of(&node(&tree, path), "numa-node-id");
        assert_eq!((id("/memory@40000000"), id("/memory@60000000")), (vec![0], vec![1]));
        assert_eq!((id("/cpus/cpu@0"), id("/cpus/cpu@1")), (vec![1], vec![0]));
        let map = node(&tree, "/distance-map");
        assert_eq!(cells_of(&map, "distance-matrix"), [0, 0, 10, 0, 1, 25, 1, 0, 25, 1, 1, 10]);
    }

    #[test]
    fn devices_lie_where_the_layout_says() {
        let layout = layout(VmKind::Realm, 2);
        let blob = build(&layout, &BootArgs::default()).unwrap();
        let tree = Fdt::new(&blob).unwrap();
        let region = |r: Region| [cells(r.base), cells(r.size)].concat();
        for (path, expected) in [
            ("/memory@40000000", layout.ram),
            ("/pl011@9000000", layout.uart.region),
            ("/pl031@9010000", layout.rtc),
            ("/pl061@9030000", layout.gpio.region),
            ("/pcie@3f000000", layout.pcie.ecam),
            ("/intc@8000000/its@8080000", layout.gic.its),
        ] {
            assert_eq!(cells_of(&node(&tree, path), "reg"), region(expected), "{path}");
        }
        assert_eq!(cells_of(&node(&tree, "/pl011@9000000"), "interrupts"), [0, 1, 4]);
        let gpio = cells_of(&node(&tree, "/pl061@9030000"), "phandle")[0];
        assert_eq!(cells_of(&node(&tree, "/gpio-keys/poweroff"), "gpios"), [gpio, 3, 0]);
        assert!(node(&tree, "/pl031@9010000").property("interrupts").is_none(), "no alarm that never rings");
        assert_eq!(cells_of(&node(&tree, "/timer"), "interrupts"), [1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4]);
        assert_eq!(text_of(&node(&tree, "/chosen"), "stdout-path"), "/pl011@9000000");
    }

    #[test]
    fn pci_windows_and_msi_route_match_the_layout() {
        let layout = layout(VmKind::Realm, 2);
        let blob = build(&layout, &BootArgs::default()).unwrap();
        let tree = Fdt::new(&blob).unwrap();
        let pcie = node(&tree, "/pcie@3f000000");
        assert_eq!(
            cells_of(&pcie, "ranges"),
            [
                [0x0100_0000, 0, 0, 0, 0x3eff_0000, 0, 0x1_0000],
                [0x0200_0000, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x2eff_0000],
                [0x0300_0000, 0x40, 0, 0x40, 0, 0x40, 0],
            ]
            .concat()
        );
        assert_eq!(cells_of(&pcie, "bus-range"), [0, 15]);
        let its = cells_of(&node(&tree, "/intc@8000000/its@8080000"), "phandle")[0];
        assert_eq!(cells_of(&pcie, "msi-map"), [0, its, 0, 0x1_0000]);
        assert!(pcie.property("dma-coherent").is_some());
    }

    #[test]
    fn tree_of_a_realm_is_reproducible_and_without_seeds() {
        let blob = realm("quiet").unwrap();
        assert_eq!(realm("quiet").unwrap(), blob);
        let tree = Fdt::new(&blob).unwrap();
        let chosen = node(&tree, "/chosen");
        assert_eq!(text_of(&chosen, "bootargs"), "quiet");
        for name in ["rng-seed", "kaslr-seed", "linux,initrd-start"] {
            assert!(chosen.property(name).is_none(), "{name}");
        }
    }

    #[test]
    fn seeds_reach_a_plain_vm_and_are_refused_in_a_realm() {
        let boot = BootArgs {
            seeds: Some(Seeds { rng: [0x42; 32], kaslr: 0x1122_3344_5566_7788 }),
            ..Default::default()
        };
        let blob = build(&layout(VmKind::Plain, 1), &boot).unwrap();
        let tree = Fdt::new(&blob).unwrap();
        let chosen = node(&tree, "/chosen");
        assert_eq!(chosen.property("rng-seed").unwrap().value(), [0x42; 32]);
        assert_eq!(cells_of(&chosen, "kaslr-seed"), [0x1122_3344, 0x5566_7788]);
        let refused = build(&layout(VmKind::Realm, 1), &boot);
        assert!(matches!(refused, Err(FdtError::SeedsInRealm)));
    }

    #[test]
    fn refuses_a_command_line_that_the_kernel_would_cut() {
        assert!(realm(&"x".repeat(2047)).is_ok());
        assert!(matches!(realm(&"x".repeat(2048)), Err(FdtError::CmdlineTooLong(2048))));
        assert!(matches!(realm("quiet\0"), Err(FdtError::CmdlineNul(5))));
    }
}
