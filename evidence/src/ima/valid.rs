//! A list whose entries are all valid, in parts that two threads can share.

use std::convert::Infallible;

use super::in_order::in_order;
use super::{Entries, Entry, ImaError, Log};

/// Entries in a part. One is worked through in a tenth of a millisecond, so that nobody waits long for another's.
const PART: usize = 512;

/// A measurement list whose entries are all valid.
#[derive(Clone, Debug)]
pub struct ValidLog<'a> {
    log: Log<'a>,
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
        let parts = self.parts();
        let mut registers = 0;
        for entry in parts.iter().flat_map(Part::read) {
            registers |= bit(entry?.pcr);
        }
        let marks = Marks::of(&parts);
        Ok(marks.valid(self, registers))
    }

    /// The list in parts, of whose entries nothing is known yet.
    pub(super) fn parts(&self) -> Vec<Part<'_>> {
        let mut parts = Vec::new();
        let mut entries = self.entries();
        let mut first = 0;
        while !entries.rest().is_empty() {
            let mut part = Part {
                offset: self.binary.len() - entries.rest().len(),
                entries: entries.clone(),
                first,
                len: 0,
            };
            while part.len < PART && !entries.rest().is_empty() {
                part.len += 1;
                if entries.step_over().is_none() {
                    // Whoever reads the part meets the error.
                    parts.push(part);
                    return parts;
                }
            }
            first += part.len;
            parts.push(part);
        }
        parts
    }
}

/// Where parts begin, and how many entries they have together.
pub(super) struct Marks {
    offsets: Vec<usize>,
    len: usize,
}

impl Marks {
    pub(super) fn of(parts: &[Part<'_>]) -> Self {
        Self {
            offsets: parts.iter().map(|part| part.offset).collect(),
            len: parts.iter().map(|part| part.len).sum(),
        }
    }

    /// The list, if all its parts were read without an error. `registers` has a [`bit`] for each register that was met.
    pub(super) fn valid(self, log: Log<'_>, registers: u32) -> ValidLog<'_> {
        ValidLog { log, offsets: self.offsets, len: self.len, registers }
    }
}

/// The bit for a register. The reader refuses registers above 31.
pub(super) const fn bit(register: u32) -> u32 {
    1_u32.unbounded_shl(register)
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
        if self.registers & !bit(register) == 0 {
            return None;
        }
        self.entries().enumerate().find(|(_, entry)| entry.pcr != register)
    }

    /// The entries in the order in which they were measured.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        // All are valid.
        self.log.entries().flatten()
    }

    /// Works through the first `len` entries with `work`, part after part in their order. It gets what `prepare` made of a
    /// part: in a long list another thread prepares parts, too.
    ///
    /// # Errors
    /// The first of `work`.
    pub fn in_parts<'l, P: Send, E>(
        &'l self,
        len: usize,
        prepare: impl Fn(&Part<'l>) -> P + Sync,
        work: impl FnMut(&Part<'l>, P) -> Result<(), E>,
    ) -> Result<(), E> {
        let parts: Vec<Part<'l>> = self.parts(len).collect();
        in_order(&parts, prepare, work)
    }

    /// The first `len` entries in parts: always the same, but that the last may be shorter.
    pub fn parts(&self, len: usize) -> impl Iterator<Item = Part<'_>> {
        let part = move |(first, &offset): (usize, &usize)| {
            let rest = self.log.binary.get(offset..).unwrap_or_default();
            let entries = Entries::new(rest, self.log.digest_len, first);
            Part { entries, offset, first, len: PART.min(len.saturating_sub(first)) }
        };
        (0..len).step_by(PART).zip(&self.offsets).map(part)
    }
}

/// Entries that follow each other.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    entries: Entries<'a>,
    /// Where they begin in the list.
    offset: usize,
    first: usize,
    len: usize,
}

impl<'a> Part<'a> {
    /// The position of the first entry.
    #[must_use]
    pub const fn first(&self) -> usize {
        self.first
    }

    /// How many entries it has: one or more.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no part is empty")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The entries.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        // Others than this module have parts of valid lists only.
        self.read().flatten()
    }

    /// The entries of a part of a valid list, as [`Part::read`] gives them.
    pub(super) fn valid(&self) -> impl Iterator<Item = Result<Entry<'a>, Infallible>> + use<'a> {
        self.entries().map(Ok)
    }

    /// The entries up to one that is not valid.
    pub(super) fn read(&self) -> impl Iterator<Item = Result<Entry<'a>, ImaError>> + use<'a> {
        self.entries.clone().take(self.len)
    }
}
