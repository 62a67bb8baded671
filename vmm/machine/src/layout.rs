//! Where everything lies in guest-physical memory: the addresses of QEMU's `virt` board.
//!
//! Guests may hard-code only flash at 0 and RAM at 1 GiB; everything else they learn from the device tree.
//! The map is data, so that a board with RAM elsewhere is another [`Layout`], not another set of constants.

use serde::{Deserialize, Serialize};

use crate::topology::{CpuTopology, NumaNode};

/// 4 KiB: the granule in which a Realm is loaded and measured, whatever page size host and guest use.
pub const PAGE_SIZE: u64 = 0x1000;

/// 2 MiB: the alignment of RAM, of the kernel and of the device tree (arm64 boot protocol).
pub const BLOCK_SIZE: u64 = 0x20_0000;

/// How many redistributors fit between the GIC's first redistributor and the UART (one is 128 KiB).
pub const MAX_VCPUS: u16 = 123;

/// Where RAM starts, unless somebody needs it elsewhere: 1 GiB.
pub const RAM_BASE: u64 = 0x4000_0000;

const REDISTRIBUTOR_SIZE: u64 = 0x2_0000;
const MMIO64_MAX_SIZE: u64 = 512 << 30;
const MMIO64_MIN_SIZE: u64 = 1 << 30;
/// The stage-2 address widths that KVM offers to a VM.
const IPA_BITS: std::ops::RangeInclusive<u8> = 32..=52;

/// The board that was asked for cannot be built; the message names the option to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The vCPU count is zero or above [`MAX_VCPUS`].
    #[error("{0} vCPUs asked for; this board has room for 1 to {MAX_VCPUS}: change the vCPU count")]
    Vcpus(u16),
    /// The RAM size is zero or not a multiple of [`BLOCK_SIZE`].
    #[error("{0:#x} bytes of RAM asked for; the size must be a multiple of 2 MiB and not zero: round it")]
    RamSize(u64),
    /// RAM would lie where devices are.
    #[error("RAM from {0:#x} on asked for; it starts at a multiple of 1 GiB")]
    RamBase(u64),
    /// The IPA width is not one that KVM offers.
    #[error("IPA width {0} asked for; expected 32 to 52 bits")]
    IpaBits(u8),
    /// RAM and the 64-bit PCI window do not fit below the address limit.
    #[error(
        "{ram_size:#x} bytes of RAM from {ram_base:#x} and a PCI window of at least {MMIO64_MIN_SIZE:#x} bytes \
         do not fit below {limit:#x}: use less RAM or a wider IPA space"
    )]
    DoesNotFit {
        /// Where RAM starts.
        ram_base: u64,
        /// Bytes of RAM asked for.
        ram_size: u64,
        /// First address that the board may not use.
        limit: u64,
    },
}

/// What protects the VM; it decides the address limit, the PSCI conduit and whether seeds are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmKind {
    /// An ordinary VM.
    Plain,
    /// A Realm: the upper half of the IPA space is the shared alias of the lower half.
    Realm,
}

/// A half-open range of guest-physical addresses, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Region {
    /// First address.
    pub base: u64,
    /// Length in bytes.
    pub size: u64,
}

impl Region {
    /// The range of `size` bytes from `base`.
    pub const fn new(base: u64, size: u64) -> Self {
        Self { base, size }
    }

    /// First address after the range; saturates, so a hostile size cannot wrap into a small range.
    pub const fn end(&self) -> u64 {
        self.base.saturating_add(self.size)
    }

    /// Whether `other` lies wholly inside this range.
    pub const fn contains(&self, other: &Self) -> bool {
        match other.base.checked_add(other.size) {
            Some(end) => other.base >= self.base && end <= self.end(),
            None => false,
        }
    }

    /// Whether the two ranges share an address.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.base < other.end() && other.base < self.end() && self.size > 0 && other.size > 0
    }
}

/// A memory-mapped device with one interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MmioDevice {
    /// Its registers.
    pub region: Region,
    /// Its interrupt, as a shared peripheral interrupt number (GIC INTID minus 32).
    pub spi: u32,
}

/// The interrupt controller: GICv3 with one interrupt translation service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gic {
    /// The distributor.
    pub distributor: Region,
    /// The redistributors, one of 128 KiB per vCPU.
    pub redistributors: Region,
    /// The interrupt translation service.
    pub its: Region,
}

/// The PCIe host bridge and its windows; bus addresses equal guest-physical addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pcie {
    /// Configuration space (ECAM): 1 MiB per bus.
    pub ecam: Region,
    /// Window for BARs that need a 32-bit address.
    pub mmio32: Region,
    /// Window for 64-bit BARs, above RAM.
    pub mmio64: Region,
    /// Window for I/O ports; firmware wants one, though no device here has such a BAR.
    pub io: Region,
}

impl Pcie {
    /// Number of buses that the configuration space covers.
    pub const fn buses(&self) -> u64 {
        self.ecam.size >> 20
    }
}

