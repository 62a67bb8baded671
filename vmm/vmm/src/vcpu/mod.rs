//! The threads that run the guest.

mod exits;
mod gate;
mod power;

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use api::config::CpuAffinity;
use api::message::Counters;

use devices::bus::Bus;
use hypervisor::{Exit, Kicker, SystemEvent, Vcpu};
use realm::MonitorCall;
use rustix::thread::{CpuSet, sched_setaffinity};
use sandbox::ThreadKind;

use crate::Error;
use crate::confinement::Confinement;
use crate::control::BootEvents;
use crate::event::Event;
use crate::isolation::Isolation;
use exits::ExitCounters;
use gate::{Gate, Pass};
use power::Answer;
pub use power::{CALLS, InUse, Power};

/// What every vCPU thread works with.
#[derive(Clone)]
pub struct Context {
    /// Where MMIO goes.
    pub bus: Arc<Bus>,
    /// How guest addresses and calls are understood.
    pub isolation: Isolation,
    /// Where the fate of the VM is reported.
    pub events: BootEvents,
    /// What binds the threads.
    pub confinement: Arc<Confinement>,
    /// Processors of the host on which vCPUs may run.
    pub affinity: Arc<[CpuAffinity]>,
    /// Which vCPUs are on, where their number can change.
    pub power: Option<Arc<Power>>,
}

/// The running vCPUs of a VM; dropping it takes them out of the guest and waits for their threads.
pub struct VcpuThreads {
    gate: Arc<Gate>,
    threads: Vec<VcpuThread>,
    power: Option<Arc<Power>>,
}

struct VcpuThread {
    kicker: Kicker,
    thread: JoinHandle<()>,
    exits: Arc<ExitCounters>,
}

impl VcpuThreads {
    /// Starts one thread a vCPU.
    ///
    /// # Errors
    ///
    /// [`Error::Thread`] when the system has no more threads, or [`Error::Hypervisor`].
    pub fn start(vcpus: Vec<Vcpu>, context: &Context) -> Result<Self, Error> {
        let mut started =
            Self { gate: Arc::new(Gate::new()), threads: Vec::new(), power: context.power.clone() };
        for (index, vcpu) in (0..).zip(vcpus) {
            let affinity = context.affinity.iter().find(|affinity| affinity.vcpu == index);
            let exits = Arc::<ExitCounters>::default();
            let runner = Runner {
                vcpu,
                index,
                context: context.clone(),
                gate: Arc::clone(&started.gate),
                exits: Arc::clone(&exits),
                host_cpus: affinity.map(|affinity| affinity.host_cpus.clone()),
            };
            let (ready, kicker) = sync_channel(1);
            let thread = devices::threads::spawn(format!("vcpu{index}"), move || runner.run(&ready))
                .map_err(Error::Thread)?;
            let kicker = kicker.recv().map_err(|_| Error::VcpuVanished { vcpu: index })??;
            started.threads.push(VcpuThread { kicker, thread, exits });
        }
        Ok(started)
    }

    /// Takes the vCPUs out of the guest. When this returns, none of them does anything until [`VcpuThreads::resume`].
    pub fn pause(&self) {
        self.gate.close();
        self.kick();
        self.gate.wait_until_still();
    }

    /// Lets the vCPUs run again.
    pub fn resume(&self) {
        self.gate.open();
    }

    /// Why they came back from the guest, by vCPU.
    pub fn counters(&self) -> Counters {
        let counters =
            |exits: &ExitCounters| exits.read().map(|(name, count)| (name.into(), count)).collect();
        let named = |(index, vcpu): (usize, &VcpuThread)| (format!("vcpu{index}"), counters(&vcpu.exits));
        self.threads.iter().enumerate().map(named).collect()
    }

    fn kick(&self) {
        self.threads.iter().for_each(|vcpu| vcpu.kicker.kick());
        if let Some(power) = &self.power {
            power.wake();
        }
    }
}

