//! Keylime's runtime policies, version 1: the files, keys and buffers that its verifier accepts.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{FileReference, FileSigner, ImaReferences, KnownFiles, PathPattern};

/// The version that is read.
const VERSION: u64 = 1;
/// What keylime calls the entry for all that was measured before Linux; it is judged otherwise here.
const BOOT_AGGREGATE: &str = "boot_aggregate";

/// A runtime policy. A member that is not known is refused: it may restrict what is accepted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimePolicy {
    meta: Meta,
    #[serde(rename = "release", default)]
    _release: IgnoredAny,
    #[serde(default)]
    digests: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    excludes: Vec<String>,
    #[serde(default)]
    keyrings: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    ima: Settings,
    #[serde(rename = "ima-buf", default)]
    buffers: BTreeMap<String, Vec<String>>,
    #[serde(rename = "verification-keys", default)]
    keys: String,
}

/// Who made it, which says nothing about files, and what form it has.
#[derive(Debug, Deserialize)]
struct Meta {
    version: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    ignored_keyrings: Vec<String>,
    log_hash_alg: Option<String>,
    dm_policy: Option<Value>,
}

/// What `verification-keys` has as text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(rename = "meta", default)]
    _meta: IgnoredAny,
    pubkeys: Vec<String>,
    #[serde(default)]
    keyids: Vec<u32>,
}

/// A policy that would mean something else here than it does to keylime.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the runtime policy cannot be used: {0}")]
pub struct RuntimePolicyError(String);

impl TryFrom<RuntimePolicy> for ImaReferences {
    type Error = RuntimePolicyError;

    fn try_from(policy: RuntimePolicy) -> Result<Self, Self::Error> {
        let refuse = |reason: String| Err(RuntimePolicyError(reason));
        if policy.meta.version != VERSION {
            return refuse(format!("meta.version is {}, expected {VERSION}", policy.meta.version));
        }
        match policy.ima.log_hash_alg.as_deref() {
            None | Some("sha1") => {}
            Some(other) => {
                return refuse(format!(
                    "ima.log_hash_alg is {other:?}; templates of Linux's list are hashed with sha1"
                ));
            }
        }
        if policy.ima.dm_policy.is_some_and(|policy| !policy.is_null()) {
            return refuse(
                "ima.dm_policy restricts device mapper, whose entries are not understood".to_owned(),
            );
        }
        if policy.ima.ignored_keyrings.iter().any(|name| name == "*") {
            return refuse("ima.ignored_keyrings has \"*\": name the keyrings".to_owned());
        }
        let mut files = KnownFiles::default();
        for (path, digests) in policy.digests.iter().filter(|(path, _)| *path != BOOT_AGGREGATE) {
            add(&mut files, path, digests)?;
        }
        for (name, digests) in policy.keyrings.iter().chain(&policy.buffers) {
            if name.starts_with('/') {
                return refuse(format!("{name:?} names a file, and is among keyrings and buffers"));
            }
            add(&mut files, name, digests)?;
        }
        let exclude = policy.excludes.iter().map(|expression| PathPattern::beginning(expression));
        let exclude: Result<Vec<_>, _> = exclude.collect();
        Ok(Self {
            files,
            exclude: exclude.map_err(|error| RuntimePolicyError(format!("excludes: {error}")))?,
            ignored_buffers: policy.ima.ignored_keyrings.into_iter().collect(),
            signers: signers(&policy.keys)?,
            boot_aggregate: Vec::new(),
        })
    }
}

/// The policy does not say which function made a digest; its length does.
fn add(files: &mut KnownFiles, path: &str, digests: &[String]) -> Result<(), RuntimePolicyError> {
    for digest in digests {
        let function = match digest.len() {
            64 => "sha256",
            96 => "sha384",
            128 => "sha512",
            found => {
                return Err(RuntimePolicyError(format!(
                    "a digest of {path:?} has {found} characters, expected 64, 96 or 128: SHA-1 and MD5 are not accepted, \
                     make the policy with sha256"
                )));
            }
        };
        let reference: FileReference = format!("{function}:{digest}").parse().map_err(|_| {
            RuntimePolicyError(format!("a digest of {path:?} is not hexadecimal, or has no bit set"))
        })?;
        files.insert(path, &reference);
    }
    Ok(())
}

