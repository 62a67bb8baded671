//! Whether a token of an attestation service proves that a guest is what its definition says.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jose::{ClaimsError, TokenError, TokenKeys};
use serde_json::{Map, Value};

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 32;
/// Bytes of a challenge: 32 of the service, then the nonce.
const CHALLENGE_LEN: usize = 64;
/// Names of the platform's lifecycle among the claims.
const LIFECYCLES: [&str; 2] = ["cca.platform.lifecycle", "vcca.platform.lifecycle"];

/// What the report of a token has beside policies: results of logs.
const LOGS: [&str; 3] = ["ima", "event", "uefi"];

/// Why nothing is proven.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The agent's challenge is not for our nonce.
    #[error(
        "the guest's agent did not take this command's nonce into its challenge: what it attests could be old, so \
         nothing is proven"
    )]
    Challenge,
    /// The token does not hold.
    #[error("the token that the guest presents does not hold")]
    Token(#[from] TokenError),
    /// The token is about something else, or the service did not accept the guest.
    #[error("the token does not prove this guest")]
    Claims(#[from] ClaimsError),
    /// A policy that was asked for was not applied, or did not accept the guest.
    #[error(
        "the token does not say that the policy {id} accepted the guest: the agent did not ask the service for it, or \
         the service does not say what its policies found"
    )]
    Policy {
        /// The policy.
        id: String,
    },
    /// The token does not say what was launched.
    #[error(
        "the token names no initial measurement (RIM), or several that differ: the service is none that appraises Realms"
    )]
    NoMeasurement,
    /// Something else was launched.
    #[error(
        "what runs is not what is defined: RIM {expected} is expected, and {found} was attested; the kernel, the \
         initial RAM disk, the command line, memory or vCPUs differ. If the definition was changed since the domain \
         started, start it anew"
    )]
    Measurement {
        /// By the definition.
        expected: String,
        /// By the token.
        found: String,
    },
}

/// What must hold.
pub struct Demand<'a> {
    /// Keys of the attestation service.
    pub keys: &'a TokenKeys,
    /// The issuer that the token must name, if any.
    pub issuer: Option<&'a str>,
    /// What the evidence must answer.
    pub challenge: &'a [u8],
    /// The measurement that must have been attested, in hexadecimal.
    pub rim: &'a str,
    /// Policies that must have accepted the guest.
    pub policies: &'a [String],
    /// Seconds since 1970.
    pub now: i64,
}

/// What is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The measurement that was attested, in hexadecimal.
    pub rim: String,
    /// Names of the policies that accepted the guest.
    pub policies: Vec<String>,
    /// State of the platform's life, as far as the evidence has one.
    pub lifecycle: Option<String>,
    /// When the token ends, seconds since 1970.
    pub expires: i64,
}

/// The bytes of a challenge that an agent has made for `nonce`.
///
/// # Errors
///
/// [`Refusal::Challenge`] unless it is one that ends with the nonce.
pub fn challenge_for(nonce: &[u8; NONCE_LEN], challenge: &str) -> Result<[u8; CHALLENGE_LEN], Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(challenge).map_err(|_| Refusal::Challenge)?;
    let bytes: [u8; CHALLENGE_LEN] = bytes.try_into().map_err(|_| Refusal::Challenge)?;
    if bytes.ends_with(nonce) { Ok(bytes) } else { Err(Refusal::Challenge) }
}

/// Judges a token.
///
/// # Errors
///
/// The first thing that does not hold.
pub fn prove(token: &str, demand: &Demand<'_>) -> Result<Proof, Refusal> {
    let expected = jose::Expected { issuer: demand.issuer, audience: None };
    let jose::Verified { claims, expires, .. } = demand.keys.verify(token.trim(), &expected, demand.now)?;
    jose::check_challenge(&claims, demand.challenge)?;
    jose::check_verdict(&claims)?;
    let rim = jose::initial_measurement(&claims).ok_or(Refusal::NoMeasurement)?.to_lowercase();
    if rim != demand.rim.to_lowercase() {
        return Err(Refusal::Measurement { expected: demand.rim.to_owned(), found: rim });
    }
    let applied = applied_policies(&claims);
    for id in demand.policies {
        if !applied.iter().any(|(name, output)| name == id && matched(output)) {
            return Err(Refusal::Policy { id: id.clone() });
        }
    }
    Ok(Proof {
        rim,
        policies: applied.into_iter().map(|(name, _)| name.to_owned()).collect(),
        lifecycle: claims.get("tcb_status").and_then(lifecycle),
        expires,
    })
}

