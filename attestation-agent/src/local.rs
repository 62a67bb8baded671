//! Evidence judged by the agent itself, against files, for guests without an attestation service.
//!
//! The directory is laid out as secGear's agent has it (`/etc/attestation/attestation-agent/local_verifier`):
//!
//! | File | What it holds |
//! |---|---|
//! | `virtcca/*.pem` | certificates of the authorities that certify devices, and their revocation lists |
//! | `virtcca/ref_value.json`, `cca/ref_value.json` | `{"rim": "<hex>"}`, or an array of such |
//! | `cca/trust_anchors.json` | platform keys: `[{"name", "implementation_id", "instance_id", "key", "development"}]`, the key in PEM |
//! | `virtcca/policy.rego`, `cca/policy.rego` | the policy; the built-in default if absent |
//! | `virtcca/rules.json`, `cca/rules.json` | typed rules of the policy, such as accepted lifecycles; the strict ones if absent |
//! | `virtcca/exceptions.json`, `cca/exceptions.json` | exceptions for named anchors, such as development keys; none if absent |
//!
//! Everything is read once, when the agent starts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use evidence::envelope::{Evidence, Tee};
use evidence::hash::Digest;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use verifier::chain::TrustBundle;
use verifier::{
    AppraisalPolicy, AwsLc, Context, DEFAULT_CCA_POLICY, DEFAULT_VIRTCCA_POLICY, Exception, Provenance,
    PublicKey, RealmReference, ReferenceValues, Rules, StoreError, TrustAnchor, TrustAnchors,
};

use crate::{Error, Refusal, Result};

/// What evidence of one kind of confidential VM is held against.
struct Criteria {
    references: Vec<RealmReference>,
    policies: Vec<AppraisalPolicy>,
}

/// Implementation id and instance id of a platform, and its key.
type PlatformAnchor = ([u8; 32], [u8; 33], TrustAnchor);

/// Judges evidence by the files of one directory.
pub struct LocalVerifier {
    bundle: Arc<TrustBundle>,
    anchors: Vec<PlatformAnchor>,
    virtcca: Criteria,
    cca: Criteria,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

#[derive(Deserialize)]
struct Reference {
    rim: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Anchor {
    name: String,
    #[serde(with = "hex")]
    implementation_id: [u8; 32],
    #[serde(with = "hex")]
    instance_id: [u8; 33],
    key: String,
    #[serde(default)]
    development: bool,
}

impl LocalVerifier {
    /// Reads the files in `directory`.
    ///
    /// # Errors
    /// If the directory does not exist or one of its files cannot be used.
    pub fn open(directory: &Path) -> Result<Self> {
        if !directory.is_dir() {
            return Err(unusable("read", directory, io::Error::from(io::ErrorKind::NotFound)));
        }
        let (virtcca, cca) = (directory.join("virtcca"), directory.join("cca"));
        Ok(Self {
            bundle: Arc::new(bundle(&virtcca)?),
            anchors: anchors(&cca.join("trust_anchors.json"))?,
            virtcca: Criteria::read(&virtcca, DEFAULT_VIRTCCA_POLICY)?,
            cca: Criteria::read(&cca, DEFAULT_CCA_POLICY)?,
        })
    }

