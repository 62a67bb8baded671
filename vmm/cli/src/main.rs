//! `redoubt`: VMs by name, with libvirt's verbs and habits and no daemon.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use cli::verbs::Cli;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not failures; a wrong command line is one like any other, as with virsh.
            let failed = error.use_stderr();
            let _ = error.print();
            return if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match cli.execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", cli::output::printable(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// Whether whoever reads our output has had enough, as `redoubt list | head` has.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
