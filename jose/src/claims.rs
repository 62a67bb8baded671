//! What the claims of an attestation token say: which challenge was attested, and how the appraisal ended.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// Names of the attested challenge among a token's claims (`tcb_status`), in hexadecimal.
const ATTESTED_CHALLENGES: [&str; 3] =
    ["vcca.cvm.challenge", "cca.realm.challenge", "cca.realm.cca-realm-challenge"];

/// Names of the initial measurement there: virtCCA's, secGear's local verifier's and ours.
const MEASUREMENTS: [&str; 3] = ["vcca.cvm.rim", "cca.realm.cca-realm-initial-measurement", "cca.realm.rim"];

/// Why the claims of a token that holds do not prove what they are to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    /// They are about another challenge.
    #[error("the token was issued for another challenge: it is someone else's, or an old one")]
    ForeignChallenge,
    /// They name no challenge, so they could be about anything.
    #[error("the token's claims do not say which challenge was attested")]
    NoChallenge,
    /// The appraisal did not end well.
    #[error("the appraisal of the evidence did not end well (evaluation_reports.eval_result is not true)")]
    Verdict,
}

/// The claims must say which challenge was attested, wherever they say it, and it must be `challenge`. secGear's own
/// verifier does not compare the two, so that anybody's token goes with any challenge.
///
/// # Errors
/// [`ClaimsError::ForeignChallenge`] or [`ClaimsError::NoChallenge`].
pub fn check_challenge(claims: &Map<String, Value>, challenge: &[u8]) -> Result<(), ClaimsError> {
    let mut named = 0;
    if let Some(nonce) = claims.get("nonce") {
        named += 1;
        let decoded = nonce.as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        if decoded.as_deref() != Some(challenge) {
            return Err(ClaimsError::ForeignChallenge);
        }
    }
    // The local verifier's claims have it under payload.
    for status in ["tcb_status", "payload"].iter().filter_map(|name| claims.get(*name)) {
        for attested in ATTESTED_CHALLENGES.iter().filter_map(|name| status.get(*name)) {
            named += 1;
            let decoded = attested.as_str().and_then(|text| hex::decode(text).ok());
            if decoded.as_deref() != Some(challenge) {
                return Err(ClaimsError::ForeignChallenge);
            }
        }
    }
    if named == 0 { Err(ClaimsError::NoChallenge) } else { Ok(()) }
}

/// The service must have accepted the evidence.
///
/// # Errors
/// [`ClaimsError::Verdict`].
pub fn check_verdict(claims: &Map<String, Value>) -> Result<(), ClaimsError> {
    let verdict = claims.get("evaluation_reports").and_then(|reports| reports.get("eval_result"));
    if verdict == Some(&Value::Bool(true)) { Ok(()) } else { Err(ClaimsError::Verdict) }
}

/// The initial measurement (RIM) that was attested, in hexadecimal; nothing where the claims are at odds with each other.
#[must_use]
pub fn initial_measurement(claims: &Map<String, Value>) -> Option<&str> {
    let status = claims.get("tcb_status")?;
    let mut named = MEASUREMENTS.iter().filter_map(|name| status.get(*name));
    let first = named.next()?;
    if named.all(|other| other == first) { first.as_str() } else { None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn challenge(claims: &Value) -> Result<(), ClaimsError> {
        check_challenge(claims.as_object().unwrap(), &[0xab; 64])
    }

    #[test]
    fn challenge_is_the_same_wherever_it_is_named() {
        let (nonce, attested) = (URL_SAFE_NO_PAD.encode([0xab; 64]), "ab".repeat(64));
        challenge(&json!({ "nonce": nonce })).unwrap();
        for name in ATTESTED_CHALLENGES {
            challenge(&json!({"tcb_status": {name: attested}})).unwrap();
            challenge(&json!({"nonce": nonce, "payload": {name: attested}})).unwrap();
            for other in [json!("ab".repeat(63)), json!("cd".repeat(64)), json!("x"), json!(1), json!(null)] {
                for place in ["tcb_status", "payload"] {
                    let claims = json!({"nonce": nonce, place: {name: other}});
                    assert_eq!(challenge(&claims), Err(ClaimsError::ForeignChallenge), "{name} {other}");
                }
            }
        }
        for other in [json!(URL_SAFE_NO_PAD.encode([1; 64])), json!("="), json!(""), json!(7)] {
            let claims = json!({"nonce": other, "tcb_status": {"cca.realm.challenge": attested}});
            assert_eq!(challenge(&claims), Err(ClaimsError::ForeignChallenge), "{other}");
        }
        for silent in [json!({}), json!({"tcb_status": {"vcca.cvm.rim": attested}}), json!({"tcb_status": 1})]
        {
            assert_eq!(challenge(&silent), Err(ClaimsError::NoChallenge));
        }
    }

    #[test]
    fn only_a_verdict_that_is_true_is_good() {
        let verdict =
            |reports: Value| check_verdict(json!({ "evaluation_reports": reports }).as_object().unwrap());
        verdict(json!({"eval_result": true})).unwrap();
        for other in [json!({"eval_result": false}), json!({"eval_result": "true"}), json!({}), json!(true)] {
            assert_eq!(verdict(other), Err(ClaimsError::Verdict));
        }
        assert_eq!(check_verdict(&Map::new()), Err(ClaimsError::Verdict));
    }

    #[test]
    fn measurement_is_told_unless_claims_contradict_each_other() {
        let measurement = |status: Value| {
            let claims = json!({ "tcb_status": status });
            initial_measurement(claims.as_object().unwrap()).map(str::to_owned)
        };
        for name in MEASUREMENTS {
            assert_eq!(measurement(json!({name: "ab12"})).as_deref(), Some("ab12"));
            assert_eq!(measurement(json!({name: 12})), None);
        }
        let both = |other: &str| json!({"vcca.cvm.rim": "ab", "cca.realm.rim": other});
        assert_eq!(measurement(both("ab")).as_deref(), Some("ab"));
        assert_eq!(measurement(both("cd")), None);
        assert_eq!(measurement(json!({})), None);
        assert_eq!(initial_measurement(&Map::new()), None);
    }
}
