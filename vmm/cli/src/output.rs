//! What commands print.

use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{LineStyle, Table, presets};
use serde::Serialize;

/// Form of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    #[default]
    Table,
    /// JSON for programs.
    Json,
}

/// Prints rows as a table in libvirt's style, or values as JSON.
///
/// # Errors
///
/// Standard output cannot be written.
pub fn list<T: Serialize>(
    format: Format,
    header: &[&str],
    values: &[T],
    row: impl Fn(&T) -> Vec<String>,
) -> anyhow::Result<()> {
    if format == Format::Json {
        return json(&values);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('-').junction('-')));
    table.set_header(header);
    for value in values {
        table.add_row(row(value).iter().map(|cell| printable(cell)));
    }
    let mut out = io::stdout().lock();
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(out)?;
    Ok(())
}

/// Prints a value as JSON.
///
/// # Errors
///
/// Standard output cannot be written.
pub fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Prints names and values below each other in libvirt's style, or as JSON.
///
/// # Errors
///
/// Standard output cannot be written.
pub fn properties(format: Format, properties: &[(&str, String)]) -> anyhow::Result<()> {
    if format == Format::Json {
        let object: serde_json::Map<_, _> = properties
            .iter()
            .map(|(name, value)| {
                (name.to_lowercase().replace(['(', ')'], "").replace(' ', "_"), value.clone().into())
            })
            .collect();
        return json(&object);
    }
    let mut out = io::stdout().lock();
    for (name, value) in properties {
        writeln!(out, "{:<16}{}", format!("{name}:"), printable(value))?;
    }
    writeln!(out)?;
    Ok(())
}

/// Prints a line.
///
/// # Errors
///
/// Standard output cannot be written.
pub fn line(text: &str) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{}", printable(text))?;
    Ok(())
}

/// A text without what would command a terminal: names and reasons come from files and from the VMM.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_not_commanded() {
        assert_eq!(printable("a\x1b[2Jb\u{9b}c\td"), "a\u{fffd}[2Jb\u{fffd}c\td");
    }
}
