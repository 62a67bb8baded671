//! How much of a list the registers attest.

use super::in_order::in_order;
use super::valid::{Marks, bit};
use super::{Entry, ImaError, Log, Part, ValidLog};
use crate::bank::{Bank, BankValue};

/// What a kernel extends banks other than SHA-1 with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtendRule {
    /// The hash of the template's data in the bank's own algorithm: Linux 5.8 and newer.
    PerBank,
    /// The SHA-1 hash followed by zeros: older kernels, and banks whose algorithm the kernel lacks.
    PaddedSha1,
}

/// A register with its value before the first entry and its attested value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Its number in the list.
    pub pcr: u32,
    /// The value before the first entry.
    pub before: BankValue,
    /// The attested value, of the same bank.
    pub attested: BankValue,
}

impl Entry<'_> {
    /// What the entry extends a register of `bank` with.
    pub fn extension(&self, bank: Bank, rule: ExtendRule) -> BankValue {
        match rule {
            ExtendRule::PerBank if self.is_violation() => BankValue::ones(bank),
            ExtendRule::PerBank => self.template_hash(bank),
            ExtendRule::PaddedSha1 => {
                let sha1 = match self.is_violation() {
                    true => BankValue::ones(Bank::Sha1),
                    false => self.template_hash(Bank::Sha1),
                };
                BankValue::padded(bank, sha1.as_bytes())
            }
        }
    }
}

/// What became of registers when a list was replayed into them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    entries: usize,
    registers: Vec<Replayed>,
}

/// One register. It never returns to a value that it had, so it has its attested value over one span of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Replayed {
    current: BankValue,
    used: bool,
    /// How many entries lead to the attested value.
    since: Option<usize>,
    /// How many entries can be read before it is lost again; `None` if it never is.
    until: Option<usize>,
}

impl Replayed {
    /// Has `extend` extend the value with the entry at `position`.
    fn extend(&mut self, register: &Register, position: usize, extend: impl FnOnce(&mut BankValue)) {
        self.used = true;
        match (self.since, self.until) {
            // What follows proves nothing, so it is not hashed either.
            (_, Some(_)) => {}
            (Some(_), None) => self.until = Some(position),
            (None, None) => {
                extend(&mut self.current);
                self.since = self.is(&register.attested).then_some(position + 1);
            }
        }
    }

    /// Whether the register has this value. After nearly every entry its first bytes say that it has not.
    fn is(&self, value: &BankValue) -> bool {
        let first = |value: &BankValue| value.as_bytes().first_chunk::<8>().copied();
        first(&self.current) == first(value) && self.current == *value
    }
}

impl Replay {
    /// Whether any entry was for the register at `index`.
    pub fn is_used(&self, index: usize) -> bool {
        self.registers.get(index).is_some_and(|register| register.used)
    }

    /// How many entries, from the first, lead every register at `indices` from its value before to its attested value;
    /// `None` if there is no such number, or no register.
    ///
    /// Of several numbers it is the greatest: entries for other registers are counted.
    pub fn attested(&self, indices: impl IntoIterator<Item = usize>) -> Option<usize> {
        let mut span = None;
        for index in indices {
            let register = self.registers.get(index)?;
            let (since, until) = span.unwrap_or((0, self.entries));
            span = Some((since.max(register.since?), until.min(register.until.unwrap_or(self.entries))));
        }
        span.filter(|(since, until)| since <= until).map(|(_, until)| until)
    }
}

/// What the entries of a part extend a register with, if all are for one.
#[derive(Default)]
struct Extensions {
    /// The position of the register.
    register: Option<usize>,
    /// The digests, one after the other: they are kept until their turn comes.
    digests: Vec<u8>,
    /// Whether entries are for several registers, or for one that is not attested.
    mixed: bool,
}

impl Extensions {
    fn note(&mut self, entry: &Entry<'_>, registers: &[Register], rule: ExtendRule) {
        let found = registers.iter().position(|register| register.pcr == entry.pcr);
        let register = found.filter(|at| self.register.is_none_or(|known| known == *at));
        match register.and_then(|at| registers.get(at)).filter(|_| !self.mixed) {
            Some(Register { before, .. }) => {
                self.register = register;
                self.digests.extend_from_slice(entry.extension(before.bank(), rule).as_bytes());
            }
            None => self.mixed = true,
        }
    }
}

/// What was found in a part on the way.
struct Seen<P, E> {
    extensions: Extensions,
    /// A [`bit`] for each register.
    registers: u32,
    made: P,
    /// Nothing was read after it.
    error: Option<E>,
}