/// The policies that were applied, each with its output, which is JSON in a text.
fn applied_policies(claims: &Map<String, Value>) -> Vec<(&str, &str)> {
    let report = claims.get("evaluation_reports").and_then(|reports| reports.get("report"));
    let results = report.and_then(Value::as_object).into_iter().flatten();
    let named = results.filter(|(name, _)| !LOGS.contains(&name.as_str()));
    named.filter_map(|(name, output)| Some((name.as_str(), output.as_str()?))).collect()
}

/// Whether a policy with this output accepted the guest: it says something, and nothing of that is false or null.
fn matched(output: &str) -> bool {
    let output: Map<String, Value> = serde_json::from_str(output).unwrap_or_default();
    !output.is_empty() && !output.values().any(|value| matches!(value, Value::Null | Value::Bool(false)))
}

fn lifecycle(status: &Value) -> Option<String> {
    let lifecycle = LIFECYCLES.iter().find_map(|name| status.get(*name))?;
    let value = lifecycle.get("value")?.as_u64()?;
    Some(format!("{} ({value:#06x})", lifecycle.get("state")?.as_str()?))
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, EncodingKey, Header};
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;
    const NONCE: [u8; NONCE_LEN] = [7; NONCE_LEN];
    const RIM: &str = "ab12";

    struct Issuer {
        key: rcgen::KeyPair,
        keys: TokenKeys,
    }

    impl Issuer {
        fn new() -> Self {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
            let keys = TokenKeys::from_pem(key.public_key_pem().as_bytes()).unwrap();
            Self { key, keys }
        }

        fn sign(&self, claims: &Value) -> String {
            let key = EncodingKey::from_ec_der(self.key.serialized_der());
            jsonwebtoken::encode(&Header::new(Algorithm::ES384), claims, &key).unwrap()
        }

        fn judge(&self, token: &str) -> Result<Proof, Refusal> {
            self.judge_by(token, &[])
        }

        fn judge_by(&self, token: &str, policies: &[String]) -> Result<Proof, Refusal> {
            let challenge = challenge();
            let demand = Demand {
                keys: &self.keys,
                issuer: Some("redoubt"),
                challenge: &challenge,
                rim: RIM,
                policies,
                now: NOW,
            };
            prove(token, &demand)
        }
    }

    fn challenge() -> [u8; CHALLENGE_LEN] {
        challenge_for(&NONCE, &URL_SAFE_NO_PAD.encode([[3; 32], NONCE].concat())).unwrap()
    }

    fn claims() -> Value {
        json!({"iss": "redoubt", "nbf": NOW - 5, "exp": NOW + 300, "nonce": URL_SAFE_NO_PAD.encode(challenge()),
            "evaluation_reports": {"eval_result": true, "report": {"default_cca.rego": "{}", "ima": null}},
            "tcb_status": {"cca.realm.challenge": hex::encode(challenge()), "cca.realm.rim": "AB12",
                "cca.platform.lifecycle": {"state": "secured", "value": 0x3003}}})
    }

    #[test]
    fn token_that_says_what_is_demanded_is_a_proof() {
        let issuer = Issuer::new();
        let proof = issuer.judge(&issuer.sign(&claims())).unwrap();
        let lifecycle = Some("secured (0x3003)".to_owned());
        let policies = vec!["default_cca.rego".to_owned()];
        assert_eq!(proof, Proof { rim: RIM.into(), policies, lifecycle, expires: NOW + 300 });
    }

    #[test]
    fn policy_that_was_asked_for_must_have_accepted_the_guest() {
        let issuer = Issuer::new();
        let judge = |report: Value, ids: &[&str]| {
            let mut claims = claims();
            claims["evaluation_reports"]["report"] = report;
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            issuer.judge_by(&issuer.sign(&claims), &ids)
        };
        let report =
            |output: Value| json!({"a.rego": "{\"allow\":true}", "b.rego": output, "ima": {"/bin/sh": true}});
        let both = judge(report(json!("{\"allow\":true}")), &["b.rego", "a.rego"]).unwrap();
        assert_eq!(both.policies, ["a.rego", "b.rego"]);
        for output in [
            Value::Null,
            json!(true),
            json!({"allow": true}),
            json!(""),
            json!("{}"),
            json!("true"),
            json!("{\"allow\":false}"),
            json!("{\"allow\":true,\"more\":null}"),
        ] {
            let refused = judge(report(output.clone()), &["a.rego", "b.rego"]);
            assert!(
                matches!(&refused, Err(Refusal::Policy { id }) if id == "b.rego"),
                "{output}: {refused:?}"
            );
        }
        let good = || report(json!("{\"allow\":true}"));
        for absent in ["c.rego", "", "a", "ima", "event"] {
            assert!(matches!(judge(good(), &[absent]), Err(Refusal::Policy { .. })), "{absent}");
        }
        // Results of logs are no policies, whatever they look like.
        let log = json!({"ima": "{\"allow\":true}", "uefi": "{\"allow\":true}"});
        assert!(matches!(judge(log, &["uefi"]), Err(Refusal::Policy { .. })));
        assert!(matches!(judge(Value::Null, &["a.rego"]), Err(Refusal::Policy { .. })));
    }

    #[test]
    fn challenge_must_have_the_nonce() {
        for wrong in [
            [[3; 32], [3; 32]].concat(),
            [NONCE, [3; 32]].concat(),
            NONCE.into(),
            [vec![1], NONCE.into()].concat(),
        ] {
            let text = URL_SAFE_NO_PAD.encode(&wrong);
            assert!(matches!(challenge_for(&NONCE, &text), Err(Refusal::Challenge)), "{wrong:?}");
        }
        assert!(matches!(challenge_for(&NONCE, "no base64url!"), Err(Refusal::Challenge)));
    }

    #[test]
    fn token_of_somebody_else_of_another_time_or_issuer_is_refused() {
        let (issuer, other) = (Issuer::new(), Issuer::new());
        let error = issuer.judge(&other.sign(&claims())).unwrap_err();
        assert!(matches!(error, Refusal::Token(TokenError::Signature)), "{error:?}");
        let altered = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            issuer.judge(&issuer.sign(&claims)).unwrap_err()
        };
        assert!(matches!(altered("exp", json!(NOW)), Refusal::Token(TokenError::Time { .. })));
        assert!(matches!(altered("iss", json!("other")), Refusal::Token(TokenError::Other { .. })));
        assert!(matches!(issuer.judge("x.y.z"), Err(Refusal::Token(TokenError::Form))));
    }

    #[test]
    fn token_about_something_else_is_refused() {
        let issuer = Issuer::new();
        let altered = |pointer: &str, value: Value| {
            let mut claims = claims();
            *claims.pointer_mut(pointer).unwrap() = value;
            issuer.judge(&issuer.sign(&claims)).unwrap_err()
        };
        let old = json!(URL_SAFE_NO_PAD.encode([1; 64]));
        assert!(matches!(altered("/nonce", old), Refusal::Claims(ClaimsError::ForeignChallenge)));
        let old = json!(hex::encode([1; 64]));
        let foreign = altered("/tcb_status/cca.realm.challenge", old);
        assert!(matches!(foreign, Refusal::Claims(ClaimsError::ForeignChallenge)), "{foreign:?}");
        let verdict = altered("/evaluation_reports/eval_result", json!(false));
        assert!(matches!(verdict, Refusal::Claims(ClaimsError::Verdict)), "{verdict:?}");
        assert!(matches!(altered("/tcb_status/cca.realm.rim", json!(null)), Refusal::NoMeasurement));
    }

    #[test]
    fn other_measurement_is_refused_with_both() {
        let issuer = Issuer::new();
        for other in ["ab13", "ab12ab", "", "ab"] {
            let mut claims = claims();
            claims["tcb_status"]["cca.realm.rim"] = json!(other);
            let error = issuer.judge(&issuer.sign(&claims)).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, Refusal::Measurement { .. }), "{error:?}");
            assert!(
                text.contains("RIM ab12") && text.contains(&format!("and {other} was attested")),
                "{text}"
            );
        }
    }
}
