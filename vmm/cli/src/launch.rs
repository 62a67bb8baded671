//! Starts and ends VMMs.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::Signal;

use crate::domain::{Domain, OnReboot};
use crate::progress::Progress;
use crate::state::{DomainLock, DomainState, Ended, Observation, Process, State};

/// Name of the VMM's program.
const VMM: &str = "redoubt-vmm";

/// Verb by which this program leaves its terminal and becomes the VMM.
pub const BECOME_VMM: &str = "become-vmm";

/// How long a VMM may take to listen on its socket.
const LISTEN_PATIENCE: Duration = Duration::from_secs(15);

/// How long a VMM may take to end after it was asked to, and after it was killed.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Most bytes of a log's end that an error shows.
const LOG_TAIL: u64 = 2048;

/// Where the VMM's program is: the one that was named, the one beside this program, or the one in the search path.
///
/// # Errors
///
/// There is none.
pub fn find_vmm(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = named {
        if !path.is_file() {
            bail!("the VMM {} is not there: change <emulator>, or give --vmm FILE", path.display());
        }
        return Ok(path.to_owned());
    }
    let beside = env::current_exe().ok().map(|path| path.with_file_name(VMM));
    let search = env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(env::split_paths(&search).map(|directory| directory.join(VMM)))
        .find(|path| path.is_file())
        .with_context(|| format!("{VMM} is neither beside redoubt nor in the search path: give --vmm FILE"))
}

/// Starts a domain: a VMM that outlives this program, and in it the VM.
///
/// # Errors
///
/// The domain runs already, or cannot be started; then nothing of it is left but its log.
pub fn start(
    state: &State,
    lock: &DomainLock,
    domain: &Domain,
    vmm: Option<&Path>,
    paused: bool,
) -> anyhow::Result<()> {
    let before = match state.observe_locked(lock) {
        Err(crate::state::StateError::NoDomain { .. }) => None,
        observation => Some(observation?),
    };
    if let Some(before) = before.filter(|before| before.process.is_some() || before.state.is_active()) {
        match before.state {
            DomainState::Ending
                if before.process.as_ref().is_some_and(|process| process.wait(END_PATIENCE)) =>
            {
                state.settle(lock)?;
            }
            DomainState::Interrupted | DomainState::ShutOff => {
                end(state, lock, &before, Some(END_PATIENCE), "its start was begun anew")?;
            }
            found => bail!("domain {:?} is {found}: {}", lock.name(), before.reason),
        }
    }
    let vmm = find_vmm(vmm.or(domain.emulator.as_deref()))?;
    let progress = Progress::new(format!("starting {}", lock.name()));
    let sign_of_life = state.prepare(lock, domain)?;
    let result = start_vmm(state, lock, domain, &vmm, sign_of_life).and_then(|()| {
        let client = state.runtime(lock.name()).client();
        progress.say("creating the VM");
        client.create(&domain.config)?;
        progress.say(if domain.config.realm.is_some() {
            "measuring and booting the Realm"
        } else {
            "booting"
        });
        client.boot()?;
        if paused {
            client.pause()?;
        }
        Ok(())
    });
    let Err(error) = result else { return Ok(()) };
    let reason = format!("its last start failed: {error:#}");
    if let Ok(failed) = state.observe_locked(lock)
        && failed.process.is_some()
    {
        end(state, lock, &failed, Some(END_PATIENCE), &reason)?;
    } else {
        state.announce_end(lock, &Ended { state: DomainState::ShutOff, reason })?;
        state.settle(lock)?;
    }
    Err(error.context(format!("cannot start domain {:?}", lock.name())))
}

/// Starts the VMM and waits until it answers.
fn start_vmm(
    state: &State,
    lock: &DomainLock,
    domain: &Domain,
    vmm: &Path,
    sign_of_life: File,
) -> anyhow::Result<()> {
    let runtime = state.runtime(lock.name());
    let log = state.directories().log(lock.name());
    let output = open_log(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(env::current_exe().context("cannot find this program")?);
    command
        .arg(BECOME_VMM)
        .arg("--")
        .arg(vmm)
        .args(["--api-socket", &runtime.socket_argument()])
        .args(["--event-monitor", &format!("path={}", runtime.events().display())])
        .args((domain.on_reboot == OnReboot::Destroy).then_some("--no-reboot"))
        .current_dir("/")
        .stdin(Stdio::from(sign_of_life))
        .stdout(output.try_clone().context("cannot share the log")?)
        .stderr(output);
    let mut child = command.spawn().with_context(|| format!("cannot start {}", vmm.display()))?;
    // The command holds a copy of the sign of life, without which the VMM would seem alive for as long as we are.
    drop(command);
    if let Ok(process) = Process::of(child.id()) {
        state.record(lock, &process)?;
    }
    let client = runtime.client();
    let deadline = Instant::now() + LISTEN_PATIENCE;
    loop {
        ended_early(&mut child, vmm, &log)?;
        match client.ping() {
            Ok(_) => return Ok(()),
            Err(error) if !error.is_absent() => return Err(error.into()),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).context(format!("the VMM does not listen; {} has more", log.display()));
            }
            Err(_) => sleep(Duration::from_millis(5)),
        }
    }
}

fn ended_early(child: &mut Child, vmm: &Path, log: &Path) -> anyhow::Result<()> {
    match child.try_wait().context("cannot watch the VMM")? {
        None => Ok(()),
        Some(status) => bail!("{} ended at once ({status}):\n{}", vmm.display(), tail(log)),
    }
}

/// Becomes the VMM, in a session of its own: neither the terminal nor the end of the command that started it ends it.
///
/// # Errors
///
/// The VMM cannot be run. Otherwise this does not return.
pub fn become_vmm(command: &[std::ffi::OsString]) -> anyhow::Result<()> {
    let (program, arguments) = command.split_first().context("no program to become")?;
    rustix::process::setsid().context("cannot leave the session")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", Path::new(program).display()))
}

/// Ends the VMM of a domain: asks it to, and kills it when `patience` is over, if it is to be killed at all.
///
/// # Errors
///
/// It cannot be found, or does not end.
pub fn end(
    state: &State,
    lock: &DomainLock,
    observation: &Observation,
    kill_after: Option<Duration>,
    reason: &str,
) -> anyhow::Result<()> {
    let name = lock.name();
    let process = observation.process.as_ref().with_context(|| {
        format!("the VMM of domain {name:?} lives, but its process cannot be found: end it by hand")
    })?;
    let progress = Progress::new(format!("ending {name}"));
    state.announce_end(lock, &Ended { state: DomainState::ShutOff, reason: reason.into() })?;
    process.signal(Signal::TERM).context("cannot end the VMM")?;
    let mut ended = process.wait(kill_after.unwrap_or(END_PATIENCE * 2));
    if !ended && kill_after.is_some() {
        progress.say("killing the VMM");
        process.signal(Signal::KILL).context("cannot kill the VMM")?;
        ended = process.wait(END_PATIENCE);
    }
    if !ended {
        state.withdraw_end(lock)?;
        let advice =
            if kill_after.is_some() { "the kernel holds it" } else { "leave out --graceful to kill it" };
        bail!("the VMM of domain {name:?} (process {}) does not end: {advice}", process.pid);
    }
    state.settle(lock)?;
    Ok(())
}

/// Opens a log anew; the last one is kept beside it.
fn open_log(path: &Path) -> io::Result<File> {
    match fs::rename(path, path.with_extension("log.1")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::options().append(true).create(true).mode(0o600).open(path)
}

/// The end of a log.
fn tail(path: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
        Err(error) => format!("({} cannot be read: {error})", path.display()),
    }
}
