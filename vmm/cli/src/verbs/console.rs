//! A domain's console on this terminal.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, bail};
use api::VmConfig;
use api::config::{ConsoleConfig, ConsoleMode};
use clap::{Args, ValueEnum};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::Context;
use crate::output;
use crate::state::Lock;

/// Ctrl-], as with telnet and virsh.
const ESCAPE: u8 = 0x1d;

/// Connects this terminal to a domain's console. Ctrl-] leaves.
#[derive(Args, Debug)]
pub struct Console {
    /// Name or uuid of the domain.
    domain: String,
    /// Which console; by default the virtio console if it can be used, else the serial port.
    #[arg(long, value_enum)]
    devname: Option<Name>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// The serial port.
    Serial0,
    /// The virtio console.
    Console0,
}

impl Console {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let observation = context.observe(&self.domain)?;
        context.client(&observation)?;
        let name = &observation.name;
        let config = &observation.info.as_ref().context("no answer of the VMM")?.config;
        let (device, console) = self.choose(config).with_context(|| {
            format!("domain {name:?} has no console of the kind pty or unix: add <console type='pty'/>")
        })?;
        let lock = context.state.directories().runtime(name).join(format!("{device}.lock"));
        let Some(_lock) = Lock::try_take(&lock).with_context(|| format!("cannot lock {}", lock.display()))?
        else {
            bail!("somebody else is connected to {device} of domain {name:?}: two would each see half of it");
        };
        let descriptor = open(console)?;
        let input = io::stdin();
        if input.is_terminal() {
            output::line(&format!("Connected to domain '{name}'\nEscape character is ^] (Ctrl + ])"))?;
        }
        let terminal = Terminal::raw(&input)?;
        let result = relay(input.as_fd(), io::stdout().as_fd(), &descriptor);
        let was_terminal = terminal.is_some();
        drop(terminal);
        if was_terminal {
            output::line("")?;
        }
        result
    }

    fn choose<'a>(&self, config: &'a VmConfig) -> Option<(&'static str, &'a ConsoleConfig)> {
        [(Name::Console0, "console0", &config.console), (Name::Serial0, "serial0", &config.serial)]
            .into_iter()
            .filter(|(name, ..)| self.devname.is_none_or(|wanted| wanted == *name))
            .find(|(_, _, console)| matches!(console.mode, ConsoleMode::Pty | ConsoleMode::Socket))
            .map(|(_, device, console)| (device, console))
    }
}

fn open(console: &ConsoleConfig) -> anyhow::Result<OwnedFd> {
    if console.mode == ConsoleMode::Socket {
        let path = console.socket.as_ref().context("the VMM does not say where the console's socket is")?;
        let stream = UnixStream::connect(path);
        return Ok(stream.with_context(|| format!("cannot connect to {}", path.display()))?.into());
    }
    let path = console.file.as_ref().context("the VMM does not say where the console's terminal is")?;
    // The guest's terminal must not become ours: its Ctrl-C would end us.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("cannot open {}", path.display()))
}

/// A terminal that passes on every key; it is as before once this value is gone.
struct Terminal {
    file: File,
    before: Termios,
}

impl Terminal {
    /// `None` where there is no terminal.
    fn raw(input: &io::Stdin) -> anyhow::Result<Option<Self>> {
        if !input.is_terminal() {
            return Ok(None);
        }
        let file: File = input.as_fd().try_clone_to_owned().context("cannot use the terminal")?.into();
        let before = tcgetattr(&file).context("cannot use the terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&file, OptionalActions::Now, &raw).context("cannot change the terminal")?;
        Ok(Some(Self { file, before }))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.file, OptionalActions::Now, &self.before);
    }
}

/// Passes bytes both ways until Ctrl-], the end of the input or that of the console.
fn relay(input: impl AsFd, output: impl AsFd, console: &OwnedFd) -> anyhow::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let mut ready = [PollFd::new(&input, PollFlags::IN), PollFd::new(console, PollFlags::IN)];
        match poll(&mut ready, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result.context("cannot wait for input")?,
        };
        let [from_us, from_guest] = ready.each_ref().map(|descriptor| !descriptor.revents().is_empty());
        if from_guest {
            match read(console, &mut buffer)? {
                [] => return Ok(()),
                bytes => write_all(&output, bytes)?,
            }
        }
        if from_us {
            let bytes = read(&input, &mut buffer)?;
            let escape = bytes.iter().position(|byte| *byte == ESCAPE);
            write_all(console, bytes.get(..escape.unwrap_or(bytes.len())).unwrap_or_default())?;
            if bytes.is_empty() || escape.is_some() {
                return Ok(());
            }
        }
    }
}

/// Reads what there is; nothing at the end, which a terminal without another side tells as an error.
fn read(descriptor: impl AsFd, buffer: &mut [u8]) -> anyhow::Result<&[u8]> {
    let count = match rustix::io::read(&descriptor, &mut *buffer) {
        Err(rustix::io::Errno::IO | rustix::io::Errno::CONNRESET) => 0,
        count => count.context("cannot read")?,
    };
    Ok(buffer.get(..count).unwrap_or_default())
}

fn write_all(descriptor: impl AsFd, mut bytes: &[u8]) -> anyhow::Result<()> {
    while !bytes.is_empty() {
        let count = rustix::io::write(&descriptor, bytes).context("cannot write")?;
        bytes = bytes.get(count..).unwrap_or_default();
    }
    Ok(())
}
