//! The messages of the key-broker protocol (RCAR: request, challenge, attestation, response), version 0.4.0, as CoCo's
//! guest components send them, and what their evidence signs.

use evidence::envelope::Evidence;
use evidence::hash::HashAlgorithm;
use jose::Jwk;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::problem::Problem;

/// The version that is spoken; guests of other versions bind their evidence in another way.
pub const VERSION: &str = "0.4.0";

/// `POST /kbs/v0/auth`.
#[derive(Deserialize, ToSchema)]
pub struct Request {
    /// The protocol's version: `0.4.0`.
    pub version: String,
    /// The kind of trusted execution environment: `cca` or `virtcca`.
    pub tee: String,
    /// Whatever the guest adds; none of it changes the appraisal.
    #[serde(rename = "extra-params", default)]
    #[schema(value_type = Object)]
    pub extra_params: Value,
}

/// Its answer.
#[derive(Serialize, ToSchema)]
pub struct Challenge {
    /// 32 random bytes in standard base64.
    pub nonce: String,
    /// Always an empty text: SHA-384 is used.
    #[serde(rename = "extra-params")]
    pub extra_params: String,
}

/// `POST /kbs/v0/attest`.
#[derive(Deserialize, ToSchema)]
pub struct Attestation {
    /// The document whose digest is the Realm Personalisation Value.
    #[serde(rename = "init-data", default)]
    pub init_data: Option<InitData>,
    /// What the evidence signs.
    #[serde(rename = "runtime-data")]
    pub runtime_data: RuntimeData,
    /// The evidence.
    #[serde(rename = "tee-evidence")]
    pub tee_evidence: TeeEvidence,
}

/// A document that the guest was launched with.
#[derive(Deserialize, ToSchema)]
pub struct InitData {
    /// `toml` or `json`; the text is not looked into.
    pub format: String,
    /// The document.
    pub body: String,
}

/// What the evidence signs.
#[derive(Deserialize, ToSchema)]
pub struct RuntimeData {
    /// The nonce of the challenge, as it was issued.
    pub nonce: String,
    /// The key that resources are sealed to.
    #[serde(rename = "tee-pubkey")]
    pub tee_pubkey: TeePubKey,
}

/// Evidence of the guest and of its devices.
#[derive(Deserialize, ToSchema)]
pub struct TeeEvidence {
    /// Evidence of the guest: for `cca` `{"token":[...]}`.
    #[schema(value_type = Object)]
    pub primary_evidence: Value,
    /// Evidence of devices: none is supported, so an empty text or `{}`.
    #[serde(default)]
    pub additional_evidence: String,
}

/// A JWK with the algorithm that it is for.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(tag = "kty")]
pub enum TeePubKey {
    /// `ECDH-ES+A256KW` on P-256, P-384 or P-521.
    #[serde(rename = "EC")]
    Ec {
        /// The algorithm.
        alg: String,
        /// The curve.
        crv: String,
        /// A coordinate.
        x: String,
        /// A coordinate.
        y: String,
    },
    /// `RSA-OAEP-256`.
    #[serde(rename = "RSA")]
    Rsa {
        /// The algorithm.
        alg: String,
        /// The modulus.
        n: String,
        /// The exponent.
        e: String,
    },
}

impl TeePubKey {
    /// The key, if it is usable with the algorithm that it names.
    pub fn jwk(&self) -> Result<Jwk, Problem> {
        let (alg, expected, members) = match self {
            Self::Ec { alg, crv, x, y } => {
                (alg, "ECDH-ES+A256KW", json!({ "kty": "EC", "crv": crv, "x": x, "y": y }))
            }
            Self::Rsa { alg, n, e } => (alg, "RSA-OAEP-256", json!({ "kty": "RSA", "n": n, "e": e })),
        };
        let unusable =
            |reason: String| Problem::bad_request("tee_key_invalid", format!("tee-pubkey: {reason}"));
        if alg != expected {
            return Err(unusable(format!("alg is {:?}, expected {expected:?}", shortened(alg))));
        }
        serde_json::from_value(members).map_err(|error| unusable(error.to_string()))
    }

    /// Canonical JSON (RFC 8785): members in order, no white space. All values are text, so that serde's is canonical.
    fn canonical(&self) -> Result<String, serde_json::Error> {
        #[derive(Serialize)]
        struct Ec<'a> {
            alg: &'a str,
            crv: &'a str,
            kty: &'a str,
            x: &'a str,
            y: &'a str,
        }
        #[derive(Serialize)]
        struct Rsa<'a> {
            alg: &'a str,
            e: &'a str,
            kty: &'a str,
            n: &'a str,
        }
        match self {
            Self::Ec { alg, crv, x, y } => serde_json::to_string(&Ec { alg, crv, kty: "EC", x, y }),
            Self::Rsa { alg, n, e } => serde_json::to_string(&Rsa { alg, e, kty: "RSA", n }),
        }
    }
}

