//! Tells what takes long, where somebody looks on.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};

/// A line that says what is being done; it goes away with this value, and is shown on a terminal only.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    what: String,
}

impl Progress {
    /// Says what is being done.
    #[must_use]
    pub fn new(what: String) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_message(what.clone());
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, what }
    }

    /// Says how far it is.
    pub fn say(&self, step: &str) {
        self.bar.set_message(format!("{}: {step}", self.what));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