fn signers(text: &str) -> Result<Vec<FileSigner>, RuntimePolicyError> {
    let refuse = |reason: String| RuntimePolicyError(format!("verification-keys: {reason}"));
    if text.is_empty() || text == "[]" {
        return Ok(Vec::new());
    }
    let keys: Keys = serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
    let mut ids = keys.keyids.into_iter();
    let read = |key: &String| {
        use base64::Engine as _;
        let der = base64::engine::general_purpose::STANDARD
            .decode(key)
            .map_err(|error| refuse(error.to_string()))?;
        FileSigner::new(&der, ids.next()).map_err(|error| refuse(error.to_string()))
    };
    keys.pubkeys.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use evidence::ima::FileDigest;
    use serde_json::json;

    use super::*;

    fn policy() -> Value {
        json!({
            "meta": { "version": 1, "generator": 1 },
            "release": 0,
            "digests": {
                "/bin/a": ["11".repeat(32), "22".repeat(48)],
                "/bin/b": [],
                "boot_aggregate": ["33".repeat(20)],
            },
            "excludes": ["/tmp", "/var/log/.*"],
            "keyrings": { ".ima": ["44".repeat(32)] },
            "ima": { "ignored_keyrings": [".evm"], "log_hash_alg": "sha1", "dm_policy": null },
            "ima-buf": { "dm_table_load": ["55".repeat(64)] },
            "verification-keys": "",
        })
    }

    fn read(policy: Value) -> Result<ImaReferences, String> {
        let policy: RuntimePolicy = serde_json::from_value(policy).map_err(|error| error.to_string())?;
        ImaReferences::try_from(policy).map_err(|error| error.to_string())
    }

    #[test]
    fn a_policy_means_here_what_it_means_to_keylime() {
        let read = read(policy()).unwrap();
        let known = |path: &'static str, algorithm, byte: u8, len| {
            let value = vec![byte; len];
            let digest = FileDigest { verity: false, algorithm, value: &value };
            read.files.unknown(std::iter::once(Some((path.as_bytes(), digest)))).is_empty()
        };
        assert!(known("/bin/a", "sha256", 0x11, 32) && known("/bin/a", "sha384", 0x22, 48));
        assert!(known(".ima", "sha256", 0x44, 32) && known("dm_table_load", "sha512", 0x55, 64));
        assert!(!known("/bin/b", "sha256", 0x11, 32) && !known("boot_aggregate", "sha1", 0x33, 20));
        assert_eq!(read.files.len(), 4);
        // As Python's re.match: from the beginning, and not to the end.
        for (path, excluded) in [("/tmp", true), ("/tmpfile", true), ("/var/log/a", true), ("/a/tmp", false)]
        {
            assert_eq!(read.excludes(path), excluded, "{path}");
        }
        assert!(read.ignored_buffers.contains(".evm"));
    }

    #[test]
    fn what_would_mean_something_else_is_refused() {
        for (pointer, value, complaint) in [
            ("/meta/version", json!(2), "meta.version is 2"),
            ("/digests/~1bin~1a/0", json!("11".repeat(20)), "40 characters"),
            ("/digests/~1bin~1a/0", json!("xx".repeat(32)), "not hexadecimal"),
            ("/digests/~1bin~1a/0", json!("00".repeat(32)), "no bit set"),
            ("/excludes/0", json!(".*"), "not all of /"),
            ("/excludes/0", json!("(?!/usr)"), "excludes"),
            ("/keyrings", json!({ "/bin/c": ["44".repeat(32)] }), "names a file"),
            ("/ima-buf", json!({ "/bin/c": ["44".repeat(32)] }), "names a file"),
            ("/ima/ignored_keyrings", json!(["*"]), "name the keyrings"),
            ("/ima/log_hash_alg", json!("sha256"), "log_hash_alg"),
            ("/ima/dm_policy", json!({ "rules": {} }), "dm_policy"),
            ("/ima", json!({ "deny": [] }), "unknown field"),
            ("/verification-keys", json!("{"), "verification-keys"),
            (
                "/verification-keys",
                json!(r#"{"pubkeys": ["AAAA"], "keyids": [1]}"#),
                "public key of a signer",
            ),
        ] {
            let mut changed = policy();
            *changed.pointer_mut(pointer).unwrap() = value;
            let refused = read(changed).unwrap_err();
            assert!(refused.contains(complaint), "{pointer}: {refused}");
        }
        let mut more = policy();
        more["denied"] = json!([]);
        assert!(read(more).unwrap_err().contains("unknown field"));
    }
}
