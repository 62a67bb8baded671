//! The host bridge's decoding: ECAM accesses by slot, memory accesses by BAR.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tracing::debug;

use super::host_bridge::HostBridge;
use super::{Bar, ECAM_FUNCTION_SIZE, PciAddress, PciDevice, SLOTS};
use crate::bus::MmioDevice;

/// Why a device could not be put on the PCI bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PciError {
    /// All slots are taken.
    #[error("PCI bus 0 is full: it takes 31 devices; remove a disk, console or other device")]
    Full,
    /// The slot is taken.
    #[error("PCI slot {0} is taken")]
    Taken(PciAddress),
}

/// A BAR that answers in one of the windows.
#[derive(Clone)]
struct Route {
    slot: u8,
    bar: Bar,
    device: Arc<dyn PciDevice>,
}

/// Bus 0: the host bridge and up to 31 devices behind it.
///
/// The guest places BARs anywhere inside the memory windows. BARs outside of them, or still at the address that the
/// sizing protocol leaves, are not routed.
pub struct PciBus {
    windows: Vec<Range<u64>>,
    devices: RwLock<Vec<Option<Arc<dyn PciDevice>>>>,
    routes: RwLock<Vec<Route>>,
    /// Held across a configuration write and the routing that follows from it.
    configuring: Mutex<()>,
}

impl PciBus {
    /// A bus with its host bridge in slot 0, decoding memory at `windows` (guest physical addresses).
    pub fn new(windows: Vec<Range<u64>>) -> Arc<Self> {
        let mut devices: Vec<Option<Arc<dyn PciDevice>>> = vec![None; usize::from(SLOTS)];
        if let Some(slot) = devices.first_mut() {
            *slot = Some(Arc::new(HostBridge::new()));
        }
        Arc::new(Self {
            windows,
            devices: RwLock::new(devices),
            routes: RwLock::default(),
            configuring: Mutex::default(),
        })
    }

    /// The lowest free address.
    ///
    /// # Errors
    /// [`PciError::Full`].
    pub fn free_address(&self) -> Result<PciAddress, PciError> {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        (0..SLOTS)
            .zip(devices.iter())
            .find_map(|(slot, device)| device.is_none().then_some(PciAddress { slot }))
            .ok_or(PciError::Full)
    }

    /// Puts a device at an address from [`PciBus::free_address`].
    ///
    /// # Errors
    /// [`PciError::Taken`] when another device was put there since.
    pub fn insert(&self, address: PciAddress, device: Arc<dyn PciDevice>) -> Result<(), PciError> {
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        match devices.get_mut(usize::from(address.slot)) {
            Some(slot @ None) => {
                *slot = Some(device);
                Ok(())
            }
            _ => Err(PciError::Taken(address)),
        }
    }

    /// The device to map at the ECAM window, whatever its size: buses other than 0 are empty.
    pub fn ecam(self: &Arc<Self>) -> Arc<dyn MmioDevice> {
        Arc::new(Ecam(self.clone()))
    }

    /// The devices to map at the memory windows, in the order given to [`PciBus::new`].
    pub fn windows(self: &Arc<Self>) -> Vec<(Range<u64>, Arc<dyn MmioDevice>)> {
        let map = |range: &Range<u64>| {
            let window: Arc<dyn MmioDevice> = Arc::new(Window { bus: self.clone(), base: range.start });
            (range.clone(), window)
        };
        self.windows.iter().map(map).collect()
    }

    fn device(&self, slot: u8) -> Option<Arc<dyn PciDevice>> {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        devices.get(usize::from(slot)).cloned().flatten()
    }

