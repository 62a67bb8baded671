//! What the program says about itself.

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use clap::{Args, CommandFactory};

use super::Cli;
use crate::launch::find_vmm;

pub const EXAMPLES: &str = "\
Examples:
  Define a domain, start it and talk to it (Ctrl-] leaves):
    redoubt define web.xml && redoubt start web && redoubt console web
  See what there is:
    redoubt list --all
  Make a definition from a command line of redoubt-vmm:
    redoubt import --name web -- --kernel vmlinuz --memory size=1G --disk path=web.img > web.xml
  The measurement that a verifier should expect of a domain:
    redoubt measure web
  Have the domain prove that it is that:
    redoubt attest web --jwks as.jwks

Exit status: 0 done, 1 not done; standard error says why and what to do.";

/// Prints the versions of redoubt and of its VMM.
#[derive(Args, Debug)]
pub struct Version {}

impl Version {
    pub fn run(&self, vmm: Option<&Path>) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "redoubt {}", env!("CARGO_PKG_VERSION"))?;
        let vmm = find_vmm(vmm)?;
        let output = Command::new(&vmm)
            .arg("--version")
            .output()
            .with_context(|| format!("cannot run {}", vmm.display()))?;
        writeln!(out, "{} ({})", String::from_utf8_lossy(&output.stdout).trim(), vmm.display())?;
        Ok(())
    }
}

pub fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "redoubt", &mut io::stdout());
}

/// Prints one manual page for the program and all verbs.
pub fn man() -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let mut command = Cli::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(&mut out)?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let page = clap_mangen::Man::new(verb.clone());
        page.render_synopsis_section(&mut out)?;
        page.render_description_section(&mut out)?;
        page.render_options_section(&mut out)?;
    }
    Ok(())
}
