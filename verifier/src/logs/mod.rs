//! Logs: what was booted and what was run, proven by the extensible measurements of a Realm.
//!
//! In two steps. First the logs must be true: together they lead from zero to the attested registers, so that every digest in
//! them was measured, in this order. Then everything that was measured must be known, by whole-sequence rules: an event
//! or a file that no reference knows refuses the evidence, wherever it stands, and a scan never stops early.

mod boot;
mod golden;
mod ima;
mod references;
mod registers;
mod role;
mod rules;

use std::fmt;

use evidence::hash::{Digest, HashAlgorithm};
use evidence::tcg::Registers;
use serde::Serialize;

pub(crate) use boot::judge as judge_boot;
pub use boot::{BootReport, Component, Known};
pub(crate) use golden::boot as golden_boot;
pub use ima::ImaReport;
pub(crate) use ima::{Attested as AttestedList, judge_tpm as judge_ima, special};
pub use references::{
    BootReferences, FileReference, FileSigner, FileSignerError, ImaReferences, ImportError, KernelReference,
    KnownFiles, LogReferences, PathPattern, PathPatternError, RuntimePolicy, RuntimePolicyError, digest_list,
};
pub use registers::Explained;
pub use role::Role;
pub use rules::{BootRules, ImaRules, LogRules, Unchecked};

use crate::refusal::{Code, Refusal, Step, Subject};
use registers::Attested;

/// What the logs proved.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogReport {
    /// What explains each of the four extensible measurements.
    pub registers: [Explained; 4],
    /// Measured boot; `None` if its log was not sent, or is true but nothing is expected of it.
    pub boot: Option<BootReport>,
    /// Linux's measurement list; `None` as for boot.
    pub ima: Option<ImaReport>,
}

/// Logs that are true, ready to be held against references.
pub struct TrueLogs<'a>(Attested<'a>);

/// Holds logs against the extensible measurements `rems`, which are values of `hash`.
///
/// # Errors
/// A log that is malformed, or that is not what was measured.
pub fn attest<'a>(
    boot: Option<&'a [u8]>,
    ima: Option<&'a [u8]>,
    hash: HashAlgorithm,
    rems: &[Digest; 4],
) -> Result<TrueLogs<'a>, Refusal> {
    registers::attest(boot, ima, hash, rems).map(TrueLogs)
}

impl TrueLogs<'_> {
    /// Judges what was measured by a reference; `pinned` says which extensible measurements it has exactly.
    ///
    /// # Errors
    /// Something that is unknown, missing or not allowed.
    pub fn judge(
        &self,
        references: Option<&LogReferences>,
        pinned: [bool; 4],
        rules: &LogRules,
    ) -> Result<LogReport, Refusal> {
        let logs = &self.0;
        let mut explained = logs.explained;
        for (index, (explained, pinned)) in explained.iter_mut().zip(pinned).enumerate() {
            if *explained == Explained::Unexplained && pinned {
                *explained = Explained::Reference;
            }
            if *explained == Explained::Unexplained && !rules.unexplained_registers {
                return Err(refuse(
                    Code::RegisterUnexplained,
                    format!(
                        "extensible measurement {index} is not zero, and neither a log nor the reference explains it: \
                         send the log that was measured into it ({})",
                        if index == 3 { "IMA" } else { "the boot log, CCEL" }
                    ),
                ));
            }
        }
        let none = LogReferences::default();
        let references = references.unwrap_or(&none);
        Ok(LogReport {
            registers: explained,
            boot: self.boot(references, rules)?,
            ima: self.ima(references, rules)?,
        })
    }

    fn boot(&self, references: &LogReferences, rules: &LogRules) -> Result<Option<BootReport>, Refusal> {
        let rules = &rules.boot;
        let demanded = rules.required || !rules.roles.is_empty() || rules.secure_boot;
        let expected = demanded || references.boot.is_some();
        match &self.0.boot {
            None if expected => Err(missing("boot log (CCEL)", demanded)),
            Some(log) if expected || references.has_any(&rules.untyped_lists) => {
                let events = log.events.iter().enumerate();
                boot::judge(events, Registers::Measurement, self.0.bank, references, rules).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn ima(&self, references: &LogReferences, rules: &LogRules) -> Result<Option<ImaReport>, Refusal> {
        let rules = &rules.ima;
        let expected = rules.required || references.ima.is_some();
        let listed = references.has_any(&rules.untyped_lists);
        match &self.0.ima {
            None if expected => Err(missing("IMA log", rules.required)),
            Some(ima) if expected && !ima.any => Err(refuse(
                Code::LogMissing,
                "the IMA log is demanded, and the extensible measurements attest no entry of the one that was sent: \
                 the IMA policy must measure into registers 1 to 4 (pcr=)",
            )),
            Some(ima) if ima.any && (expected || listed) => {
                let list = AttestedList { log: &ima.log, entries: ima.entries, rule: ima.rule };
                ima::judge(&list, references, rules).map(Some)
            }
            _ => Ok(None),
        }
    }
}

fn missing(log: &str, by_policy: bool) -> Refusal {
    let who = if by_policy { "policy demands" } else { "the reference has values for" };
    refuse(Code::LogMissing, format!("{who} the {log}, and the evidence has none: send it"))
}

fn refuse(code: Code, detail: impl Into<String>) -> Refusal {
    Refusal::new(Step::Logs, code, detail)
}

/// What is not known, of which a refusal names the first few.
struct Unknown {
    what: &'static str,
    named: Vec<String>,
    subjects: Vec<Subject>,
    count: usize,
}

impl Unknown {
    const NAMED: usize = 5;

    fn new(what: &'static str) -> Self {
        Self { what, named: Vec::new(), subjects: Vec::new(), count: 0 }
    }

    fn add(
        &mut self,
        index: impl fmt::Display,
        description: impl FnOnce() -> String,
        subject: impl FnOnce() -> Subject,
    ) {
        self.count += 1;
        if self.named.len() < Self::NAMED {
            self.named.push(format!("{} {index}: {}", self.what, description()));
        }
        if self.subjects.len() < Subject::MOST {
            self.subjects.push(subject());
        }
    }

    fn refuse(self, code: Code) -> Result<(), Refusal> {
        if self.count == 0 {
            return Ok(());
        }
        let more = match self.count - self.named.len() {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let refusal = refuse(code, format!("{}{more}", self.named.join("; ")));
        Err(self.subjects.into_iter().fold(refusal, Refusal::about))
    }
}
