//! The file system from which the PC runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use arm_host::{libraries, prerequisites};
use tempfile::TempDir;

use crate::error::file;
use crate::{Error, Packages, Result};

/// What programs find beside files: they are mounted by init.
const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "sys", "run"];
/// For what the PC writes, and the file system's own use.
const ROOM: u64 = 32 << 20;
/// Does the commands that come over the second serial port, one line each.
const INIT: &str = include_str!("init.sh");

/// The files of the PC's disk.
pub struct Disk {
    tree: TempDir,
    busybox: PathBuf,
}

impl Disk {
    /// A system that does commands, with the programs of busybox.
    ///
    /// # Errors
    /// If a file cannot be had or written.
    pub fn new(packages: &Packages) -> Result<Self> {
        let tree =
            TempDir::with_prefix("pc-").map_err(file("create a directory in", std::env::temp_dir()))?;
        let disk = Self { tree, busybox: packages.busybox()? };
        for name in MOUNT_POINTS {
            let path = disk.tree.path().join(name);
            fs::create_dir(&path).map_err(file("create", path))?;
        }
        disk.busybox("/bin/busybox")?;
        let shell = disk.tree.path().join("bin/sh");
        symlink("busybox", &shell).map_err(file("create", shell))?;
        disk.write("/sbin/init", INIT)?;
        Ok(disk)
    }

    /// Adds a file, which can be executed.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let to = self.place(path)?;
        fs::write(&to, content).map_err(file("write", &to))?;
        fs::set_permissions(&to, Permissions::from_mode(0o755)).map_err(file("change", to))
    }

    /// Adds a busybox of its own, which is the program that its name says.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn busybox(&self, path: &str) -> Result<()> {
        self.copy(path, &self.busybox)
    }

    /// Adds a program of this machine, and its libraries.
    ///
    /// # Errors
    /// If one of them cannot be had or written.
    pub fn program(&self, path: &str, from: &Path) -> Result<()> {
        self.copy(path, from)?;
        for (name, library) in libraries::of(from, Path::new("/"))? {
            // The loader has its place, the others are found in /lib.
            let directory = if name.starts_with("ld-") { "/lib64" } else { "/lib" };
            self.copy(&format!("{directory}/{name}"), &library)?;
        }
        Ok(())
    }

    /// Every file: the path that it has on the PC, and where it is here.
    ///
    /// # Errors
    /// If a directory cannot be read.
    pub fn files(&self) -> Result<Vec<(String, PathBuf)>> {
        let (mut files, mut left) = (Vec::new(), vec![self.tree.path().to_owned()]);
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(&directory).map_err(file("read", &directory))? {
                let entry = entry.map_err(file("read", &directory))?;
                let (path, kind) = (entry.path(), entry.file_type().map_err(file("look at", entry.path()))?);
                if kind.is_dir() {
                    left.push(path);
                } else if let (true, Ok(below)) = (kind.is_file(), path.strip_prefix(self.tree.path())) {
                    files.push((format!("/{}", below.display()), path));
                }
            }
        }
        Ok(files)
    }

    /// Writes the file system.
    pub(crate) fn image(&self, to: &Path) -> Result<()> {
        let mut size = ROOM;
        for (_, path) in self.files()? {
            size += fs::metadata(&path).map_err(file("look at", path))?.len();
        }
        let mke2fs = prerequisites::mke2fs().unwrap_or_else(|| "mke2fs".into());
        let output = Command::new(mke2fs)
            .args(["-q", "-t", "ext4", "-d"])
            .args([self.tree.path(), to])
            .arg(format!("{}K", size.div_ceil(1024)))
            .output()
            .map_err(|source| Error::Start { program: "mke2fs", package: "e2fsprogs", source })?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::Disk(String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    fn copy(&self, path: &str, from: &Path) -> Result<()> {
        let to = self.place(path)?;
        fs::copy(from, &to).map(drop).map_err(file("copy to the disk", from))
    }

    fn place(&self, path: &str) -> Result<PathBuf> {
        let to = self.tree.path().join(path.trim_start_matches('/'));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(file("create", parent))?;
        }
        Ok(to)
    }
}
