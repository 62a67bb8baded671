//! QEMU as a program of the Arm host, for benchmarks: what our VMM is measured beside.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    Result, libraries,
    selection::{Group, Selection},
};

const SELECTION: Selection = Selection {
    directory: "nested-qemu",
    title: "QEMU for the Arm host",
    architecture: "arm64",
    groups: &[Group { wanted: &["qemu-system-arm"], kept: &["qemu-system-arm", "lib", "zlib1g"] }],
};

/// Where it is in the Arm host.
pub const PATH: &str = "/usr/bin/qemu-system-aarch64";

/// Gives QEMU and what it is linked with, fetching them only when they are not there: paths in the Arm host, and the files.
///
/// # Errors
/// [`Error`](crate::Error) when the packages cannot be had or hold something else.
pub fn fetch(cache: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let root = SELECTION.fetch(cache)?;
    let program = root.join(PATH.trim_start_matches('/'));
    let libraries = libraries::of(&program, &root)?;
    let mut files: BTreeMap<_, _> =
        libraries.into_iter().map(|(name, path)| (format!("/lib/{name}"), path)).collect();
    files.insert(PATH.to_owned(), program);
    Ok(files)
}
