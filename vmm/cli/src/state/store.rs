//! Definitions.

use std::path::PathBuf;

use uuid::Uuid;

use crate::domain::{self, Domain};

use super::dirs::read_bounded;
use super::volume::{create_dir_with, remove_dir_whole, replace_file, sweep};
use super::{DomainLock, Lock, MAX_FILE, State, StateError, Volume, names_in};

/// A definition that was found.
#[derive(Debug)]
pub struct Definition {
    /// Its name, which is the name of its directory.
    pub name: String,
    /// What it says, or why it cannot be read.
    pub domain: Result<Domain, StateError>,
}

/// File of a definition in its directory.
const FILE: &str = "domain.json";

impl<V: Volume> State<V> {
    /// All definitions, by name. One that is damaged does not hide the others.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] when the directory cannot be read.
    pub fn definitions(&self) -> Result<Vec<Definition>, StateError> {
        let names = names_in(&self.directories.definitions())?;
        Ok(names
            .into_iter()
            .filter_map(|name| {
                let domain = self.definition(&name).transpose()?;
                Some(Definition { name, domain })
            })
            .collect())
    }

    /// The definition of this name, if there is one.
    ///
    /// # Errors
    ///
    /// [`StateError::Damaged`] or [`StateError::Io`].
    pub fn definition(&self, name: &str) -> Result<Option<Domain>, StateError> {
        read_domain(self.directories.definition(name))
    }

    /// The name of the domain that is called this or has this identifier.
    ///
    /// # Errors
    ///
    /// [`StateError::NoDomain`] when there is none.
    pub fn resolve(&self, key: &str) -> Result<String, StateError> {
        let missing = || StateError::NoDomain { key: key.into() };
        if domain::check_name(key).is_ok()
            && (self.directories.definitions().join(key).exists() || self.directories.runtime(key).exists())
        {
            return Ok(key.to_owned());
        }
        let uuid: Uuid = key.parse().map_err(|_| missing())?;
        let has_it = |domain: &Domain| domain.uuid == uuid;
        for definition in self.definitions()? {
            if definition.domain.as_ref().is_ok_and(has_it) {
                return Ok(definition.name);
            }
        }
        for name in names_in(&self.directories.runtimes())? {
            if self.runtime(&name).domain()?.as_ref().is_some_and(has_it) {
                return Ok(name);
            }
        }
        Err(missing())
    }

    /// Defines a domain, or changes its definition.
    ///
    /// # Errors
    ///
    /// [`StateError::NameTaken`] and [`StateError::UuidTaken`] when name and identifier are not of the same domain;
    /// [`StateError::Domain`]; [`StateError::Io`].
    pub fn define(&self, lock: &DomainLock, domain: &Domain) -> Result<(), StateError> {
        domain.check()?;
        let directory = self.directories.definitions();
        let explain = || StateError::io("write the definition in", &directory);
        // Two domains must not get the same identifier at the same time.
        let path = self.directories.state.join("lock");
        let _all = Lock::take(&path, super::LOCK_PATIENCE)
            .map_err(StateError::io("lock", &path))?
            .ok_or_else(|| StateError::Busy { name: "(all)".into(), patience: super::LOCK_PATIENCE })?;
        for other in self.definitions()? {
            match other.domain {
                Ok(found) if other.name == lock.name() && found.uuid != domain.uuid => {
                    return Err(StateError::NameTaken { name: found.name, uuid: found.uuid });
                }
                Ok(found) if other.name != lock.name() && found.uuid == domain.uuid => {
                    return Err(StateError::UuidTaken { uuid: found.uuid, other: found.name });
                }
                _ => {}
            }
        }
        sweep(&self.volume, &directory, |name| !is_mine(name, lock.name())).map_err(explain())?;
        let bytes = to_json(domain, &self.directories.definition(lock.name()))?;
        let path = directory.join(lock.name());
        if path.exists() {
            replace_file(&self.volume, &path.join(FILE), &bytes)
        } else {
            create_dir_with(&self.volume, &path, FILE, &bytes)
        }
        .map_err(explain())
    }

