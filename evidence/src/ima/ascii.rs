//! The ASCII form, rewritten to the binary one.
//!
//! `PCR HASH TEMPLATE FIELD ...`, one entry a line, one space between fields, of which some may be empty. Linux replaces
//! spaces in paths by underscores; where one is there nevertheless, only `ima` and `ima-ng`, which end with the path, can be
//! told apart.

use super::template::{Field, Template};
use super::{AsciiError, ImaError};
use crate::bank::Bank;

/// Returns the binary form, and the length of its template digests.
pub(super) fn to_binary(text: &[u8]) -> Result<(Vec<u8>, usize), ImaError> {
    // Hexadecimal takes two characters a byte; lengths and NULs take less than that saves.
    let mut binary = Vec::with_capacity(text.len());
    let mut digest_len = None;
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let len = rewrite(line, &mut binary).and_then(|len| match *digest_len.get_or_insert(len) == len {
            true => Ok(len),
            false => Err(AsciiError::HashLength),
        });
        len.map_err(|source| ImaError::Ascii { line: index + 1, source })?;
    }
    Ok((binary, digest_len.unwrap_or(Bank::Sha1.len())))
}

/// Appends one entry; returns the length of its template digest.
fn rewrite(line: &[u8], binary: &mut Vec<u8>) -> Result<usize, AsciiError> {
    let mut words = line.trim_ascii_start().splitn(4, |byte| *byte == b' ');
    let mut word = || words.next().ok_or(AsciiError::Shape);
    let pcr = std::str::from_utf8(word()?).ok().and_then(|pcr| pcr.parse::<u32>().ok());
    let digest = hex::decode(word()?).map_err(|_| AsciiError::Shape)?;
    let template = Template::from_name(word()?).ok_or(AsciiError::Shape)?;
    let fields = word()?;
    if ![20, 32, 48, 64].contains(&digest.len()) {
        return Err(AsciiError::Shape);
    }
    binary.extend_from_slice(&pcr.ok_or(AsciiError::Shape)?.to_le_bytes());
    binary.extend_from_slice(&digest);
    sized(binary, template.name().as_bytes());
    let mut data = Vec::with_capacity(fields.len());
    for (field, text) in split(template, fields)? {
        rewrite_field(field, text, &mut data)?;
    }
    match template {
        Template::Ima => binary.extend_from_slice(&data),
        _ => sized(binary, &data),
    }
    Ok(digest.len())
}

fn split(template: Template, text: &[u8]) -> Result<impl Iterator<Item = (Field, &[u8])>, AsciiError> {
    let fields = template.fields();
    let words: Vec<&[u8]> = match template {
        // The path is the last field.
        Template::Ima | Template::ImaNg | Template::ImaNgV2 => text.splitn(2, |byte| *byte == b' ').collect(),
        _ => text.split(|byte| *byte == b' ').collect(),
    };
    if words.len() != fields.len() {
        return Err(AsciiError::Fields { found: words.len(), expected: fields.len() });
    }
    Ok(fields.iter().copied().zip(words))
}

fn rewrite_field(field: Field, text: &[u8], data: &mut Vec<u8>) -> Result<(), AsciiError> {
    let from_hex = |text: &[u8]| hex::decode(text).map_err(|_| AsciiError::Value);
    match field {
        Field::LegacyDigest => data.extend_from_slice(&from_hex(text)?),
        Field::LegacyName => sized(data, text),
        Field::Path => sized(data, &[text, b"\0"].concat()),
        Field::Bytes => sized(data, &from_hex(text)?),
        Field::OptionalDigest if text.is_empty() => sized(data, &[]),
        Field::Digest | Field::TypedDigest | Field::OptionalDigest => {
            let colon = text.iter().rposition(|byte| *byte == b':').ok_or(AsciiError::Value)?;
            let (algorithm, value) = text.split_at_checked(colon + 1).ok_or(AsciiError::Value)?;
            sized(data, &[algorithm, b"\0", &from_hex(value)?].concat());
        }
        Field::Attribute => return Err(AsciiError::Template),
    }
    Ok(())
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    // Longer than the whole list cannot be.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}
