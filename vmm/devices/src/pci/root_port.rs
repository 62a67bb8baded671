//! A PCI Express root port with a slot into which a device is plugged while the guest runs (PCI Express Base 4.0,
//! sections 6.7 and 7.5.3; PCI-to-PCI Bridge 1.2).
//!
//! The slot has what QEMU's has: an attention button, which asks the guest to let the device go, and a power controller,
//! with which the guest says that it has.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::warn;

use super::{Bar, ConfigSpace, Header, PciDevice, PciError, Requester};
use crate::interrupt::{MsiMessage, MsiSink};
use crate::log_limit::LogLimit;

const SECONDARY_BUS: u8 = 0x19;

const MSI: u8 = 0x05;
const MSI_ENABLE: u16 = 1 << 0;
const MSI_64_BITS: u16 = 1 << 7;

const EXPRESS: u8 = 0x10;
/// Offsets in the PCI Express capability.
const LINK_STATUS: u8 = 0x12;
const SLOT_CONTROL: u8 = 0x18;
const SLOT_STATUS: u8 = 0x1a;
const EXPRESS_LEN: usize = 0x3c;

/// Version 2, root port, with a slot.
const EXPRESS_FLAGS: u16 = 2 | 4 << 4 | 1 << 8;
/// 2.5 GT/s, one lane.
const LINK: u16 = 1 | 1 << 4;
const LINK_ACTIVE_REPORTING: u32 = 1 << 20;
const LINK_ACTIVE: u16 = 1 << 13;

/// Attention button, power controller, both indicators, hotplug; a command is carried out at once, so that no event
/// tells of its end.
const SLOT_CAPABILITIES: u32 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 18;
const BUTTON: u16 = 1 << 0;
const PRESENCE_CHANGED: u16 = 1 << 3;
const LINK_CHANGED: u16 = 1 << 8;
/// What the guest clears by writing ones.
const EVENTS: u16 = BUTTON | PRESENCE_CHANGED | LINK_CHANGED;
const PRESENT: u16 = 1 << 6;
const INTERRUPT_ENABLE: u16 = 1 << 5;
const POWER_OFF: u16 = 1 << 10;
/// In the control register the enable bit of link changes is not where their status bit is.
const LINK_CHANGED_ENABLE: u16 = 1 << 12;
const CONTROL_WRITABLE: u16 = 0b0001_0111_1111_1111;
/// Both indicators off.
const INDICATORS_OFF: u16 = 0b11 << 6 | 0b11 << 8;

/// Told the name of a device that the guest has let go.
pub type Ejected = Arc<dyn Fn(&str) + Send + Sync>;

pub(super) struct RootPort {
    slot: u8,
    msi: u8,
    express: u8,
    requester: Requester,
    sink: Arc<dyn MsiSink>,
    ejected: Ejected,
    failures: LogLimit,
    state: Mutex<State>,
}

struct State {
    config: ConfigSpace,
    occupant: Option<Occupant>,
}

struct Occupant {
    id: String,
    device: Arc<dyn PciDevice>,
    leaving: bool,
}

