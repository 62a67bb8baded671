//! Domains that run are ended, launched anew, stopped for a while.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;

use super::Context;
use crate::progress::Progress;
use crate::{launch, output};

/// How long `destroy` waits after it has asked the VMM to end.
const KILL_AFTER: Duration = Duration::from_secs(3);

/// Asks the guest to shut down: presses its power button.
#[derive(Args, Debug)]
pub struct Shutdown {
    /// Name or uuid of the domain.
    domain: String,
    /// Wait until it is off, at most so many seconds.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "300")]
    wait: Option<u64>,
}

impl Shutdown {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let observation = context.observe(&self.domain)?;
        let name = &observation.name;
        if let Err(error) = context.client(&observation)?.power_button() {
            let advice = format!("`redoubt destroy --graceful {name}` ends it without asking the guest");
            return Err(anyhow::Error::from(error).context(advice));
        }
        let Some(seconds) = self.wait else {
            return output::line(&format!("Domain '{name}' is being shutdown\n"));
        };
        let _progress = Progress::new(format!("waiting for {name} to shut down"));
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while context.state.observe(name).is_ok_and(|now| now.state.is_active()) {
            if Instant::now() >= deadline {
                bail!(
                    "the guest of domain {name:?} has not shut down within {seconds} s: `redoubt destroy` ends it"
                );
            }
            sleep(Duration::from_millis(100));
        }
        output::line(&format!("Domain '{name}' is shut off\n"))
    }
}

/// Launches a domain's VM anew; the guest is not asked.
#[derive(Args, Debug)]
pub struct Reboot {
    /// Name or uuid of the domain.
    domain: String,
}

impl Reboot {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let observation = context.observe(&self.domain)?;
        context.client(&observation)?.reboot()?;
        output::line(&format!("Domain '{}' is being rebooted\n", observation.name))
    }
}

/// Resets a domain's VM as its reset button would; the guest is not asked.
#[derive(Args, Debug)]
pub struct Reset {
    /// Name or uuid of the domain.
    domain: String,
}

impl Reset {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let observation = context.observe(&self.domain)?;
        context.client(&observation)?.reboot()?;
        output::line(&format!("Domain '{}' was reset\n", observation.name))
    }
}

/// Ends a domain at once; the guest is not asked.
#[derive(Args, Debug)]
pub struct Destroy {
    /// Name or uuid of the domain.
    domain: String,
    /// Ask the VMM to end, and do not kill it.
    #[arg(long)]
    graceful: bool,
}

impl Destroy {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let (lock, observation) = context.lock(&self.domain)?;
        let name = lock.name();
        if observation.process.is_none() && !observation.state.is_active() {
            bail!("domain {name:?} does not run: it is {} ({})", observation.state, observation.reason);
        }
        let kill_after = (!self.graceful).then_some(KILL_AFTER);
        launch::end(&context.state, &lock, &observation, kill_after, "it was destroyed")?;
        output::line(&format!("Domain '{name}' destroyed\n"))
    }
}

/// Stops a domain's vCPUs; its memory stays.
#[derive(Args, Debug)]
pub struct Suspend {
    /// Name or uuid of the domain.
    domain: String,
}

impl Suspend {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let observation = context.observe(&self.domain)?;
        context.client(&observation)?.pause()?;
        output::line(&format!("Domain '{}' suspended\n", observation.name))
    }
}

/// Lets a suspended domain go on.
#[derive(Args, Debug)]
pub struct Resume {
    /// Name or uuid of the domain.
    domain: String,
}

impl Resume {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let observation = context.observe(&self.domain)?;
        context.client(&observation)?.resume()?;
        output::line(&format!("Domain '{}' resumed\n", observation.name))
    }
}