impl Attestation {
    /// What the TEE must have signed: SHA-384 of the canonical JSON of the runtime data, padded with zeros to the field.
    pub fn report_data(&self) -> Result<[u8; 64], Problem> {
        let malformed = |error: serde_json::Error| Problem::bad_request("body_malformed", error.to_string());
        let text = |text: &str| serde_json::to_string(text).map_err(malformed);
        let canonical = format!(
            r#"{{"additional-evidence":{},"nonce":{},"tee-pubkey":{}}}"#,
            text(&self.tee_evidence.additional_evidence)?,
            text(&self.runtime_data.nonce)?,
            self.runtime_data.tee_pubkey.canonical().map_err(malformed)?,
        );
        Ok(padded(HashAlgorithm::Sha384.digest(canonical.as_bytes()).as_bytes()))
    }

    /// The evidence as an envelope of the kind `tee`.
    pub fn evidence(&self, tee: &str) -> Result<Evidence, Problem> {
        if !matches!(self.tee_evidence.additional_evidence.trim(), "" | "{}") {
            return Err(Problem::bad_request(
                "additional_evidence_unsupported",
                "tee-evidence.additional_evidence must be empty: evidence of devices is not supported",
            ));
        }
        let inner = match &self.tee_evidence.primary_evidence {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let envelope = json!({ "tee": tee, "evidence": inner }).to_string();
        Evidence::from_json(envelope.as_bytes())
            .map_err(|error| Problem::bad_request("evidence_malformed", format!("tee-evidence: {error}")))
    }
}

impl InitData {
    /// Whether `rpv` is a digest of the document, padded or cut to 64 bytes. Which hash it is the document says in a
    /// syntax of its own; any of the three that may be named binds it as well.
    pub fn is_bound_by(&self, rpv: &[u8; 64]) -> bool {
        [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512]
            .iter()
            .any(|hash| padded(hash.digest(self.body.as_bytes()).as_bytes()) == *rpv)
    }
}

fn padded(digest: &[u8]) -> [u8; 64] {
    let mut field = [0; 64];
    for (to, from) in field.iter_mut().zip(digest) {
        *to = *from;
    }
    field
}

fn shortened(text: &str) -> String {
    text.chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attestation(key: &Value, additional: &str) -> Attestation {
        serde_json::from_value(json!({
            "runtime-data": { "nonce": "bm9uY2U=", "tee-pubkey": key },
            "tee-evidence": { "primary_evidence": { "token": [1] }, "additional_evidence": additional },
        }))
        .unwrap()
    }

    #[test]
    fn signs_the_canonical_json_of_the_runtime_data() {
        // The members in any order and with others among them, as `python3 -c 'hashlib.sha384(...)'` has it of the text
        // that RFC 8785 makes.
        let key = json!({ "y": "Yg", "kty": "EC", "x": "YQ", "use": "enc", "crv": "P-256", "alg": "ECDH-ES+A256KW" });
        let canonical = r#"{"additional-evidence":"{}","nonce":"bm9uY2U=","tee-pubkey":{"alg":"ECDH-ES+A256KW","crv":"P-256","kty":"EC","x":"YQ","y":"Yg"}}"#;
        let expected = HashAlgorithm::Sha384.digest(canonical.as_bytes());
        let signed = attestation(&key, "{}").report_data().unwrap();
        assert_eq!(&signed[..48], expected.as_bytes());
        assert_eq!(signed[48..], [0; 16]);

        let key = json!({ "n": "bg", "kty": "RSA", "e": "AQAB", "alg": "RSA-OAEP-256" });
        let canonical = r#"{"additional-evidence":"","nonce":"bm9uY2U=","tee-pubkey":{"alg":"RSA-OAEP-256","e":"AQAB","kty":"RSA","n":"bg"}}"#;
        let expected = HashAlgorithm::Sha384.digest(canonical.as_bytes());
        assert_eq!(&attestation(&key, "").report_data().unwrap()[..48], expected.as_bytes());
    }

    #[test]
    fn refuses_evidence_of_devices() {
        let key = json!({ "kty": "RSA", "n": "bg", "e": "AQAB", "alg": "RSA-OAEP-256" });
        for additional in ["{\"nvidia\": {}}", "[]", "x"] {
            let problem = attestation(&key, additional).evidence("cca").unwrap_err();
            assert_eq!(problem.code, "additional_evidence_unsupported", "{additional}");
        }
        assert!(attestation(&key, " {} ").evidence("cca").is_ok());
    }

    #[test]
    fn refuses_keys_for_other_algorithms() {
        for (kty, alg) in [("RSA", "RSA1_5"), ("RSA", "ECDH-ES+A256KW"), ("EC", "ECDH-ES"), ("EC", "")] {
            let key = json!({ "kty": kty, "alg": alg, "crv": "P-256", "x": "", "y": "", "n": "", "e": "" });
            let key: TeePubKey = serde_json::from_value(key).unwrap();
            assert_eq!(key.jwk().unwrap_err().code, "tee_key_invalid", "{kty} {alg}");
        }
    }

    #[test]
    fn init_data_is_bound_by_its_digest_alone() {
        let document = InitData { format: "toml".to_owned(), body: "algorithm = \"sha384\"".to_owned() };
        for hash in [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512] {
            let mut rpv = padded(hash.digest(document.body.as_bytes()).as_bytes());
            assert!(document.is_bound_by(&rpv));
            rpv[63] ^= 1;
            assert!(!document.is_bound_by(&rpv));
        }
        assert!(!document.is_bound_by(&[0; 64]));
    }
}
