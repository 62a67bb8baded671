//! A choice of Debian packages: fetched once, verified by apt, unpacked, kept.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Error, Result,
    apt::{self, Apt, Planned, Source, run},
    progress::Step,
};

/// The suites of the archive. Kernels that know CCA guests are in backports only.
const SUITES: [&str; 2] = ["trixie", "trixie-backports"];

/// Packages that serve one purpose.
#[derive(Debug, Clone, Copy)]
pub struct Selection {
    /// Directory under the cache that takes their files.
    pub directory: &'static str,
    /// What they are, for the user who waits.
    pub title: &'static str,
    /// For which machines, as Debian names them.
    pub architecture: &'static str,
    /// What they consist of.
    pub groups: &'static [Group],
}

/// What apt is asked for at once.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// What apt is asked for.
    pub wanted: &'static [&'static str],
    /// Of the resolution's result, the packages whose names begin like this are kept, and all of them where there is none:
    /// the rest serves a system that boots by itself.
    pub kept: &'static [&'static str],
}

impl Selection {
    /// Gives the directory that has the packages' files, fetching them only when they are not there.
    pub fn fetch(&self, cache: &Path) -> Result<PathBuf> {
        let root = cache.join(self.directory);
        // Names what the directory was made from, so that a changed list fetches anew.
        let stamp = cache.join(self.directory).with_extension("json");
        let made_from = format!("{SUITES:?} {} {:?}", self.architecture, self.groups);
        if let Ok(text) = fs::read_to_string(&stamp)
            && text.lines().next() == Some(&made_from)
            && root.is_dir()
        {
            return Ok(root);
        }
        let step = Step::begin(self.title);
        let planned = self.fetch_into(cache, &root, &step)?;
        let versions = planned.iter().map(|p| format!("{} {}", p.name, p.version)).collect::<Vec<_>>();
        fs::write(&stamp, format!("{made_from}\n{}\n", versions.join("\n")))
            .map_err(Error::file("write", &stamp))?;
        step.done(&format!("{} packages, verified by apt", planned.len()));
        Ok(root)
    }

    fn fetch_into(&self, cache: &Path, root: &Path, step: &Step) -> Result<Vec<Planned>> {
        fs::create_dir_all(cache).map_err(Error::file("create", cache))?;
        let work = tempfile::tempdir_in(cache).map_err(Error::file("create a directory in", cache))?;
        let apt = self.updated_apt(work.path(), step)?;
        let mut planned = Vec::new();
        for group in self.groups {
            let kept = |name: &str| {
                group.kept.is_empty() || group.kept.iter().any(|prefix| name.starts_with(prefix))
            };
            let packages = apt.plan(group.wanted)?.into_iter().filter(|package| kept(&package.name));
            let packages: Vec<Planned> = packages.collect();
            step.now(&format!("fetching {}: {} packages", group.wanted.join(", "), packages.len()));
            // Each call of apt reads its lists, which takes longer than a small package.
            apt.download(&packages, work.path())?;
            planned.extend(packages);
        }
        let unpacked = work.path().join("root");
        for entry in fs::read_dir(work.path()).map_err(Error::file("read", work.path()))? {
            let archive = entry.map_err(Error::file("read", work.path()))?.path();
            if archive.extension().is_some_and(|extension| extension == "deb") {
                step.now(&format!("unpacking {}", archive.file_name().unwrap_or_default().to_string_lossy()));
                run(Command::new("dpkg-deb").arg("--extract").args([&archive, &unpacked]))?;
            }
        }
        if root.exists() {
            fs::remove_dir_all(root).map_err(Error::file("remove", root))?;
        }
        fs::rename(&unpacked, root).map_err(Error::file("rename to", root))?;
        Ok(planned)
    }

    /// Tries each Debian archive that the machine knows; the first whose signed lists can be had serves.
    fn updated_apt(&self, work: &Path, step: &Step) -> Result<Apt> {
        let mut uris: Vec<String> = apt::configured_sources()?.into_iter().map(|source| source.uri).collect();
        uris.dedup();
        let mut failure = Error::NoMirror;
        for uri in uris {
            step.now("package lists");
            let sources = SUITES.map(|suite| Source { uri: uri.clone(), suite: suite.to_owned() });
            let apt = Apt::for_architecture(&work.join("apt"), self.architecture, &sources)?;
            match apt.update() {
                Ok(()) => return Ok(apt),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}
