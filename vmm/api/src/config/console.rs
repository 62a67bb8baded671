//! Serial port and virtio console.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a console's bytes go and come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsoleConfig {
    /// Kind of the other end.
    pub mode: ConsoleMode,
    /// File or FIFO that takes the output, with [`ConsoleMode::File`]; the VMM puts the terminal's path here with
    /// [`ConsoleMode::Pty`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub file: Option<PathBuf>,
    /// Unix socket on which the VMM listens, with [`ConsoleMode::Socket`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub socket: Option<PathBuf>,
}

impl ConsoleConfig {
    /// A console of a mode that needs no path.
    #[must_use]
    pub const fn of(mode: ConsoleMode) -> Self {
        Self { mode, file: None, socket: None }
    }

    pub(super) const fn null() -> Self {
        Self::of(ConsoleMode::Null)
    }

    pub(super) const fn off() -> Self {
        Self::of(ConsoleMode::Off)
    }
}

/// Kind of a console's other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum ConsoleMode {
    /// There is no such device.
    Off,
    /// Output is dropped, input never comes.
    Null,
    /// Standard output and input of the VMM.
    Tty,
    /// Output goes to a file or FIFO.
    File,
    /// A pseudo-terminal that the VMM allocates.
    Pty,
    /// A Unix socket that takes one client at a time.
    Socket,
}