impl RootPort {
    /// A port in slot `slot` of bus 0 with nothing behind it.
    pub(super) fn new(slot: u8, sink: Arc<dyn MsiSink>, ejected: Ejected) -> Self {
        let header = Header { vendor: 0x1b36, device: 0x000c, revision: 0, class: 0x06_04_00, subsystem: 0 };
        let mut config = ConfigSpace::bridge(&header);
        let mut body = [0; 12];
        put(&mut body, 0, &MSI_64_BITS.to_le_bytes());
        let mut writable = [0; 12];
        put(&mut writable, 0, &MSI_ENABLE.to_le_bytes());
        put(&mut writable, 2, &(u64::MAX << 2).to_le_bytes());
        put(&mut writable, 10, &u16::MAX.to_le_bytes());
        let msi = config.add_capability(MSI, &body, &writable);

        // Behind the id and the next pointer.
        let mut body = [0; EXPRESS_LEN - 2];
        put(&mut body, 0, &EXPRESS_FLAGS.to_le_bytes());
        put(&mut body, 0x04 - 2, &(1_u32 << 15).to_le_bytes()); // role-based error reporting
        let link = u32::from(LINK) | LINK_ACTIVE_REPORTING | u32::from(slot) << 24;
        put(&mut body, 0x0c - 2, &link.to_le_bytes());
        put(&mut body, 0x12 - 2, &LINK.to_le_bytes());
        let slot_capabilities = SLOT_CAPABILITIES | u32::from(slot) << 19;
        put(&mut body, 0x14 - 2, &slot_capabilities.to_le_bytes());
        put(&mut body, 0x18 - 2, &(POWER_OFF | INDICATORS_OFF).to_le_bytes());
        put(&mut body, 0x2c - 2, &2_u32.to_le_bytes()); // link speeds: 2.5 GT/s
        let mut writable = [0; EXPRESS_LEN - 2];
        put(&mut writable, 0x08 - 2, &0x00ff_u16.to_le_bytes());
        put(&mut writable, 0x10 - 2, &0x01c3_u16.to_le_bytes());
        put(&mut writable, 0x18 - 2, &CONTROL_WRITABLE.to_le_bytes());
        put(&mut writable, 0x1c - 2, &0x001f_u16.to_le_bytes());
        let express = config.add_capability(EXPRESS, &body, &writable);
        Self {
            slot,
            msi,
            express,
            requester: Requester::behind_port(),
            sink,
            ejected,
            failures: LogLimit::default(),
            state: Mutex::new(State { config, occupant: None }),
        }
    }

    /// The id with which the device behind the port sends messages, whatever bus number the guest gives the port.
    pub(super) fn requester(&self) -> Requester {
        self.requester.clone()
    }

    /// Number of the bus behind the port, if the guest has given it one.
    pub(super) fn secondary(&self) -> Option<u8> {
        let [bus] = self.lock().config.bytes(SECONDARY_BUS);
        (bus != 0).then_some(bus)
    }

    /// The device, while the slot has power.
    pub(super) fn visible(&self) -> Option<Arc<dyn PciDevice>> {
        let state = self.lock();
        let powered = state.config.get16(self.express + SLOT_CONTROL) & POWER_OFF == 0;
        state.occupant.as_ref().filter(|_| powered).map(|occupant| Arc::clone(&occupant.device))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().occupant.is_none()
    }

    pub(super) fn holds(&self, id: &str) -> bool {
        self.lock().occupant.as_ref().is_some_and(|occupant| occupant.id == id)
    }

    /// Plugs a device in and tells the guest.
    pub(super) fn plug(&self, id: &str, device: Arc<dyn PciDevice>) -> Result<(), PciError> {
        let mut state = self.lock();
        if state.occupant.is_some() {
            return Err(PciError::NoPort);
        }
        state.occupant = Some(Occupant { id: id.to_owned(), device, leaving: false });
        // Linux does not listen to changes of presence where there is a button, and looks for them when it is pressed.
        self.happened(&mut state, PRESENCE_CHANGED | BUTTON);
        Ok(())
    }

