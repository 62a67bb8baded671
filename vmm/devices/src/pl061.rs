//! PL061 GPIO controller (Arm DDI 0190) with a power button on one of its pins.
//!
//! All pins are inputs for the guest, whatever direction it sets: nothing is wired to an output.

use std::sync::{Arc, Mutex, PoisonError};

use crate::bus::{MmioDevice, fill, value32};
use crate::interrupt::InterruptLine;
use crate::pl031::id_byte;

/// Number of the pin of the power button.
pub const POWER_BUTTON_PIN: u8 = 3;

const POWER_BUTTON: u8 = 1 << POWER_BUTTON_PIN;

/// The data register fills the first KiB: address bits 9 to 2 select the pins that an access means.
const DATA_END: u64 = 0x400;
const DIRECTION: u64 = 0x400;
const SENSE_LEVEL: u64 = 0x404;
const BOTH_EDGES: u64 = 0x408;
const EVENT: u64 = 0x40c;
const ENABLE: u64 = 0x410;
const RAW_STATUS: u64 = 0x414;
const MASKED_STATUS: u64 = 0x418;
const CLEAR: u64 = 0x41c;
const ALTERNATE: u64 = 0x420;
const ID: u64 = 0xfe0;
/// PeriphID0-3 and PCellID0-3, one byte per register.
const ID_BYTES: [u8; 8] = [0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// The controller.
pub struct Pl061 {
    line: Arc<dyn InterruptLine>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pins: u8,
    direction: u8,
    sense_level: u8,
    both_edges: u8,
    event: u8,
    enable: u8,
    edges: u8,
    alternate: u8,
    /// The level that the interrupt line has.
    level: bool,
}

impl State {
    fn raw_status(&self) -> u8 {
        // A pin that is sensed by level interrupts for as long as it has the level.
        let levels = !(self.pins ^ self.event) & self.sense_level;
        levels | self.edges & !self.sense_level
    }

    fn set_pin(&mut self, pin: u8, high: bool) {
        let before = self.pins;
        self.pins = if high { before | pin } else { before & !pin };
        let changed = before ^ self.pins;
        let expected = self.both_edges | !(self.pins ^ self.event);
        self.edges |= changed & expected & !self.sense_level;
    }
}

impl Pl061 {
    /// A controller with its interrupt on `line`.
    pub fn new(line: Arc<dyn InterruptLine>) -> Self {
        Self { line, state: Mutex::default() }
    }

    /// Presses the power button, which is let go when the guest has seen it: however slow the guest is, it sees one
    /// press, and no clock is needed.
    ///
    /// Gives false, and does nothing, while no driver of the guest has the button's interrupt enabled.
    pub fn press_power_button(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.enable & POWER_BUTTON == 0 {
            return false;
        }
        state.set_pin(POWER_BUTTON, true);
        self.drive(&mut state);
        true
    }

    fn drive(&self, state: &mut State) {
        let level = state.raw_status() & state.enable != 0;
        if level != state.level {
            state.level = level;
            self.line.set_level(level);
        }
    }
}

impl MmioDevice for Pl061 {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let value = match offset {
            0..DATA_END => {
                let mask = selected(offset);
                let value = state.pins & mask;
                if value & POWER_BUTTON != 0 {
                    state.set_pin(POWER_BUTTON, false);
                    self.drive(&mut state);
                }
                value
            }
            DIRECTION => state.direction,
            SENSE_LEVEL => state.sense_level,
            BOTH_EDGES => state.both_edges,
            EVENT => state.event,
            ENABLE => state.enable,
            RAW_STATUS => state.raw_status(),
            MASKED_STATUS => state.raw_status() & state.enable,
            ALTERNATE => state.alternate,
            _ => 0,
        };
        let value = if offset >= ID { id_byte(&ID_BYTES, offset) } else { u32::from(value) };
        fill(data, u64::from(value));
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let [value, ..] = value32(data).to_le_bytes();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match offset {
            DIRECTION => state.direction = value,
            SENSE_LEVEL => state.sense_level = value,
            BOTH_EDGES => state.both_edges = value,
            EVENT => state.event = value,
            ENABLE => state.enable = value,
            CLEAR => state.edges &= !value,
            ALTERNATE => state.alternate = value,
            _ => return,
        }
        self.drive(&mut state);
    }
}