    fn write_config(&self, slot: u8, device: &Arc<dyn PciDevice>, offset: u16, data: &[u8]) {
        let _configuring = self.configuring.lock().unwrap_or_else(PoisonError::into_inner);
        device.write_config(offset, data);

        let routed = |bar: &Bar| {
            let end = bar.base.checked_add(bar.size);
            self.windows
                .iter()
                .any(|window| window.start <= bar.base && end.is_some_and(|end| end <= window.end))
        };
        let new: Vec<Bar> = device.bars().into_iter().filter(routed).collect();
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let old: Vec<Bar> = routes.iter().filter(|route| route.slot == slot).map(|route| route.bar).collect();
        if old == new {
            return;
        }
        routes.retain(|route| route.slot != slot);
        routes.extend(new.iter().map(|&bar| Route { slot, bar, device: device.clone() }));
        drop(routes);

        for bar in old.iter().filter(|bar| !new.contains(bar)) {
            debug!(slot, ?bar, "BAR leaves its place");
            device.bar_moved(bar.index, None);
        }
        for bar in new.iter().filter(|bar| !old.contains(bar)) {
            debug!(slot, ?bar, "BAR placed");
            device.bar_moved(bar.index, Some(bar.base));
        }
    }

    fn route(&self, addr: u64, len: usize) -> Option<(Route, u64)> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let route = routes.iter().find(|Route { bar, .. }| {
            addr.checked_sub(bar.base).is_some_and(|offset| {
                bar.size.checked_sub(offset).is_some_and(|left| left > 0 && len as u64 <= left)
            })
        })?;
        Some((route.clone(), addr - route.bar.base))
    }
}

struct Ecam(Arc<PciBus>);

impl Ecam {
    /// Function and register that an ECAM offset names; functions other than 0 and buses other than 0 are empty.
    fn decode(&self, offset: u64, len: usize) -> Option<(u8, Arc<dyn PciDevice>, u16)> {
        let register = offset % ECAM_FUNCTION_SIZE;
        let function = offset / ECAM_FUNCTION_SIZE;
        let slot =
            u8::try_from(function / 8).ok().filter(|&slot| slot < SLOTS && function.is_multiple_of(8))?;
        if register + len as u64 > ECAM_FUNCTION_SIZE {
            return None;
        }
        Some((slot, self.0.device(slot)?, u16::try_from(register).ok()?))
    }
}

