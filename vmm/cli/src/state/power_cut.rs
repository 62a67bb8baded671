//! The power is cut at every step of every change, with and without what was not synchronised: what is left is the old
//! or the new state, `observe_all` explains it, and the next command can go on.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use api::VmConfig;

use super::*;
use crate::domain::Domain;

/// What a change that has not reached the disk can be undone to.
enum Undo {
    Content { path: PathBuf },
    Created { path: PathBuf },
    Renamed { from: PathBuf, to: PathBuf, replaced: Option<Vec<u8>> },
    Removed { path: PathBuf, content: Option<Vec<u8>> },
}

impl Undo {
    /// Whether synchronising `path` makes the change last.
    fn lasts_with(&self, path: &Path) -> bool {
        match self {
            Self::Content { path: changed } => changed == path,
            Self::Created { path: changed } | Self::Removed { path: changed, .. } => {
                changed.parent() == Some(path)
            }
            Self::Renamed { from, .. } => from.parent() == Some(path),
        }
    }

    fn follow(&mut self, from: &Path, to: &Path) {
        let (Self::Content { path } | Self::Created { path } | Self::Removed { path, .. }) = self else {
            return;
        };
        if let Ok(rest) = path.strip_prefix(from) {
            *path = if rest.as_os_str().is_empty() { to.into() } else { to.join(rest) };
        }
    }

    fn undo(self) {
        match self {
            // Length zero is what file systems leave of content that was not synchronised.
            Self::Content { path } if path.exists() => fs::write(path, b"").unwrap(),
            Self::Content { .. } => {}
            Self::Created { path } => {
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            }
            Self::Renamed { from, to, replaced } => {
                let _ = fs::rename(&to, from);
                if let Some(content) = replaced {
                    fs::write(to, content).unwrap();
                }
            }
            Self::Removed { path, content } => match content {
                Some(content) => drop(fs::write(path, content)),
                None => drop(fs::create_dir(path)),
            },
        }
    }
}

/// A disk whose power is cut after some steps.
struct Failing {
    steps: RefCell<usize>,
    lost: RefCell<Vec<Undo>>,
}

impl Failing {
    fn after(steps: usize) -> Self {
        Self { steps: RefCell::new(steps), lost: RefCell::new(Vec::new()) }
    }

    fn step(&self) -> io::Result<()> {
        let mut steps = self.steps.borrow_mut();
        *steps = steps.checked_sub(1).ok_or_else(|| io::Error::other("the power is cut"))?;
        Ok(())
    }

    fn note(&self, undo: Undo) {
        self.lost.borrow_mut().push(undo);
    }

    /// Loses what has not reached the disk, the last change first.
    fn lose(&self) {
        for undo in self.lost.borrow_mut().drain(..).rev() {
            undo.undo();
        }
    }
}

impl Volume for Failing {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        Disk.create_dir(path)?;
        self.note(Undo::Created { path: path.into() });
        Ok(())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step()?;
        if !path.exists() {
            self.note(Undo::Created { path: path.into() });
        }
        Disk.write(path, bytes)?;
        self.note(Undo::Content { path: path.into() });
        Ok(())
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        let mut lost = self.lost.borrow_mut();
        let (lasting, mut rest): (Vec<_>, Vec<_>) = lost.drain(..).partition(|undo| undo.lasts_with(path));
        // A name that lasts can be that of content that does not.
        for undo in lasting {
            if let Undo::Renamed { from, to, .. } = undo {
                rest.iter_mut().for_each(|undo| undo.follow(&from, &to));
            }
        }
        *lost = rest;
        Disk.sync(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        let replaced = fs::read(to).ok();
        Disk.rename(from, to)?;
        self.note(Undo::Renamed { from: from.into(), to: to.into(), replaced });
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        let content = fs::read(path).ok();
        Disk.remove_file(path)?;
        self.note(Undo::Removed { path: path.into(), content });
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        Disk.remove_dir(path)?;
        self.note(Undo::Removed { path: path.into(), content: None });
        Ok(())
    }
}

