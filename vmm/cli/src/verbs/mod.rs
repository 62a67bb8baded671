//! The verbs of the program `redoubt`, which are those of `virsh`.

mod attest;
mod change;
mod console;
mod define;
mod devices;
mod event;
mod help;
mod lifecycle;
mod measure;
mod resize;
mod show;
mod start;
mod statistics;
mod text;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::launch;
use crate::state::{Directories, DomainLock, Observation, State};

/// Runs VMs by name, with libvirt's verbs and habits and no daemon.
#[derive(Debug, Parser)]
#[command(name = "redoubt", version, after_help = help::EXAMPLES, max_term_width = 120)]
pub struct Cli {
    /// Directory of definitions and logs [default: /var/lib/redoubt, or redoubt in XDG_DATA_HOME].
    #[arg(long, value_name = "DIRECTORY", env = "REDOUBT_STATE_DIR", global = true)]
    state_dir: Option<PathBuf>,
    /// Directory of sockets and processes [default: /run/redoubt, or redoubt in XDG_RUNTIME_DIR].
    #[arg(long, value_name = "DIRECTORY", env = "REDOUBT_RUN_DIR", global = true)]
    run_dir: Option<PathBuf>,
    /// Program of the VMM [default: as the definition says, then redoubt-vmm beside redoubt or in PATH].
    #[arg(long, value_name = "FILE", env = "REDOUBT_VMM", global = true)]
    vmm: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Define(define::Define),
    Undefine(define::Undefine),
    Autostart(define::Autostart),
    Start(start::Start),
    Create(start::Create),
    Shutdown(lifecycle::Shutdown),
    Reboot(lifecycle::Reboot),
    Reset(lifecycle::Reset),
    Destroy(lifecycle::Destroy),
    Suspend(lifecycle::Suspend),
    Resume(lifecycle::Resume),
    List(show::List),
    Dominfo(show::Dominfo),
    Domstate(show::Domstate),
    Domuuid(show::Domuuid),
    Edit(text::Edit),
    Dumpxml(text::Dumpxml),
    Import(text::Import),
    Console(console::Console),
    Setmem(resize::Setmem),
    Setvcpus(resize::Setvcpus),
    Vcpupin(resize::Vcpupin),
    AttachDisk(devices::AttachDisk),
    AttachInterface(devices::AttachInterface),
    AttachDevice(devices::AttachDevice),
    DetachDevice(devices::DetachDevice),
    DetachDisk(devices::DetachDisk),
    DetachInterface(devices::DetachInterface),
    Domblklist(statistics::Domblklist),
    Domiflist(statistics::Domiflist),
    Domstats(statistics::Domstats),
    Event(event::Event),
    Measure(measure::Measure),
    Attest(attest::Attest),
    Version(help::Version),
    /// Prints completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page.
    Man,
    #[command(name = launch::BECOME_VMM, hide = true)]
    BecomeVmm {
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    ///
    /// Why it cannot be done, and what to do about it.
    pub fn execute(self) -> anyhow::Result<()> {
        let verb = match self.verb {
            Verb::BecomeVmm { command } => return launch::become_vmm(&command),
            Verb::Completions { shell } => {
                help::completions(shell);
                return Ok(());
            }
            Verb::Man => return help::man(),
            Verb::Version(verb) => return verb.run(self.vmm.as_deref()),
            verb => verb,
        };
        let state = State::open(Directories::locate(self.state_dir, self.run_dir)?)?;
        let context = Context { state, vmm: self.vmm };
        match verb {
            Verb::Define(verb) => verb.run(&context),
            Verb::Undefine(verb) => verb.run(&context),
            Verb::Autostart(verb) => verb.run(&context),
            Verb::Start(verb) => verb.run(&context),
            Verb::Create(verb) => verb.run(&context),
            Verb::Shutdown(verb) => verb.run(&context),
            Verb::Reboot(verb) => verb.run(&context),
            Verb::Reset(verb) => verb.run(&context),
            Verb::Destroy(verb) => verb.run(&context),
            Verb::Suspend(verb) => verb.run(&context),
            Verb::Resume(verb) => verb.run(&context),
            Verb::List(verb) => verb.run(&context),
            Verb::Dominfo(verb) => verb.run(&context),
            Verb::Domstate(verb) => verb.run(&context),
            Verb::Domuuid(verb) => verb.run(&context),
            Verb::Edit(verb) => verb.run(&context),
            Verb::Dumpxml(verb) => verb.run(&context),
            Verb::Import(verb) => verb.run(&context),
            Verb::Console(verb) => verb.run(&context),
            Verb::Setmem(verb) => verb.run(&context),
            Verb::Setvcpus(verb) => verb.run(&context),
            Verb::Vcpupin(verb) => verb.run(&context),
            Verb::AttachDisk(verb) => verb.run(&context),
            Verb::AttachInterface(verb) => verb.run(&context),
            Verb::AttachDevice(verb) => verb.run(&context),
            Verb::DetachDevice(verb) => verb.run(&context),
            Verb::DetachDisk(verb) => verb.run(&context),
            Verb::DetachInterface(verb) => verb.run(&context),
            Verb::Domblklist(verb) => verb.run(&context),
            Verb::Domiflist(verb) => verb.run(&context),
            Verb::Domstats(verb) => verb.run(&context),
            Verb::Event(verb) => verb.run(&context),
            Verb::Measure(verb) => verb.run(&context),
            Verb::Attest(verb) => verb.run(&context),
            Verb::BecomeVmm { .. } | Verb::Completions { .. } | Verb::Man | Verb::Version(_) => Ok(()),
        }
    }
}

/// What verbs work with.
#[derive(Debug)]
struct Context {
    state: State,
    vmm: Option<PathBuf>,
}

impl Context {
    /// The domain that is called `key` or has that uuid, as it is now.
    fn observe(&self, key: &str) -> anyhow::Result<Observation> {
        let name = self.state.resolve(key)?;
        Ok(self.state.observe(&name)?)
    }

    /// The same, with the right to change it.
    fn lock(&self, key: &str) -> anyhow::Result<(DomainLock, Observation)> {
        let name = self.state.resolve(key)?;
        let lock = self.state.lock(&name)?;
        let observation = self.state.observe_locked(&lock)?;
        Ok((lock, observation))
    }

    /// A client of the VMM of a domain that runs or is paused.
    fn client(&self, observation: &Observation) -> anyhow::Result<client::Client> {
        if observation.info.is_none() || !observation.state.is_active() {
            let Observation { name, state, reason, .. } = observation;
            anyhow::bail!("domain {name:?} does not run: it is {state} ({reason})");
        }
        Ok(self.state.runtime(&observation.name).client())
    }
}

/// Bytes of memory that a VM can have, and those that it has with its balloon as configured.
fn memory_of(config: &api::VmConfig) -> (u64, u64) {
    let zones = config.memory.zones.iter().map(|zone| zone.size);
    let max = zones.fold(config.memory.size, u64::saturating_add);
    let balloon = config.balloon.as_ref().map_or(0, |balloon| balloon.size);
    (max, max.saturating_sub(balloon))
}

/// Name of a Realm back-end, as in JSON.
fn backend_name(backend: api::config::RealmBackendName) -> String {
    serde_json::to_value(backend).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
