//! Configuration space of a function (PCI Local Bus 3.0, chapter 6) or bridge (PCI-to-PCI Bridge 1.2, chapter 3).

use super::Bar;

/// Conventional configuration space. The extended part (256..4096) reads as zero: no extended capabilities.
const SIZE: usize = 256;

const VENDOR: usize = 0x00;
const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const REVISION: usize = 0x08;
const CLASS: usize = 0x09;
const HEADER_TYPE: usize = 0x0e;
const BAR0: usize = 0x10;
const SUBSYSTEM: usize = 0x2c;
const CAPABILITIES: usize = 0x34;
const FIRST_CAPABILITY: u8 = 0x40;

const COMMAND_MEMORY: u8 = 1 << 1;
const COMMAND_BUS_MASTER: u8 = 1 << 2;
/// Interrupt Disable, high byte of the command register. The functions have no INTx, but drivers set and check it.
const COMMAND_INTX_DISABLE: u8 = 1 << 2;
const STATUS_CAPABILITIES: u8 = 1 << 4;
const BAR_MEMORY_64: u64 = 0b100;

/// What identifies a function.
pub(crate) struct Header {
    pub(crate) vendor: u16,
    pub(crate) device: u16,
    pub(crate) revision: u8,
    /// Class, subclass and programming interface, one byte each.
    pub(crate) class: u32,
    /// Subsystem id (high half) and subsystem vendor id.
    pub(crate) subsystem: u32,
}

/// Register bytes, and for each the bits that the guest may change.
pub(crate) struct ConfigSpace {
    bytes: [u8; SIZE],
    writable: [u8; SIZE],
    /// The place of the last capability's `next` pointer.
    link: usize,
    next_capability: u8,
    /// First register and size of each 64-bit memory BAR.
    bars: Vec<(u8, u64)>,
}

impl ConfigSpace {
    pub(crate) fn new(header: &Header) -> Self {
        let mut config = Self {
            bytes: [0; SIZE],
            writable: [0; SIZE],
            link: CAPABILITIES,
            next_capability: FIRST_CAPABILITY,
            bars: Vec::new(),
        };
        config.set(VENDOR, &header.vendor.to_le_bytes());
        config.set(VENDOR + 2, &header.device.to_le_bytes());
        config.set(REVISION, &[header.revision]);
        config.set(CLASS, header.class.to_le_bytes().get(..3).unwrap_or_default());
        config.set(SUBSYSTEM, &header.subsystem.to_le_bytes());
        config.allow_common();
        config
    }

    /// Configuration space of a bridge with a memory window and a 64-bit prefetchable one, and without I/O ports. What it
    /// forwards is not looked at: a device behind it answers where its BARs are.
    pub(crate) fn bridge(header: &Header) -> Self {
        let mut config = Self::new(&Header { subsystem: 0, ..*header });
        config.set(HEADER_TYPE, &[1]);
        // Bus numbers, memory window, prefetchable window, its upper halves, bridge control.
        config.allow(0x18, &[0xff; 3]);
        config.allow(0x20, &[0xf0, 0xff, 0xf0, 0xff, 0xf0, 0xff, 0xf0, 0xff]);
        config.set(0x24, &[1, 0, 1, 0]);
        config.allow(0x28, &[0xff; 8]);
        config.allow(0x3e, &[0xff; 2]);
        config
    }

    /// What the guest may change in the header of any function.
    fn allow_common(&mut self) {
        self.allow(COMMAND, &[COMMAND_MEMORY | COMMAND_BUS_MASTER, COMMAND_INTX_DISABLE]);
        // Cache line size and interrupt line are scratch registers for firmware and operating system.
        self.allow(0x0c, &[0xff]);
        self.allow(0x3c, &[0xff]);
    }

    /// Adds a 64-bit memory BAR of `size` bytes (a power of two, at least 16) at registers `index` and `index + 1`.
    pub(crate) fn add_bar64(&mut self, index: u8, size: u64) {
        let at = BAR0 + 4 * usize::from(index);
        self.set(at, &BAR_MEMORY_64.to_le_bytes());
        // Address bits below the size are hard-wired to zero: that is how the guest finds the size.
        self.allow(at, &(!(size - 1) & !0xf).to_le_bytes());
        self.bars.push((index, size));
    }

    /// Appends a capability: `body` follows the id and the next pointer, `writable` marks the guest's bits in `body`.
    /// Returns the offset of the capability.
    pub(crate) fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> u8 {
        let offset = self.next_capability;
        let at = usize::from(offset);
        self.set(self.link, &[offset]);
        self.set(STATUS, &[STATUS_CAPABILITIES]);
        self.set(at, &[id, 0]);
        self.set(at + 2, body);
        self.allow(at + 2, writable);
        self.link = at + 1;
        self.next_capability = u8::try_from((at + 2 + body.len()).next_multiple_of(4)).unwrap_or(u8::MAX);
        offset
    }

    pub(crate) fn read(&self, offset: u16, data: &mut [u8]) {
        for (at, byte) in (usize::from(offset)..).zip(data) {
            *byte = self.bytes.get(at).copied().unwrap_or(0);
        }
    }

