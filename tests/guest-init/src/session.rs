//! A program as leader of a session with the console as controlling terminal, so that job control works.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

/// Becomes `program` in a new session on the machine's console.
pub fn run(program: &[&str]) -> Result<()> {
    let (program, arguments) = program.split_first().context("--session needs a program")?;
    rustix::process::setsid().context("cannot start a session")?;
    let terminal = open_terminal()?;
    rustix::process::ioctl_tiocsctty(&terminal).context("cannot take the console as controlling terminal")?;
    let stdio = || terminal.try_clone().map(Stdio::from).context("cannot duplicate the console");
    let error =
        Command::new(program).args(arguments).stdin(stdio()?).stdout(stdio()?).stderr(stdio()?).exec();
    Err(error).with_context(|| format!("cannot start {program}"))
}

/// `/dev/console` cannot be a controlling terminal; the device behind it can.
fn open_terminal() -> Result<File> {
    let active =
        std::fs::read_to_string("/sys/class/tty/console/active").context("cannot find the console")?;
    let name = active.split_whitespace().next_back().context("the kernel has no console")?;
    let path = format!("/dev/{name}");
    File::options().read(true).write(true).open(&path).with_context(|| format!("cannot open {path}"))
}