/// The memory map of one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// What protects the VM.
    pub kind: VmKind,
    /// Width of the guest-physical address space in bits, the shared alias included.
    pub ipa_bits: u8,
    /// Number of vCPUs.
    pub vcpus: u16,
    /// Flash banks: firmware code and firmware variables.
    pub flash: [Region; 2],
    /// Interrupt controller.
    pub gic: Gic,
    /// PL011, the serial console.
    pub uart: MmioDevice,
    /// PL031, the real-time clock. Its alarm is not wired, so it has no interrupt.
    pub rtc: Region,
    /// PL061, with the power button.
    pub gpio: MmioDevice,
    /// PCIe host bridge.
    pub pcie: Pcie,
    /// Guest memory.
    pub ram: Region,
    /// How the guest sees its vCPUs grouped.
    pub topology: CpuTopology,
    /// NUMA nodes; none when the guest is not to see any.
    pub nodes: Vec<NumaNode>,
}

impl Layout {
    /// Places a board of `vcpus` vCPUs and `ram_size` bytes of RAM in an address space of `ipa_bits` bits.
    ///
    /// In a Realm everything lies in the lower half, because the upper half is the shared alias.
    ///
    /// # Errors
    /// [`LayoutError`] when a number is out of range or the board does not fit.
    pub fn new(kind: VmKind, ram_size: u64, vcpus: u16, ipa_bits: u8) -> Result<Self, LayoutError> {
        Self::with_ram_at(RAM_BASE, kind, ram_size, vcpus, ipa_bits)
    }

    /// The same with RAM from `ram_base` on, a multiple of 1 GiB from [`RAM_BASE`] on.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn with_ram_at(
        ram_base: u64,
        kind: VmKind,
        ram_size: u64,
        vcpus: u16,
        ipa_bits: u8,
    ) -> Result<Self, LayoutError> {
        if ram_base < RAM_BASE || !ram_base.is_multiple_of(MMIO64_MIN_SIZE) {
            return Err(LayoutError::RamBase(ram_base));
        }
        if vcpus == 0 || vcpus > MAX_VCPUS {
            return Err(LayoutError::Vcpus(vcpus));
        }
        if ram_size == 0 || !ram_size.is_multiple_of(BLOCK_SIZE) {
            return Err(LayoutError::RamSize(ram_size));
        }
        if !IPA_BITS.contains(&ipa_bits) {
            return Err(LayoutError::IpaBits(ipa_bits));
        }
        let limit = match kind {
            VmKind::Plain => 1 << ipa_bits,
            VmKind::Realm => 1 << (ipa_bits - 1),
        };
        let ram = Region::new(ram_base, ram_size);
        let mmio64 = place_mmio64(ram, limit).ok_or(LayoutError::DoesNotFit {
            ram_base: ram.base,
            ram_size,
            limit,
        })?;
        Ok(Self {
            kind,
            ipa_bits,
            vcpus,
            flash: [Region::new(0, 0x400_0000), Region::new(0x400_0000, 0x400_0000)],
            gic: Gic {
                distributor: Region::new(0x800_0000, 0x1_0000),
                redistributors: Region::new(0x80A_0000, u64::from(vcpus) * REDISTRIBUTOR_SIZE),
                its: Region::new(0x808_0000, 0x2_0000),
            },
            uart: MmioDevice { region: Region::new(0x900_0000, 0x1000), spi: 1 },
            rtc: Region::new(0x901_0000, 0x1000),
            gpio: MmioDevice { region: Region::new(0x903_0000, 0x1000), spi: 7 },
            pcie: Pcie {
                ecam: Region::new(0x3F00_0000, 0x100_0000),
                mmio32: Region::new(0x1000_0000, 0x2EFF_0000),
                mmio64,
                io: Region::new(0x3EFF_0000, 0x1_0000),
            },
            ram,
            topology: CpuTopology::flat(vcpus),
            nodes: Vec::new(),
        })
    }

    /// The address bit that selects the shared alias in a Realm; `None` in a plain VM.
    pub fn shared_bit(&self) -> Option<u64> {
        match self.kind {
            VmKind::Plain => None,
            VmKind::Realm => Some(1 << (self.ipa_bits - 1)),
        }
    }

    /// Where memory of devices can be placed: between RAM and the 64-bit PCI window, from a multiple of 1 GiB on. Empty
    /// where they touch.
    pub fn device_memory(&self) -> Region {
        let base = self.ram.end().next_multiple_of(MMIO64_MIN_SIZE);
        Region::new(base, self.pcie.mmio64.base.saturating_sub(base))
    }

    /// Every range in which a device answers: all of the board except RAM, in ascending order.
    pub fn device_regions(&self) -> [Region; 12] {
        [
            self.flash[0],
            self.flash[1],
            self.gic.distributor,
            self.gic.its,
            self.gic.redistributors,
            self.uart.region,
            self.rtc,
            self.gpio.region,
            self.pcie.mmio32,
            self.pcie.io,
            self.pcie.ecam,
            self.pcie.mmio64,
        ]
    }
}