    /// What `evidence` (JSON), which must answer `challenge`, proves at the time `now` (seconds since 1970).
    ///
    /// # Errors
    /// [`Error::Refused`] with the step and code of the first thing that does not hold.
    pub fn verify(&self, challenge: &[u8; 64], evidence: &str, now: i64) -> Result<Map<String, Value>> {
        let evidence = Evidence::from_json(evidence.as_bytes())
            .map_err(|error| Error::Request(format!("evidence: {}", crate::report::chain(&error))))?;
        let criteria = match evidence.tee() {
            Tee::Cca => &self.cca,
            Tee::Virtcca => &self.virtcca,
        };
        let context = Context {
            now,
            signatures: &AwsLc,
            anchors: self,
            certificates: &self.bundle,
            references: criteria,
            policies: &criteria.policies,
        };
        let appraisal = verifier::appraise(&evidence, challenge, &context).map_err(|refusal| {
            Error::Refused(Refusal {
                status: 403,
                code: refusal.code.as_str().to_owned(),
                step: Some(refusal.step.as_str().to_owned()),
                detail: refusal.detail,
            })
        })?;
        let claims = json!({
            "tee": appraisal.tee,
            "payload": appraisal.tcb_status,
            // secGear's members for logs: a log that does not hold is a refusal here.
            "ima": {},
            "uefi": {},
            "nonce": URL_SAFE_NO_PAD.encode(challenge),
            "evaluation_reports": { "eval_result": true },
        });
        match claims {
            Value::Object(claims) => Ok(claims),
            _ => Ok(Map::new()),
        }
    }
}

impl Criteria {
    fn read(directory: &Path, default_policy: &str) -> Result<Self> {
        let path = directory.join("ref_value.json");
        let references = match optional::<OneOrMore<Reference>>(&path)? {
            None => Vec::new(),
            Some(OneOrMore::One(one)) => vec![one],
            Some(OneOrMore::More(more)) => more,
        };
        let references = references
            .into_iter()
            .map(|Reference { rim }| {
                let digest = hex::decode(&rim).ok().and_then(|bytes| Digest::from_slice(&bytes));
                let rim = digest.ok_or_else(|| {
                    let problem = format!("rim {rim:?} is not 32, 48 or 64 bytes in hexadecimal");
                    unusable("understand", &path, io::Error::new(io::ErrorKind::InvalidData, problem))
                })?;
                let (name, provenance) = ("local".to_owned(), provenance(&path));
                Ok(RealmReference { name, rim, rpv: None, rems: [None; 4], logs: None, provenance })
            })
            .collect::<Result<_>>()?;
        let path = directory.join("policy.rego");
        let rego = text(&path)?.unwrap_or_else(|| default_policy.to_owned());
        let exceptions: Option<Vec<Exception>> = optional(&directory.join("exceptions.json"))?;
        let rules: Option<Rules> = optional(&directory.join("rules.json"))?;
        let policy = AppraisalPolicy::new("local", &rego, exceptions.unwrap_or_default())
            .map_err(|error| unusable("understand", &path, error))?
            .with_rules(rules.unwrap_or_default());
        Ok(Self { references, policies: vec![policy] })
    }
}

impl ReferenceValues for Criteria {
    fn realm(&self, rim: &Digest) -> std::result::Result<Vec<RealmReference>, StoreError> {
        Ok(self.references.iter().filter(|reference| reference.rim == *rim).cloned().collect())
    }
}

impl TrustAnchors for LocalVerifier {
    fn platform_key(
        &self,
        implementation_id: &[u8; 32],
        instance_id: &[u8; 33],
    ) -> std::result::Result<Option<TrustAnchor>, StoreError> {
        let found = self.anchors.iter().find(|(implementation, instance, _)| {
            implementation == implementation_id && instance == instance_id
        });
        Ok(found.map(|(.., anchor)| anchor.clone()))
    }
}

fn bundle(directory: &Path) -> Result<TrustBundle> {
    let mut files = Vec::new();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TrustBundle::empty()),
        Err(error) => return Err(unusable("read", directory, error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| unusable("read", directory, error))?.path();
        if path.extension().is_some_and(|extension| extension == "pem") {
            let content = fs::read(&path).map_err(|error| unusable("read", &path, error))?;
            files.push((path.display().to_string(), content));
        }
    }
    files.sort();
    let named = files.iter().map(|(name, content)| (name.as_str(), content.as_slice()));
    TrustBundle::new(named, []).map_err(|error| unusable("understand", directory, error))
}

fn anchors(path: &Path) -> Result<Vec<PlatformAnchor>> {
    let anchors: Vec<Anchor> = optional(path)?.unwrap_or_default();
    anchors
        .into_iter()
        .map(|anchor| {
            let key =
                PublicKey::from_pem(&anchor.key).map_err(|error| unusable("understand", path, error))?;
            let (name, development) = (anchor.name, anchor.development);
            let trusted = TrustAnchor { name, key, development, provenance: provenance(path) };
            Ok((anchor.implementation_id, anchor.instance_id, trusted))
        })
        .collect()
}

fn provenance(path: &Path) -> Provenance {
    Provenance { source: path.display().to_string(), added_at: 0 }
}

fn text(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable("read", path, error)),
    }
}

