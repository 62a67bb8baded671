//! The host bridge's decoding: ECAM accesses by bus and slot, memory accesses by BAR.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tracing::debug;

use super::host_bridge::HostBridge;
use super::root_port::{Ejected, RootPort};
use super::{Bar, ECAM_FUNCTION_SIZE, PciAddress, PciDevice, Requester, SLOTS};
use crate::bus::MmioDevice;
use crate::interrupt::MsiSink;

/// Why a device could not be put on the PCI bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PciError {
    /// All slots are taken.
    #[error("PCI bus 0 is full: it takes 31 devices; remove a disk, console or other device")]
    Full,
    /// The slot is taken.
    #[error("PCI slot {0} is taken")]
    Taken(PciAddress),
    /// Nothing is free for a device that is plugged in while the guest runs.
    #[error(
        "all hotplug slots are taken; remove a device that was added while the VM runs, or boot the VM anew"
    )]
    NoPort,
    /// The device is on the board itself.
    #[error("the device was there when the VM booted, so it cannot be removed while the VM runs")]
    NotInAPort,
    /// The guest does not serve the slot.
    #[error(
        "the guest does not listen to the slot, because it has not booted so far or has no driver (pciehp)"
    )]
    NobodyListens,
}

/// Whose BAR it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// The function in this slot of bus 0.
    Slot(u8),
    /// The function behind the port in this slot.
    Behind(u8),
}

/// A BAR that answers in one of the windows.
#[derive(Clone)]
struct Route {
    owner: Owner,
    bar: Bar,
    device: Arc<dyn PciDevice>,
}

/// Bus 0: the host bridge, up to 31 devices, and among them root ports with a device behind each.
///
/// The guest places BARs anywhere inside the memory windows. BARs outside of them, or still at the address that the
/// sizing protocol leaves, are not routed.
pub struct PciBus {
    windows: Vec<Range<u64>>,
    devices: RwLock<Vec<Option<Arc<dyn PciDevice>>>>,
    ports: Vec<(u8, Arc<RootPort>)>,
    routes: RwLock<Vec<Route>>,
    /// Held across a configuration write and the routing that follows from it.
    configuring: Mutex<()>,
}

impl PciBus {
    /// A bus with its host bridge in slot 0, decoding memory at `windows` (guest physical addresses).
    pub fn new(windows: Vec<Range<u64>>) -> Arc<Self> {
        Self::build(windows, Vec::new())
    }

    /// A bus that also has `count` root ports, in its last slots, which interrupt through `msi`. `ejected` is told the
    /// name of each device that the guest lets go.
    pub fn with_ports(
        windows: Vec<Range<u64>>,
        count: u8,
        msi: &Arc<dyn MsiSink>,
        ejected: &Ejected,
    ) -> Arc<Self> {
        let first = SLOTS.saturating_sub(count).max(1);
        let port = |slot| (slot, Arc::new(RootPort::new(slot, Arc::clone(msi), Arc::clone(ejected))));
        Self::build(windows, (first..SLOTS).map(port).collect())
    }

    fn build(windows: Vec<Range<u64>>, ports: Vec<(u8, Arc<RootPort>)>) -> Arc<Self> {
        let mut devices: Vec<Option<Arc<dyn PciDevice>>> = vec![None; usize::from(SLOTS)];
        if let Some(slot) = devices.first_mut() {
            *slot = Some(Arc::new(HostBridge::new()));
        }
        for (slot, port) in &ports {
            if let Some(slot) = devices.get_mut(usize::from(*slot)) {
                *slot = Some(Arc::clone(port) as _);
            }
        }
        Arc::new(Self {
            windows,
            devices: RwLock::new(devices),
            ports,
            routes: RwLock::default(),
            configuring: Mutex::default(),
        })
    }

    /// The requester id of the device that will be plugged in next.
    ///
    /// # Errors
    /// [`PciError::NoPort`].
    pub fn free_port(&self) -> Result<Requester, PciError> {
        Ok(self.empty_port()?.requester())
    }

    /// Plugs a device that has the requester id of [`PciBus::free_port`] in, while the guest runs. Gives its place.
    ///
    /// # Errors
    /// [`PciError::NoPort`].
    pub fn plug(&self, id: &str, device: Arc<dyn PciDevice>) -> Result<PciAddress, PciError> {
        let _configuring = self.configuring.lock().unwrap_or_else(PoisonError::into_inner);
        let port = self.empty_port()?;
        port.plug(id, device)?;
        Ok(PciAddress { bus: port.secondary().unwrap_or(0), slot: 0 })
    }