/// The pins that an access to the data register means.
fn selected(offset: u64) -> u8 {
    let [mask, ..] = (offset >> 2).to_le_bytes();
    mask
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Default)]
    struct Line(AtomicBool);

    impl InterruptLine for Line {
        fn set_level(&self, level: bool) {
            assert_ne!(self.0.swap(level, Ordering::Relaxed), level, "called only when the level changes");
        }
    }

    fn gpio() -> (Pl061, Arc<Line>) {
        let line = Arc::new(Line::default());
        (Pl061::new(Arc::clone(&line) as _), line)
    }

    fn read(gpio: &Pl061, offset: u64) -> u32 {
        let mut data = [0; 4];
        gpio.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn write(gpio: &Pl061, offset: u64, value: u32) {
        gpio.write(offset, &value.to_le_bytes());
    }

    /// As Linux's gpio-keys does.
    fn listen(gpio: &Pl061) {
        write(gpio, BOTH_EDGES, 8);
        write(gpio, CLEAR, 8);
        write(gpio, ENABLE, 8);
    }

    #[test]
    fn press_is_seen_once_and_let_go_when_it_was_seen() {
        let (gpio, line) = gpio();
        listen(&gpio);
        assert!(gpio.press_power_button());
        assert!(line.0.load(Ordering::Relaxed));
        assert_eq!(read(&gpio, MASKED_STATUS), 8);
        write(&gpio, CLEAR, 8);
        assert!(!line.0.load(Ordering::Relaxed));
        assert_eq!(read(&gpio, 8 << 2), 8);
        assert!(line.0.load(Ordering::Relaxed), "letting go is an edge, too");
        write(&gpio, CLEAR, 8);
        assert_eq!(read(&gpio, 8 << 2), 0);
        assert!(!line.0.load(Ordering::Relaxed));
    }

    #[test]
    fn press_that_is_not_seen_lasts() {
        let (gpio, _) = gpio();
        listen(&gpio);
        assert!(gpio.press_power_button());
        assert!(gpio.press_power_button(), "pressed already");
        assert_eq!(read(&gpio, 0xf7 << 2), 0, "other pins are read");
        assert_eq!(read(&gpio, 0x3fc), 8);
        assert_eq!(read(&gpio, 0x3fc), 0);
    }

    #[test]
    fn button_needs_a_guest_that_listens() {
        let (gpio, line) = gpio();
        assert!(!gpio.press_power_button());
        listen(&gpio);
        write(&gpio, ENABLE, 0);
        assert!(!gpio.press_power_button());
        assert_eq!(read(&gpio, 0x3fc), 0);
        assert!(!line.0.load(Ordering::Relaxed));
    }

    #[test]
    fn one_edge_or_a_level_can_be_asked_for() {
        let (gpio, line) = gpio();
        write(&gpio, EVENT, 8);
        write(&gpio, ENABLE, 8);
        gpio.press_power_button();
        write(&gpio, CLEAR, 8);
        read(&gpio, 0x3fc);
        assert!(!line.0.load(Ordering::Relaxed), "the falling edge was not asked for");
        write(&gpio, SENSE_LEVEL, 8);
        gpio.press_power_button();
        write(&gpio, CLEAR, 8);
        assert!(line.0.load(Ordering::Relaxed), "a level cannot be cleared");
        read(&gpio, 0x3fc);
        assert!(!line.0.load(Ordering::Relaxed));
    }

    #[test]
    fn identifies_itself_and_survives_any_access() {
        let (gpio, _) = gpio();
        let ids: Vec<u32> = (0..8).map(|index| read(&gpio, 0xfe0 + 4 * index)).collect();
        assert_eq!(ids, [0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
        for offset in 0..0x1004 {
            gpio.write(offset, &[0xff; 8]);
            gpio.read(offset, &mut [0; 8]);
        }
    }
}