/// The largest naturally aligned window of a power-of-two size that fits between RAM and `limit`.
fn place_mmio64(ram: Region, limit: u64) -> Option<Region> {
    let ram_end = ram.base.checked_add(ram.size)?;
    std::iter::successors(Some(MMIO64_MAX_SIZE), |size| Some(size / 2))
        .take_while(|&size| size >= MMIO64_MIN_SIZE)
        .find_map(|size| {
            let window = Region::new(ram_end.checked_next_multiple_of(size)?, size);
            (window.base.checked_add(size)? <= limit).then_some(window)
        })
}

/// The affinity value that KVM gives to vCPU number `index` (`reset_mpidr` in the kernel's `sys_regs.c`).
///
/// Only 16 vCPUs share an affinity level 0, because a GICv3 software interrupt addresses at most 16 at once.
/// The reserved bit 31 of the register is not set: the device tree and PSCI use the bare affinity.
pub const fn mpidr(index: u16) -> u64 {
    let index = index as u64;
    (index & 0xf) | (((index >> 4) & 0xff) << 8) | (((index >> 12) & 0xff) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn realm_board_lies_in_the_lower_half() {
        let layout = Layout::new(VmKind::Realm, GIB, 2, 40).unwrap();
        assert_eq!(layout.shared_bit(), Some(1 << 39));
        assert!(layout.device_regions().iter().chain([&layout.ram]).all(|r| r.end() <= 1 << 39));
        assert_eq!(layout.pcie.mmio64, Region::new(256 * GIB, 256 * GIB));
    }

    #[test]
    fn plain_board_may_use_both_halves() {
        let layout = Layout::new(VmKind::Plain, GIB, 2, 40).unwrap();
        assert_eq!(layout.shared_bit(), None);
        assert_eq!(layout.pcie.mmio64, Region::new(512 * GIB, 512 * GIB));
    }

    #[test]
    fn no_two_parts_overlap() {
        for (ram, vcpus, bits) in [(BLOCK_SIZE, 1, 33), (GIB, 16, 36), (255 * GIB, 123, 40), (1 << 45, 7, 48)]
        {
            let layout = Layout::new(VmKind::Realm, ram, vcpus, bits).unwrap();
            let mut parts = layout.device_regions().to_vec();
            assert!(parts.is_sorted());
            parts.push(layout.ram);
            parts.sort();
            assert!(parts.windows(2).all(|w| !w[0].overlaps(&w[1])), "{parts:x?}");
        }
    }

    #[test]
    fn refuses_ram_that_reaches_the_shared_alias() {
        let fits = (1 << 35) - 2 * GIB;
        assert!(Layout::new(VmKind::Realm, fits, 1, 36).is_ok());
        let error = Layout::new(VmKind::Realm, fits + BLOCK_SIZE, 1, 36).unwrap_err();
        assert!(matches!(error, LayoutError::DoesNotFit { limit, .. } if limit == 1 << 35));
        assert!(Layout::new(VmKind::Plain, fits + BLOCK_SIZE, 1, 36).is_ok());
        let most = u64::MAX - (BLOCK_SIZE - 1);
        assert!(matches!(Layout::new(VmKind::Plain, most, 1, 52), Err(LayoutError::DoesNotFit { .. })));
    }

    #[test]
    fn refuses_numbers_out_of_range() {
        assert_eq!(Layout::new(VmKind::Plain, GIB, 0, 40), Err(LayoutError::Vcpus(0)));
        assert_eq!(Layout::new(VmKind::Plain, GIB, 124, 40), Err(LayoutError::Vcpus(124)));
        assert_eq!(Layout::new(VmKind::Plain, 0, 1, 40), Err(LayoutError::RamSize(0)));
        assert_eq!(Layout::new(VmKind::Plain, 0x1000, 1, 40), Err(LayoutError::RamSize(0x1000)));
        assert_eq!(Layout::new(VmKind::Plain, GIB, 1, 31), Err(LayoutError::IpaBits(31)));
        assert_eq!(Layout::new(VmKind::Plain, GIB, 1, 53), Err(LayoutError::IpaBits(53)));
    }

    #[test]
    fn last_redistributor_ends_at_the_uart() {
        let layout = Layout::new(VmKind::Plain, GIB, MAX_VCPUS, 40).unwrap();
        assert_eq!(layout.gic.redistributors.end(), layout.uart.region.base);
    }

    #[test]
    fn affinity_follows_kvm() {
        assert_eq!([0, 1, 15, 16, 122, 0x1001].map(mpidr), [0, 1, 15, 0x100, 0x70a, 0x1_0001]);
    }

    #[test]
    fn region_arithmetic_does_not_wrap() {
        let low = Region::new(0x1000, 0x1000);
        assert!(!low.contains(&Region::new(u64::MAX, 2)));
        assert!(!low.contains(&Region::new(0x1800, u64::MAX)));
        assert!(low.contains(&low));
        assert!(!low.overlaps(&Region::new(0x2000, 1)));
        assert!(low.overlaps(&Region::new(0x1fff, 1)));
        assert!(!low.overlaps(&Region::new(0x1800, 0)));
    }
}
