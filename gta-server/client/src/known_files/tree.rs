//! All files of a file system.

use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use walkdir::WalkDir;

use super::digests::{Digests, sha256};

/// Adds every regular file below `root`, which stands for `/`. Links are not followed: Linux measures what they lead to.
pub fn add(root: &Path, known: &mut Digests) -> anyhow::Result<()> {
    // Nobody sees it if standard error is not a terminal.
    let progress = ProgressBar::new_spinner()
        .with_style(ProgressStyle::with_template("{spinner} {pos} files  {wide_msg}")?);
    for entry in WalkDir::new(root).sort_by_file_name() {
        let entry = entry?;
        if !entry.file_type().is_file() {
            continue;
        }
        let path = entry.path();
        let inside = path
            .strip_prefix(root)?
            .to_str()
            .with_context(|| format!("{}: its name is not UTF-8, so it cannot be known", path.display()))?;
        progress.set_message(inside.to_owned());
        progress.inc(1);
        let file = File::open(path).with_context(|| path.display().to_string())?;
        known.add(&format!("/{inside}"), sha256(file).with_context(|| path.display().to_string())?);
    }
    progress.finish_and_clear();
    Ok(())
}
