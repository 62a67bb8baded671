//! The launch plan: what lies in guest memory before the first instruction, and where that instruction is.
//!
//! A plan is consumed by a Realm back-end, copied by plain KVM, or measured without any VM: all three see the same bytes.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::fdt::{self, BootArgs, FdtError, Seeds};
use crate::kernel::Kernel;
use crate::layout::{BLOCK_SIZE, Layout, PAGE_SIZE, Region};

/// Largest device tree in bytes: the kernel maps this much and no more (arm64 boot protocol).
const MAX_DTB_SIZE: u64 = BLOCK_SIZE;

/// [`PAGE_SIZE`] as the length of an array.
const PAGE_LEN: usize = 0x1000;

/// The launch plan cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A part does not fit into RAM.
    #[error(
        "the {name} needs {size:#x} bytes from {gpa:#x}, but RAM ends at {ram_end:#x}: give the VM more RAM"
    )]
    OutsideRam {
        /// The part: kernel, initrd or dtb.
        name: &'static str,
        /// Where it would start.
        gpa: u64,
        /// How many bytes it needs.
        size: u64,
        /// First address after RAM.
        ram_end: u64,
    },
    /// A segment does not begin on a page.
    #[error("the {name} is to be loaded at {gpa:#x}, which is not a multiple of 4 KiB")]
    Unaligned {
        /// The segment.
        name: &'static str,
        /// Where it would start.
        gpa: u64,
    },
    /// Two segments share memory.
    #[error("the {0} and the {1} would lie over each other")]
    Overlap(&'static str, &'static str),
    /// A segment has no bytes.
    #[error("the {0} is empty")]
    Empty(&'static str),
    /// The device tree is larger than the kernel can map.
    #[error("the device tree is {0:#x} bytes long; the kernel maps {MAX_DTB_SIZE:#x}")]
    DtbTooLarge(u64),
    /// The device tree cannot be built.
    #[error("cannot describe the board to the kernel")]
    Fdt(#[from] FdtError),
}

/// Bytes that lie in guest memory at launch.
#[derive(Clone, PartialEq, Eq)]
pub struct Segment {
    name: &'static str,
    gpa: u64,
    bytes: Vec<u8>,
    measured: bool,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} at {:#x}, {:#x} bytes, measured: {}",
            self.name,
            self.gpa,
            self.bytes.len(),
            self.measured
        )
    }
}

impl Segment {
    /// A segment whose bytes are padded with zeros to whole pages, in place.
    pub fn new(name: &'static str, gpa: u64, mut bytes: Vec<u8>, measured: bool) -> Self {
        bytes.resize(bytes.len().next_multiple_of(PAGE_LEN), 0);
        Self { name, gpa, bytes, measured }
    }

    /// What the segment is, for people.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Guest-physical address of the first byte; a multiple of 4 KiB.
    pub fn gpa(&self) -> u64 {
        self.gpa
    }

    /// The content: whole pages.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the content is part of the launch measurement.
    pub fn measured(&self) -> bool {
        self.measured
    }

    /// Where the segment lies.
    pub fn region(&self) -> Region {
        Region::new(self.gpa, self.bytes.len() as u64)
    }

    /// The pages of the segment in ascending order, each with its guest-physical address; nothing is copied.
    pub fn pages(&self) -> impl Iterator<Item = (u64, &[u8; PAGE_LEN])> {
        let (pages, _) = self.bytes.as_chunks::<PAGE_LEN>();
        (self.gpa..).step_by(PAGE_LEN).zip(pages)
    }
}

/// The registers with which the boot vCPU starts; all others are reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VcpuEntry {
    /// Program counter.
    pub pc: u64,
    /// General registers x0 to x7.
    pub gprs: [u64; 8],
}

/// Everything that a VM starts with. The segments are sorted by address, do not overlap and lie inside RAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchPlan {
    ram: Vec<Region>,
    segments: Vec<Segment>,
    entry: VcpuEntry,
}

