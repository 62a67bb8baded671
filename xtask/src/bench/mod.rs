//! `cargo xtask bench`: what a VM and a verification cost, on this machine.

mod attest;
mod vmm;

use anyhow::Result;

use crate::cargo::Workspace;

/// Options of `bench`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What is measured.
    #[arg(value_enum, default_value_t = Subject::All)]
    subject: Subject,
    /// Parts of `vmm`: memory, startup, console, contest (beside QEMU); all of them when absent.
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Subject {
    /// VMs on the Arm host, beside QEMU.
    Vmm,
    /// Attestation: the appraisal of tokens.
    Attest,
    /// Everything.
    All,
}

/// Measures and prints figures.
pub fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    if arguments.subject != Subject::Attest {
        vmm::run(&workspace, &arguments.only)?;
    }
    if arguments.subject != Subject::Vmm {
        attest::run(&workspace)?;
    }
    Ok(())
}
