//! What a verb changes: the domain that runs, its definition, or both.

use anyhow::{Context as _, bail};
use clap::Args;
use client::Client;

use super::Context;
use crate::domain::Domain;
use crate::state::{DomainState, Observation};

/// What is changed; by default the domain that runs, or the definition of one that does not.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Affect {
    /// Change the domain that runs.
    #[arg(long, conflicts_with = "current")]
    live: bool,
    /// Change the definition, for the next start.
    #[arg(long, conflicts_with = "current")]
    config: bool,
    /// Change the definition, and the domain if it runs.
    #[arg(long, conflicts_with_all = ["live", "config", "current"])]
    persistent: bool,
    /// Change the domain if it runs, else its definition; this is the default.
    #[arg(long)]
    current: bool,
}

impl Affect {
    /// Whether the domain that runs, and whether the definition is to be changed.
    pub fn choose(self, found: &Observation) -> anyhow::Result<(bool, bool)> {
        let active = matches!(found.state, DomainState::Running | DomainState::Paused);
        let (live, config) = match (self.live, self.config, self.persistent) {
            (_, _, true) => (active, true),
            (false, false, false) => (active, !active),
            (live, config, false) => (live, config),
        };
        let Observation { name, state, reason, persistent, .. } = found;
        if live && !active {
            bail!("domain {name:?} does not run: it is {state} ({reason})");
        }
        if config && !persistent {
            bail!("domain {name:?} is not defined, it only runs: leave out --config and --persistent");
        }
        Ok((live, config))
    }
}

impl Context {
    /// Changes the domain that runs, or its definition, or both: first the one that can refuse.
    pub fn change(
        &self,
        key: &str,
        affect: Affect,
        live: impl FnOnce(&Client, &Observation) -> anyhow::Result<()>,
        config: impl FnOnce(&mut Domain) -> anyhow::Result<()>,
    ) -> anyhow::Result<String> {
        let (lock, found) = self.lock(key)?;
        let (changes_live, changes_config) = affect.choose(&found)?;
        let definition = if changes_config {
            let mut domain =
                self.state.definition(lock.name())?.context("the domain is not defined any more")?;
            config(&mut domain)?;
            domain.check()?;
            Some(domain)
        } else {
            None
        };
        if changes_live {
            live(&self.client(&found)?, &found)?;
        }
        if let Some(domain) = definition {
            self.state.define(&lock, &domain)?;
        }
        Ok(found.name)
    }
}