impl MmioDevice for Ecam {
    fn read(&self, offset: u64, data: &mut [u8]) {
        match self.decode(offset, data.len()) {
            Some((_, device, register)) => device.read_config(register, data),
            // All ones is how a guest recognises an empty slot.
            None => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some((slot, device, register)) = self.decode(offset, data.len()) {
            self.0.write_config(slot, &device, register, data);
        }
    }
}

struct Window {
    bus: Arc<PciBus>,
    base: u64,
}

impl MmioDevice for Window {
    fn read(&self, offset: u64, data: &mut [u8]) {
        match self.bus.route(self.base.wrapping_add(offset), data.len()) {
            Some((route, offset)) => route.device.read_bar(route.bar.index, offset, data),
            None => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some((route, offset)) = self.bus.route(self.base.wrapping_add(offset), data.len()) {
            route.device.write_bar(route.bar.index, offset, data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigSpace, Header};
    use super::*;

    const WINDOW: Range<u64> = 0x1000_0000..0x2000_0000;

    struct Scratch {
        config: Mutex<ConfigSpace>,
        memory: Mutex<Vec<(u64, usize)>>,
        moves: Mutex<Vec<Option<u64>>>,
    }

    impl Scratch {
        fn new() -> Arc<Self> {
            let header = Header { vendor: 1, device: 2, revision: 3, class: 4, subsystem: 5 };
            let mut config = ConfigSpace::new(&header);
            config.add_bar64(0, 0x1000);
            Arc::new(Self { config: config.into(), memory: Mutex::default(), moves: Mutex::default() })
        }
    }

    impl PciDevice for Scratch {
        fn read_config(&self, offset: u16, data: &mut [u8]) {
            self.config.lock().unwrap().read(offset, data);
        }
        fn write_config(&self, offset: u16, data: &[u8]) {
            self.config.lock().unwrap().write(offset, data);
        }
        fn bars(&self) -> Vec<Bar> {
            self.config.lock().unwrap().bars()
        }
        fn bar_moved(&self, _index: u8, base: Option<u64>) {
            self.moves.lock().unwrap().push(base);
        }
        fn read_bar(&self, _index: u8, offset: u64, data: &mut [u8]) {
            crate::bus::fill(data, offset);
        }
        fn write_bar(&self, _index: u8, offset: u64, data: &[u8]) {
            self.memory.lock().unwrap().push((offset, data.len()));
        }
    }

    fn bus_with_device() -> (Arc<PciBus>, PciAddress, Arc<Scratch>) {
        let bus = PciBus::new(vec![WINDOW]);
        let device = Scratch::new();
        let address = bus.free_address().unwrap();
        bus.insert(address, device.clone()).unwrap();
        (bus, address, device)
    }

    fn config(address: PciAddress, register: u64) -> u64 {
        (u64::from(address.slot()) << 15) + register
    }

    fn place(bus: &Arc<PciBus>, address: PciAddress, base: u64) {
        let ecam = bus.ecam();
        ecam.write(config(address, 0x10), &base.to_le_bytes());
        ecam.write(config(address, 0x04), &2_u16.to_le_bytes());
    }

    fn read32(device: &dyn MmioDevice, offset: u64) -> u32 {
        let mut data = [0; 4];
        device.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn guest_finds_the_host_bridge_and_the_device_and_nothing_else() {
        let (bus, address, _) = bus_with_device();
        let ecam = bus.ecam();
        assert_eq!(read32(&*ecam, 0), 0x0008_1b36);
        assert_eq!(read32(&*ecam, config(address, 0)), 0x0002_0001);
        let others = (0..256_u64).filter(|&function| function != 0 && function != 8).chain([
            256,
            4096,
            u64::MAX >> 12,
        ]);
        for function in others {
            assert_eq!(read32(&*ecam, function * 4096), 0xffff_ffff, "function {function}");
        }
    }

    #[test]
    fn bar_answers_where_the_guest_places_it() {
        let (bus, address, device) = bus_with_device();
        place(&bus, address, WINDOW.start + 0x3000);
        let (_, window) = bus.windows().remove(0);
        assert_eq!(read32(&*window, 0x3010), 0x10);
        window.write(0x3ffe, &[0; 2]);
        assert_eq!(*device.memory.lock().unwrap(), [(0xffe, 2)]);
        for outside in [0x2fff, 0x3ffd, 0x4000, 0] {
            assert_eq!(read32(&*window, outside), 0xffff_ffff);
        }
    }

    #[test]
    fn bar_moves_and_disappears_with_memory_decoding() {
        let (bus, address, device) = bus_with_device();
        place(&bus, address, WINDOW.start);
        bus.ecam().write(config(address, 0x10), &0x1500_0000_u32.to_le_bytes());
        bus.ecam().write(config(address, 0x04), &0_u16.to_le_bytes());
        let moves = device.moves.lock().unwrap();
        assert_eq!(*moves, [Some(WINDOW.start), None, Some(0x1500_0000), None]);
        assert_eq!(read32(&*bus.windows()[0].1, 0x500_0000), 0xffff_ffff);
    }

    #[test]
    fn bar_outside_the_windows_is_never_routed() {
        for base in [0x0900_0000, 0x4000_0000, WINDOW.end, u64::MAX << 12, WINDOW.start - 0x1000] {
            let (bus, address, device) = bus_with_device();
            place(&bus, address, base);
            assert!(device.moves.lock().unwrap().iter().all(Option::is_none), "{base:#x}");
        }
    }

    #[test]
    fn full_bus_and_taken_slot_are_refused() {
        let (bus, first, device) = bus_with_device();
        assert_eq!(bus.insert(first, device.clone()), Err(PciError::Taken(first)));
        for _ in 1..31 {
            bus.insert(bus.free_address().unwrap(), device.clone()).unwrap();
        }
        assert_eq!(bus.free_address(), Err(PciError::Full));
    }
}