    /// Forgets the definition of a domain.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`].
    pub fn undefine(&self, lock: &DomainLock) -> Result<(), StateError> {
        let path = self.directories.definitions().join(lock.name());
        remove_dir_whole(&self.volume, &path).map_err(StateError::io("remove the definition", &path))
    }
}

/// Whether an unfinished thing belongs to a domain: only whoever has its lock may sweep it.
fn is_mine(unfinished: &str, name: &str) -> bool {
    unfinished
        .strip_prefix('.')
        .and_then(|rest| rest.strip_prefix(name))
        .is_some_and(|rest| rest == ".unfinished")
}

/// Reads a definition; `None` when there is none.
pub(super) fn read_domain(path: PathBuf) -> Result<Option<Domain>, StateError> {
    let bytes = read_bounded(&path, MAX_FILE).map_err(StateError::io("read", &path))?;
    let Some(bytes) = bytes else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|source| StateError::Damaged { path, source })
}

/// The JSON form of what is stored.
pub(super) fn to_json<T: serde::Serialize>(value: &T, path: &std::path::Path) -> Result<Vec<u8>, StateError> {
    let mut bytes =
        serde_json::to_vec_pretty(value).map_err(|error| StateError::io("write", path)(error.into()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use api::VmConfig;

    use super::*;
    use crate::state::Directories;

    struct Fixture {
        _directory: tempfile::TempDir,
        state: State,
    }

    fn fixture() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let run = directory.path().join("run");
        let state = State::open(Directories { state, run }).unwrap();
        Fixture { _directory: directory, state }
    }

    fn domain(name: &str) -> Domain {
        Domain::new(name, VmConfig::booting("/k".into()))
    }

    #[test]
    fn definitions_are_found_by_name_and_uuid_and_go_away() {
        let fixture = fixture();
        let state = &fixture.state;
        let web = domain("web");
        let lock = state.lock("web").unwrap();
        state.define(&lock, &web).unwrap();
        assert_eq!(state.definition("web").unwrap().as_ref(), Some(&web));
        assert_eq!(state.resolve("web").unwrap(), "web");
        assert_eq!(state.resolve(&web.uuid.to_string()).unwrap(), "web");
        state.undefine(&lock).unwrap();
        state.undefine(&lock).unwrap();
        assert!(state.definitions().unwrap().is_empty());
        for key in ["web", &web.uuid.to_string(), "../web", ""] {
            assert!(matches!(state.resolve(key).unwrap_err(), StateError::NoDomain { .. }), "{key}");
        }
    }

    #[test]
    fn a_name_keeps_its_uuid_and_a_uuid_its_name() {
        let fixture = fixture();
        let state = &fixture.state;
        let web = domain("web");
        state.define(&state.lock("web").unwrap(), &web).unwrap();
        let error = state.define(&state.lock("web").unwrap(), &domain("web")).unwrap_err();
        assert!(matches!(error, StateError::NameTaken { .. }), "{error}");
        let thief = Domain { uuid: web.uuid, ..domain("db") };
        let error = state.define(&state.lock("db").unwrap(), &thief).unwrap_err();
        assert!(matches!(error, StateError::UuidTaken { .. }), "{error}");
        let changed = Domain { title: Some("new".into()), ..web };
        state.define(&state.lock("web").unwrap(), &changed).unwrap();
        assert_eq!(state.definition("web").unwrap(), Some(changed));
    }

    #[test]
    fn a_damaged_definition_is_told_and_hides_no_other() {
        let fixture = fixture();
        let state = &fixture.state;
        for name in ["a", "b"] {
            state.define(&state.lock(name).unwrap(), &domain(name)).unwrap();
        }
        std::fs::write(state.directories().definition("a"), "{").unwrap();
        let found = state.definitions().unwrap();
        assert_eq!(found.len(), 2);
        let error = found[0].domain.as_ref().unwrap_err();
        assert!(error.to_string().contains("redoubt undefine"), "{error}");
        assert!(found[1].domain.is_ok());
        state.undefine(&state.lock("a").unwrap()).unwrap();
        assert_eq!(state.definitions().unwrap().len(), 1);
    }
}
