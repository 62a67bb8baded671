//! The packages of which the Arm host and its guests are made.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Error, Result,
    kernel_modules::KernelModules,
    libraries,
    selection::{Group, Selection},
};

/// The kernel, and the programs that tests use beside ours.
const SELECTION: Selection = Selection {
    directory: "packages",
    title: "arm64 kernel and tools",
    architecture: "arm64",
    groups: &[
        Group {
            wanted: &["linux-image-arm64/trixie-backports"],
            kept: &["linux-image-", "linux-binary-", "linux-modules-", "linux-base-"],
        },
        Group { wanted: &["busybox-static", "virtiofsd", "curl"], kept: &[] },
    ],
};

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
        Ok(Self { root: SELECTION.fetch(cache)? })
    }

    /// The kernel.
    pub fn kernel(&self) -> Result<Kernel> {
        Kernel::find(&self.root)
    }

    /// A static busybox.
    pub fn busybox(&self) -> Result<PathBuf> {
        unpacked(&self.root, "usr/bin/busybox")
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

impl Kernel {
    /// The kernel among the unpacked packages in `root`.
    pub fn find(root: &Path) -> Result<Self> {
        let modules = root.join("usr/lib/modules");
        let missing = |what: &str| Error::PackageContent { root: root.to_owned(), what: what.to_owned() };
        let release = fs::read_dir(&modules)
            .map_err(Error::file("read", &modules))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .max()
            .ok_or_else(|| missing("kernel"))?;
        let candidates =
            [modules.join(&release).join("vmlinuz"), root.join(format!("boot/vmlinuz-{release}"))];
        let image = candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| missing("vmlinuz"))?;
        Ok(Self { modules: KernelModules::index(&modules.join(&release))?, release, image })
    }
}

/// A file of the unpacked packages in `root`.
pub fn unpacked(root: &Path, path: &str) -> Result<PathBuf> {
    let file = root.join(path);
    if file.is_file() {
        Ok(file)
    } else {
        Err(Error::PackageContent { root: root.to_owned(), what: path.to_owned() })
    }
}
