//! What is said about a fetch: one JSON line for programs, a few lines for people.

use std::fmt::{self, Write as _};

use evidence::cca::CcaToken;
use evidence::envelope::Evidence;
use evidence::hash::Digest;
use evidence::virtcca::VirtccaToken;
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::Error;
use crate::fetch::Outcome;

/// What this guest's own token says; the agent does not verify it, the service does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Measurements {
    /// Realm initial measurement.
    pub rim: Digest,
    /// Realm extensible measurements.
    pub rems: [Digest; 4],
    /// Security lifecycle of the platform, such as `secured (0x3003)`.
    pub lifecycle: String,
}

impl Measurements {
    /// Reads them from evidence; `None` if its token cannot be decoded, which is then for the service to refuse.
    pub(crate) fn of(evidence: &Evidence) -> Option<Self> {
        let measurements = match evidence {
            Evidence::Cca(evidence) => CcaToken::decode(&evidence.token).map(|token| Self {
                rim: token.realm.claims.rim,
                rems: token.realm.claims.rems,
                lifecycle: token.platform.claims.lifecycle.to_string(),
            }),
            Evidence::Virtcca(evidence) => VirtccaToken::decode(&evidence.token).map(|token| Self {
                rim: token.cvm.claims.rim,
                rems: token.cvm.claims.rems,
                lifecycle: token.platform.map_or_else(
                    || "unknown: no Platform Token".to_owned(),
                    |it| it.claims.lifecycle.to_string(),
                ),
            }),
        };
        measurements.inspect_err(|error| tracing::warn!(%error, "the kernel's token cannot be decoded")).ok()
    }
}

/// How a fetch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Attested, and the secret was released.
    Affirming,
    /// The service refused.
    Refused,
    /// It did not come to a decision.
    Error,
}

/// The report of a fetch.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How it ended.
    pub verdict: Verdict,
    /// The service's machine code, when it gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The step of the appraisal that refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Why there is no secret, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What this guest's token says.
    #[serde(flatten)]
    pub measurements: Option<Measurements>,
    /// SHA-256 of the secret, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_sha256: Option<String>,
    /// Length of the secret, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_len: Option<usize>,
    /// The secret itself, only when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretText>,
}

/// A secret that is to be printed. Its `Debug` form does not show it.
pub struct SecretText(Zeroizing<String>);

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

impl SecretText {
    /// The secret as text.
    ///
    /// # Errors
    /// If it is not UTF-8.
    pub fn new(secret: &[u8]) -> crate::Result<Self> {
        let text = std::str::from_utf8(secret).map_err(|_| Error::Option {
            option: "--print-secret",
            problem: "the secret is not UTF-8 text; use --secret-file".to_owned(),
        })?;
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl Report {
    /// The report of `outcome`, without the secret.
    #[must_use]
    pub fn new(outcome: &Outcome) -> Self {
        let mut report = Self {
            verdict: Verdict::Affirming,
            code: None,
            step: None,
            detail: None,
            measurements: outcome.measurements.clone(),
            secret_sha256: None,
            secret_len: None,
            secret: None,
        };
        match &outcome.secret {
            Ok(secret) => {
                report.secret_sha256 = Some(hex::encode(Sha256::digest(secret)));
                report.secret_len = Some(secret.len());
            }
            Err(error) => {
                let refused = matches!(error, Error::Refused(_));
                report.verdict = if refused { Verdict::Refused } else { Verdict::Error };
                report.detail = Some(chain(error));
                if let Some(reason) = error.reason() {
                    report.code = Some(reason.code.clone());
                    report.step.clone_from(&reason.step);
                    report.detail = Some(reason.detail.clone());
                }
            }
        }
        report
    }

    /// The process exit code that says the same: 0 affirming, 2 refused, 1 error.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Affirming => 0,
            Verdict::Error => 1,
            Verdict::Refused => 2,
        }
    }
}

