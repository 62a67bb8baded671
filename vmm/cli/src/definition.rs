//! Definitions as people write them: XML or JSON.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::domain::Domain;
use crate::{output, xml};

/// Longest definition. A domain with a thousand devices is shorter; without the bound a wrong file name could make the
/// program run out of memory.
pub const MAX_LEN: u64 = 1 << 20;

/// Reads a definition from a file, or from standard input for `-`. With `lenient`, what XML has too much is passed over
/// and told on standard error.
///
/// # Errors
///
/// The file cannot be read, or is no definition.
pub fn read(path: &Path, lenient: bool) -> anyhow::Result<Domain> {
    let text = read_text(path)?;
    parse(&text, lenient).with_context(|| format!("{} is no definition", path.display()))
}

/// Reads a definition: XML when it begins like that, else JSON.
///
/// # Errors
///
/// What is wrong, and where.
pub fn parse(text: &str, lenient: bool) -> anyhow::Result<Domain> {
    let mut domain: Domain = if !is_xml(text) {
        serde_json::from_str(text)?
    } else if lenient {
        let found = xml::parse_lenient(text)?;
        for path in found.ignored {
            eprintln!("warning: {}: not supported, passed over", output::printable(&path));
        }
        found.value
    } else {
        xml::parse(text)?
    };
    domain.complete();
    domain.check()?;
    Ok(domain)
}

/// Whether a text is meant as XML.
#[must_use]
pub fn is_xml(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').trim_start().starts_with('<')
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
