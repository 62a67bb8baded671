//! The threads that run the guest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use devices::bus::Bus;
use hypervisor::{Exit, Kicker, SystemEvent, Vcpu};
use realm::MonitorCall;
use sandbox::ThreadKind;

use crate::Error;
use crate::confinement::Confinement;
use crate::event::Event;
use crate::isolation::Isolation;

/// What every vCPU thread works with.
#[derive(Clone)]
pub struct Context {
    /// Where MMIO goes.
    pub bus: Arc<Bus>,
    /// How guest addresses and calls are understood.
    pub isolation: Isolation,
    /// Where the fate of the VM is reported.
    pub events: Sender<Event>,
    /// What binds the threads.
    pub confinement: Arc<Confinement>,
}

/// The running vCPUs of a VM; dropping it takes them out of the guest and waits for their threads.
pub struct VcpuThreads {
    stop: Arc<AtomicBool>,
    threads: Vec<(Kicker, JoinHandle<()>)>,
}

impl VcpuThreads {
    /// Starts one thread a vCPU.
    ///
    /// # Errors
    ///
    /// [`Error::Thread`] when the system has no more threads, or [`Error::Hypervisor`].
    pub fn start(vcpus: Vec<Vcpu>, context: &Context) -> Result<Self, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut started = Self { stop, threads: Vec::new() };
        for (index, vcpu) in (0..).zip(vcpus) {
            let (context, stop) = (context.clone(), Arc::clone(&started.stop));
            let (ready, kicker) = sync_channel(1);
            let thread = thread::Builder::new()
                .name(format!("vcpu{index}"))
                .spawn(move || run(vcpu, index, &context, &stop, &ready))
                .map_err(Error::Thread)?;
            let kicker = kicker.recv().map_err(|_| Error::VcpuVanished { vcpu: index })??;
            started.threads.push((kicker, thread));
        }
        Ok(started)
    }
}

impl Drop for VcpuThreads {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for (kicker, thread) in self.threads.drain(..) {
            kicker.kick();
            if thread.join().is_err() {
                tracing::error!("a vCPU thread panicked");
            }
        }
    }
}

fn run(
    mut vcpu: Vcpu,
    index: u16,
    context: &Context,
    stop: &AtomicBool,
    ready: &SyncSender<Result<Kicker, Error>>,
) {
    // The kicker installs a signal handler, which the filter does not allow.
    let kicker = vcpu
        .kicker()
        .map_err(Error::from)
        .and_then(|kicker| context.confinement.bind(ThreadKind::Vcpu).map(|()| kicker));
    let failed = kicker.is_err();
    if ready.send(kicker).is_err() || failed {
        return;
    }
    let event = loop {
        if stop.load(Ordering::Acquire) {
            return;
        }
        match step(&mut vcpu, index, context) {
            Ok(None) => {}
            Ok(Some(event)) => break event,
            Err(error) => break Event::Failed(error),
        }
    };
    // The receiver is gone only when the VM is being torn down already.
    let _ = context.events.send(event);
}

/// Runs the guest once and serves what it wanted; an event ends the VM.
fn step(vcpu: &mut Vcpu, index: u16, context: &Context) -> Result<Option<Event>, Error> {
    let isolation = &context.isolation;
    match vcpu.run()? {
        Exit::MmioRead { addr, data } => {
            context.bus.read(isolation.board_address(addr), data);
        }
        Exit::MmioWrite { addr, data } => {
            context.bus.write(isolation.board_address(addr), data);
        }
        Exit::Hypercall { function, smc } => match isolation.realm() {
            Some(realm) => realm.call(index, MonitorCall { function, smc }, vcpu)?,
            // SMCCC: a function that does not exist answers -1.
            None => vcpu.set_gpr(0, u64::MAX)?,
        },
        Exit::SystemEvent(SystemEvent::Off) => return Ok(Some(Event::Off)),
        Exit::SystemEvent(SystemEvent::Reset) => return Ok(Some(Event::Reset)),
        Exit::SystemEvent(SystemEvent::Crash) => return Ok(Some(Event::Crash)),
        Exit::SystemEvent(SystemEvent::Other(kind)) => {
            tracing::warn!(kind, "system event of a newer kernel ignored");
        }
        Exit::MemoryFault(fault) => match isolation.realm() {
            Some(realm) => realm.convert(fault)?,
            None => return Err(Error::GuestFault { gpa: fault.gpa }),
        },
        Exit::Interrupted => vcpu.clear_kick(),
        Exit::Failed { reason, meaning } => return Err(Error::VcpuFailed { vcpu: index, reason, meaning }),
    }
    Ok(None)
}
