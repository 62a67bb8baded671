//! The life of a VM: launched, run, launched again when the guest resets, and gone.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use hypervisor::Hypervisor;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::Error;
use crate::attachments::Attachments;
use crate::board::Board;
use crate::event::Event;
use crate::vcpu::VcpuThreads;
use api::VmConfig;

/// How a VM ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest powered itself off.
    PoweredOff,
    /// The guest asked for a reset and was not to get one.
    Reset,
    /// The guest reported its own crash.
    Crashed,
    /// A signal ended the VM.
    Stopped {
        /// Number of the signal.
        signal: i32,
    },
}

/// How to run a VM.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// End instead of launching again when the guest asks for a reset.
    pub no_reboot: bool,
    /// File that takes the launch log of a Realm.
    pub launch_log: Option<PathBuf>,
}

/// Runs a VM until it ends for good.
///
/// A reset tears the VM down and launches it anew from its configuration: a Realm cannot be reset, and what it loads
/// must be measured again.
///
/// # Errors
///
/// [`Error`] when the VM cannot be launched or cannot go on.
pub fn run(config: &VmConfig, options: &RunOptions) -> Result<Outcome, Error> {
    let hypervisor = Hypervisor::open()?;
    let (sender, events) = channel();
    watch_signals(sender.clone())?;
    let attachments = Attachments::open(config)?;
    for (field, path) in attachments.terminals() {
        eprintln!("{field}: {}", path.display());
    }
    loop {
        let (board, vcpus) = Board::build(&hypervisor, config, &attachments, options.launch_log.as_deref())?;
        let threads = VcpuThreads::start(vcpus, &board.context(sender.clone()))?;
        tracing::info!("the guest runs");
        let event = next(&events);
        drop(threads);
        drop(board);
        match event {
            Event::Off => return Ok(Outcome::PoweredOff),
            Event::Reset if options.no_reboot => return Ok(Outcome::Reset),
            Event::Reset => tracing::info!("the guest asked for a reset; launching it anew"),
            Event::Crash => return Ok(Outcome::Crashed),
            Event::Failed(error) => return Err(error),
            Event::Signal(signal) => return Ok(Outcome::Stopped { signal }),
        }
        if let Some(signal) = pending_signal(&events) {
            return Ok(Outcome::Stopped { signal });
        }
    }
}

/// The next event. The signal thread holds a sender for as long as the process lives.
fn next(events: &Receiver<Event>) -> Event {
    events.recv().unwrap_or(Event::Signal(SIGTERM))
}

/// Drops what the vCPUs of the boot that ended still had to say, but no signal.
fn pending_signal(events: &Receiver<Event>) -> Option<i32> {
    events.try_iter().find_map(|event| match event {
        Event::Signal(signal) => Some(signal),
        _ => None,
    })
}

fn watch_signals(events: Sender<Event>) -> Result<(), Error> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(Error::Signals)?;
    let watch = move || {
        for signal in signals.forever() {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(watch).map_err(Error::Thread)?;
    Ok(())
}