impl LaunchPlan {
    /// Checks and sorts the segments.
    ///
    /// # Errors
    /// [`LaunchError`] when a segment is empty, unaligned or outside `ram`, or when two overlap.
    pub fn new(ram: Vec<Region>, mut segments: Vec<Segment>, entry: VcpuEntry) -> Result<Self, LaunchError> {
        segments.sort_by_key(Segment::gpa);
        for segment in &segments {
            let (name, region) = (segment.name, segment.region());
            if region.size == 0 {
                return Err(LaunchError::Empty(name));
            }
            if !region.base.is_multiple_of(PAGE_SIZE) {
                return Err(LaunchError::Unaligned { name, gpa: region.base });
            }
            if !ram.iter().any(|range| range.contains(&region)) {
                let ram_end = ram.iter().map(Region::end).max().unwrap_or(0);
                return Err(LaunchError::OutsideRam { name, gpa: region.base, size: region.size, ram_end });
            }
        }
        for (lower, upper) in segments.iter().zip(segments.iter().skip(1)) {
            if lower.region().overlaps(&upper.region()) {
                return Err(LaunchError::Overlap(lower.name, upper.name));
            }
        }
        Ok(Self { ram, segments, entry })
    }

    /// A kernel started without firmware: kernel, initial RAM disk and device tree in RAM, all of them measured.
    ///
    /// The order is QEMU's: the kernel at its offset from the start of RAM, then the RAM disk, then the device tree,
    /// the latter two on the next multiple of 2 MiB.
    ///
    /// # Errors
    /// [`LaunchError`] when the parts do not fit into RAM or the command line is unfit.
    pub fn direct_boot(
        layout: &Layout,
        kernel: Kernel,
        initrd: Option<Vec<u8>>,
        cmdline: &str,
        seeds: Option<Seeds>,
    ) -> Result<Self, LaunchError> {
        let placement = Placement::new(layout.ram, &kernel, initrd.as_ref().map(Vec::len))?;
        let boot = BootArgs { cmdline, initrd: placement.initrd, seeds };
        let dtb = fdt::build(layout, &boot)?;
        if dtb.len() as u64 > MAX_DTB_SIZE {
            return Err(LaunchError::DtbTooLarge(dtb.len() as u64));
        }
        let entry = VcpuEntry { pc: placement.kernel.base, gprs: [placement.dtb.base, 0, 0, 0, 0, 0, 0, 0] };
        let mut segments = vec![Segment::new("kernel", placement.kernel.base, kernel.into_image(), true)];
        if let (Some(region), Some(bytes)) = (placement.initrd, initrd) {
            segments.push(Segment::new("initrd", region.base, bytes, true));
        }
        segments.push(Segment::new("dtb", placement.dtb.base, dtb, true));
        Self::new(vec![layout.ram], segments, entry)
    }

    /// A kernel started the way virtCCA's TMM wants it: a stub at the start of RAM, the kernel behind it, RAM disk and
    /// device tree from 128 MiB on, all of them in whole blocks and measured.
    ///
    /// Source: `hw/arm/boot.c` of openEuler's QEMU, and the reference value tool of the virtCCA SDK.
    ///
    /// # Errors
    /// [`LaunchError`] when the parts do not fit into RAM or the command line is unfit.
    pub fn virtcca_direct_boot(
        layout: &Layout,
        kernel: Kernel,
        initrd: Option<Vec<u8>>,
        cmdline: &str,
    ) -> Result<Self, LaunchError> {
        let base = layout.ram.base;
        let kernel_at = base.saturating_add(BLOCK_SIZE);
        let initrd_at = base.saturating_add(VIRTCCA_INITRD_OFFSET);
        let initrd_len = initrd.as_ref().map_or(0, Vec::len) as u64;
        // One byte more, as the original counts.
        let blocks = |len: u64| (len + 1).next_multiple_of(BLOCK_SIZE);
        let dtb_at = if initrd.is_some() { initrd_at.saturating_add(blocks(initrd_len)) } else { initrd_at };
        let boot = BootArgs {
            cmdline,
            initrd: initrd.is_some().then(|| Region::new(initrd_at, initrd_len)),
            seeds: None,
        };
        let dtb = fdt::build(layout, &boot)?;
        if blocks(dtb.len() as u64) > MAX_DTB_SIZE {
            return Err(LaunchError::DtbTooLarge(dtb.len() as u64));
        }
        let memory_size = kernel.memory_size().next_multiple_of(PAGE_SIZE);
        let mut segments = vec![
            padded("stub", base, stub(dtb_at, kernel_at), BLOCK_SIZE),
            padded("kernel", kernel_at, kernel.into_image(), memory_size),
        ];
        if let Some(bytes) = initrd {
            segments.push(padded("initrd", initrd_at, bytes, blocks(initrd_len)));
        }
        segments.push(padded("dtb", dtb_at, dtb, MAX_DTB_SIZE));
        Self::new(vec![layout.ram], segments, VcpuEntry { pc: base, gprs: [0; 8] })
    }

