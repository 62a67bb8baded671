//! Step `logs`, IMA: Linux's measurement list leads to PCR 10, from the start or from where the last part of it ended.

use evidence::bank::{Bank, BankValue};
use evidence::ima::{BOOT_AGGREGATE, Entry, ExtendRule, Log, Register, ValidLog};
use evidence::tpm::PcrValues;

use crate::logs::{AttestedList, ImaReferences, ImaReport, ImaRules, judge_ima, special};
use crate::refusal::{Code, Refusal, Step, Subject};

/// The register that Linux measures into unless it is built otherwise.
const PCR: u32 = 10;

/// How far a list was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImaState {
    /// Entries from the start of the list.
    pub entries: u64,
    /// The value of PCR 10 after them.
    pub value: BankValue,
    /// What Linux extends it with.
    pub rule: ExtendRule,
}

/// A part of a list, as it was sent.
#[derive(Clone, Copy, Debug)]
pub struct ImaPart<'a> {
    /// The position of its first entry in the whole list, from 0.
    pub first: u64,
    /// The entries.
    pub log: &'a [u8],
}

/// A part of a list of which the quote proves some entries.
#[derive(Clone, Debug)]
pub struct ImaProof<'a> {
    log: ValidLog<'a>,
    first: u64,
    attested: usize,
    known: Option<Known<'a>>,
    /// How far the list is proven now.
    pub state: ImaState,
}

/// The files that are known, and where each part of the list has something else.
#[derive(Clone, Debug)]
struct Known<'a> {
    files: &'a ImaReferences,
    special: Vec<Vec<usize>>,
}

/// Replays a part of the list, and looks its files up in `references` on the way, if there are any. `state` is how far it was proven
/// by the last quote since the machine was started, if there was one.
///
/// # Errors
/// [`Refusal`] of the step `logs`.
pub fn replay_ima<'a>(
    part: ImaPart<'a>,
    state: Option<&ImaState>,
    quoted: &PcrValues,
    references: Option<&'a ImaReferences>,
) -> Result<ImaProof<'a>, Refusal> {
    let bank = quoted.bank();
    let attested = quoted.get(PCR).ok_or_else(|| {
        refuse(Code::LogMismatch, "the IMA log is for PCR 10, which was not quoted: quote it, too")
    })?;
    let state = match (part.first, state) {
        (0, _) => None,
        (first, Some(state)) if first == state.entries && state.value.bank() == bank => Some(state),
        (first, known) => {
            return Err(refuse(
                Code::LogMismatch,
                format!(
                    "the IMA log begins with entry {first}, and {} entries are known here since the machine was started: \
                     send it from there, or from the beginning",
                    known.map_or(0, |state| state.entries)
                ),
            ));
        }
    };
    let before = state.map_or(BankValue::zero(bank), |state| state.value);
    let register = [Register { pcr: PCR, before, attested }];
    let rule = state.map_or(ExtendRule::PerBank, |state| state.rule);
    let malformed = |error: evidence::ima::ImaError| refuse(Code::LogMalformed, error.to_string());
    let look_up = |entries: &mut dyn Iterator<Item = Entry<'_>>| {
        references.map(|references| special(&references.files, &(PCR..=PCR), entries))
    };
    let (log, replay, looked_up) =
        Log::new(part.log).and_then(|log| log.replay(&register, rule, look_up)).map_err(malformed)?;
    if let Some((index, entry)) = log.stranger(PCR) {
        return Err(refuse(
            Code::ImaEntryUnattested,
            format!(
                "entry {index} of the IMA log is for PCR {}, and only PCR 10 is appraised: its policy must not say pcr=",
                entry.pcr
            ),
        ));
    }
    let mut proven = replay.attested([0]).map(|count| (count, rule));
    if state.is_none() {
        let padded = || log.attested(&register, ExtendRule::PaddedSha1);
        proven = proven.or_else(|| Some((padded()?, ExtendRule::PaddedSha1)));
    }
    let Some((count, rule)) = proven else {
        return Err(refuse(
            Code::LogMismatch,
            "no part of the IMA log leads to the value of PCR 10 that was quoted: the log is not what was measured, or was read \
             before the quote",
        )
        .about(Subject::Pcr { index: PCR, expected: None, found: attested.to_string() }));
    };
    let entries = part.first.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    if entries == 0 {
        return Err(refuse(
            Code::LogMissing,
            "PCR 10 attests no entry of the IMA log: nothing was measured, start Linux with an IMA policy",
        ));
    }
    let state = ImaState { entries, value: attested, rule };
    let special: Option<Vec<Vec<usize>>> = looked_up.into_iter().collect();
    let known = references.zip(special).map(|(files, special)| Known { files, special });
    Ok(ImaProof { log, first: part.first, attested: count, known, state })
}

impl ImaProof<'_> {
    /// How many entries of the part are proven. More may follow, which were measured after the quote.
    #[must_use]
    pub const fn attested(&self) -> usize {
        self.attested
    }

    /// The proven entries.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.log.entries().take(self.attested)
    }

    /// Holds the proven entries against the files that are known; `None` if none were given to [`replay_ima`]. A list that
    /// begins with its first entry must have been linked to the boot by [`boot_aggregate`], whose entry is not judged here.
    ///
    /// # Errors
    /// A file that is not known at its path, or a violation that `rules` do not allow.
    pub fn judge(&self, rules: &ImaRules) -> Option<Result<ImaReport, Refusal>> {
        let Known { files, special } = self.known.as_ref()?;
        let list = AttestedList { log: &self.log, entries: self.attested, rule: self.state.rule };
        Some(judge_ima(&list, self.first, PCR, files, special, rules))
    }
}

/// Whether the first entry of the list is what the quoted registers of the boot add up to: then the files belong to this
/// boot. `None` if the part does not have that entry, or not all registers that it takes were quoted.
///
/// # Errors
/// [`Code::BootAggregateMismatch`] if it is something else, or the list does not begin with it.
pub fn boot_aggregate(proof: &ImaProof<'_>, quoted: &PcrValues) -> Result<Option<bool>, Refusal> {
    if proof.first > 0 {
        return Ok(None);
    }
    let refuse = |detail: String| Refusal::new(Step::Logs, Code::BootAggregateMismatch, detail);
    let first = proof.entries().next().filter(|entry| entry.path == BOOT_AGGREGATE && !entry.is_violation());
    let first = first.ok_or_else(|| {
        refuse("the IMA log does not begin with boot_aggregate: send it from its beginning".to_owned())
    })?;
    let bank = quoted.bank();
    if first.digest.algorithm != bank.name() {
        return Ok(None);
    }
    // Linux takes PCR 0 to 9 since 5.8, and before that 0 to 7.
    let aggregates: Vec<BankValue> =
        [10_u32, 8].into_iter().filter_map(|end| aggregate(quoted, bank, end)).collect();
    if aggregates.len() < 2 {
        return Ok(None);
    }
    if aggregates.iter().any(|aggregate| aggregate.as_bytes() == first.digest.value) {
        return Ok(Some(true));
    }
    Err(refuse(format!(
        "boot_aggregate in the IMA log is {}, and the quoted registers of the boot add up to something else: the log is of \
         another boot",
        first.digest
    )))
}

fn aggregate(quoted: &PcrValues, bank: Bank, end: u32) -> Option<BankValue> {
    let values: Option<Vec<BankValue>> = (0..end).map(|register| quoted.get(register)).collect();
    Some(bank.hash(values?.iter().map(BankValue::as_bytes)))
}

fn refuse(code: Code, detail: impl Into<String>) -> Refusal {
    Refusal::new(Step::Logs, code, detail)
}