/// The report for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: &dyn fmt::Display| writeln!(f, "{name:<10} {value}");
        match self.verdict {
            Verdict::Affirming => line("verdict", &"affirming")?,
            Verdict::Refused => line("verdict", &"refused by the attestation service")?,
            Verdict::Error => line("verdict", &"none: an error occurred")?,
        }
        if let Some(code) = &self.code {
            line("code", code)?;
        }
        if let Some(step) = &self.step {
            line("step", step)?;
        }
        if let Some(detail) = &self.detail {
            line("detail", detail)?;
        }
        if let Some(Measurements { rim, rems, lifecycle }) = &self.measurements {
            line("rim", rim)?;
            for (index, rem) in rems.iter().enumerate() {
                line(&format!("rem[{index}]"), rem)?;
            }
            line("lifecycle", lifecycle)?;
        }
        if let (Some(len), Some(sha256)) = (self.secret_len, &self.secret_sha256) {
            line("secret", &format_args!("{len} bytes, SHA-256 {sha256}"))?;
        }
        if let Some(secret) = &self.secret {
            line("", &*secret.0)?;
        }
        Ok(())
    }
}

/// An error with everything that caused it, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Writing to a string does not fail.
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Refusal;
    use crate::testing::token_for;

    fn outcome(secret: crate::Result<Zeroizing<Vec<u8>>>) -> Outcome {
        Outcome { measurements: Measurements::of(&Evidence::cca(token_for(&[7; 64]))), secret }
    }

    #[test]
    fn tells_about_the_secret_without_telling_it() {
        let report = Report::new(&outcome(Ok(Zeroizing::new(b"hunter2".to_vec()))));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["verdict"], "affirming");
        assert_eq!(json["rim"], "11".repeat(32));
        assert_eq!(json["rems"][3], "00".repeat(32));
        assert_eq!(json["lifecycle"], "secured (0x3003)");
        assert_eq!(json["secret_len"], 7);
        assert_eq!(json["secret_sha256"], "f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7");
        for text in [json.to_string(), report.to_string(), format!("{report:?}")] {
            assert!(!text.contains("hunter2"), "{text}");
        }
        assert_eq!(report.exit_code(), 0);
    }

    #[test]
    fn shows_the_secret_only_on_demand_and_never_in_debug_output() {
        let mut report = Report::new(&outcome(Ok(Zeroizing::new(b"hunter2".to_vec()))));
        report.secret = Some(SecretText::new(b"hunter2").unwrap());
        assert_eq!(serde_json::to_value(&report).unwrap()["secret"], "hunter2");
        assert!(report.to_string().contains("hunter2"));
        assert!(!format!("{report:?}").contains("hunter2"));
        assert!(SecretText::new(&[0xff]).is_err());
    }

    #[test]
    fn a_refusal_carries_code_and_step_and_the_measurements() {
        let refusal = Refusal {
            status: 403,
            code: "rim_mismatch".to_owned(),
            step: Some("reference_values".to_owned()),
            detail: "found 11".to_owned(),
        };
        let report = Report::new(&outcome(Err(Error::Refused(refusal))));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            (&json["verdict"], &json["code"], &json["step"], &json["detail"]),
            (&"refused".into(), &"rim_mismatch".into(), &"reference_values".into(), &"found 11".into())
        );
        assert_eq!(json["rim"], "11".repeat(32));
        assert_eq!(report.exit_code(), 2);
    }

    #[test]
    fn an_error_is_not_a_refusal_and_tells_its_causes() {
        let error =
            Error::Collect(crate::collect::CollectError::NoProvider(std::io::Error::from_raw_os_error(6)));
        let report = Report::new(&Outcome { measurements: None, secret: Err(error) });
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["verdict"], "error");
        assert!(json.get("rim").is_none() && json.get("code").is_none(), "{json}");
        let detail = json["detail"].as_str().unwrap();
        assert!(detail.starts_with("cannot collect evidence: the kernel has no provider"), "{detail}");
        assert!(detail.contains("os error 6"), "{detail}");
        assert_eq!(report.exit_code(), 1);
    }

    #[test]
    fn a_token_that_cannot_be_decoded_is_left_to_the_service() {
        assert_eq!(Measurements::of(&Evidence::cca(vec![0; 10])), None);
    }
}
