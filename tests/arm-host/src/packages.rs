//! arm64 Debian packages: fetched once, verified by apt, unpacked, kept.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Error, Result,
    apt::{self, Apt, Planned, Source, run},
    kernel_modules::KernelModules,
    progress::Step,
};

/// The suites from which the Arm host is made. Kernels that know CCA guests are in backports only.
const SUITES: [&str; 2] = ["trixie", "trixie-backports"];

/// What apt is asked for, and of the resolution's result, what is kept: the rest serves a system that boots by itself.
const WANTED: [&str; 3] = ["linux-image-arm64/trixie-backports", "busybox-static", "virtiofsd"];
const KEPT: [&str; 10] = [
    "linux-image-",
    "linux-binary-",
    "linux-modules-",
    "linux-base-",
    "busybox-static",
    "virtiofsd",
    "libc6",
    "libgcc-s1",
    "libcap-ng0",
    "libseccomp2",
];

/// The server of directories, where its package has it.
const VIRTIOFSD: &str = "usr/libexec/virtiofsd";

/// What it is linked with, and the loader.
const VIRTIOFSD_LIBRARIES: [&str; 5] =
    ["ld-linux-aarch64.so.1", "libc.so.6", "libgcc_s.so.1", "libcap-ng.so.0", "libseccomp.so.2"];

/// Unpacked arm64 packages.
#[derive(Debug, Clone)]
pub struct Packages {
    root: PathBuf,
}

/// A kernel of the packages.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Release, as `uname -r` gives it.
    pub release: String,
    /// The kernel file of the package (`vmlinuz`).
    pub image: PathBuf,
    /// Its modules.
    pub modules: KernelModules,
}

impl Packages {
    /// Gives the packages kept under `cache`, fetching them only when they are not there.
    pub fn fetch(cache: &Path) -> Result<Self> {
        let root = cache.join("packages");
        // Names what the directory was made from, so that a changed list fetches anew.
        let stamp = cache.join("packages.json");
        let wanted = format!("{SUITES:?} {WANTED:?} {KEPT:?}");
        if let Ok(text) = fs::read_to_string(&stamp)
            && text.lines().next() == Some(&wanted)
            && root.is_dir()
        {
            return Ok(Self { root });
        }
        let step = Step::begin("arm64 kernel and tools");
        let planned = fetch_into(cache, &root, &step)?;
        let versions = planned.iter().map(|p| format!("{} {}", p.name, p.version)).collect::<Vec<_>>();
        fs::write(&stamp, format!("{wanted}\n{}\n", versions.join("\n")))
            .map_err(Error::file("write", &stamp))?;
        step.done(&format!("{} packages, verified by apt", planned.len()));
        Ok(Self { root })
    }

    /// The kernel.
    pub fn kernel(&self) -> Result<Kernel> {
        let modules = self.root.join("usr/lib/modules");
        let missing = |what: &str| Error::PackageContent { root: self.root.clone(), what: what.to_owned() };
        let release = fs::read_dir(&modules)
            .map_err(Error::file("read", &modules))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .max()
            .ok_or_else(|| missing("kernel"))?;
        let candidates =
            [modules.join(&release).join("vmlinuz"), self.root.join(format!("boot/vmlinuz-{release}"))];
        let image = candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| missing("vmlinuz"))?;
        Ok(Kernel { modules: KernelModules::index(&modules.join(&release))?, release, image })
    }

    /// A static busybox.
    pub fn busybox(&self) -> Result<PathBuf> {
        let path = self.root.join("usr/bin/busybox");
        if path.is_file() {
            Ok(path)
        } else {
            Err(Error::PackageContent { root: self.root.clone(), what: "busybox".into() })
        }
    }
}

impl Packages {
    /// The server of directories and its libraries: paths in a system, and the files.
    pub fn virtiofsd(&self) -> Result<Vec<(String, PathBuf)>> {
        let directories = ["usr/lib/aarch64-linux-gnu", "lib/aarch64-linux-gnu", "usr/lib", "lib"];
        let library = |name: &&str| {
            let places = directories.map(|directory| self.root.join(directory).join(name));
            let found = places.into_iter().find(|path| path.is_file());
            let missing = || Error::PackageContent { root: self.root.clone(), what: (*name).to_owned() };
            Ok((format!("/lib/{name}"), found.ok_or_else(missing)?))
        };
        let mut files = vec![(format!("/{VIRTIOFSD}"), self.root.join(VIRTIOFSD))];
        for name in &VIRTIOFSD_LIBRARIES {
            files.push(library(name)?);
        }
        Ok(files)
    }
}

fn fetch_into(cache: &Path, root: &Path, step: &Step) -> Result<Vec<Planned>> {
    fs::create_dir_all(cache).map_err(Error::file("create", cache))?;
    let work = tempfile::tempdir_in(cache).map_err(Error::file("create a directory in", cache))?;
    let apt = updated_apt(work.path(), step)?;
    let planned: Vec<Planned> = apt
        .plan(&WANTED)?
        .into_iter()
        .filter(|package| KEPT.iter().any(|prefix| package.name.starts_with(prefix)))
        .collect();
    for package in &planned {
        step.now(&format!("fetching {} {}", package.name, package.version));
        apt.download(std::slice::from_ref(package), work.path())?;
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
fn updated_apt(work: &Path, step: &Step) -> Result<Apt> {
    let mut uris: Vec<String> = apt::configured_sources()?.into_iter().map(|source| source.uri).collect();
    uris.dedup();
    let mut failure = Error::NoMirror;
    for uri in uris {
        step.now("package lists");
        let sources = SUITES.map(|suite| Source { uri: uri.clone(), suite: suite.to_owned() });
        let apt = Apt::for_architecture(&work.join("apt"), "arm64", &sources)?;
        match apt.update() {
            Ok(()) => return Ok(apt),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}