impl Drop for VcpuThreads {
    fn drop(&mut self) {
        self.gate.end();
        self.kick();
        for vcpu in self.threads.drain(..) {
            if vcpu.thread.join().is_err() {
                tracing::error!("a vCPU thread panicked");
            }
        }
    }
}

/// What a vCPU thread has.
struct Runner {
    vcpu: Vcpu,
    index: u16,
    context: Context,
    gate: Arc<Gate>,
    exits: Arc<ExitCounters>,
    host_cpus: Option<Vec<u32>>,
}

impl Runner {
    fn run(mut self, ready: &SyncSender<Result<Kicker, Error>>) {
        let gate = Arc::clone(&self.gate);
        // Counted in before anybody can ask it to stand still.
        let pass = gate.enter();
        // The kicker installs a signal handler, which the filter does not allow, no more than another affinity.
        let kicker = self
            .pin()
            .and_then(|()| Ok(self.vcpu.kicker()?))
            .and_then(|kicker| self.context.confinement.bind(ThreadKind::Vcpu).map(|()| kicker));
        let failed = kicker.is_err();
        if ready.send(kicker).is_err() || failed {
            return;
        }
        let event = loop {
            if !pass.may_run() {
                return;
            }
            match self.step(&pass) {
                Ok(None) => {}
                Ok(Some(event)) => break event,
                Err(error) => break Event::Failed(error),
            }
        };
        self.context.events.send(event);
    }

    /// Lets the thread run where the configuration says.
    fn pin(&self) -> Result<(), Error> {
        let Some(host_cpus) = &self.host_cpus else { return Ok(()) };
        let mut set = CpuSet::new();
        let cpus = host_cpus.iter().filter_map(|&cpu| usize::try_from(cpu).ok());
        cpus.filter(|&cpu| cpu < CpuSet::MAX_CPU).for_each(|cpu| set.set(cpu));
        let failed = |errno: rustix::io::Errno| Error::Affinity { vcpu: self.index, source: errno.into() };
        sched_setaffinity(None, &set).map_err(failed)
    }

    /// Runs the guest once and serves what it wanted; an event ends the VM.
    fn step(&mut self, pass: &Pass<'_>) -> Result<Option<Event>, Error> {
        if let Some(power) = &self.context.power
            && !power.is_on(self.index)
        {
            if let Some(start) = power.wait(self.index, pass) {
                self.vcpu.init(true, 0)?;
                self.vcpu.set_entry(start.pc, &[start.context, 0, 0, 0, 0, 0, 0, 0])?;
            }
            return Ok(None);
        }
        let Self { vcpu, index, context, exits, .. } = self;
        let (index, isolation) = (*index, &context.isolation);
        let exit = vcpu.run()?;
        exits.count(&exit);
        match exit {
            Exit::MmioRead { addr, data } => {
                context.bus.read(isolation.board_address(addr), data);
            }
            Exit::MmioWrite { addr, data } => {
                context.bus.write(isolation.board_address(addr), data);
            }
            Exit::Hypercall { function, smc } => match isolation.realm() {
                Some(realm) => realm.call(index, MonitorCall { function, smc }, vcpu)?,
                None => {
                    // SMCCC: a function that does not exist answers -1.
                    let answer = match &context.power {
                        Some(power) => {
                            power.call(index, function, [vcpu.gpr(1)?, vcpu.gpr(2)?, vcpu.gpr(3)?])
                        }
                        None => Answer::GoOn(u64::MAX),
                    };
                    if let Answer::GoOn(answer) = answer {
                        vcpu.set_gpr(0, answer)?;
                    }
                }
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
            Exit::Undecodable => vcpu.inject_data_abort()?,
            Exit::Interrupted => vcpu.clear_kick(),
            Exit::Failed { reason, meaning } => {
                return Err(Error::VcpuFailed { vcpu: index, reason, meaning });
            }
        }
        Ok(None)
    }
}