    /// Asks the guest to let the device of that name go; `ejected` tells when it has.
    ///
    /// # Errors
    /// [`PciError::NotInAPort`] or [`PciError::NobodyListens`].
    pub fn request_unplug(&self, id: &str) -> Result<(), PciError> {
        let (_, port) = self.ports.iter().find(|(_, port)| port.holds(id)).ok_or(PciError::NotInAPort)?;
        port.request_unplug()
    }

    fn empty_port(&self) -> Result<&RootPort, PciError> {
        let empty = self.ports.iter().find(|(_, port)| port.is_empty());
        empty.map(|(_, port)| port.as_ref()).ok_or(PciError::NoPort)
    }

    /// The lowest free address.
    ///
    /// # Errors
    /// [`PciError::Full`].
    pub fn free_address(&self) -> Result<PciAddress, PciError> {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        (0..SLOTS)
            .zip(devices.iter())
            .find_map(|(slot, device)| device.is_none().then_some(PciAddress { bus: 0, slot }))
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

    /// The device to map at the ECAM window, whatever its size.
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

    fn device(&self, bus: u8, slot: u8) -> Option<(Owner, Arc<dyn PciDevice>)> {
        if bus == 0 {
            let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
            let device = devices.get(usize::from(slot)).cloned().flatten()?;
            return Some((Owner::Slot(slot), device));
        }
        // One device lies behind a port, at the start of its bus.
        let behind = self.ports.iter().find(|(_, port)| slot == 0 && port.secondary() == Some(bus));
        let (slot, port) = behind?;
        Some((Owner::Behind(*slot), port.visible()?))
    }

    fn write_config(&self, owner: Owner, device: &Arc<dyn PciDevice>, offset: u16, data: &[u8]) {
        let _configuring = self.configuring.lock().unwrap_or_else(PoisonError::into_inner);
        device.write_config(offset, data);
        self.route_again(owner, Some(device));
        // What a port is told may take the power from the device behind it.
        let port = self.ports.iter().find(|(slot, _)| owner == Owner::Slot(*slot));
        if let Some((slot, port)) = port {
            self.route_again(Owner::Behind(*slot), port.visible().as_ref());
        }
    }

    /// Routes the BARs that the device decodes now; without a device nothing is left of its routes.
    fn route_again(&self, owner: Owner, device: Option<&Arc<dyn PciDevice>>) {
        let routed = |bar: &Bar| {
            let end = bar.base.checked_add(bar.size);
            self.windows
                .iter()
                .any(|window| window.start <= bar.base && end.is_some_and(|end| end <= window.end))
        };
        let new: Vec<Bar> = device.map(|device| device.bars()).unwrap_or_default();
        let new: Vec<Bar> = new.into_iter().filter(routed).collect();
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let of_owner = |route: &&Route| route.owner == owner;
        let old: Vec<Route> = routes.iter().filter(of_owner).cloned().collect();
        if old.iter().map(|route| &route.bar).eq(&new) {
            return;
        }
        routes.retain(|route| route.owner != owner);
        if let Some(device) = device {
            routes.extend(new.iter().map(|&bar| Route { owner, bar, device: device.clone() }));
        }
        drop(routes);

        for Route { bar, device, .. } in old.iter().filter(|route| !new.contains(&route.bar)) {
            debug!(?bar, "BAR leaves its place");
            device.bar_moved(bar.index, None);
        }
        for bar in new.iter().filter(|bar| !old.iter().any(|route| route.bar == **bar)) {
            debug!(?bar, "BAR placed");
            if let Some(device) = device {
                device.bar_moved(bar.index, Some(bar.base));
            }
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
    /// Function and register that an ECAM offset names; functions other than 0 are empty.
    fn decode(&self, offset: u64, len: usize) -> Option<(Owner, Arc<dyn PciDevice>, u16)> {
        let register = offset % ECAM_FUNCTION_SIZE;
        let function = offset / ECAM_FUNCTION_SIZE;
        if !function.is_multiple_of(8) || register + len as u64 > ECAM_FUNCTION_SIZE {
            return None;
        }
        let slot = u8::try_from(function / 8 % u64::from(SLOTS)).ok()?;
        let bus = u8::try_from(function / 8 / u64::from(SLOTS)).ok()?;
        let (owner, device) = self.0.device(bus, slot)?;
        Some((owner, device, u16::try_from(register).ok()?))
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
        if let Some((owner, device, register)) = self.decode(offset, data.len()) {
            self.0.write_config(owner, &device, register, data);
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
    use crate::interrupt::MsiMessage;

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

    #[derive(Default)]
    struct Messages(Mutex<Vec<MsiMessage>>);

    impl MsiSink for Messages {
        fn signal(&self, message: MsiMessage) -> std::io::Result<()> {
            self.0.lock().unwrap().push(message);
            Ok(())
        }
    }

    /// A bus with two ports, the second of which a guest has set up as Linux does.
    struct Ported {
        bus: Arc<PciBus>,
        ecam: Arc<dyn MmioDevice>,
        messages: Arc<Messages>,
        ejected: Arc<Mutex<Vec<String>>>,
    }

    const PORT: u64 = 30 << 15;
    const BUS: u64 = 3 << 20;
    const MSI_AT: u64 = PORT + 0x40;
    const EXPRESS_AT: u64 = PORT + 0x50;
    const SLOT_CONTROL: u64 = EXPRESS_AT + 0x18;
    const SLOT_STATUS: u64 = EXPRESS_AT + 0x1a;
    /// Button, presence, interrupts, link changes.
    const LISTENS: u16 = 1 << 0 | 1 << 3 | 1 << 5 | 1 << 12;
    const POWER_OFF: u16 = 1 << 10;

    impl Ported {
        fn new() -> Self {
            let messages = Arc::<Messages>::default();
            let ejected = Arc::<Mutex<Vec<String>>>::default();
            let list = Arc::clone(&ejected);
            let told: Ejected = Arc::new(move |id| list.lock().unwrap().push(id.into()));
            let bus = PciBus::with_ports(vec![WINDOW], 2, &(Arc::clone(&messages) as _), &told);
            let ecam = bus.ecam();
            Self { bus, ecam, messages, ejected }
        }

        fn listening() -> Self {
            let ported = Self::new();
            ported.write16(PORT + 0x19, 0x0303);
            ported.ecam.write(MSI_AT + 4, &0x0808_0040_u32.to_le_bytes());
            ported.write16(MSI_AT + 12, 7);
            ported.write16(MSI_AT + 2, 1);
            ported.write16(SLOT_CONTROL, LISTENS | POWER_OFF);
            ported
        }

        fn write16(&self, at: u64, value: u16) {
            self.ecam.write(at, &value.to_le_bytes());
        }

        fn read16(&self, at: u64) -> u16 {
            let mut data = [0; 2];
            self.ecam.read(at, &mut data);
            u16::from_le_bytes(data)
        }

        fn events(&self) -> u16 {
            let events = self.read16(SLOT_STATUS);
            self.write16(SLOT_STATUS, events);
            events
        }

        fn interrupts(&self) -> usize {
            std::mem::take(&mut *self.messages.0.lock().unwrap()).len()
        }
    }

    #[test]
    fn ports_show_themselves_as_bridges_with_a_hotplug_slot() {
        let ported = Ported::new();
        assert_eq!(read32(&*ported.ecam, PORT), 0x000c_1b36);
        assert_eq!(read32(&*ported.ecam, PORT + 8) >> 16, 0x0604);
        assert_eq!(read32(&*ported.ecam, PORT + 0xc) >> 16 & 0xff, 1);
        let mut capabilities = Vec::new();
        let mut at = u64::from(ported.read16(PORT + 0x34) & 0xff);
        while at != 0 {
            let head = ported.read16(PORT + at);
            capabilities.push((at, head & 0xff));
            at = u64::from(head >> 8);
        }
        assert_eq!(capabilities, [(0x40, 0x05), (0x50, 0x10)]);
        assert_eq!(ported.read16(EXPRESS_AT + 2), 0x0142);
        assert_eq!(ported.read16(SLOT_STATUS), 0, "nothing is there");
        assert_eq!(read32(&*ported.ecam, BUS), 0xffff_ffff);
        let slots = (0..u64::from(SLOTS)).filter(|slot| read32(&*ported.ecam, slot << 15) != 0xffff_ffff);
        assert_eq!(slots.collect::<Vec<_>>(), [0, 30, 31]);
    }

    #[test]
    fn device_is_plugged_in_seen_with_power_and_let_go() {
        let ported = Ported::listening();
        let device = Scratch::new();
        let requester = ported.bus.free_port().unwrap();
        assert_eq!(requester.id(), 3 << 8, "as the guest numbered the bus");
        let address = ported.bus.plug("new", device.clone()).unwrap();
        assert_eq!(address.to_string(), "0000:03:00.0");
        assert_eq!(ported.messages.0.lock().unwrap()[0].device_id, 30 << 3);
        assert_eq!(ported.interrupts(), 1);
        assert_eq!(ported.events(), 1 << 6 | 1 << 3 | 1 << 0);
        assert_eq!(read32(&*ported.ecam, BUS), 0xffff_ffff, "it has no power so far");

        ported.write16(SLOT_CONTROL, LISTENS);
        assert_eq!(ported.interrupts(), 1, "the link is there");
        assert_eq!(ported.events(), 1 << 6 | 1 << 8);
        assert_eq!(ported.read16(EXPRESS_AT + 0x12) >> 13 & 1, 1);
        assert_eq!(read32(&*ported.ecam, BUS), 0x0002_0001);
        ported.ecam.write(BUS + 0x10, &0x1000_0000_u64.to_le_bytes());
        ported.write16(BUS + 4, 2);
        assert_eq!(read32(&*ported.bus.windows()[0].1, 0x10), 0x10);

        ported.bus.request_unplug("new").unwrap();
        ported.bus.request_unplug("new").unwrap();
        assert_eq!(ported.interrupts(), 1, "pressed once");
        assert_eq!(ported.events(), 1 << 6 | 1 << 0);
        assert!(ported.ejected.lock().unwrap().is_empty(), "the guest still has it");
        ported.write16(SLOT_CONTROL, LISTENS | POWER_OFF);
        assert_eq!(*ported.ejected.lock().unwrap(), ["new"]);
        assert_eq!(ported.events(), 1 << 3 | 1 << 8);
        assert_eq!(device.moves.lock().unwrap().last(), Some(&None), "its BAR answers no more");
        assert_eq!(read32(&*ported.bus.windows()[0].1, 0x10), 0xffff_ffff);
        assert_eq!(Arc::strong_count(&device), 1, "nobody keeps it");
        ported.bus.plug("next", device).unwrap();
    }

    #[test]
    fn guest_that_turns_the_power_off_unasked_keeps_the_device() {
        let ported = Ported::listening();
        ported.bus.plug("new", Scratch::new()).unwrap();
        ported.write16(SLOT_CONTROL, LISTENS);
        ported.write16(SLOT_CONTROL, LISTENS | POWER_OFF);
        assert!(ported.ejected.lock().unwrap().is_empty());
        assert_eq!(read32(&*ported.ecam, BUS), 0xffff_ffff);
        ported.write16(SLOT_CONTROL, LISTENS);
        assert_eq!(read32(&*ported.ecam, BUS), 0x0002_0001);
    }

    #[test]
    fn what_cannot_be_plugged_or_removed_is_refused() {
        let ported = Ported::new();
        let device = Scratch::new();
        for id in ["a", "b"] {
            ported.bus.plug(id, device.clone()).unwrap();
        }
        assert_eq!(ported.bus.plug("c", device.clone()), Err(PciError::NoPort));
        assert!(ported.bus.free_port().is_err());
        assert_eq!(ported.bus.request_unplug("a"), Err(PciError::NobodyListens));
        assert_eq!(ported.bus.request_unplug("on the board"), Err(PciError::NotInAPort));
        assert_eq!(ported.interrupts(), 0, "nobody has asked for interrupts");
    }

    #[test]
    fn port_survives_any_access() {
        let ported = Ported::listening();
        ported.bus.plug("new", Scratch::new()).unwrap();
        for value in [0xff, 0x00, 0x5a] {
            for offset in 0..4096 {
                for len in [1, 2, 4, 8] {
                    ported.ecam.write(PORT + offset, &vec![value; len]);
                    ported.ecam.read(PORT + offset, &mut vec![0; len]);
                    ported.ecam.write(BUS + offset, &vec![value; len]);
                }
            }
        }
    }
}
