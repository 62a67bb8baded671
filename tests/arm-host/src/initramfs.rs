//! Composes an initramfs: a `newc` cpio archive, the same bytes for the same content.
//!
//! The kernel accepts several archives one after the other, later files replacing earlier ones: a test can append its own
//! configuration to a finished archive.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use cpio::newc::{Builder, ModeFileType, trailer};

use crate::{Error, Result, kernel_modules::Module};

/// The content of an initramfs. Paths are absolute; parent directories come by themselves.
#[derive(Debug, Default, Clone)]
pub struct Initramfs {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
enum Entry {
    Directory,
    File { mode: u32, content: Content },
    Symlink(String),
}

#[derive(Debug, Clone)]
enum Content {
    Bytes(Vec<u8>),
    Path(PathBuf),
}

impl Initramfs {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file with the given bytes.
    pub fn file(&mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> &mut Self {
        self.insert(path, Entry::File { mode, content: Content::Bytes(bytes.into()) })
    }

    /// Adds a copy of a file of this machine, read when the archive is written.
    pub fn copy(&mut self, path: &str, mode: u32, from: impl Into<PathBuf>) -> &mut Self {
        self.insert(path, Entry::File { mode, content: Content::Path(from.into()) })
    }

    /// Adds copies of the files of a directory of this machine, not of what is below it.
    pub fn copy_directory(&mut self, path: &str, from: &Path) -> Result<&mut Self> {
        for entry in fs::read_dir(from).map_err(Error::file("read", from))? {
            let entry = entry.map_err(Error::file("read", from))?;
            if let (Ok(name), true) = (entry.file_name().into_string(), entry.path().is_file()) {
                self.copy(&format!("{path}/{name}"), 0o755, entry.path());
            }
        }
        Ok(self)
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.insert(path, Entry::Symlink(target.to_owned()))
    }

    /// Adds a directory.
    pub fn directory(&mut self, path: &str) -> &mut Self {
        self.insert(path, Entry::Directory)
    }

    /// Adds kernel modules and gives their paths in load order.
    pub fn modules(&mut self, modules: Vec<Module>) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for module in modules {
            let path = format!("/lib/modules/{}.ko", module.name);
            self.file(&path, 0o644, module.content);
            paths.push(path.into());
        }
        paths
    }

    fn insert(&mut self, path: &str, entry: Entry) -> &mut Self {
        let path = path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            self.entries.entry(path.split_at(end).0.to_owned()).or_insert(Entry::Directory);
        }
        self.entries.insert(path.to_owned(), entry);
        self
    }

    /// Writes the archive to a file.
    pub fn write_to(&self, path: &Path) -> Result<()> {
        let file = File::create(path).map_err(Error::file("create", path))?;
        let mut writer = BufWriter::new(file);
        self.write(&mut writer)?;
        writer.flush().map_err(Error::file("write", path))
    }

    /// The archive as bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        Ok(bytes)
    }

    fn write(&self, mut writer: &mut dyn Write) -> Result<()> {
        for (number, (path, entry)) in (1..).zip(&self.entries) {
            write_entry(&mut writer, number, path, entry).map_err(|(from, source)| Error::File {
                action: "put into the initramfs",
                path: from.unwrap_or_else(|| path.into()),
                source,
            })?;
        }
        trailer(writer).map(drop).map_err(Error::file("write", "the end of the initramfs"))
    }
}

fn write_entry(
    writer: &mut dyn Write,
    number: u32,
    path: &str,
    entry: &Entry,
) -> std::result::Result<(), (Option<PathBuf>, io::Error)> {
    let builder = Builder::new(path).ino(number).nlink(1).mtime(0).uid(0).gid(0);
    let mut put = |builder: Builder, bytes: &[u8]| {
        // newc keeps sizes in 32 bits.
        let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut entry = builder.write(&mut *writer, size);
        entry.write_all(bytes)?;
        entry.finish().map(drop)
    };
    let result = match entry {
        Entry::Directory => put(builder.mode(0o755).set_mode_file_type(ModeFileType::Directory), &[]),
        Entry::Symlink(target) => {
            put(builder.mode(0o777).set_mode_file_type(ModeFileType::Symlink), target.as_bytes())
        }
        Entry::File { mode, content } => {
            let builder = builder.mode(*mode).set_mode_file_type(ModeFileType::Regular);
            match content {
                Content::Bytes(bytes) => put(builder, bytes),
                Content::Path(from) => {
                    let bytes = fs::read(from).map_err(|error| (Some(from.clone()), error))?;
                    put(builder, &bytes)
                }
            }
        }
    };
    result.map_err(|error| (None, error))
}

#[cfg(test)]
mod tests {
    use cpio::newc::Reader;

    use super::*;

    fn names_and_modes(archive: &[u8]) -> Vec<(String, u32)> {
        let mut rest = archive;
        let mut found = Vec::new();
        loop {
            let reader = Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                return found;
            }
            found.push((reader.entry().name().to_owned(), reader.entry().mode()));
            rest = reader.finish().unwrap();
        }
    }

    #[test]
    fn parents_come_first_and_modes_are_kept() {
        let mut initramfs = Initramfs::new();
        initramfs.file("/etc/a/b.json", 0o644, "x").symlink("/bin/sh", "busybox").directory("/tmp");
        assert_eq!(
            names_and_modes(&initramfs.to_bytes().unwrap()),
            [
                ("bin".into(), 0o040_755),
                ("bin/sh".into(), 0o120_777),
                ("etc".into(), 0o040_755),
                ("etc/a".into(), 0o040_755),
                ("etc/a/b.json".into(), 0o100_644),
                ("tmp".into(), 0o040_755),
            ]
        );
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        let compose = |names: &[&str]| {
            let mut initramfs = Initramfs::new();
            for name in names {
                initramfs.file(name, 0o755, *name);
            }
            initramfs.to_bytes().unwrap()
        };
        assert_eq!(compose(&["/b", "/a"]), compose(&["/a", "/b"]));
    }

    #[test]
    fn a_missing_file_is_named() {
        let mut initramfs = Initramfs::new();
        initramfs.copy("/bin/tool", 0o755, "/nonexistent/tool");
        assert!(initramfs.to_bytes().unwrap_err().to_string().contains("/nonexistent/tool"));
    }
}
