//! `cargo xtask bench`: what a VM and a verification cost, on this machine.

mod native;
mod vmm;

use anyhow::Result;

use crate::cargo::Workspace;

/// Options of `bench`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What is measured.
    #[arg(value_enum, default_value_t = Subject::All)]
    subject: Subject,
    /// Parts of `vmm`: memory, startup, console, contest (beside QEMU), network (of the contest
    /// that alone); all of them when absent.
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Subject {
    /// VMs on the Arm host, beside QEMU.
    Vmm,
    /// Attestation: the appraisal of tokens.
    Attest,
    /// The Global Trust Authority: attestations of machines with TPMs.
    Gta,
    /// Everything.
    All,
}

/// Measures and prints figures.
pub fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    let wanted = |subject| arguments.subject == subject || arguments.subject == Subject::All;
    if wanted(Subject::Vmm) {
        vmm::run(&workspace, &arguments.only)?;
    }
    if wanted(Subject::Attest) {
        native::run(&workspace, &["verifier", "attestation-service"])?;
    }
    if wanted(Subject::Gta) {
        native::run(&workspace, &["gta-server"])?;
    }
    Ok(())
}
