//! Measurement lists of Linux's Integrity Measurement Architecture (IMA): `binary_runtime_measurements` and
//! `ascii_runtime_measurements`, also those that newer kernels offer per algorithm (Linux
//! `security/integrity/ima/ima_fs.c`, `Documentation/security/IMA-templates.rst`).
//!
//! The binary form of little-endian machines is read, and what `ima_canonical_fmt` makes of the others. The ASCII form is
//! rewritten to it, so that there is one reader of entries. A list proves nothing by itself: [`ValidLog::replay`] says
//! how much of it the registers attest.

mod ascii;
mod attested;
mod entries;
mod error;
mod in_order;
mod template;
#[cfg(test)]
mod tests;
mod valid;
mod write;

use std::borrow::Cow;

pub use attested::{ExtendRule, Register, Replay};
pub use entries::{Entries, Entry, FileDigest};
pub use error::{AsciiError, ImaError};
pub use template::Template;
pub use valid::{Part, ValidLog};
pub use write::LogWriter;

use crate::bank::Bank;
use template::MAX_NAME_LEN;

/// Largest log that is read, in bytes: three hundred thousand entries and more. Appraisal takes memory and time for each,
/// so that without a bound a sender would decide how much.
pub const MAX_LOG_SIZE: usize = 32 << 20;

/// Longest path, in bytes without the NUL (`PATH_MAX`). Paths go into reports.
pub const MAX_PATH_LEN: usize = 4096;

/// The name of the entry that stands for all that was measured before Linux.
pub const BOOT_AGGREGATE: &[u8] = b"boot_aggregate";

/// A measurement list.
#[derive(Clone, Debug)]
pub struct Log<'a> {
    binary: Cow<'a, [u8]>,
    digest_len: usize,
}

impl<'a> Log<'a> {
    /// Takes a list in either form. Entries are read by [`Self::entries`].
    ///
    /// # Errors
    /// A list that is too large, or in neither form.
    pub fn new(bytes: &'a [u8]) -> Result<Self, ImaError> {
        if bytes.len() > MAX_LOG_SIZE {
            return Err(ImaError::TooLarge { found: bytes.len() });
        }
        // The first field is a register below 32: as text a digit or a space, as a number three zeros at its end.
        let is_text = matches!(bytes.first(), Some(b'0'..=b'9' | b' ')) && bytes.get(3) != Some(&0);
        if is_text {
            let (binary, digest_len) = ascii::to_binary(bytes)?;
            return Ok(Self { binary: Cow::Owned(binary), digest_len });
        }
        let digest_len = template_digest_len(bytes).ok_or(ImaError::Form)?;
        Ok(Self { binary: Cow::Borrowed(bytes), digest_len })
    }

    /// The entries in the order in which they were measured.
    pub fn entries(&self) -> Entries<'_> {
        Entries::new(&self.binary, self.digest_len, 0)
    }

    /// The list from its entry number `first`, counted from 0, in binary form; empty if it ends there. `None` if it has
    /// fewer entries.
    ///
    /// # Errors
    /// An entry before that is not valid.
    pub fn since(&self, first: u64) -> Result<Option<&[u8]>, ImaError> {
        let mut entries = self.entries();
        for _ in 0..first {
            if entries.next().transpose()?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(entries.rest()))
    }
}

/// Lists per algorithm carry digests of its length. The name of a template must come after the first.
fn template_digest_len(bytes: &[u8]) -> Option<usize> {
    if bytes.is_empty() {
        return Some(Bank::Sha1.len());
    }
    [Bank::Sha1, Bank::Sha256, Bank::Sha384, Bank::Sha512].map(Bank::len).into_iter().find(|len| {
        let name = bytes.get(4 + len..).and_then(|rest| {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            rest.get(..length.min(MAX_NAME_LEN))
        });
        name.is_some_and(|name| {
            name.first().is_some_and(u8::is_ascii_lowercase) && name.iter().all(u8::is_ascii_graphic)
        })
    })
}
