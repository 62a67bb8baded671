//! Linux's measurement list: every attested file must be known at its path.

use std::cell::Cell;
use std::ops::RangeInclusive;

use evidence::hash::Digest;
use evidence::ima::{BOOT_AGGREGATE, Entry, ExtendRule, FileDigest, Part, Template, ValidLog};
use serde::Serialize;
use serde_json::{Map, Value};

use super::references::{ImaReferences, KnownFiles, LogReferences};
use super::registers::REGISTERS;
use super::rules::ImaRules;
use super::{Unknown, refuse};
use crate::refusal::{Code, Refusal, Subject};

/// Most paths that a report names. They go into tokens, which travel in HTTP headers and are parsed with every request.
const MAX_REPORTED: usize = 1000;

/// Signatures that may be wrong before no more are looked at: a list may have a hundred thousand, and is refused anyway.
const MAX_BAD_SIGNATURES: usize = 100;

/// The result of a list that passed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImaReport {
    /// Entries that the registers attest.
    pub attested: usize,
    /// Of these, files and buffers.
    pub files: usize,
    /// Violations among them.
    pub violations: usize,
    /// Files that were not judged, because their paths are excluded.
    pub excluded: usize,
    /// Files that are known by their signature alone.
    pub signed: usize,
    /// Files that only a list without paths knows.
    pub untyped: usize,
    /// What Linux extended the registers with: `per_bank` or `padded_sha1`.
    pub extend_rule: &'static str,
    /// The paths, or the first thousand of them.
    #[serde(skip)]
    pub paths: Vec<String>,
}

impl ImaReport {
    /// The object `ima` of secGear's tokens. What is in a report is known, so every value is `true`.
    #[must_use]
    pub fn secgear(&self) -> Map<String, Value> {
        self.paths.iter().map(|path| (path.clone(), Value::Bool(true))).collect()
    }
}

/// A list, as far as registers attest it.
pub struct Attested<'a> {
    /// The list, or a part of it.
    pub log: &'a ValidLog<'a>,
    /// How many of its entries, from the first, are attested.
    pub entries: usize,
    /// What Linux extends registers with.
    pub rule: ExtendRule,
}

/// Judges the attested entries of a list.
pub fn judge(
    list: &Attested<'_>,
    references: &LogReferences,
    rules: &ImaRules,
) -> Result<ImaReport, Refusal> {
    let nothing = ImaReferences::default();
    let files = match &references.ima {
        Some(files) => files,
        None if references.has_any(&rules.untyped_lists) => &nothing,
        None => {
            return Err(refuse(
                Code::LogReferenceMissing,
                "the reference has no values for the IMA log: register them (logs.ima)",
            ));
        }
    };
    let by_reference = |_: u64, digest: &FileDigest<'_>| {
        // A machine without a TPM has nothing to aggregate. No file has this digest, so none can pass for the entry.
        let nothing = digest.value.iter().all(|byte| *byte == 0);
        nothing || files.boot_aggregate.iter().any(|reference| reference.is(digest))
    };
    let judge = Judge {
        files,
        references,
        rules,
        registers: REGISTERS,
        first: 0,
        boot_aggregate: &by_reference,
        bad_signatures: Cell::default(),
    };
    judge.list(list)
}

/// Judges a part of a TPM's list, which begins with the entry `first` of the whole. Its register is `register`; the entry
/// `boot_aggregate` at the very start was held against the registers of the boot. `special` has what [`special`] found in each
/// part of it with the same files.
pub fn judge_tpm(
    list: &Attested<'_>,
    first: u64,
    register: u32,
    files: &ImaReferences,
    special: &[Vec<usize>],
    rules: &ImaRules,
) -> Result<ImaReport, Refusal> {
    let nothing = LogReferences::default();
    let judge = Judge {
        files,
        references: &nothing,
        rules,
        registers: register..=register,
        first,
        boot_aggregate: &|index, _| index == 0,
        bad_signatures: Cell::default(),
    };
    let mut report = ImaReport::new(list);
    let mut unknown = Unknown::new("entry");
    let mut found = special.iter();
    for part in list.log.parts(list.entries) {
        let all: Vec<usize>;
        let special = match found.next() {
            Some(special) => special,
            // What nobody has looked up is not known.
            None => {
                all = (0..part.len()).collect();
                &all
            }
        };
        judge.part(&part, special, &mut report, &mut unknown)?;
    }
    unknown.refuse(Code::ImaEntryUnknown)?;
    Ok(report)
}

/// The positions of entries that are not simply a known file: they are judged one by one.
pub fn special(
    files: &KnownFiles,
    registers: &RangeInclusive<u32>,
    entries: &mut dyn Iterator<Item = Entry<'_>>,
) -> Vec<usize> {
    files.unknown(entries.map(|entry| {
        let simple = registers.contains(&entry.pcr) && !entry.is_violation() && entry.path != BOOT_AGGREGATE;
        simple.then_some((entry.path, entry.digest))
    }))
}

impl ImaReport {
    fn new(list: &Attested<'_>) -> Self {
        Self {
            attested: list.entries,
            files: 0,
            violations: 0,
            excluded: 0,
            signed: 0,
            untyped: 0,
            extend_rule: match list.rule {
                ExtendRule::PerBank => "per_bank",
                ExtendRule::PaddedSha1 => "padded_sha1",
            },
            paths: Vec::new(),
        }
    }
}

