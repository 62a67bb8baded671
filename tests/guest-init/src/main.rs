//! PID 1 of the emulated host and of the test guests.

#![forbid(unsafe_code)]

mod cases;
mod lane;
mod pid1;
mod process;
mod relay;
mod session;
mod vsock;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use guest_init::config::Config;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        _ if rustix::process::getpid().is_init() => pid1::run(),
        ["--run-tests", config] => cases::run(config),
        ["--run-lane", lane] => lane::main(lane),
        ["--session", program @ ..] => session::run(program),
        ["--vsock-connect", port] => vsock::connect(port),
        ["--vsock-listen", port, program @ ..] => vsock::listen(port, program),
        _ => Err(anyhow::anyhow!(
            "usage: guest-init --run-tests CONFIG | --session PROGRAM [ARGUMENT...] | --vsock-connect PORT | \
             --vsock-listen PORT PROGRAM [ARGUMENT...]; without arguments only as PID 1"
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guest-init: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn read_config(path: &str) -> Result<Config> {
    let text = std::fs::read(path).with_context(|| format!("cannot read the configuration {path}"))?;
    let config: Config =
        serde_json::from_slice(&text).with_context(|| format!("cannot understand {path}"))?;
    if config.commands.iter().any(Vec::is_empty) {
        bail!("{path}: a command is empty; it needs at least a program");
    }
    Ok(config)
}
