//! PL011 UART (Arm DDI 0183): what Linux's amba-pl011, its earlycon and EDK2 use.
//!
//! The wire is infinitely fast: a character is sent when it is written. The transmit FIFO nevertheless reports to be full
//! once after each [`FIFO_DEPTH`] characters: a driver then leaves the rest to the transmit interrupt, for which it need not
//! ask before each character, and a vCPU leaves the guest half as often. Modem lines, DMA and error conditions do not exist.

mod input;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::warn;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

pub use self::input::Pl011Input;
use crate::bus::{MmioDevice, fill, value32};
use crate::interrupt::InterruptLine;
use crate::log_limit::LogLimit;
use crate::pl031::id_byte;

const DATA: u64 = 0x00;
const FLAGS: u64 = 0x18;
const IRDA: u64 = 0x20;
const BAUD_INTEGER: u64 = 0x24;
const BAUD_FRACTION: u64 = 0x28;
const LINE_CONTROL: u64 = 0x2c;
const CONTROL: u64 = 0x30;
const FIFO_LEVELS: u64 = 0x34;
const INTERRUPT_MASK: u64 = 0x38;
const INTERRUPT_RAW: u64 = 0x3c;
const INTERRUPT_MASKED: u64 = 0x40;
const INTERRUPT_CLEAR: u64 = 0x44;
const DMA_CONTROL: u64 = 0x48;
const ID: u64 = 0xfe0;
/// Revision r1p5: FIFOs of 32 characters.
const ID_BYTES: [u8; 8] = [0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

const FLAG_RECEIVE_EMPTY: u32 = 1 << 4;
const FLAG_TRANSMIT_FULL: u32 = 1 << 5;
const FLAG_RECEIVE_FULL: u32 = 1 << 6;
const FLAG_TRANSMIT_EMPTY: u32 = 1 << 7;
const LINE_FIFO_ENABLE: u32 = 1 << 4;
const INTERRUPT_RECEIVE: u32 = 1 << 4;
const INTERRUPT_TRANSMIT: u32 = 1 << 5;
const INTERRUPT_ALL: u32 = 0x7ff;

const FIFO_DEPTH: usize = 32;
/// Characters kept while the output does not take them. Without a bound a guest that prints to a stalled terminal
/// would fill the host's memory; beyond it characters are lost.
const MAX_UNSENT: usize = 64 * 1024;

/// A UART whose output goes to a writer and whose input comes from [`Pl011::receive`] or [`Pl011::connect_input`].
pub struct Pl011 {
    state: Mutex<State>,
    /// Fires when the guest makes room in a full receive FIFO.
    room: EventFd,
}

struct State {
    line: Arc<dyn InterruptLine>,
    level: bool,
    output: Box<dyn Write + Send>,
    unsent: VecDeque<u8>,
    lost: LogLimit,
    received: VecDeque<u8>,
    transmit_interrupt: bool,
    /// Characters written since the transmit FIFO was seen full.
    transmitted: usize,
    irda: u32,
    baud_integer: u32,
    baud_fraction: u32,
    line_control: u32,
    control: u32,
    fifo_levels: u32,
    interrupt_mask: u32,
    dma_control: u32,
}

impl Pl011 {
    /// A UART with empty FIFOs. `output` is written from vCPU threads: if it can block, the guest waits with it; if it
    /// answers `WouldBlock`, a bounded number of characters is kept for later.
    ///
    /// # Errors
    /// The host gave no event descriptor.
    pub fn new(line: Arc<dyn InterruptLine>, output: Box<dyn Write + Send>) -> io::Result<Arc<Self>> {
        let state = State {
            line,
            level: false,
            output,
            unsent: VecDeque::new(),
            lost: LogLimit::default(),
            received: VecDeque::with_capacity(FIFO_DEPTH),
            transmit_interrupt: false,
            transmitted: 0,
            irda: 0,
            baud_integer: 0,
            baud_fraction: 0,
            line_control: 0,
            control: 0x300,
            fifo_levels: 0x12,
            interrupt_mask: 0,
            dma_control: 0,
        };
        Ok(Arc::new(Self { state: Mutex::new(state), room: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)? }))
    }

    /// Puts characters into the receive FIFO; returns how many fitted.
    pub fn receive(&self, characters: &[u8]) -> usize {
        let mut state = self.state();
        let room = state.fifo_depth().saturating_sub(state.received.len());
        let taken = room.min(characters.len());
        state.received.extend(characters.iter().take(taken));
        state.update_interrupt();
        taken
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MmioDevice for Pl011 {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut state = self.state();
        let value = match offset {
            DATA => {
                let full = state.received.len() >= state.fifo_depth();
                let character = state.received.pop_front().unwrap_or(0);
                state.update_interrupt();
                if full {
                    // Fails only when the event is set already.
                    let _ = self.room.write(1);
                }
                u32::from(character)
            }
            FLAGS => state.flags(),
            IRDA => state.irda,
            BAUD_INTEGER => state.baud_integer,
            BAUD_FRACTION => state.baud_fraction,
            LINE_CONTROL => state.line_control,
            CONTROL => state.control,
            FIFO_LEVELS => state.fifo_levels,
            INTERRUPT_MASK => state.interrupt_mask,
            INTERRUPT_RAW => state.raw_interrupts(),
            INTERRUPT_MASKED => state.raw_interrupts() & state.interrupt_mask,
            DMA_CONTROL => state.dma_control,
            ID.. => id_byte(&ID_BYTES, offset),
            _ => 0,
        };
        drop(state);
        fill(data, u64::from(value));
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut state = self.state();
        let value = value32(data);
        match offset {
            DATA => {
                let [character, ..] = value.to_le_bytes();
                state.transmit(character);
            }
            IRDA => state.irda = value & 0xff,
            BAUD_INTEGER => state.baud_integer = value & 0xffff,
            BAUD_FRACTION => state.baud_fraction = value & 0x3f,
            LINE_CONTROL => state.line_control = value & 0xff,
            CONTROL => state.control = value & 0xffff,
            FIFO_LEVELS => state.fifo_levels = value & 0x3f,
            INTERRUPT_MASK => state.interrupt_mask = value & INTERRUPT_ALL,
            INTERRUPT_CLEAR => state.transmit_interrupt &= value & INTERRUPT_TRANSMIT == 0,
            DMA_CONTROL => state.dma_control = value & 0x7,
            _ => {}
        }
        state.update_interrupt();
    }
}

impl State {
    fn fifo_depth(&self) -> usize {
        if self.line_control & LINE_FIFO_ENABLE != 0 { FIFO_DEPTH } else { 1 }
    }

    fn flags(&mut self) -> u32 {
        // A driver that polls for the transmitter gives the output a chance to catch up.
        self.send();
        let mut flags = FLAG_TRANSMIT_EMPTY;
        if self.transmitted >= FIFO_DEPTH {
            self.transmitted = 0;
            flags = FLAG_TRANSMIT_FULL;
        }
        if self.received.is_empty() {
            flags |= FLAG_RECEIVE_EMPTY;
        }
        if self.received.len() >= self.fifo_depth() {
            flags |= FLAG_RECEIVE_FULL;
        }
        flags
    }

    fn raw_interrupts(&self) -> u32 {
        // Raised from the first character on: it does for both the level and the timeout interrupt, and follows the FIFO
        // so that none is lost.
        let receive = if self.received.is_empty() { 0 } else { INTERRUPT_RECEIVE };
        let transmit = if self.transmit_interrupt { INTERRUPT_TRANSMIT } else { 0 };
        receive | transmit
    }

    /// Sent whether or not the driver enabled the transmitter: an early console relies on what firmware left.
    fn transmit(&mut self, character: u8) {
        self.transmitted = self.transmitted.saturating_add(1);
        if self.unsent.len() < MAX_UNSENT {
            self.unsent.push_back(character);
        } else if let Some(count) = self.lost.hit() {
            warn!(count, "serial output is lost: nobody reads it");
        }
        self.send();
        self.transmit_interrupt = true;
    }

    fn send(&mut self) {
        while !self.unsent.is_empty() {
            let (chunk, _) = self.unsent.as_slices();
            match self.output.write(chunk) {
                Ok(count) if count > 0 => drop(self.unsent.drain(..count.min(self.unsent.len()))),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                closed => {
                    if let Some(count) = self.lost.hit() {
                        warn!(count, "serial output is lost: {closed:?}");
                    }
                    self.unsent.clear();
                }
            }
        }
        // A line-buffered writer would hold a prompt back.
        let _ = self.output.flush();
    }

    fn update_interrupt(&mut self) {
        let level = self.raw_interrupts() & self.interrupt_mask != 0;
        if level != self.level {
            self.level = level;
            self.line.set_level(level);
        }
    }
}

#[cfg(test)]
mod tests;