struct Judge<'a> {
    files: &'a ImaReferences,
    references: &'a LogReferences,
    rules: &'a ImaRules,
    /// The registers that are attested.
    registers: RangeInclusive<u32>,
    /// The position of the log's first entry in the whole list.
    first: u64,
    /// Whether this is the place and the value of the entry for all that was measured before Linux.
    boot_aggregate: &'a dyn Fn(u64, &FileDigest<'_>) -> bool,
    bad_signatures: Cell<usize>,
}

/// Why an entry is accepted.
enum Accepted {
    BootAggregate,
    Violation,
    Known,
    Excluded,
    Signed,
    Untyped,
}

impl Judge<'_> {
    fn list(&self, list: &Attested<'_>) -> Result<ImaReport, Refusal> {
        let mut report = ImaReport::new(list);
        let mut unknown = Unknown::new("entry");
        let (files, registers) = (&self.files.files, &self.registers);
        list.log.in_parts(
            list.entries,
            |part| special(files, registers, &mut part.entries()),
            |part, special| self.part(part, &special, &mut report, &mut unknown),
        )?;
        unknown.refuse(Code::ImaEntryUnknown)?;
        Ok(report)
    }

    /// Judges a part of which what is at `special` is not simply a known file.
    fn part(
        &self,
        part: &Part<'_>,
        special: &[usize],
        report: &mut ImaReport,
        unknown: &mut Unknown,
    ) -> Result<(), Refusal> {
        if special.is_empty() && report.paths.len() >= MAX_REPORTED {
            report.files += part.len();
            return Ok(());
        }
        // No list has so many entries.
        let first = self.first.saturating_add(u64::try_from(part.first()).unwrap_or(u64::MAX));
        let mut special = special.iter().copied().peekable();
        for ((position, entry), index) in part.entries().enumerate().zip(first..) {
            let simple = special.next_if_eq(&position).is_none();
            self.note(index, &entry, simple, report, unknown)?;
        }
        Ok(())
    }

    /// Judges an entry, and notes what came of it.
    fn note(
        &self,
        index: u64,
        entry: &Entry<'_>,
        known: bool,
        report: &mut ImaReport,
        unknown: &mut Unknown,
    ) -> Result<(), Refusal> {
        let path = || String::from_utf8_lossy(entry.path);
        match self.entry(index, entry, known)? {
            None => unknown.add(
                index,
                || format!("{:?} with digest {}", path(), entry.digest),
                || Subject::file(index, entry.path, &entry.digest),
            ),
            Some(Accepted::BootAggregate) => return Ok(()),
            Some(Accepted::Violation) => report.violations += 1,
            Some(Accepted::Excluded) => report.excluded += 1,
            Some(Accepted::Signed) => report.signed += 1,
            Some(Accepted::Untyped) => report.untyped += 1,
            Some(Accepted::Known) => {}
        }
        report.files += 1;
        if report.paths.len() < MAX_REPORTED {
            report.paths.push(path().into_owned());
        }
        Ok(())
    }

    /// `known` says whether a file at this path may have this digest.
    fn entry(&self, index: u64, entry: &Entry<'_>, known: bool) -> Result<Option<Accepted>, Refusal> {
        let bound = self.registers.contains(&entry.pcr);
        if entry.path == BOOT_AGGREGATE && !entry.is_violation() {
            return Ok((self.boot_aggregate)(index, &entry.digest).then_some(Accepted::BootAggregate));
        }
        if !bound {
            return Err(refuse(
                Code::ImaEntryUnattested,
                format!(
                    "the IMA log has an entry for register {}, which no extensible measurement attests: \
                     the IMA policy must measure into registers 1 to 4 (pcr=)",
                    entry.pcr
                ),
            ));
        }
        if entry.is_violation() {
            if self.rules.violations {
                return Ok(Some(Accepted::Violation));
            }
            return Err(refuse(
                Code::ImaViolation,
                format!(
                    "{:?} was changed while it was measured, and policy does not accept violations",
                    String::from_utf8_lossy(entry.path)
                ),
            )
            .about(Subject::file(index, entry.path, &entry.digest)));
        }
        if known {
            return Ok(Some(Accepted::Known));
        }
        // A path that is not UTF-8 is in no reference.
        if std::str::from_utf8(entry.path).is_ok_and(|path| self.excludes(entry.template, path)) {
            return Ok(Some(Accepted::Excluded));
        }
        if self.listed(&entry.digest) {
            return Ok(Some(Accepted::Untyped));
        }
        Ok(self.is_signed(entry).then_some(Accepted::Signed))
    }

    fn excludes(&self, template: Template, path: &str) -> bool {
        self.files.excludes(path)
            || (template == Template::ImaBuf && self.files.ignored_buffers.contains(path))
    }

    /// Asked last: an entry whose signature is wrong makes the list refused.
    fn is_signed(&self, entry: &Entry<'_>) -> bool {
        let Some(signature) = entry.signature().filter(|_| !self.files.signers.is_empty()) else {
            return false;
        };
        if self.bad_signatures.get() >= MAX_BAD_SIGNATURES {
            return false;
        }
        let signed = self.files.signers.iter().any(|signer| signer.has_signed(&entry.digest, signature));
        if !signed {
            self.bad_signatures.set(self.bad_signatures.get() + 1);
        }
        signed
    }

    fn listed(&self, digest: &FileDigest<'_>) -> bool {
        let plain = !digest.verity && matches!(digest.algorithm, "sha256" | "sha384" | "sha512");
        let digest = Digest::from_slice(digest.value).filter(|_| plain);
        digest.is_some_and(|digest| self.references.untyped_has(&self.rules.untyped_lists, &digest))
    }
}
