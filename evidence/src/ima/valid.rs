//! A list whose entries are all valid, in parts that two threads can share.

use std::borrow::Cow;

use super::both_ends::both_ends;
use super::{Entries, Entry, ImaError, Log};

/// Entries in a part. One is worked through in a tenth of a millisecond, so that nobody waits long for another's.
const PART: usize = 512;

/// A measurement list whose entries are all valid.
#[derive(Clone, Debug)]
pub struct ValidLog<'a> {
    binary: Cow<'a, [u8]>,
    digest_len: usize,
    /// Where parts begin.
    offsets: Vec<usize>,
    len: usize,
    /// A bit for each register that an entry is for.
    registers: u32,
}

impl<'a> Log<'a> {
    /// Reads every entry.
    ///
    /// # Errors
    /// The first that is not valid.
    pub fn check(self) -> Result<ValidLog<'a>, ImaError> {
        let (mut offsets, mut len, mut registers) = (Vec::new(), 0, 0);
        let mut entries = self.entries();
        loop {
            let offset = self.binary.len() - entries.rest().len();
            let Some(entry) = entries.next() else { break };
            // The reader refuses registers above 31.
            registers |= 1_u32.unbounded_shl(entry?.pcr);
            if len % PART == 0 {
                offsets.push(offset);
            }
            len += 1;
        }
        Ok(ValidLog { binary: self.binary, digest_len: self.digest_len, offsets, len, registers })
    }
}

impl ValidLog<'_> {
    /// The number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first entry for another register than `register`, with its position.
    #[must_use]
    pub fn stranger(&self, register: u32) -> Option<(usize, Entry<'_>)> {
        if self.registers & !1_u32.unbounded_shl(register) == 0 {
            return None;
        }
        self.entries().enumerate().find(|(_, entry)| entry.pcr != register)
    }

    /// The entries in the order in which they were measured.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        Part { entries: Entries::new(&self.binary, self.digest_len), first: 0, len: self.len }.entries()
    }

    /// Works through the first `len` entries with `work`, part after part in their order. It gets what `prepare` made of a
    /// part if there was time: in a long list another thread prepares parts from the end on.
    ///
    /// # Errors
    /// The first of `work`.
    pub fn in_parts<'l, P: Send, E>(
        &'l self,
        len: usize,
        prepare: impl Fn(&Part<'l>) -> P + Sync,
        work: impl FnMut(&Part<'l>, Option<P>) -> Result<(), E>,
    ) -> Result<(), E> {
        let part = |(first, offset): (usize, &usize)| Part {
            entries: Entries::new(self.binary.get(*offset..).unwrap_or_default(), self.digest_len),
            first,
            len: PART.min(len.saturating_sub(first)),
        };
        let firsts = (0..len).step_by(PART);
        let parts: Vec<Part<'l>> = firsts.zip(&self.offsets).map(part).collect();
        both_ends(&parts, prepare, work)
    }
}

/// Entries that follow each other.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    entries: Entries<'a>,
    first: usize,
    len: usize,
}

impl<'a> Part<'a> {
    /// The position of the first entry.
    #[must_use]
    pub const fn first(&self) -> usize {
        self.first
    }

    /// The entries.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        // All are valid.
        self.entries.clone().take(self.len).flatten()
    }
}