    /// Firmware started the way virtCCA's TMM wants it: at address 0 in 128 MiB that are measured whole, with the device
    /// tree in the first 2 MiB of RAM.
    ///
    /// Source: the reference value tool of the virtCCA SDK.
    ///
    /// # Errors
    /// [`LaunchError`] when the firmware is too large or empty, or the command line is unfit.
    pub fn virtcca_firmware(layout: &Layout, firmware: Vec<u8>, cmdline: &str) -> Result<Self, LaunchError> {
        let place = Region::new(0, VIRTCCA_FIRMWARE_SIZE);
        if firmware.is_empty() {
            return Err(LaunchError::Empty("firmware"));
        }
        if firmware.len() as u64 > place.size {
            let size = firmware.len() as u64;
            return Err(LaunchError::OutsideRam { name: "firmware", gpa: 0, size, ram_end: place.end() });
        }
        let dtb = fdt::build(layout, &BootArgs { cmdline, initrd: None, seeds: None })?;
        if dtb.len() as u64 > MAX_DTB_SIZE {
            return Err(LaunchError::DtbTooLarge(dtb.len() as u64));
        }
        let segments = vec![
            padded(FIRMWARE, place.base, firmware, place.size),
            padded("dtb", layout.ram.base, dtb, MAX_DTB_SIZE),
        ];
        Self::new(vec![place, layout.ram], segments, VcpuEntry { pc: place.base, gprs: [0; 8] })
    }

    /// The ranges of guest RAM.
    pub fn ram(&self) -> &[Region] {
        &self.ram
    }

    /// Memory of firmware, besides RAM.
    pub fn firmware(&self) -> Option<Region> {
        self.segments.iter().find(|segment| segment.name == FIRMWARE).map(Segment::region)
    }

    /// The segments, in ascending order of address.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// How the boot vCPU starts.
    pub fn entry(&self) -> &VcpuEntry {
        &self.entry
    }

    /// The pages that are measured, in the order in which they are measured.
    pub fn pages(&self) -> impl Iterator<Item = (u64, &[u8; PAGE_LEN])> {
        self.segments.iter().filter(|segment| segment.measured).flat_map(Segment::pages)
    }

    /// What was loaded where, without the bytes.
    pub fn log(&self) -> LaunchLog {
        let record = |segment: &Segment| SegmentRecord {
            name: segment.name.to_owned(),
            gpa: segment.gpa,
            size: segment.bytes.len() as u64,
            measured: segment.measured,
            sha256: Sha256::digest(&segment.bytes).into(),
        };
        LaunchLog {
            ram: self.ram.clone(),
            segments: self.segments.iter().map(record).collect(),
            entry: self.entry,
        }
    }
}

/// Name of the segment that holds firmware.
pub const FIRMWARE: &str = "firmware";

/// Memory of a virtCCA guest's firmware: both flash banks of the board.
const VIRTCCA_FIRMWARE_SIZE: u64 = 0x800_0000;

/// Where the RAM disk of a virtCCA guest lies in RAM.
const VIRTCCA_INITRD_OFFSET: u64 = 0x800_0000;

