//! Evidence of a TPM: a quote, the registers that it is about, and the log that explains them.

mod document;
mod state;
mod wire;

use evidence::tpm::ClockInfo;
use serde_json::{Value, json};
use verifier::Refusal;
use verifier::logs::{BootReport, ImaReferences, LogReferences, LogRules};
use verifier::tpm::{
    AttestationKey, BootEvents, ImaPart, ImaState, Progress, Quote, boot_aggregate, progress, replay_boot,
    replay_ima, verify_quote,
};

pub use state::TpmState;
pub use wire::{TpmEvidence, log_type};

use super::{Judged, Trust};
use crate::model::AttesterType;
use document::Status;

/// A boot that is known.
pub struct KnownBoot {
    /// The name of the set of reference values that says so.
    pub name: String,
    /// What is known.
    pub references: LogReferences,
}

/// What a quote is held against.
pub struct Expected<'a> {
    /// The node's attestation key.
    pub key: &'a AttestationKey,
    /// What the quote must have been asked to contain.
    pub qualifying: &'a [u8],
    /// What is known from the last quote of this key.
    pub state: Option<&'a TpmState>,
    /// The files that are known; `None` if the tenant has registered none.
    pub files: Option<&'a ImaReferences>,
    /// The boots that are known.
    pub boots: &'a [KnownBoot],
    /// What the tenant's policies demand of logs.
    pub rules: &'a LogRules,
    /// Whether policies may look at the entries of logs.
    pub shows_entries: bool,
}

/// Evidence whose quote is believed.
pub struct Appraised {
    /// What came of it. A log that is not what was measured refuses it.
    pub judged: Judged,
    /// The TPM's time.
    pub clock: ClockInfo,
    /// How far the IMA log is proven.
    pub ima: Option<ImaState>,
}

/// Appraises evidence of the type `kind`, which is one of a TPM's.
///
/// # Errors
/// [`Refusal`] if the quote is not believed. That a log is not, or a file not known, policies are told.
pub fn appraise(
    kind: AttesterType,
    evidence: &TpmEvidence,
    expected: &Expected<'_>,
) -> Result<Appraised, Refusal> {
    let parts = evidence.parts()?;
    let quote = verify_quote(expected.key, parts.attest, parts.signature, expected.qualifying, parts.pcrs)?;
    let known = expected.state;
    let progress = known.map(|state| progress(&state.clock(), &quote.clock)).transpose()?;
    // After a reset Linux measures into a new register, and its list begins anew.
    let ima = known.filter(|_| progress != Some(Progress::Reset)).and_then(TpmState::ima);
    let trust = Trust { hardware: None, executables: Trust::NONE };
    let judged = Judged { document: Value::Null, log_data: None, refused: None, subjects: Vec::new(), trust };
    let mut appraised = Appraised { judged, clock: quote.clock, ima };
    let log = match &parts.log {
        None => document::absent(kind),
        Some(log) if kind == AttesterType::TpmIma => {
            let part = ImaPart { first: log.first, log: log.data };
            files(part, &quote, expected, &mut appraised)
        }
        Some(log) => boot(log.data, &quote, expected, &mut appraised.judged),
    };
    appraised.judged.document = json!({ "evidence": {
        "logs": [log],
        "pcrs": document::pcrs(&quote.pcrs),
        "clock": {
            "reset_count": quote.clock.reset_count,
            "restart_count": quote.clock.restart_count,
            "safe": quote.clock.safe,
        },
    }});
    Ok(appraised)
}

fn boot(log: &[u8], quote: &Quote, expected: &Expected<'_>, judged: &mut Judged) -> Value {
    let events = match replay_boot(log, &quote.pcrs) {
        Ok(events) => events,
        Err(refusal) => return untrue("TcgEventLog", refusal, judged),
    };
    let status = known_boot(&events, expected);
    judged.trust.executables = Trust::BOOTED;
    if let Status::Unmatched(refusal) = &status {
        judged.trust.executables = Trust::BAD;
        judged.subjects.clone_from(&refusal.subjects);
    }
    judged.log_data = expected.shows_entries.then(|| document::boot_events(&events, quote.pcrs.bank()));
    document::boot(&events, &status)
}

/// Whether the machine booted as one of the known boots says.
fn known_boot(events: &BootEvents<'_>, expected: &Expected<'_>) -> Status<(String, BootReport)> {
    let rules = &expected.rules.boot;
    let mut first = None;
    for boot in expected.boots {
        match events.judge(&boot.references, rules) {
            Ok(report) => return Status::Matched((boot.name.clone(), report)),
            Err(refusal) => first = first.or(Some(refusal)),
        }
    }
    let demanded = rules.required || rules.secure_boot || !rules.roles.is_empty();
    match first {
        Some(refusal) => Status::Unmatched(refusal),
        None if demanded => match events.judge(&LogReferences::default(), rules) {
            Ok(report) => Status::Matched((String::new(), report)),
            Err(refusal) => Status::Unmatched(refusal),
        },
        None => Status::Ignore,
    }
}

fn untrue(log_type: &str, refusal: Refusal, judged: &mut Judged) -> Value {
    let log = document::failed(log_type, &refusal);
    judged.trust.executables = Trust::BAD;
    judged.subjects.clone_from(&refusal.subjects);
    judged.refused = Some(refusal);
    log
}

fn files(part: ImaPart<'_>, quote: &Quote, expected: &Expected<'_>, appraised: &mut Appraised) -> Value {
    let proven = replay_ima(part, appraised.ima.as_ref(), &quote.pcrs, expected.files)
        .and_then(|proof| boot_aggregate(&proof, &quote.pcrs).map(|linked| (proof, linked)));
    let (proof, linked) = match proven {
        Ok(proven) => proven,
        Err(refusal) => return untrue("ImaLog", refusal, &mut appraised.judged),
    };
    let status = match proof.judge(&expected.rules.ima) {
        None => Status::Ignore,
        Some(Ok(report)) => Status::Matched(report),
        Some(Err(refusal)) => Status::Unmatched(refusal),
    };
    appraised.judged.trust.executables = match status {
        Status::Ignore => Trust::NONE,
        Status::Matched(_) => Trust::RUNNING,
        Status::Unmatched(_) => Trust::BAD,
    };
    match &status {
        // What was not accepted is to be sent again: otherwise an unknown file would be forgotten with the next part.
        Status::Unmatched(refusal) => appraised.judged.subjects.clone_from(&refusal.subjects),
        Status::Matched(_) | Status::Ignore => appraised.ima = Some(proof.state),
    }
    appraised.judged.log_data = expected.shows_entries.then(|| document::ima_entries(&proof));
    document::ima(&proof, linked, &status)
}
