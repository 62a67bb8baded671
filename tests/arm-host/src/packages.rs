//! arm64 Debian packages: fetched once, verified by apt, unpacked, kept.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Error, Result,
    apt::{self, Apt, Planned, Source, run},
    kernel_modules::KernelModules,
    libraries,
    progress::Step,
};

/// The suites from which the Arm host is made. Kernels that know CCA guests are in backports only.
const SUITES: [&str; 2] = ["trixie", "trixie-backports"];

/// The kernel, and what is kept of all that it comes with: the rest serves a system that boots by itself.
const KERNEL: &str = "linux-image-arm64/trixie-backports";
const KERNEL_KEPT: [&str; 4] = ["linux-image-", "linux-binary-", "linux-modules-", "linux-base-"];

/// Programs that tests use beside ours, with all that they depend on.
const TOOLS: [&str; 3] = ["busybox-static", "virtiofsd", "curl"];

/// Those that have libraries: the server of directories, and a client of HTTP on Unix sockets.
const LINKED_PROGRAMS: [&str; 2] = ["usr/libexec/virtiofsd", "usr/bin/curl"];

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
        let wanted = format!("{SUITES:?} {KERNEL} {KERNEL_KEPT:?} {TOOLS:?}");
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

    /// The programs that tests use beside ours, and their libraries: paths in a system, and the files.
    pub fn tools(&self) -> Result<BTreeMap<String, PathBuf>> {
        let mut files = BTreeMap::new();
        for program in LINKED_PROGRAMS {
            let path = self.root.join(program);
            let libraries = libraries::of(&path, &self.root)?;
            files.extend(libraries.into_iter().map(|(name, path)| (format!("/lib/{name}"), path)));
            files.insert(format!("/{program}"), path);
        }
        Ok(files)
    }
}

fn fetch_into(cache: &Path, root: &Path, step: &Step) -> Result<Vec<Planned>> {
    fs::create_dir_all(cache).map_err(Error::file("create", cache))?;
    let work = tempfile::tempdir_in(cache).map_err(Error::file("create a directory in", cache))?;
    let apt = updated_apt(work.path(), step)?;
    let kept = |package: &Planned| KERNEL_KEPT.iter().any(|prefix| package.name.starts_with(prefix));
    let kernel: Vec<Planned> = apt.plan(&[KERNEL])?.into_iter().filter(kept).collect();
    let tools = apt.plan(&TOOLS)?;
    // Each call of apt reads its lists, which takes longer than a small package.
    for (what, packages) in [("the kernel", &kernel), ("tools", &tools)] {
        step.now(&format!("fetching {what}: {} packages", packages.len()));
        apt.download(packages, work.path())?;
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
    Ok([kernel, tools].concat())
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
