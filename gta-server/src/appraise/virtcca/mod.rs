//! Evidence of a virtCCA machine: the token of the monitor with that of the platform, and the logs.
//!
//! All is judged by `verifier`. Evidence that is not authentic is refused; what is authentic and not known, or not allowed
//! by the typed rules of a policy, is shown to policies as what it is, and none of them can accept it.

mod document;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use evidence::envelope::VirtccaEvidence;
use evidence::hash::Digest;
use verifier::chain::TrustBundle;
use verifier::rego::{APPRAISAL, RegoCache};
use verifier::{
    Appraisal, AppraisalPolicy, AwsLc, Code, CompileError, Context, RealmReference, ReferenceValues, Refusal,
    Rules, Step, StoreError, TrustAnchor, TrustAnchors,
};

use super::policies::is_built_in;
use super::{Judged, Trust};
use crate::model::Policy;
use crate::store::Document;

/// What evidence is held against.
pub struct Expected<'a> {
    /// What the token must answer.
    pub challenge: &'a [u8; 64],
    /// The authorities of the tenant for devices.
    pub authorities: &'a Arc<TrustBundle>,
    /// The machines that the tenant knows.
    pub realms: &'a [RealmReference],
    /// The typed rules that apply.
    pub rules: &'a [AppraisalPolicy],
    /// Seconds since the Unix epoch.
    pub now: i64,
}

/// Evidence that is authentic.
pub struct Appraised {
    /// What came of it.
    pub judged: Judged,
    /// The UEID of the platform (RFC 9711, 4.2.1), if the evidence is accepted and has one.
    pub ueid: Option<String>,
}

/// Appraises evidence.
///
/// # Errors
/// [`Refusal`] if it is not authentic or not fresh.
pub fn appraise(evidence: &VirtccaEvidence, expected: &Expected<'_>) -> Result<Appraised, Refusal> {
    let context = Context {
        now: expected.now,
        signatures: &AwsLc,
        anchors: &NoAnchors,
        certificates: expected.authorities,
        references: &Realms(expected.realms),
        policies: expected.rules,
    };
    let whole = evidence::envelope::Evidence::Virtcca(evidence.clone());
    match verifier::appraise(&whole, expected.challenge, &context) {
        Ok(appraisal) => Ok(accepted(evidence, &appraisal)),
        Err(refusal) if is_judgement(&refusal) => {
            Ok(Appraised { judged: rejected(evidence, refusal), ueid: None })
        }
        Err(refusal) => Err(refusal),
    }
}

/// Whether evidence was refused for what it says, and not because it may be untrue: these steps come after all those.
fn is_judgement(refusal: &Refusal) -> bool {
    let judges =
        matches!(refusal.step, Step::Lifecycle | Step::PlatformSoftware | Step::ReferenceValues | Step::Logs);
    judges && refusal.code != Code::StoreUnavailable
}

fn accepted(evidence: &VirtccaEvidence, appraisal: &Appraisal) -> Appraised {
    let platform = appraisal.claims.at(["platform", "instance_id"]);
    let trust = Trust {
        // Without a Platform Token, the firmware is not known.
        hardware: Some(if platform.is_some() { Trust::RUNNING } else { Trust::WARNING }),
        executables: if appraisal.logs.ima.is_some() { Trust::RUNNING } else { Trust::BOOTED },
    };
    let ueid = platform.and_then(|id| hex::decode(id.as_str()?).ok()).map(|id| URL_SAFE_NO_PAD.encode(id));
    let document = document::accepted(&evidence.logs, appraisal);
    Appraised {
        judged: Judged { document, log_data: None, refused: None, subjects: Vec::new(), trust },
        ueid,
    }
}

fn rejected(evidence: &VirtccaEvidence, refusal: Refusal) -> Judged {
    let document = document::rejected(&evidence.logs, &refusal);
    let platform = matches!(refusal.step, Step::Lifecycle | Step::PlatformSoftware);
    let trust = if platform {
        Trust { hardware: Some(Trust::BAD), executables: Trust::NONE }
    } else {
        Trust { hardware: Some(Trust::RUNNING), executables: Trust::BAD }
    };
    Judged { document, log_data: None, subjects: refusal.subjects.clone(), refused: Some(refusal), trust }
}

/// The typed rules of policies that apply; the strict ones, if the built-in policy judges.
///
/// # Errors
/// [`CompileError`] if the server's own module cannot be compiled.
pub fn rules(
    cache: &RegoCache,
    applicable: &[Document<Policy>],
) -> Result<Vec<AppraisalPolicy>, CompileError> {
    let trust = cache.get("trust", APPRAISAL, include_str!("../../../../policies/gta/trust.rego"))?;
    let rule =
        |id: &str, rules: Rules| AppraisalPolicy::compiled(id, trust.clone(), Vec::new()).with_rules(rules);
    let mut all: Vec<AppraisalPolicy> = applicable
        .iter()
        .map(|policy| rule(&policy.id, policy.body.rules.clone().unwrap_or_default()))
        .collect();
    if is_built_in(applicable) {
        all.push(rule("default", Rules::default()));
    }
    Ok(all)
}

struct Realms<'a>(&'a [RealmReference]);

impl ReferenceValues for Realms<'_> {
    fn realm(&self, rim: &Digest) -> Result<Vec<RealmReference>, StoreError> {
        Ok(self.0.iter().filter(|realm| realm.rim == *rim).cloned().collect())
    }
}

/// Keys of Arm CCA platforms are not what this server registers.
struct NoAnchors;

impl TrustAnchors for NoAnchors {
    fn platform_key(&self, _: &[u8; 32], _: &[u8; 33]) -> Result<Option<TrustAnchor>, StoreError> {
        Ok(None)
    }
}
