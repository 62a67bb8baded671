//! The log of a service, on standard error.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use tracing_subscriber::EnvFilter;

/// Starts the log: as `RUST_LOG` says, else from `info` on; as JSON, or as text.
pub fn start(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // What cannot be logged is lost. To say so on standard error would end a service whose log nobody reads any more.
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .log_internal_errors(false);
    if json {
        log.json().init();
    } else {
        log.init();
    }
}

/// Says why a program ends. Perhaps nobody reads it; the exit status tells all the same.
pub fn last_words(program: &str, error: &dyn Display) {
    let _ = writeln!(io::stderr(), "{program}: {error:#}");
}