/// A segment whose content is followed by zeros up to `size` bytes.
fn padded(name: &'static str, gpa: u64, mut bytes: Vec<u8>, size: u64) -> Segment {
    let len = usize::try_from(size).unwrap_or(usize::MAX).max(bytes.len());
    bytes.resize(len, 0);
    Segment::new(name, gpa, bytes, true)
}

/// The stub that QEMU starts arm64 kernels with: x0 is the device tree, x1 to x3 are zero.
fn stub(dtb: u64, kernel: u64) -> Vec<u8> {
    const CODE: [u32; 6] = [
        0x5800_00c0, // ldr x0, the device tree
        0xaa1f_03e1, // mov x1, xzr
        0xaa1f_03e2, // mov x2, xzr
        0xaa1f_03e3, // mov x3, xzr
        0x5800_0084, // ldr x4, the kernel
        0xd61f_0080, // br x4
    ];
    let code = CODE.iter().flat_map(|word| word.to_le_bytes());
    code.chain(dtb.to_le_bytes()).chain(kernel.to_le_bytes()).collect()
}

/// The launch plan as a record: enough to see which part of two launches differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchLog {
    /// The ranges of guest RAM.
    pub ram: Vec<Region>,
    /// The segments in the order of loading.
    pub segments: Vec<SegmentRecord>,
    /// How the boot vCPU starts.
    pub entry: VcpuEntry,
}

/// One segment of a [`LaunchLog`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRecord {
    /// What the segment is.
    pub name: String,
    /// Guest-physical address.
    pub gpa: u64,
    /// Bytes, padding included.
    pub size: u64,
    /// Whether the content is part of the launch measurement.
    pub measured: bool,
    /// SHA-256 of the content, padding included; hexadecimal in the serialised form.
    #[serde(with = "hex::serde")]
    pub sha256: [u8; 32],
}

/// Where the parts of a direct boot lie. The RAM disk has its exact size; the device tree has all it may need.
struct Placement {
    kernel: Region,
    initrd: Option<Region>,
    dtb: Region,
}

