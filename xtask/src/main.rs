//! `cargo xtask`: Redoubt's own build, test and demo tool.

#![forbid(unsafe_code)]

mod arm_host;
mod bench;
mod cargo;
mod demo;
mod dist;
mod fuzz;
mod payload;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

const EXAMPLES: &str = "Examples:
  cargo xtask demo                          prove a Realm VM and release a secret to it
  cargo xtask demo --tamper kernel          change one thing; it must be refused for that reason
  cargo xtask demo --realm soft-virtcca --all   the same with evidence of virtCCA, with each thing changed
  cargo xtask test                          everything that CI runs
  cargo xtask test --only unit              unit tests only
  cargo xtask test --only system --filter smp
  cargo xtask arm-host                      a shell on an arm64 machine with KVM
  cargo xtask bench vmm                     what a VM costs, beside QEMU
  cargo xtask fuzz --seconds 300            every fuzz target for five minutes";

/// Builds, tests and shows Redoubt.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Launch a Realm VM, prove it, and release a secret to it.
    Demo(demo::Arguments),
    /// Run the checks, the unit tests, and the system tests on an Arm host.
    Test(test::Arguments),
    /// Open a shell on the Arm host, with our programs on PATH (Ctrl-A X leaves an emulated one).
    ArmHost,
    /// Measure what VMs and verifications cost.
    Bench(bench::Arguments),
    /// Run fuzz targets.
    Fuzz(fuzz::Arguments),
    /// Build the programs for release and list their checksums.
    Dist(dist::Arguments),
    /// Print a completion script for a shell.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    #[command(hide = true)]
    Man,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo(arguments) => return demo::run(&arguments),
        Command::Test(arguments) => return Ok(test::run(&arguments)),
        Command::ArmHost => arm_host::run()?,
        Command::Bench(arguments) => bench::run(&arguments)?,
        Command::Fuzz(arguments) => fuzz::run(&arguments)?,
        Command::Dist(arguments) => dist::run(&arguments)?,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "cargo-xtask", &mut std::io::stdout());
        }
        Command::Man => clap_mangen::Man::new(Arguments::command()).render(&mut std::io::stdout())?,
    }
    Ok(ExitCode::SUCCESS)
}