/// What came of all parts.
struct Worked<P> {
    replayed: Vec<Replayed>,
    marks: Marks,
    made: Vec<P>,
}

/// Replays parts whose entries are got by `read`, once each, and hands them to `beside`.
fn replay<'l, I, E, P>(
    parts: impl Iterator<Item = Part<'l>> + Send,
    long: bool,
    registers: &[Register],
    rule: ExtendRule,
    read: impl Fn(&Part<'l>) -> I + Sync,
    beside: impl Fn(&mut dyn Iterator<Item = Entry<'l>>) -> P + Sync,
) -> Result<Worked<P>, E>
where
    I: Iterator<Item = Result<Entry<'l>, E>>,
    E: Send,
    P: Send,
{
    let start = |register: &Register| Replayed {
        current: register.before,
        used: false,
        since: (register.before == register.attested).then_some(0),
        until: None,
    };
    let replayed = registers.iter().map(start).collect();
    let mut worked = Worked { replayed, marks: Marks::default(), made: Vec::new() };
    // One register's values need each other, the hashes that it is extended with do not.
    let prepare = |part: &Part<'l>| {
        let (mut extensions, mut met, mut error) = (Extensions::default(), 0, None);
        let mut entries = read(part).map_while(|entry| {
            let entry = entry.map_err(|cause| error = Some(cause)).ok()?;
            met |= bit(entry.pcr);
            extensions.note(&entry, registers, rule);
            Some(entry)
        });
        let made = beside(&mut entries);
        entries.for_each(drop);
        Seen { extensions, registers: met, made, error }
    };
    let work = |part: &Part<'l>, seen: Seen<P, E>| {
        if let Some(error) = seen.error {
            return Err(error);
        }
        let Extensions { register, digests, mixed } = seen.extensions;
        if let Some(at) = register.filter(|_| !mixed) {
            if let (Some(register), Some(replayed)) = (registers.get(at), worked.replayed.get_mut(at)) {
                let digests = digests.chunks_exact(register.before.bank().len());
                for (position, digest) in (part.first()..).zip(digests) {
                    replayed.extend(register, position, |value| value.extend(digest));
                }
            }
        } else {
            for (position, entry) in (part.first()..).zip(part.entries()) {
                let mut slots = registers.iter().zip(&mut worked.replayed);
                if let Some((register, replayed)) = slots.find(|(register, _)| register.pcr == entry.pcr) {
                    let extension = |bank| entry.extension(bank, rule);
                    replayed.extend(register, position, |value| {
                        value.extend(extension(value.bank()).as_bytes());
                    });
                }
            }
        }
        worked.marks.note(part, seen.registers);
        worked.made.push(seen.made);
        Ok(())
    };
    in_order(parts, long, prepare, work)?;
    Ok(worked)
}

impl<'a> Log<'a> {
    /// Reads every entry, extends `registers` with those that are for them, and gives what `beside` makes of the entries of each
    /// part. In a long list two threads share the work evenly, and no entry is read twice.
    ///
    /// # Errors
    /// The first entry that is not valid.
    pub fn replay<P: Send>(
        self,
        registers: &[Register],
        rule: ExtendRule,
        beside: impl Fn(&mut dyn Iterator<Item = Entry<'_>>) -> P + Sync,
    ) -> Result<(ValidLog<'a>, Replay, Vec<P>), ImaError> {
        let worked = replay(self.parts(), self.is_long(), registers, rule, Part::read, beside)?;
        let log = self.marked(worked.marks);
        let replay = Replay { entries: log.len(), registers: worked.replayed };
        Ok((log, replay, worked.made))
    }
}

impl ValidLog<'_> {
    /// Extends `registers` with the entries that are for them.
    #[must_use]
    pub fn replay(&self, registers: &[Register], rule: ExtendRule) -> Replay {
        let (parts, long) = (self.parts(self.len()), self.is_long());
        let Ok(Worked { replayed, .. }) = replay(parts, long, registers, rule, Part::valid, |_| ());
        Replay { entries: self.len(), registers: replayed }
    }

    /// How many entries, from the first, lead every one of `registers` from its value before to its attested value;
    /// `None` if there is no such number, or no register. Entries for other registers are counted and extend nothing.
    ///
    /// A list grows while it is read, so that entries may follow that the attestation does not know of. They prove nothing.
    #[must_use]
    pub fn attested(&self, registers: &[Register], rule: ExtendRule) -> Option<usize> {
        self.replay(registers, rule).attested(0..registers.len())
    }
}