impl Placement {
    fn new(ram: Region, kernel: &Kernel, initrd_len: Option<usize>) -> Result<Self, LaunchError> {
        let place = |name, gpa, size| {
            let region = Region::new(gpa, size);
            let fits = ram.contains(&region);
            fits.then_some(region).ok_or(LaunchError::OutsideRam { name, gpa, size, ram_end: ram.end() })
        };
        // No overflow before `place` refuses: both sizes are bounded by the loader, and RAM ends far below 2^64.
        let kernel = place("kernel", ram.base.saturating_add(kernel.text_offset()), kernel.memory_size())?;
        let after_kernel = kernel.end().next_multiple_of(BLOCK_SIZE);
        let initrd = initrd_len.map(|len| place("initrd", after_kernel, len as u64)).transpose()?;
        let after_initrd = initrd.map_or(after_kernel, |region| region.end().next_multiple_of(BLOCK_SIZE));
        let dtb = place("dtb", after_initrd, MAX_DTB_SIZE)?;
        Ok(Self { kernel, initrd, dtb })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::VmKind;

    const MIB: u64 = 1 << 20;

    fn layout(ram_size: u64) -> Layout {
        Layout::new(VmKind::Realm, ram_size, 2, 40).unwrap()
    }

    fn kernel(text_offset: u64, image_size: u64) -> Kernel {
        let mut image = vec![0xa5; 0x1_0010];
        image[8..16].copy_from_slice(&text_offset.to_le_bytes());
        image[16..24].copy_from_slice(&image_size.to_le_bytes());
        image[56..60].copy_from_slice(b"ARM\x64");
        Kernel::load(image).unwrap()
    }

    fn boot(ram_size: u64, initrd: Option<Vec<u8>>) -> Result<LaunchPlan, LaunchError> {
        LaunchPlan::direct_boot(&layout(ram_size), kernel(0x8_0000, 3 * MIB), initrd, "quiet", None)
    }

    fn places(plan: &LaunchPlan) -> Vec<(&'static str, u64, u64)> {
        plan.segments().iter().map(|s| (s.name(), s.gpa(), s.region().size)).collect()
    }

    #[test]
    fn kernel_initrd_and_device_tree_lie_in_ascending_order() {
        let plan = boot(64 * MIB, Some(vec![7; 0x20_0001])).unwrap();
        let dtb = plan.segments()[2].region();
        assert_eq!(
            places(&plan),
            [
                ("kernel", 0x4008_0000, 0x1_1000),
                ("initrd", 0x4040_0000, 0x20_1000),
                ("dtb", 0x4080_0000, dtb.size)
            ]
        );
        assert_eq!(*plan.entry(), VcpuEntry { pc: 0x4008_0000, gprs: [dtb.base, 0, 0, 0, 0, 0, 0, 0] });
        assert_eq!(plan.ram(), [Region::new(0x4000_0000, 64 * MIB)]);
    }

    #[test]
    fn virtcca_guest_starts_in_a_stub_and_everything_is_in_whole_blocks() {
        let kernel = kernel(0, 3 * MIB);
        let plan =
            LaunchPlan::virtcca_direct_boot(&layout(512 * MIB), kernel, Some(vec![7; 2 << 20]), "quiet")
                .unwrap();
        assert_eq!(
            places(&plan),
            [
                ("stub", 0x4000_0000, 0x20_0000),
                ("kernel", 0x4020_0000, 0x30_0000),
                // A whole block more than its size, which is a multiple already.
                ("initrd", 0x4800_0000, 0x40_0000),
                ("dtb", 0x4840_0000, 0x20_0000),
            ]
        );
        let stub = &plan.segments()[0].bytes()[..40];
        assert_eq!(stub[..4], [0xc0, 0, 0, 0x58]);
        assert_eq!(stub[24..32], 0x4840_0000_u64.to_le_bytes());
        assert_eq!(stub[32..], 0x4020_0000_u64.to_le_bytes());
        assert_eq!(*plan.entry(), VcpuEntry { pc: 0x4000_0000, gprs: [0; 8] });
        assert_eq!(plan.pages().count() as u64, (2 + 3 + 4 + 2) * MIB / 4096);
    }

    #[test]
    fn virtcca_firmware_starts_at_zero_and_all_of_its_memory_is_measured() {
        let firmware = |len: usize| LaunchPlan::virtcca_firmware(&layout(512 * MIB), vec![7; len], "");
        let plan = firmware(5000).unwrap();
        assert_eq!(places(&plan), [("firmware", 0, 0x800_0000), ("dtb", 0x4000_0000, 0x20_0000)]);
        assert_eq!(*plan.entry(), VcpuEntry { pc: 0, gprs: [0; 8] });
        assert_eq!(plan.pages().count() as u64, (128 + 2) * MIB / 4096);
        let bytes = plan.segments()[0].bytes();
        assert_eq!((bytes[4999], bytes[5000]), (7, 0));
        assert!(matches!(firmware(0), Err(LaunchError::Empty("firmware"))));
        assert!(matches!(firmware(0x800_0001), Err(LaunchError::OutsideRam { name: "firmware", .. })));
    }

    #[test]
    fn device_tree_names_the_exact_end_of_the_initrd() {
        let plan = boot(64 * MIB, Some(vec![7; 0x1234])).unwrap();
        let padded = plan.segments()[2].bytes();
        let exact = u32::from_be_bytes(padded[4..8].try_into().unwrap());
        let tree = dtoolkit::fdt::Fdt::new(&padded[..exact as usize]).unwrap();
        let text = tree.to_string();
        assert!(text.contains("linux,initrd-end = <0x00 0x40401234>"), "{text}");
        assert!(text.contains("linux,initrd-start = <0x00 0x40400000>"), "{text}");
    }

    #[test]
    fn same_arguments_give_the_same_plan_and_any_change_another_log() {
        let log = boot(64 * MIB, Some(vec![7; 9])).unwrap().log();
        assert_eq!(boot(64 * MIB, Some(vec![7; 9])).unwrap().log(), log);
        let other = boot(64 * MIB, Some(vec![8; 9])).unwrap().log();
        let changed: Vec<_> = (0..3).map(|i| log.segments[i] != other.segments[i]).collect();
        assert_eq!(changed, [false, true, false]);
    }

    #[test]
    fn measured_pages_cover_the_segments_in_order_without_the_unmeasured() {
        let ram = vec![Region::new(0x1000, 0x10_000)];
        let entry = VcpuEntry { pc: 0x1000, gprs: [0; 8] };
        let segments = vec![
            Segment::new("late", 0x8000, vec![3; 0x1001], true),
            Segment::new("scratch", 0x4000, vec![2; 5], false),
            Segment::new("early", 0x1000, vec![1; 0x1000], true),
        ];
        let plan = LaunchPlan::new(ram, segments, entry).unwrap();
        let pages: Vec<_> = plan.pages().map(|(gpa, page)| (gpa, page[0], page[1])).collect();
        assert_eq!(pages, [(0x1000, 1, 1), (0x8000, 3, 3), (0x9000, 3, 0)]);
    }

    #[test]
    fn refuses_a_vm_too_small_for_its_kernel() {
        let error = boot(2 * MIB, None).unwrap_err();
        assert!(matches!(error, LaunchError::OutsideRam { name: "kernel", .. }), "{error}");
    }

    #[test]
    fn refuses_an_initrd_or_device_tree_beyond_ram() {
        let error = boot(16 * MIB, Some(vec![0; 16 << 20])).unwrap_err();
        assert!(matches!(error, LaunchError::OutsideRam { name: "initrd", .. }), "{error}");
        let error = boot(16 * MIB, Some(vec![0; 12 << 20])).unwrap_err();
        assert!(matches!(error, LaunchError::OutsideRam { name: "dtb", .. }), "{error}");
        assert!(boot(16 * MIB, Some(vec![0; 10 << 20])).is_ok());
    }

    #[test]
    fn refuses_an_empty_initrd() {
        assert!(matches!(boot(64 * MIB, Some(Vec::new())), Err(LaunchError::Empty("initrd"))));
    }

    #[test]
    fn refuses_segments_that_overlap_or_leave_ram_or_their_page() {
        let plan = |segments| {
            let ram = vec![Region::new(0x1000, 0x3000)];
            LaunchPlan::new(ram, segments, VcpuEntry { pc: 0, gprs: [0; 8] })
        };
        let a = || Segment::new("a", 0x1000, vec![0; 0x1001], true);
        let at = |gpa| vec![Segment::new("b", gpa, vec![0; 1], true), a()];
        assert!(plan(at(0x3000)).is_ok());
        assert!(matches!(plan(at(0x2000)), Err(LaunchError::Overlap("a", "b"))));
        assert!(matches!(plan(at(0x1000)), Err(LaunchError::Overlap(..))));
        for gpa in [0, 0x4000, u64::MAX - 0xfff] {
            assert!(matches!(plan(at(gpa)), Err(LaunchError::OutsideRam { name: "b", .. })), "{gpa:#x}");
        }
        assert!(matches!(plan(at(0x3800)), Err(LaunchError::Unaligned { gpa: 0x3800, .. })));
    }

    #[test]
    fn unfit_command_line_is_refused_with_its_cause() {
        let error =
            LaunchPlan::direct_boot(&layout(64 * MIB), kernel(0, MIB), None, "a\0b", None).unwrap_err();
        assert!(matches!(error, LaunchError::Fdt(FdtError::CmdlineNul(1))));
    }

    #[test]
    fn log_survives_json() {
        let log = boot(64 * MIB, None).unwrap().log();
        let json = serde_json::to_string(&log).unwrap();
        assert_eq!(serde_json::from_str::<LaunchLog>(&json).unwrap(), log);
        assert!(json.contains(&hex::encode(log.segments[0].sha256)));
    }
}
