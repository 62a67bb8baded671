//! Routes guest accesses to the device that owns the address.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use tracing::debug;

/// A device that answers loads and stores in one range of guest physical addresses.
///
/// Devices lock themselves: several vCPUs call at once, and one slow device must not stop the others.
/// `data` has the width of the access (1, 2, 4 or 8 bytes on hardware, but any length must be answered)
/// and is little-endian. `offset` counts from the start of the range and comes from the guest.
pub trait MmioDevice: Send + Sync {
    /// Answers a load by filling all of `data`.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// Takes a store.
    fn write(&self, offset: u64, data: &[u8]);
}

/// Why a device could not be put on the bus.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BusError {
    /// The range holds no address.
    #[error("device range {0:#x?} is empty; give it a start below its end")]
    Empty(Range<u64>),
    /// The range meets one that is taken.
    #[error("device range {new:#x?} overlaps {taken:#x?}, which another device owns; move one of them")]
    Overlap {
        /// The range that was refused.
        new: Range<u64>,
        /// The range that was there first.
        taken: Range<u64>,
    },
}

struct Entry {
    end: u64,
    device: Arc<dyn MmioDevice>,
}

/// The map from guest physical address to device. Filled while the board is assembled, then shared read-only.
#[derive(Default)]
pub struct Bus {
    devices: BTreeMap<u64, Entry>,
}

impl Bus {
    /// An empty bus.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `device` at `range` (guest physical addresses, end exclusive).
    ///
    /// # Errors
    /// [`BusError`] when the range is empty or overlaps a device that is already there.
    pub fn insert(&mut self, range: Range<u64>, device: Arc<dyn MmioDevice>) -> Result<(), BusError> {
        if range.is_empty() {
            return Err(BusError::Empty(range));
        }
        if let Some((&start, entry)) = self.devices.range(..range.end).next_back()
            && entry.end > range.start
        {
            return Err(BusError::Overlap { new: range, taken: start..entry.end });
        }
        self.devices.insert(range.start, Entry { end: range.end, device });
        Ok(())
    }

    /// Loads `data.len()` bytes from `addr`. Returns false, with all ones in `data`, when nothing answers there.
    pub fn read(&self, addr: u64, data: &mut [u8]) -> bool {
        let Some((device, offset)) = self.find(addr, data.len()) else {
            debug!(
                addr = format_args!("{addr:#x}"),
                len = data.len(),
                "load from an address without a device"
            );
            data.fill(0xff);
            return false;
        };
        device.read(offset, data);
        true
    }

    /// Stores `data` to `addr`. Returns false when nothing answers there.
    pub fn write(&self, addr: u64, data: &[u8]) -> bool {
        let Some((device, offset)) = self.find(addr, data.len()) else {
            debug!(
                addr = format_args!("{addr:#x}"),
                len = data.len(),
                "store to an address without a device"
            );
            return false;
        };
        device.write(offset, data);
        true
    }

    fn find(&self, addr: u64, len: usize) -> Option<(&dyn MmioDevice, u64)> {
        let last = addr.checked_add(u64::try_from(len).ok()?.checked_sub(1)?)?;
        let (&start, entry) = self.devices.range(..=addr).next_back()?;
        (last < entry.end).then(|| (entry.device.as_ref(), addr - start))
    }
}

/// Fills a load of any width from a register value: little-endian, zero above the register.
pub(crate) fn fill(data: &mut [u8], value: u64) {
    let bytes = value.to_le_bytes();
    for (index, byte) in data.iter_mut().enumerate() {
        *byte = bytes.get(index).copied().unwrap_or(0);
    }
}

/// The value of a store of any width: little-endian, bytes above the eighth are dropped.
pub(crate) fn value(data: &[u8]) -> u64 {
    data.iter().take(8).rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// The low 32 bits of a store.
pub(crate) fn value32(data: &[u8]) -> u32 {
    data.iter().take(4).rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<(u64, Vec<u8>)>>);

    impl MmioDevice for Recorder {
        fn read(&self, offset: u64, data: &mut [u8]) {
            fill(data, offset);
        }
        fn write(&self, offset: u64, data: &[u8]) {
            self.0.lock().unwrap().push((offset, data.to_vec()));
        }
    }

    fn bus_with_device_at(range: Range<u64>) -> (Bus, Arc<Recorder>) {
        let device = Arc::new(Recorder::default());
        let mut bus = Bus::new();
        bus.insert(range, device.clone()).unwrap();
        (bus, device)
    }

    #[test]
    fn access_reaches_the_device_with_its_offset() {
        let (bus, device) = bus_with_device_at(0x1000..0x2000);
        let mut data = [0; 4];
        assert!(bus.read(0x1234, &mut data));
        assert_eq!(u32::from_le_bytes(data), 0x234);
        assert!(bus.write(0x1ffc, &[1, 2, 3, 4]));
        assert_eq!(*device.0.lock().unwrap(), [(0xffc, vec![1, 2, 3, 4])]);
    }

    #[test]
    fn address_without_device_reads_all_ones() {
        let (bus, _) = bus_with_device_at(0x1000..0x2000);
        for addr in [0, 0xfff, 0x2000, u64::MAX] {
            let mut data = [0; 8];
            assert!(!bus.read(addr, &mut data));
            assert_eq!(data, [0xff; 8]);
            assert!(!bus.write(addr, &[0]));
        }
    }

    #[test]
    fn access_across_the_end_of_a_device_is_unhandled() {
        let (bus, device) = bus_with_device_at(0x1000..0x2000);
        assert!(!bus.write(0x1ffe, &[0; 4]));
        assert!(!bus.read(0x1ffd, &mut [0; 8]));
        assert!(device.0.lock().unwrap().is_empty());
    }

    #[test]
    fn access_of_no_bytes_is_unhandled() {
        let (bus, _) = bus_with_device_at(0x1000..0x2000);
        assert!(!bus.read(0x1000, &mut []));
    }

    #[test]
    fn overlapping_and_empty_ranges_are_refused() {
        let (mut bus, device) = bus_with_device_at(0x1000..0x2000);
        for range in [0x1000..0x2000, 0x0..0x1001, 0x1fff..0x3000, 0x1400..0x1500, 0x0..0x9000] {
            let refused = bus.insert(range.clone(), device.clone()).unwrap_err();
            assert_eq!(refused, BusError::Overlap { new: range, taken: 0x1000..0x2000 });
        }
        assert!(matches!(bus.insert(5..5, device.clone()), Err(BusError::Empty(_))));
        bus.insert(0x2000..0x3000, device.clone()).unwrap();
        bus.insert(0x0..0x1000, device).unwrap();
    }
}