    /// Presses the attention button.
    pub(super) fn request_unplug(&self) -> Result<(), PciError> {
        let mut state = self.lock();
        let control = state.config.get16(self.express + SLOT_CONTROL);
        if control & (INTERRUPT_ENABLE | BUTTON) != INTERRUPT_ENABLE | BUTTON {
            return Err(PciError::NobodyListens);
        }
        let Some(occupant) = &mut state.occupant else { return Err(PciError::NoPort) };
        // Pressed twice within five seconds, the button means that the first press was a mistake.
        if !std::mem::replace(&mut occupant.leaving, true) {
            self.happened(&mut state, BUTTON);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes `events`, brings presence and link up to date, and interrupts the guest if it wants to hear of it.
    fn happened(&self, state: &mut State, mut events: u16) {
        let (control_at, status_at) = (self.express + SLOT_CONTROL, self.express + SLOT_STATUS);
        let control = state.config.get16(control_at);
        let present = state.occupant.is_some();
        let link_at = self.express + LINK_STATUS;
        let link = if present && control & POWER_OFF == 0 { LINK | LINK_ACTIVE } else { LINK };
        if state.config.get16(link_at) != link {
            events |= LINK_CHANGED;
            state.config.set16(link_at, link);
        }
        let before = state.config.get16(status_at) & EVENTS;
        let status = before | events | if present { PRESENT } else { 0 };
        state.config.set16(status_at, status);
        if wanted(control, status) && events & !before != 0 {
            self.interrupt(&state.config);
        }
    }

    fn interrupt(&self, config: &ConfigSpace) {
        if config.get16(self.msi + 2) & MSI_ENABLE == 0 {
            return;
        }
        let [low, high] = [config.get32(self.msi + 4), config.get32(self.msi + 8)].map(u64::from);
        let message = MsiMessage {
            address: low | high << 32,
            data: u32::from(config.get16(self.msi + 12)),
            device_id: u32::from(self.slot) << 3,
        };
        if let Err(error) = self.sink.signal(message)
            && let Some(count) = self.failures.hit()
        {
            warn!(slot = self.slot, count, "the interrupt of a root port is lost: {error}");
        }
    }

    /// Carries out what the guest wrote to the slot control register. Gives the name of a device that it let go.
    fn control_written(&self, state: &mut State, before: u16) -> Option<String> {
        let after = state.config.get16(self.express + SLOT_CONTROL);
        let turned_off = before & POWER_OFF == 0 && after & POWER_OFF != 0;
        let mut events = 0;
        let gone = state.occupant.take_if(|occupant| turned_off && occupant.leaving);
        if gone.is_some() {
            events = PRESENCE_CHANGED;
        }
        self.happened(state, events);
        // Turned on, interrupts tell of what happened before, too.
        let status = state.config.get16(self.express + SLOT_STATUS);
        if !wanted(before, status) && wanted(after, status) && events == 0 {
            self.interrupt(&state.config);
        }
        gone.map(|occupant| occupant.id)
    }
}

/// Whether the guest wants an interrupt for any event in `status`.
fn wanted(control: u16, status: u16) -> bool {
    let link = if control & LINK_CHANGED_ENABLE == 0 { 0 } else { LINK_CHANGED };
    let enabled = control & (BUTTON | PRESENCE_CHANGED) | link;
    control & INTERRUPT_ENABLE != 0 && status & enabled != 0
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (byte, &new) in bytes.iter_mut().skip(at).zip(value) {
        *byte = new;
    }
}

impl PciDevice for RootPort {
    fn read_config(&self, offset: u16, data: &mut [u8]) {
        self.lock().config.read(offset, data);
    }

    fn write_config(&self, offset: u16, data: &[u8]) {
        let mut state = self.lock();
        let before = state.config.get16(self.express + SLOT_CONTROL);
        let status_at = u16::from(self.express + SLOT_STATUS);
        let mut cleared = 0;
        for (at, &byte) in (offset..).zip(data) {
            match at.checked_sub(status_at) {
                Some(index @ (0 | 1)) => cleared |= u16::from(byte) << (8 * index),
                _ => state.config.write(at, &[byte]),
            }
        }
        let status = state.config.get16(self.express + SLOT_STATUS);
        state.config.set16(self.express + SLOT_STATUS, status & !(cleared & EVENTS));
        let [bus] = state.config.bytes(SECONDARY_BUS);
        self.requester.set_bus(bus);
        let gone = self.control_written(&mut state, before);
        drop(state);
        if let Some(id) = gone {
            (self.ejected)(&id);
        }
    }

    fn bars(&self) -> Vec<Bar> {
        Vec::new()
    }
    fn bar_moved(&self, _index: u8, _base: Option<u64>) {}
    fn read_bar(&self, _index: u8, _offset: u64, data: &mut [u8]) {
        data.fill(0xff);
    }
    fn write_bar(&self, _index: u8, _offset: u64, _data: &[u8]) {}
}