fn domain(title: &str) -> Domain {
    let uuid = "3f2a7c5e-5a51-4f4e-9d0c-6f1b5f0a1c11".parse().unwrap();
    Domain { uuid, title: Some(title.into()), ..Domain::new("web", VmConfig::booting("/k".into())) }
}

/// Cuts the power at each step of `change` until it comes through, and hands what is left to `check`.
fn at_every_step(
    before: impl Fn(&State),
    change: impl Fn(&State<Failing>) -> Result<(), StateError>,
    check: impl Fn(&State, bool),
) {
    for loses in [false, true] {
        let mut steps = 0;
        loop {
            let directory = tempfile::tempdir().unwrap();
            let directories =
                Directories { state: directory.path().join("state"), run: directory.path().join("run") };
            let state = State::open(directories.clone()).unwrap();
            before(&state);
            let failing = State::with_volume(directories, Failing::after(steps)).unwrap();
            let done = change(&failing).is_ok();
            if loses {
                failing.volume.lose();
            }
            check(&state, done);
            // The next commands can go on from whatever is left.
            let lock = state.lock("web").unwrap();
            state.define(&lock, &domain("next")).unwrap();
            drop(state.prepare(&lock, &domain("next")).unwrap());
            state.settle(&lock).unwrap();
            state.undefine(&lock).unwrap();
            state.settle(&lock).unwrap();
            drop(lock);
            assert!(state.observe_all().unwrap().is_empty());
            if done {
                break;
            }
            steps += 1;
            assert!(steps < 100, "the change never comes through");
        }
        assert!(steps >= 3, "the change is done in {steps} steps");
    }
}

fn titles(state: &State) -> Vec<String> {
    let found = state.observe_all().unwrap();
    for observation in &found {
        assert_eq!(observation.state, DomainState::ShutOff, "{observation:?}");
        assert!(!observation.reason.is_empty());
    }
    found.into_iter().map(|found| found.domain.unwrap().title.unwrap()).collect()
}

fn defined(title: &'static str) -> impl Fn(&State) {
    move |state| state.define(&state.lock("web").unwrap(), &domain(title)).unwrap()
}

#[test]
fn define_is_done_or_not() {
    at_every_step(
        |_| {},
        |state| state.define(&state.lock("web")?, &domain("new")),
        |state, done| {
            let titles = titles(state);
            assert!(titles == ["new"] || titles.is_empty() && !done, "{titles:?}");
        },
    );
}

#[test]
fn a_change_of_a_definition_leaves_the_old_or_the_new() {
    at_every_step(
        defined("old"),
        |state| state.define(&state.lock("web")?, &domain("new")),
        |state, done| {
            let titles = titles(state);
            assert!(titles == ["new"] || titles == ["old"] && !done, "{titles:?}");
        },
    );
}

#[test]
fn undefine_is_done_or_not() {
    at_every_step(
        defined("old"),
        |state| state.undefine(&state.lock("web")?),
        |state, done| {
            let titles = titles(state);
            assert!(titles.is_empty() || titles == ["old"] && !done, "{titles:?}");
        },
    );
}

#[test]
fn a_start_that_is_cut_short_is_explained() {
    at_every_step(
        defined("old"),
        |state| {
            let lock = state.lock("web")?;
            drop(state.prepare(&lock, &domain("old"))?);
            state.record(&lock, &Process { pid: 1, start_time: 0, boot_id: "before".into() })
        },
        |state, _| assert_eq!(titles(state), ["old"]),
    );
}

#[test]
fn an_end_that_is_cut_short_is_explained() {
    at_every_step(
        |state| {
            defined("old")(state);
            let lock = state.lock("web").unwrap();
            drop(state.prepare(&lock, &domain("old")).unwrap());
            state.record(&lock, &Process { pid: 1, start_time: 0, boot_id: "before".into() }).unwrap();
        },
        |state| {
            let lock = state.lock("web")?;
            let reason = "destroyed".to_owned();
            state.announce_end(&lock, &Ended { state: DomainState::ShutOff, reason })?;
            state.settle(&lock)
        },
        |state, done| {
            assert_eq!(titles(state), ["old"]);
            let reason = state.observe("web").unwrap().reason;
            assert!(reason == "destroyed" || !done, "{reason}");
        },
    );
}
