//! The life of a VM: launched, run, launched again when the guest resets, and gone.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use devices::virtio::DeviceHost;
use hypervisor::Hypervisor;
use sandbox::{SeccompMode, ThreadKind};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::Error;
use crate::attachments::Attachments;
use crate::board::Board;
use crate::confinement::Confinement;
use crate::event::Event;
use crate::interface::Interface;
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
    /// System call filters; without it they are enforced, unless the configuration asks for a process without bounds.
    pub seccomp: Option<SeccompMode>,
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
    // These may take privileges that the process has no more once it is confined.
    let hypervisor = Hypervisor::open()?;
    let interfaces = Interface::open_all(&config.net)?;
    let confinement = Confinement::enter(config, options)?;
    let host = Arc::clone(&confinement) as Arc<dyn DeviceHost>;
    let (sender, events) = channel();
    watch_signals(sender.clone(), Arc::clone(&confinement))?;
    let attachments = Attachments::open(config, interfaces, &host)?;
    for (field, path) in attachments.terminals() {
        eprintln!("{field}: {}", path.display());
    }
    loop {
        let launch_log = options.launch_log.as_deref();
        let (board, vcpus) = Board::build(&hypervisor, config, &attachments, Arc::clone(&host), launch_log)?;
        let context = board.context(sender.clone(), Arc::clone(&confinement));
        let threads = VcpuThreads::start(vcpus, &context)?;
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

fn watch_signals(events: Sender<Event>, confinement: Arc<Confinement>) -> Result<(), Error> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(Error::Signals)?;
    let watch = move || {
        if let Err(error) = confinement.bind(ThreadKind::Signal) {
            // The receiver is gone only when the VM is being torn down already.
            let _ = events.send(Event::Failed(error));
            return;
        }
        for signal in signals.forever() {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(watch).map_err(Error::Thread)?;
    Ok(())
}
