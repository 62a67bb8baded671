//! Domains are started.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

use super::Context;
use crate::state::State;
use crate::{definition, launch, output};

/// Starts a domain that is defined.
#[derive(Args, Debug)]
pub struct Start {
    /// Name or uuid of the domain.
    #[arg(required_unless_present = "autostart")]
    domain: Option<String>,
    /// Start it and suspend it at once.
    #[arg(long)]
    paused: bool,
    /// Start every domain that is marked to start with the host and does not run.
    #[arg(long, conflicts_with_all = ["domain", "paused"])]
    autostart: bool,
}

impl Start {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        if let Some(key) = &self.domain {
            return start(context, key, self.paused);
        }
        let mut failed = 0;
        for definition in context.state.definitions()? {
            let marked = definition.domain.is_ok_and(|domain| domain.autostart);
            if !marked || context.state.observe(&definition.name)?.state.is_active() {
                continue;
            }
            // One that cannot be started must not keep the others from it.
            if let Err(error) = start(context, &definition.name, false) {
                eprintln!("error: {}", output::printable(&format!("{error:#}")));
                failed += 1;
            }
        }
        if failed > 0 {
            bail!("{failed} domains could not be started");
        }
        Ok(())
    }
}

fn start(context: &Context, key: &str, paused: bool) -> anyhow::Result<()> {
    let name = context.state.resolve(key)?;
    let lock = context.state.lock(&name)?;
    let Some(domain) = context.state.definition(&name)? else {
        bail!("domain {name:?} is not defined");
    };
    launch::start(&context.state, &lock, &domain, context.vmm.as_deref(), paused)?;
    output::line(&format!("Domain '{name}' started\n"))
}

/// Starts a domain without defining it: nothing of it stays when it ends.
#[derive(Args, Debug)]
pub struct Create {
    /// Definition in XML or JSON; - is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Pass over elements and attributes that are not supported, with a warning for each.
    #[arg(long)]
    lenient: bool,
    /// Start it and suspend it at once.
    #[arg(long)]
    paused: bool,
}

impl Create {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let domain = definition::read(&self.file, self.lenient)?;
        let state: &State = &context.state;
        let lock = state.lock(&domain.name)?;
        let name = &domain.name;
        if state.definition(name)?.is_some() {
            bail!("domain {name:?} is defined: `redoubt start {name}` starts it");
        }
        if let Ok(other) = state.resolve(&domain.uuid.to_string())
            && other != *name
        {
            bail!("domain {other:?} has the uuid {} already: leave it out to get a new one", domain.uuid);
        }
        launch::start(state, &lock, &domain, context.vmm.as_deref(), self.paused)
            .with_context(|| format!("{} is not created", self.file.display()))?;
        output::line(&format!("Domain '{name}' created from {}\n", self.file.display()))
    }
}
