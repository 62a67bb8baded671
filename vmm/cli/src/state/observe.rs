//! The state of a domain as it is now, from files and from what its VMM answers.

use std::fmt;
use std::time::Duration;

use api::message::{VmInfo, VmState};
use client::Timeouts;
use serde::{Deserialize, Serialize};

use crate::domain::Domain;

use super::{Process, Runtime, State, StateError, Volume, names_in};

/// How long a VMM may take to say how its VM is, before it counts as unresponsive.
const PATIENCE: Timeouts = Timeouts { quick: Duration::from_secs(3), slow: Duration::from_secs(3) };

/// State of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DomainState {
    /// Its guest runs.
    #[serde(rename = "running")]
    Running,
    /// Its vCPUs stand still.
    #[serde(rename = "paused")]
    Paused,
    /// A command starts it now.
    #[serde(rename = "starting")]
    Starting,
    /// The command that started it ended half-way; its VMM lives.
    #[serde(rename = "interrupted")]
    Interrupted,
    /// Its VMM lives and does not answer.
    #[serde(rename = "unresponsive")]
    Unresponsive,
    /// Its VMM ends.
    #[serde(rename = "in shutdown")]
    Ending,
    /// It does not run.
    #[serde(rename = "shut off")]
    ShutOff,
    /// It does not run, and did not end as it should.
    #[serde(rename = "crashed")]
    Crashed,
    /// It does not run, and its definition cannot be read.
    #[serde(rename = "damaged")]
    Damaged,
}

impl DomainState {
    /// Whether a VMM lives.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(
            self,
            Self::Running
                | Self::Paused
                | Self::Starting
                | Self::Interrupted
                | Self::Unresponsive
                | Self::Ending
        )
    }
}

impl fmt::Display for DomainState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Starting => "starting",
            Self::Interrupted => "interrupted",
            Self::Unresponsive => "unresponsive",
            Self::Ending => "in shutdown",
            Self::ShutOff => "shut off",
            Self::Crashed => "crashed",
            Self::Damaged => "damaged",
        })
    }
}

/// A domain as it is now.
#[derive(Debug)]
pub struct Observation {
    /// Its name.
    pub name: String,
    /// Its definition, or the one with which it was started when it has none.
    pub domain: Option<Domain>,
    /// Whether it stays when it ends.
    pub persistent: bool,
    /// Its state.
    pub state: DomainState,
    /// Why it is in this state.
    pub reason: String,
    /// Its VMM.
    pub process: Option<Process>,
    /// What its VMM says of the VM.
    pub info: Option<VmInfo>,
}

impl<V: Volume> State<V> {
    /// All domains as they are now, by name. Clears up after those that have ended.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] when a directory cannot be read.
    pub fn observe_all(&self) -> Result<Vec<Observation>, StateError> {
        let mut names = names_in(&self.directories.definitions())?;
        names.extend(names_in(&self.directories.runtimes())?);
        names.sort();
        names.dedup();
        let mut found = Vec::new();
        for name in names {
            match self.observe(&name) {
                // It went away meanwhile.
                Err(StateError::NoDomain { .. }) => {}
                observation => found.push(observation?),
            }
        }
        Ok(found)
    }

    /// A domain as it is now. Clears up after it when it has ended.
    ///
    /// # Errors
    ///
    /// [`StateError::NoDomain`]; [`StateError::Io`].
    pub fn observe(&self, name: &str) -> Result<Observation, StateError> {
        let busy = match self.try_lock(name)? {
            Some(lock) => {
                self.settle(&lock)?;
                false
            }
            None => true,
        };
        self.look(name, busy)
    }

    /// The same for whoever holds the domain's lock.
    ///
    /// # Errors
    ///
    /// [`StateError::NoDomain`]; [`StateError::Io`].
    pub fn observe_locked(&self, lock: &super::DomainLock) -> Result<Observation, StateError> {
        self.settle(lock)?;
        self.look(lock.name(), false)
    }

    fn look(&self, name: &str, busy: bool) -> Result<Observation, StateError> {
        let runtime = self.runtime(name);
        let definition = self.definition(name);
        let persistent = !matches!(definition, Ok(None));
        let mut observation = Observation {
            name: name.into(),
            domain: None,
            persistent,
            state: DomainState::ShutOff,
            reason: "it has not been started since the host was".into(),
            process: None,
            info: None,
        };
        if runtime.is_alive()? {
            observation.process = runtime.process()?;
            self.ask(&runtime, busy, &mut observation);
        } else if runtime.exists() {
            let ended = match runtime.ended() {
                Ok(Some(ended)) => ended,
                _ => self.why_ended(&runtime, name)?,
            };
            (observation.state, observation.reason) = (ended.state, ended.reason);
            if busy {
                observation.state = DomainState::Starting;
                observation.reason = "another command works on it".into();
            }
        } else if !persistent {
            return Err(StateError::NoDomain { key: name.into() });
        }
        observation.domain = match definition {
            Ok(Some(domain)) => Some(domain),
            // A domain that is not defined, or whose definition is damaged, is as it was started.
            Ok(None) => runtime.domain().ok().flatten(),
            Err(error) => {
                if !observation.state.is_active() {
                    observation.state = DomainState::Damaged;
                    observation.reason = error.to_string();
                }
                runtime.domain().ok().flatten()
            }
        };
        Ok(observation)
    }

    fn ask(&self, runtime: &Runtime, busy: bool, observation: &mut Observation) {
        let unfinished = if busy {
            (DomainState::Starting, "another command starts it".into())
        } else {
            let advice = "the command that started it ended half-way: `redoubt start` begins anew";
            (DomainState::Interrupted, advice.to_owned())
        };
        (observation.state, observation.reason) = match runtime.client().with_timeouts(PATIENCE).info() {
            Ok(info) => {
                let state = info.state;
                observation.info = Some(info);
                match state {
                    VmState::Running => (DomainState::Running, "it was started".into()),
                    VmState::Paused => (DomainState::Paused, "it was suspended".into()),
                    VmState::Created => unfinished,
                    VmState::Shutdown => {
                        (DomainState::ShutOff, "the guest powered off; its VMM waits to boot it again".into())
                    }
                }
            }
            Err(error) if error.status() == Some(404) || error.is_absent() && !self.has_booted(runtime) => {
                unfinished
            }
            Err(error) if error.is_absent() && self.is_ending(runtime) => {
                (DomainState::Ending, "its VMM is about to end".into())
            }
            Err(error) => {
                let advice = "`redoubt destroy` ends it";
                (DomainState::Unresponsive, format!("{error}: {}; {advice}", error.failure))
            }
        };
    }

    fn is_ending(&self, runtime: &Runtime) -> bool {
        let told = super::events::last_events(&runtime.events())
            .is_ok_and(|events| super::find_event(&events, "vmm", "shutdown"));
        told || matches!(runtime.ended(), Ok(Some(_)))
    }

    fn has_booted(&self, runtime: &Runtime) -> bool {
        super::events::last_events(&runtime.events())
            .is_ok_and(|events| super::find_event(&events, "vm", "booted"))
    }
}