    pub(crate) fn write(&mut self, offset: u16, data: &[u8]) {
        for (at, &new) in (usize::from(offset)..).zip(data) {
            if let (Some(byte), Some(&mask)) = (self.bytes.get_mut(at), self.writable.get(at)) {
                *byte = *byte & !mask | new & mask;
            }
        }
    }

    /// The 16-bit register at `offset`.
    pub(crate) fn get16(&self, offset: u8) -> u16 {
        let mut data = [0; 2];
        self.read(u16::from(offset), &mut data);
        u16::from_le_bytes(data)
    }

    /// The bytes at `offset`.
    pub(crate) fn bytes<const N: usize>(&self, offset: u8) -> [u8; N] {
        let mut data = [0; N];
        self.read(u16::from(offset), &mut data);
        data
    }

    /// Sets the 16-bit register at `offset`, past the guest's mask.
    pub(crate) fn set16(&mut self, offset: u8, value: u16) {
        self.set(usize::from(offset), &value.to_le_bytes());
    }

    /// The 32-bit register at `offset`.
    pub(crate) fn get32(&self, offset: u8) -> u32 {
        let mut data = [0; 4];
        self.read(u16::from(offset), &mut data);
        u32::from_le_bytes(data)
    }

    /// The memory BARs that are decoded now.
    pub(crate) fn bars(&self) -> Vec<Bar> {
        if self.bytes.get(COMMAND).is_none_or(|command| command & COMMAND_MEMORY == 0) {
            return Vec::new();
        }
        self.bars.iter().map(|&(index, size)| Bar { index, base: self.bar_base(index), size }).collect()
    }

    fn bar_base(&self, index: u8) -> u64 {
        let mut data = [0; 8];
        self.read(0x10 + 4 * u16::from(index), &mut data);
        u64::from_le_bytes(data) & !0xf
    }

    /// Writes past the guest's mask.
    fn set(&mut self, at: usize, value: &[u8]) {
        for (byte, &new) in self.bytes.iter_mut().skip(at).zip(value) {
            *byte = new;
        }
    }

    fn allow(&mut self, at: usize, mask: &[u8]) {
        for (byte, &new) in self.writable.iter_mut().skip(at).zip(mask) {
            *byte = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ConfigSpace {
        let header =
            Header { vendor: 0x1af4, device: 0x1042, revision: 1, class: 0x01_80_00, subsystem: 0x1100_1af4 };
        let mut config = ConfigSpace::new(&header);
        config.add_bar64(0, 0x8000);
        config
    }

    fn read32(config: &ConfigSpace, offset: u16) -> u32 {
        let mut data = [0; 4];
        config.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn identity_is_where_drivers_look_and_cannot_be_changed() {
        let mut config = config();
        config.write(0, &[0; 64]);
        assert_eq!(read32(&config, 0x00), 0x1042_1af4);
        assert_eq!(read32(&config, 0x08), 0x01_80_00_01);
        assert_eq!(read32(&config, 0x2c), 0x1100_1af4);
        assert_eq!(read32(&config, 0x3c) & 0xff00, 0, "interrupt pin must be 0: no INTx");
    }

    #[test]
    fn writing_all_ones_to_a_bar_shows_its_size() {
        let mut config = config();
        config.write(0x10, &[0xff; 4]);
        config.write(0x14, &[0xff; 4]);
        assert_eq!(read32(&config, 0x10), 0xffff_8004);
        assert_eq!(read32(&config, 0x14), 0xffff_ffff);
        config.write(0x18, &[0xff; 4]);
        assert_eq!(read32(&config, 0x18), 0, "a BAR that does not exist reads as zero");
    }

    #[test]
    fn bar_is_decoded_only_while_memory_decoding_is_on() {
        let mut config = config();
        config.write(0x10, &0x1000_0000_u32.to_le_bytes());
        config.write(0x14, &0x80_u32.to_le_bytes());
        assert_eq!(config.bars(), []);
        config.write(4, &2_u16.to_le_bytes());
        assert_eq!(config.bars(), [Bar { index: 0, base: 0x80_1000_0000, size: 0x8000 }]);
    }

    #[test]
    fn capabilities_form_a_list() {
        let mut config = config();
        assert_eq!(config.add_capability(0x11, &[1; 10], &[]), 0x40);
        assert_eq!(config.add_capability(0x09, &[2; 15], &[0, 0xff]), 0x4c);
        assert_eq!(config.add_capability(0x09, &[3; 2], &[]), 0x60);
        assert_eq!(read32(&config, 0x34) & 0xff, 0x40);
        assert_eq!(config.get16(0x40), 0x4c11);
        assert_eq!(config.get16(0x4c), 0x6009);
        assert_eq!(config.get16(0x60), 0x0009);
        assert_eq!(config.get16(0x06), 0x10, "status announces the list");
        config.write(0x4c, &[9; 17]);
        assert_eq!(read32(&config, 0x4c), 0x0902_6009, "only the writable byte changed");
    }

    #[test]
    fn accesses_past_the_end_are_harmless() {
        let mut config = config();
        config.write(0xfe, &[0xff; 8]);
        config.write(0xfff, &[0xff; 8]);
        let mut data = [1; 8];
        config.read(0xfff, &mut data);
        assert_eq!(data, [0; 8]);
    }
}
