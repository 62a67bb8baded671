//! How much of a list the registers attest.

use super::{Entry, Part, ValidLog};
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

/// What an entry extends a register with.
struct Extension {
    /// Entries before it.
    read: usize,
    /// The position of its register.
    register: usize,
    digest: BankValue,
}

impl ValidLog<'_> {
    /// Extends `registers` with the entries that are for them, in one pass over the list.
    #[must_use]
    pub fn replay(&self, registers: &[Register], rule: ExtendRule) -> Replay {
        let start = |register: &Register| Replayed {
            current: register.before,
            used: false,
            since: (register.before == register.attested).then_some(0),
            until: None,
        };
        let mut replay = Replay { entries: self.len(), registers: registers.iter().map(start).collect() };
        let found = |entry: &Entry<'_>| {
            let mut registers = registers.iter().enumerate();
            registers.find_map(|(at, register)| {
                (register.pcr == entry.pcr).then_some((at, register.before.bank()))
            })
        };
        // One register's values need each other, the hashes that it is extended with do not.
        let prepare = |part: &Part<'_>| -> Vec<Extension> {
            let extension = |(read, entry): (usize, Entry<'_>)| {
                let (register, bank) = found(&entry)?;
                Some(Extension { read, register, digest: entry.extension(bank, rule) })
            };
            (part.first()..).zip(part.entries()).filter_map(extension).collect()
        };
        let extend = |replay: &mut Replay, at: usize, read: usize, digest: &dyn Fn(Bank) -> BankValue| {
            let slot = registers.get(at).zip(replay.registers.get_mut(at));
            let Some((register, replayed)) = slot else { return };
            replayed.used = true;
            match (replayed.since, replayed.until) {
                // What follows proves nothing, so it is not hashed either.
                (_, Some(_)) => {}
                (Some(_), None) => replayed.until = Some(read),
                (None, None) => {
                    replayed.current.extend(digest(replayed.current.bank()).as_bytes());
                    replayed.since = replayed.is(&register.attested).then_some(read + 1);
                }
            }
        };
        let work = |part: &Part<'_>, prepared: Option<Vec<Extension>>| {
            for Extension { read, register, digest } in prepared.iter().flatten() {
                extend(&mut replay, *register, *read, &|_| *digest);
            }
            if prepared.is_none() {
                for (read, entry) in (part.first()..).zip(part.entries()) {
                    if let Some((at, _)) = found(&entry) {
                        extend(&mut replay, at, read, &|bank| entry.extension(bank, rule));
                    }
                }
            }
            Ok::<_, std::convert::Infallible>(())
        };
        let Ok(()) = self.in_parts(self.len(), prepare, work);
        replay
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
