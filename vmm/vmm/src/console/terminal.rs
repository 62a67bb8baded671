//! The terminal that a guest console borrows.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// Standard input in raw mode; dropping it gives the terminal back as it was.
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Switches standard input to raw mode, unless it is no terminal.
    ///
    /// # Errors
    ///
    /// The system's, when the terminal cannot be switched.
    pub fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        // What isatty asks instead, the filter of system calls does not allow.
        let before = match tcgetattr(stdin.as_fd()) {
            Ok(attributes) => attributes,
            Err(Errno::NOTTY | Errno::INVAL | Errno::BADF) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut raw = before.clone();
        raw.make_raw();
        // Output stays cooked, so that our own messages start in the first column.
        raw.output_modes = before.output_modes;
        tcsetattr(stdin.as_fd(), OptionalActions::Now, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing better can be done for a terminal that has gone.
        let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &self.before);
    }
}
