//! The shared libraries that a program needs, and those that these need.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    path::{Path, PathBuf},
};

use object::{
    Endianness,
    elf::{DT_NEEDED, FileHeader64},
    read::elf::{Dyn, FileHeader},
};

use crate::{Error, Result};

/// Where distributions put libraries.
const DIRECTORIES: [&str; 8] = [
    "usr/lib/aarch64-linux-gnu",
    "lib/aarch64-linux-gnu",
    "usr/lib/x86_64-linux-gnu",
    "lib/x86_64-linux-gnu",
    "usr/lib64",
    "lib64",
    "usr/lib",
    "lib",
];

/// All libraries of `program`, the loader among them, by name; they are in a tree of unpacked packages, or of a system.
pub fn of(program: &Path, root: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut left = vec![program.to_owned()];
    while let Some(path) = left.pop() {
        let bytes = fs::read(&path).map_err(Error::file("read", &path))?;
        let unreadable = |error: object::Error| Error::File {
            action: "read the libraries of",
            path: path.clone(),
            source: std::io::Error::other(error),
        };
        for name in needed(&bytes).map_err(unreadable)? {
            if let Entry::Vacant(entry) = found.entry(name) {
                let library = find(entry.key(), root)?;
                left.push(entry.insert(library).clone());
            }
        }
    }
    Ok(found)
}

fn find(name: &str, root: &Path) -> Result<PathBuf> {
    let places = DIRECTORIES.map(|directory| root.join(directory).join(name));
    let missing = || Error::PackageContent { root: root.to_owned(), what: name.to_owned() };
    places.into_iter().find(|path| path.is_file()).ok_or_else(missing)
}

/// The entries `DT_NEEDED` of the dynamic section.
fn needed(bytes: &[u8]) -> object::Result<Vec<String>> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let Some((entries, strings)) = sections.dynamic(endian, bytes)? else { return Ok(Vec::new()) };
    let strings = sections.strings(endian, bytes, strings)?;
    let mut names = Vec::new();
    for entry in entries.iter().filter(|entry| entry.tag(endian) == DT_NEEDED) {
        names.push(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_needs_the_c_library_and_a_text_is_no_program() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(needed(&own).unwrap().iter().any(|name| name.starts_with("libc.so")));
        assert!(needed(b"#!/bin/sh\n").is_err());
    }

    #[test]
    fn a_missing_library_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let error = of(&std::env::current_exe().unwrap(), empty.path()).unwrap_err();
        assert!(error.to_string().contains("lib"), "{error}");
    }
}
