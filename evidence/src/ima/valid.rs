//! A list whose entries are all valid, in parts that two threads can share.

use std::convert::Infallible;
use std::iter;

use super::in_order::in_order;
use super::{Entries, Entry, ImaError, Log};

/// Entries in a part. One is worked through in a tenth of a millisecond, so that nobody waits long for another's.
const PART: usize = 512;

/// Shorter lists, in bytes, are not worth a thread.
const LONG: usize = 1 << 20;

/// A measurement list whose entries are all valid.
#[derive(Clone, Debug)]
pub struct ValidLog<'a> {
    log: Log<'a>,
    marks: Marks,
}

/// What is known of a list that was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    /// Where parts begin.
    offsets: Vec<usize>,
    len: usize,
    /// A bit for each register that an entry is for. The reader refuses registers above 31.
    registers: u32,
}

impl Marks {
    /// Notes the next part, whose entries are valid. `registers` has a [`bit`] for each register that they are for.
    pub(super) fn note(&mut self, part: &Part<'_>, registers: u32) {
        self.offsets.push(part.offset);
        self.len += part.len;
        self.registers |= registers;
    }
}

/// The bit for a register.
pub(super) const fn bit(register: u32) -> u32 {
    1_u32.unbounded_shl(register)
}

impl<'a> Log<'a> {
    /// Reads every entry.
    ///
    /// # Errors
    /// The first that is not valid.
    pub fn check(self) -> Result<ValidLog<'a>, ImaError> {
        let mut marks = Marks::default();
        for part in self.parts() {
            let registers = part.read().try_fold(0, |registers, entry| Ok(registers | bit(entry?.pcr)))?;
            marks.note(&part, registers);
        }
        Ok(self.marked(marks))
    }

    /// The list as a valid one: all its parts were read without an error.
    pub(super) fn marked(self, marks: Marks) -> ValidLog<'a> {
        ValidLog { log: self, marks }
    }

    /// The list in parts, of whose entries nothing is known yet.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let mut entries = self.entries();
        let mut first = 0;
        iter::from_fn(move || {
            let rest = entries.rest();
            let mut part =
                Part { offset: self.binary.len() - rest.len(), entries: entries.clone(), first, len: 0 };
            while part.len < PART && !entries.rest().is_empty() {
                part.len += 1;
                if entries.step_over().is_none() {
                    // Whoever reads the part meets the error, behind which there is nothing.
                    entries = Entries::new(&[], self.digest_len, 0);
                }
            }
            first += part.len;
            (part.len > 0).then_some(part)
        })
    }

    /// Whether it is worth a second thread.
    pub(super) fn is_long(&self) -> bool {
        self.binary.len() >= LONG
    }
}

impl ValidLog<'_> {
    /// The number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.marks.len
    }

    /// Whether there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.marks.len == 0
    }

    /// The first entry for another register than `register`, with its position.
    #[must_use]
    pub fn stranger(&self, register: u32) -> Option<(usize, Entry<'_>)> {
        if self.marks.registers & !bit(register) == 0 {
            return None;
        }
        self.entries().enumerate().find(|(_, entry)| entry.pcr != register)
    }

    /// The entries in the order in which they were measured.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        // All are valid.
        self.log.entries().flatten()
    }

    /// Whether it is worth a second thread.
    pub(super) fn is_long(&self) -> bool {
        self.log.is_long()
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
        in_order(self.parts(len), self.is_long(), prepare, work)
    }

    /// The first `len` entries in parts: always the same, but that the last may be shorter.
    pub fn parts(&self, len: usize) -> impl Iterator<Item = Part<'_>> {
        let part = move |(first, &offset): (usize, &usize)| {
            let rest = self.log.binary.get(offset..).unwrap_or_default();
            let entries = Entries::new(rest, self.log.digest_len, first);
            Part { entries, offset, first, len: PART.min(len.saturating_sub(first)) }
        };
        (0..len).step_by(PART).zip(&self.marks.offsets).map(part)
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