fn optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    text(path)?
        .map(|text| serde_json::from_str(&text).map_err(|error| unusable("understand", path, error)))
        .transpose()
}

fn unusable(
    action: &'static str,
    path: &Path,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::File { option: "--local-verify", action, path: PathBuf::from(path), source: source.into() }
}

#[cfg(test)]
mod tests {
    use verifier::testing::{NOW, VirtccaMint};

    use super::*;

    const CHALLENGE: [u8; 64] = [7; 64];

    fn directory(mint: &VirtccaMint) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let virtcca = directory.path().join("virtcca");
        fs::create_dir(&virtcca).unwrap();
        fs::write(virtcca.join("eccp521_root_cert.pem"), mint.root.pem()).unwrap();
        fs::write(virtcca.join("eccp521_sub_cert.pem"), mint.sub.pem()).unwrap();
        let rim = json!({ "rim": mint.cvm.rim.to_string() });
        fs::write(virtcca.join("ref_value.json"), rim.to_string()).unwrap();
        directory
    }

    fn refusal(directory: &Path, evidence: &str, now: i64) -> String {
        match LocalVerifier::open(directory).unwrap().verify(&CHALLENGE, evidence, now) {
            Err(Error::Refused(refusal)) => refusal.code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn believes_evidence_that_the_files_vouch_for() {
        let mint = VirtccaMint::new(CHALLENGE);
        let directory = directory(&mint);
        let local = LocalVerifier::open(directory.path()).unwrap();
        let claims = local.verify(&CHALLENGE, &mint.evidence().to_json(), NOW).unwrap();
        assert_eq!(claims["tee"], "virtcca");
        assert_eq!(claims["payload"]["vcca.cvm.rim"], mint.cvm.rim.to_string());
        assert_eq!(claims["evaluation_reports"]["eval_result"], true);
    }

    #[test]
    fn refuses_what_the_files_do_not_vouch_for() {
        let mint = VirtccaMint::new(CHALLENGE);
        let directory = directory(&mint);
        let evidence = mint.evidence().to_json();
        let stranger = VirtccaMint::new(CHALLENGE).evidence().to_json();
        assert_eq!(refusal(directory.path(), &stranger, NOW), "certificate_untrusted");
        let mut replayed = mint.clone();
        replayed.cvm.challenge = [8; 64];
        assert_eq!(refusal(directory.path(), &replayed.evidence().to_json(), NOW), "nonce_mismatch");
        let other = serde_json::json!({ "rim": "22".repeat(32) });
        fs::write(directory.path().join("virtcca/ref_value.json"), other.to_string()).unwrap();
        assert_eq!(refusal(directory.path(), &evidence, NOW), "rim_mismatch");
        fs::remove_file(directory.path().join("virtcca/ref_value.json")).unwrap();
        assert_eq!(refusal(directory.path(), &evidence, NOW), "rim_mismatch");
    }

    #[test]
    fn names_the_file_that_it_cannot_use() {
        let mint = VirtccaMint::new(CHALLENGE);
        let directory = directory(&mint);
        for (file, content) in [
            ("virtcca/ref_value.json", r#"{"rim":"zz"}"#),
            ("cca/trust_anchors.json", "{"),
            ("cca/policy.rego", "x"),
        ] {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let before = fs::read(&path).ok();
            fs::write(&path, content).unwrap();
            let error = LocalVerifier::open(directory.path()).err().unwrap().to_string();
            assert!(error.contains("--local-verify") && error.contains(file), "{error}");
            match before {
                Some(before) => fs::write(&path, before).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
        }
        assert!(LocalVerifier::open(Path::new("/nonexistent")).is_err());
    }
}
