//! Definitions: made, changed, forgotten.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use super::Context;
use crate::{definition, output};

/// Defines a domain, or changes its definition; what runs is not changed.
#[derive(Args, Debug)]
#[command(after_help = "Example: redoubt define web.xml")]
pub struct Define {
    /// Definition in XML or JSON; - is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Pass over elements and attributes that are not supported, with a warning for each.
    #[arg(long)]
    lenient: bool,
}

impl Define {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let domain = definition::read(&self.file, self.lenient)?;
        let lock = context.state.lock(&domain.name)?;
        context.state.define(&lock, &domain)?;
        output::line(&format!("Domain '{}' defined from {}\n", domain.name, self.file.display()))
    }
}

/// Forgets the definition of a domain; one that runs goes on until it ends.
#[derive(Args, Debug)]
pub struct Undefine {
    /// Name or uuid of the domain.
    domain: String,
}

impl Undefine {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let (lock, observation) = context.lock(&self.domain)?;
        let name = lock.name();
        if !observation.persistent {
            bail!("domain {name:?} is not defined, it only runs: `redoubt destroy {name}` ends it");
        }
        context.state.undefine(&lock)?;
        context.state.settle(&lock)?;
        output::line(&format!("Domain '{name}' has been undefined\n"))
    }
}

/// Has a domain start with the host.
#[derive(Args, Debug)]
#[command(after_help = "redoubt-autostart.service starts these domains when the host starts.")]
pub struct Autostart {
    /// Name or uuid of the domain.
    domain: String,
    /// Has it not start with the host.
    #[arg(long)]
    disable: bool,
}

impl Autostart {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let (lock, observation) = context.lock(&self.domain)?;
        let name = lock.name();
        if !observation.persistent {
            bail!("domain {name:?} is not defined, it only runs: define it first");
        }
        let Some(mut domain) = context.state.definition(name)? else {
            bail!("domain {name:?} is not defined any more");
        };
        domain.autostart = !self.disable;
        context.state.define(&lock, &domain)?;
        let mark = if self.disable { "unmarked" } else { "marked" };
        output::line(&format!("Domain '{name}' {mark} as autostarted\n"))
    }
}
