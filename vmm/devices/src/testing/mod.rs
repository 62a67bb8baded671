//! Stand-ins for the VMM and the guest, for tests.

mod driver;

use std::io;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

pub(crate) use self::driver::{Buffer, Driver, INDIRECT, Machine, NEXT, RAM, SharedAbove, VERSION_1, WRITE};
use crate::interrupt::{InterruptLine, MsiMessage, MsiSink};

/// Long enough that only a hang exceeds it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(crate) struct RecordingLine(Mutex<Vec<bool>>);

impl RecordingLine {
    pub(crate) fn take(&self) -> Vec<bool> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl InterruptLine for RecordingLine {
    fn set_level(&self, level: bool) {
        self.0.lock().unwrap().push(level);
    }
}

#[derive(Default)]
pub(crate) struct RecordingMsi(Mutex<Vec<MsiMessage>>);

impl RecordingMsi {
    pub(crate) fn take(&self) -> Vec<MsiMessage> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl MsiSink for RecordingMsi {
    fn signal(&self, message: MsiMessage) -> io::Result<()> {
        self.0.lock().unwrap().push(message);
        Ok(())
    }
}

/// An interrupt controller that a test can wait on.
pub(crate) struct WaitingMsi {
    sender: Sender<MsiMessage>,
    receiver: Mutex<Receiver<MsiMessage>>,
}

impl Default for WaitingMsi {
    fn default() -> Self {
        let (sender, receiver) = channel();
        Self { sender, receiver: Mutex::new(receiver) }
    }
}

impl WaitingMsi {
    /// The next interrupt's event number.
    pub(crate) fn wait(&self) -> u32 {
        self.receiver.lock().unwrap().recv_timeout(PATIENCE).expect("the device never interrupted").data
    }
}

impl WaitingMsi {
    /// Forgets what has arrived so far.
    pub(crate) fn drain(&self) -> Vec<MsiMessage> {
        self.receiver.lock().unwrap().try_iter().collect()
    }
}

impl MsiSink for WaitingMsi {
    fn signal(&self, message: MsiMessage) -> io::Result<()> {
        self.sender.send(message).map_err(io::Error::other)
    }
}
