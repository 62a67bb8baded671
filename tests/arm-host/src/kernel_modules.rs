//! Kernel modules of a package: found by name, ordered by what they depend on, decompressed.
//!
//! Debian's packages carry no `modules.dep` (it is made at installation), so dependencies come from the modules.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use liblzma::read::XzDecoder;
use object::{Object, ObjectSection};

use crate::{Error, Result};

/// The modules of one kernel.
#[derive(Debug, Clone)]
pub struct KernelModules {
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
}

/// A module ready to load.
#[derive(Debug)]
pub struct Module {
    /// Its name, with underscores.
    pub name: String,
    /// The uncompressed ELF file, with the signature that the kernel checks.
    pub content: Vec<u8>,
}

impl KernelModules {
    /// Lists the modules under `directory` (`.../modules/<release>`).
    pub fn index(directory: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        collect(&directory.join("kernel"), &mut files)?;
        let path = directory.join("modules.builtin");
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let built_in = text.lines().filter_map(|line| module_name(Path::new(line))).collect();
        Ok(Self { files, built_in })
    }

    /// The named modules and all that they depend on, in load order; built-in drivers need no file.
    pub fn resolve(&self, names: &[&str]) -> Result<Vec<Module>> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in names {
            self.visit(&name.replace('-', "_"), &mut seen, &mut order)?;
        }
        Ok(order)
    }

    fn visit(&self, name: &str, seen: &mut BTreeSet<String>, order: &mut Vec<Module>) -> Result<()> {
        if self.built_in.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let path = self.files.get(name).ok_or_else(|| Error::NoModule { name: name.to_owned() })?;
        let content = read(path)?;
        for dependency in
            depends(&content).map_err(|reason| Error::BadModule { path: path.clone(), reason })?
        {
            self.visit(&dependency, seen, order)?;
        }
        order.push(Module { name: name.to_owned(), content });
        Ok(())
    }
}

fn collect(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).map_err(Error::file("read", directory))? {
        let path = entry.map_err(Error::file("read", directory))?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// `a/b/virtio-rng.ko.xz` is the module `virtio_rng`.
fn module_name(path: &Path) -> Option<String> {
    let (name, _) = path.file_name()?.to_str()?.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let raw = fs::read(path).map_err(Error::file("read", path))?;
    if path.extension().is_some_and(|extension| extension == "ko") {
        return Ok(raw);
    }
    let mut content = Vec::new();
    XzDecoder::new(raw.as_slice())
        .read_to_end(&mut content)
        .map_err(|error| Error::BadModule { path: path.to_owned(), reason: error.to_string() })?;
    Ok(content)
}

/// The `depends=` entries of `.modinfo` (NUL-separated `key=value`).
fn depends(module: &[u8]) -> std::result::Result<Vec<String>, String> {
    let file = object::File::parse(module).map_err(|error| error.to_string())?;
    let section = file.section_by_name(".modinfo").ok_or("it has no .modinfo section")?;
    let data = section.data().map_err(|error| error.to_string())?;
    Ok(parse_modinfo(data))
}

fn parse_modinfo(data: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(data);
    let names = text.split('\0').filter_map(|entry| entry.strip_prefix("depends="));
    names
        .flat_map(|list| list.split(','))
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_dependencies_from_modinfo() {
        assert_eq!(
            parse_modinfo(b"license=GPL\0depends=vsock,virtio-ring\0name=x\0"),
            ["vsock", "virtio_ring"]
        );
        assert!(parse_modinfo(b"depends=\0").is_empty());
    }

    #[test]
    fn built_in_drivers_need_no_file_and_unknown_ones_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("kernel")).unwrap();
        fs::write(directory.path().join("modules.builtin"), "kernel/drivers/virtio/virtio-pci.ko\n").unwrap();
        let modules = KernelModules::index(directory.path()).unwrap();
        assert!(modules.resolve(&["virtio_pci"]).unwrap().is_empty());
        assert!(matches!(modules.resolve(&["nope"]), Err(Error::NoModule { name }) if name == "nope"));
    }
}
