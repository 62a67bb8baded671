//! Definitions as people write them: JSON.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::domain::Domain;

/// Longest definition. A domain with a thousand devices is shorter; without the bound a wrong file name could make the
/// program run out of memory.
pub const MAX_LEN: u64 = 1 << 20;

/// Reads a definition from a file, or from standard input for `-`.
///
/// # Errors
///
/// The file cannot be read, or is no definition.
pub fn read(path: &Path) -> anyhow::Result<Domain> {
    let text = read_text(path)?;
    parse(&text).with_context(|| format!("{} is no definition", path.display()))
}

/// Reads a definition.
///
/// # Errors
///
/// What is wrong, and where.
pub fn parse(text: &str) -> anyhow::Result<Domain> {
    let mut domain: Domain = serde_json::from_str(text)?;
    domain.complete();
    domain.check()?;
    Ok(domain)
}

/// Reads a short text file, or standard input for `-`.
///
/// # Errors
///
/// The file cannot be read, is too long, or is not UTF-8.
pub fn read_text(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = |reader: &mut dyn Read, text: &mut String| reader.take(MAX_LEN + 1).read_to_string(text);
    if path == Path::new("-") {
        read(&mut io::stdin().lock(), &mut text).context("cannot read standard input")?;
    } else {
        let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        read(&mut file, &mut text).with_context(|| format!("cannot read {}", path.display()))?;
    }
    if text.len() as u64 > MAX_LEN {
        bail!("{} is longer than {MAX_LEN} bytes", path.display());
    }
    Ok(text)
}
