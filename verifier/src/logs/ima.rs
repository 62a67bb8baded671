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

/// Entries that are looked up at once.
const BATCH: usize = 64;

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

/// Judges the first `attested` entries of a list.
pub fn judge(
    log: &ValidLog<'_>,
    attested: usize,
    rule: ExtendRule,
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
    judge.log(log, attested, rule)
}

/// Judges the first `attested` entries of a part of a TPM's list that begins with the entry `first` of the whole. Its
/// register is `register`; the entry `boot_aggregate` at the very start was held against the registers of the boot.
pub fn judge_tpm(
    log: &ValidLog<'_>,
    attested: usize,
    first: u64,
    rule: ExtendRule,
    files: &ImaReferences,
    rules: &ImaRules,
    register: u32,
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
    judge.log(log, attested, rule)
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

/// The entries of a part, and whether each is a known file.
fn looked_up<'a>(files: &KnownFiles, part: &Part<'a>) -> Vec<(Entry<'a>, bool)> {
    let mut entries: Vec<(Entry<'a>, bool)> = part.entries().map(|entry| (entry, false)).collect();
    for batch in entries.chunks_mut(BATCH) {
        let known = files.which(batch.iter().map(|(entry, _)| (entry.path, entry.digest)));
        batch.iter_mut().zip(known).for_each(|((_, is_known), known)| *is_known = known);
    }
    entries
}

impl Judge<'_> {
    fn log(&self, log: &ValidLog<'_>, attested: usize, rule: ExtendRule) -> Result<ImaReport, Refusal> {
        let mut report = ImaReport {
            attested,
            files: 0,
            violations: 0,
            excluded: 0,
            signed: 0,
            untyped: 0,
            extend_rule: match rule {
                ExtendRule::PerBank => "per_bank",
                ExtendRule::PaddedSha1 => "padded_sha1",
            },
            paths: Vec::new(),
        };
        let mut unknown = Unknown::new("entry");
        let files = &self.files.files;
        log.in_parts(
            attested,
            |part| looked_up(files, part),
            |part, prepared| {
                // No list has so many entries.
                let first = self.first.saturating_add(u64::try_from(part.first()).unwrap_or(u64::MAX));
                let entries = prepared.unwrap_or_else(|| looked_up(files, part));
                for ((entry, known), index) in entries.iter().zip(first..) {
                    self.note(index, entry, *known, &mut report, &mut unknown)?;
                }
                Ok(())
            },
        )?;
        unknown.refuse(Code::ImaEntryUnknown)?;
        Ok(report)
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
