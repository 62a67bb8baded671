//! PCI functions as they are found, and where virtio keeps its registers.

use virtio_drivers::transport::pci::bus::{BarInfo, DeviceFunction, MmioCam, PciRoot};

use super::pit::Pit;
use crate::board::Pci;
use crate::random::Random;
use crate::registers::{self, WIDTHS};

const SLOTS: u8 = 32;
const SLOT_SHIFT: u64 = 15;
/// Bytes of configuration space that mean something.
const CONFIG_SIZE: u64 = 256;

const VENDOR_VIRTIO: u16 = 0x1af4;
const CAPABILITIES: u64 = 0x34;
const CAPABILITY_VENDOR: u64 = 0x09;
const MOST_CAPABILITIES: usize = 48;

/// A 6300ESB, and the registers with which it is enabled: a watchdog that bites ends this guest, as it should.
const WATCHDOG: (u16, u16) = (0x8086, 0x25ab);
const WATCHDOG_CONTROL: core::ops::Range<u64> = 0x60..0x70;

/// A function of bus 0.
pub struct Function {
    pub address: DeviceFunction,
    pub vendor: u16,
    pub device: u16,
    config: u64,
}

/// Where the registers of a virtio device are (virtio 1.2, 4.1.4).
pub struct Virtio {
    pub common: u64,
    pub notify: u64,
    pub notify_step: u64,
    pub specific: Option<u64>,
}

impl Function {
    /// All functions of bus 0 but the host bridge.
    pub fn all(pci: Pci, shared_bit: u64) -> impl Iterator<Item = Self> {
        (1..SLOTS).filter_map(move |slot| {
            let config = (pci.ecam | shared_bit) + (u64::from(slot) << SLOT_SHIFT);
            // SAFETY: configuration space, mapped as device memory.
            let (vendor, device) = unsafe { (registers::read(config, 2), registers::read(config + 2, 2)) };
            let address = DeviceFunction { bus: 0, device: slot, function: 0 };
            (vendor != 0xffff).then_some(Self {
                address,
                vendor: vendor as u16,
                device: device as u16,
                config,
            })
        })
    }

    fn config(&self, offset: u64, width: u64) -> u64 {
        // SAFETY: configuration space, mapped as device memory; all callers align.
        unsafe { registers::read(self.config + offset, width) }
    }

    /// One access of any width to configuration space.
    pub fn access_config(&self, pit: &Pit, random: &mut Random) {
        let width = random.of(&WIDTHS);
        let offset = random.below(CONFIG_SIZE / width) * width;
        if (self.vendor, self.device) == WATCHDOG && WATCHDOG_CONTROL.contains(&offset) {
            return;
        }
        // SAFETY: as above; what the function answers at from now on is put right afterwards.
        unsafe { registers::write(self.config + offset, width, pit.harmless(random.next())) };
    }

    /// Address and size of each memory BAR.
    pub fn windows(&self, root: &mut PciRoot<MmioCam<'_>>) -> [Option<(u64, u64)>; 6] {
        root.bars(self.address).unwrap_or_default().map(|bar| match bar {
            Some(BarInfo::Memory { address, size, .. }) if size > 0 => Some((address, size)),
            _ => None,
        })
    }

    /// The registers, if it is a virtio device.
    pub fn virtio(&self, root: &mut PciRoot<MmioCam<'_>>, shared_bit: u64) -> Option<Virtio> {
        if self.vendor != VENDOR_VIRTIO {
            return None;
        }
        let windows = self.windows(root);
        let (mut common, mut notify, mut specific) = (None, None, None);
        let mut next = self.config(CAPABILITIES, 1);
        for _ in 0..MOST_CAPABILITIES {
            if next == 0 {
                break;
            }
            let at = next;
            next = self.config(at + 1, 1);
            if self.config(at, 1) != CAPABILITY_VENDOR {
                continue;
            }
            let bar = self.config(at + 4, 1) as usize;
            let Some(Some((base, _))) = windows.get(bar) else { continue };
            let start = (base + self.config(at + 8, 4)) | shared_bit;
            match self.config(at + 3, 1) {
                1 => common = Some(start),
                2 => notify = Some((start, self.config(at + 16, 4))),
                4 => specific = Some(start),
                _ => {}
            }
        }
        let (notify, notify_step) = notify?;
        Some(Virtio { common: common?, notify, notify_step, specific })
    }
}
