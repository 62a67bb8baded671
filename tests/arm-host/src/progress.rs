//! What a person sees of a long step: a spinner on a terminal, plain lines anywhere else.

use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// One step under way. Dropped without [`Step::done`], it leaves no line on a terminal.
pub struct Step {
    bar: Option<ProgressBar>,
    title: String,
    started: Instant,
}

impl Step {
    /// Begins a step.
    pub fn begin(title: impl Into<String>) -> Self {
        let title = title.into();
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner().with_message(title.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("{title} ...");
        }
        Self { bar, title, started: Instant::now() }
    }

    /// Turns the spinner into a bar of `length` units.
    pub fn set_length(&self, length: u64) {
        if let Some(bar) = &self.bar {
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix} [{bar:30}] {pos}/{len} {wide_msg}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(self.title.clone());
            bar.set_message("");
            bar.set_length(length);
        }
    }

    /// Tells what is being done now.
    pub fn now(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(if bar.length().is_some() {
                what.to_owned()
            } else {
                format!("{}: {what}", self.title)
            });
        }
    }

    /// One unit is done.
    pub fn advance(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// Prints a line that stays.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Does something that may use the terminal itself.
    pub fn undisturbed<T>(&self, what: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(what),
            None => what(),
        }
    }

    /// Ends the step with a line that stays.
    pub fn done(self, result: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let seconds = self.started.elapsed().as_secs_f32();
        eprintln!("{}: {result} ({seconds:.1} s)", self.title);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
