//! What there is, and how it is.

use clap::Args;
use serde::Serialize;

use super::Context;
use crate::output::{self, Format};
use crate::state::{DomainState, Observation};

/// Lists domains.
#[derive(Args, Debug)]
#[command(after_help = "Example: redoubt list --all --format json")]
pub struct List {
    /// Those that do not run, too.
    #[arg(long)]
    all: bool,
    /// Only those that do not run.
    #[arg(long)]
    inactive: bool,
    /// Only those that start with the host.
    #[arg(long)]
    autostart: bool,
    /// Only names, one in a line.
    #[arg(long)]
    name: bool,
    /// Only uuids, one in a line; with --name both.
    #[arg(long)]
    uuid: bool,
    /// Titles, too.
    #[arg(long)]
    title: bool,
    /// Form of the list.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Row {
    id: Option<i32>,
    name: String,
    uuid: Option<String>,
    state: DomainState,
    reason: String,
    persistent: bool,
    autostart: bool,
    title: Option<String>,
}

impl Row {
    fn of(observation: Observation) -> Self {
        let domain = observation.domain.as_ref();
        Self {
            id: observation.process.as_ref().map(|process| process.pid),
            uuid: domain.map(|domain| domain.uuid.to_string()),
            state: observation.state,
            persistent: observation.persistent,
            autostart: observation.persistent && domain.is_some_and(|domain| domain.autostart),
            title: domain.and_then(|domain| domain.title.clone()),
            reason: observation.reason,
            name: observation.name,
        }
    }

    fn id(&self) -> String {
        self.id.map_or_else(|| "-".into(), |id| id.to_string())
    }
}

impl List {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let rows: Vec<Row> = context
            .state
            .observe_all()?
            .into_iter()
            .filter(|found| self.all || found.state.is_active() != self.inactive)
            .map(Row::of)
            .filter(|row| !self.autostart || row.autostart)
            .collect();
        if self.name || self.uuid {
            for row in &rows {
                let uuid = row.uuid.as_deref().unwrap_or("-");
                output::line(&match (self.uuid, self.name) {
                    (true, true) => format!("{uuid} {}", row.name),
                    (true, false) => uuid.to_owned(),
                    _ => row.name.clone(),
                })?;
            }
            return Ok(());
        }
        let header =
            if self.title { &["Id", "Name", "State", "Title"][..] } else { &["Id", "Name", "State"] };
        output::list(self.format, header, &rows, |row| {
            let mut cells = vec![row.id(), row.name.clone(), row.state.to_string()];
            if self.title {
                cells.push(row.title.clone().unwrap_or_default());
            }
            cells
        })
    }
}

/// Shows what a domain is and how it is.
#[derive(Args, Debug)]
pub struct Dominfo {
    /// Name or uuid of the domain.
    domain: String,
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Dominfo {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let observation = context.observe(&self.domain)?;
        let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        let mut properties = vec![
            (
                "Id",
                observation.process.as_ref().map_or_else(|| "-".into(), |process| process.pid.to_string()),
            ),
            ("Name", observation.name.clone()),
        ];
        let domain = observation.domain.as_ref();
        if let Some(domain) = domain {
            properties.push(("UUID", domain.uuid.to_string()));
        }
        properties.push(("State", observation.state.to_string()));
        properties.push(("Reason", observation.reason.clone()));
        let config = observation.info.as_ref().map(|info| &info.config);
        if let Some(config) = config.or(domain.map(|domain| &domain.config)) {
            let (max, current) = super::memory_of(config);
            let current =
                observation.info.as_ref().and_then(|info| info.memory_actual_size).unwrap_or(current);
            properties.push(("CPU(s)", config.cpus.boot_vcpus.to_string()));
            if let Some(Ok(time)) = observation.process.as_ref().map(crate::state::Process::cpu_time) {
                properties.push(("CPU time", format!("{:.1}s", time.as_secs_f64())));
            }
            properties.push(("Max memory", format!("{} KiB", max >> 10)));
            properties.push(("Used memory", format!("{} KiB", current >> 10)));
            let realm = config.realm.as_ref().map(|realm| super::backend_name(realm.backend));
            properties.push(("Realm", realm.unwrap_or_else(|| "no".into())));
        }
        properties.push(("Persistent", yes(observation.persistent)));
        properties.push(("Autostart", yes(domain.is_some_and(|domain| domain.autostart))));
        let log = context.state.directories().log(&observation.name);
        properties.push(("Log", log.display().to_string()));
        output::properties(self.format, &properties)
    }
}

/// Prints the state of a domain.
#[derive(Args, Debug)]
pub struct Domstate {
    /// Name or uuid of the domain.
    domain: String,
    /// Print why it is in this state, too.
    #[arg(long)]
    reason: bool,
}

impl Domstate {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let Observation { state, reason, .. } = context.observe(&self.domain)?;
        let text = if self.reason { format!("{state} ({reason})\n") } else { format!("{state}\n") };
        output::line(&text)
    }
}

/// Prints the uuid of a domain.
#[derive(Args, Debug)]
pub struct Domuuid {
    /// Name or uuid of the domain.
    domain: String,
}

impl Domuuid {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let observation = context.observe(&self.domain)?;
        let Some(domain) = observation.domain else {
            anyhow::bail!(
                "the definition of domain {:?} cannot be read: {}",
                observation.name,
                observation.reason
            );
        };
        output::line(&format!("{}\n", domain.uuid))
    }
}
