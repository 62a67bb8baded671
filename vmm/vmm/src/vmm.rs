//! The process: what it opens, how it is bound, and who asks the VM to do things.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use api::VmConfig;
use hypervisor::Hypervisor;
use sandbox::{SeccompMode, ThreadKind};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::Error;
use crate::config::{ProcessBounds, names};
use crate::confinement::Confinement;
use crate::control::{Control, ControlError, Input, LiveRuntime, Outcome, Policy};
use crate::endpoint::Endpoint;
use crate::host::ProcessHost;
use crate::interface::Interface;
use crate::monitor::EventMonitor;
use crate::rest::{Listener, Server};

/// What the process starts with.
#[derive(Clone, Debug)]
pub enum Start {
    /// A VM, which boots at once.
    Vm(Box<VmConfig>),
    /// Bounds for a VM that a client creates later.
    Bounds(ProcessBounds),
}

/// How to run a VM.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// End instead of launching again when the guest asks for a reset.
    pub no_reboot: bool,
    /// Stay when the guest has ended, so that a client can boot it again.
    pub no_shutdown: bool,
    /// File that takes the launch log of a Realm.
    pub launch_log: Option<PathBuf>,
    /// System call filters; without it they are enforced, unless the configuration asks for a process without bounds.
    pub seccomp: Option<SeccompMode>,
    /// Unix socket of the REST interface.
    pub api_socket: Option<Endpoint>,
    /// File or FIFO that is told of events.
    pub event_monitor: Option<Endpoint>,
}

/// Runs a VM until it ends for good, or until a client or a signal ends the process.
///
/// A reset tears the VM down and launches it anew from its configuration: a Realm cannot be reset, and what it loads
/// must be measured again.
///
/// # Errors
///
/// [`Error`] when the VM cannot be launched or cannot go on.
pub fn run(start: Start, options: &RunOptions) -> Result<Outcome, Error> {
    // These may take privileges, or paths, that the process has no more once it is confined.
    let hypervisor = Hypervisor::open()?;
    let (vm, bounds) = match start {
        Start::Vm(mut config) => {
            names::assign(&mut config);
            let bounds = ProcessBounds::of(&config);
            (Some(config), bounds)
        }
        Start::Bounds(bounds) => (None, bounds),
    };
    let interfaces = vm.as_ref().map(|vm| Interface::open_all(&vm.net, &[])).transpose()?;
    let listener = options.api_socket.as_ref().map(Listener::open).transpose()?;
    let monitor = options.event_monitor.as_ref().map(|target| {
        EventMonitor::open(target).map_err(|source| Error::EventMonitor { target: target.clone(), source })
    });
    let monitor = monitor.transpose()?.unwrap_or_else(EventMonitor::off);
    let confinement = Confinement::enter(&bounds, vm.as_deref(), options)?;

    let host = Arc::new(ProcessHost { confinement: Arc::clone(&confinement), monitor: monitor.clone() });
    let interfaces = interfaces.unwrap_or_default();
    let runtime = LiveRuntime {
        hypervisor,
        host,
        confinement: Arc::clone(&confinement),
        open: interfaces.iter().map(|interface| interface.id().to_owned()).collect(),
        interfaces,
        bounds,
        launch_log: options.launch_log.clone(),
    };
    let policy = Policy { no_reboot: options.no_reboot, no_shutdown: options.no_shutdown };
    let mut control = Control::new(runtime, policy, monitor.clone());
    monitor.event("vmm", "starting", &[]);
    let ended = serve(&mut control, vm, listener, &confinement);
    monitor.event("vmm", "shutdown", &[]);
    ended
}

/// Everything that happens while there are other threads.
fn serve(
    control: &mut Control<LiveRuntime>,
    vm: Option<Box<VmConfig>>,
    listener: Option<Listener>,
    confinement: &Arc<Confinement>,
) -> Result<Outcome, Error> {
    watch_signals(control.handle().inputs().clone(), Arc::clone(confinement))?;
    let bind = |confinement: Arc<Confinement>| move || confinement.bind(ThreadKind::Api);
    let start = |listener| Server::start(listener, control.handle(), bind(Arc::clone(confinement)));
    // When it is dropped, it has sent the answers that are due.
    let _server = listener.map(start).transpose()?;
    if let Some(config) = vm {
        control.create(*config).map_err(ControlError::into_error)?;
        for (field, path) in control.boot().map_err(ControlError::into_error)? {
            // Nobody may be there to read it; the path is in vm.info, too.
            let _ = writeln!(io::stderr(), "{field}: {}", path.display());
        }
    }
    control.run()
}

fn watch_signals(inputs: Sender<Input>, confinement: Arc<Confinement>) -> Result<(), Error> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(Error::Signals)?;
    let watch = move || {
        if let Err(error) = confinement.bind(ThreadKind::Signal) {
            // The receiver is gone only when the process ends.
            let _ = inputs.send(Input::Failed(error));
            return;
        }
        for signal in signals.forever() {
            if inputs.send(Input::Signal(signal)).is_err() {
                return;
            }
        }
    };
    devices::threads::spawn("signals", watch).map_err(Error::Thread)?;
    Ok(())
}
