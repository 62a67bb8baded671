//! Digests by path.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Directories that are links into `/usr` on systems of today: what packages put there, Linux finds in `/usr`.
const MERGED: [&str; 6] = ["/bin/", "/sbin/", "/lib/", "/lib32/", "/lib64/", "/libx32/"];

/// The digests that a file may have at a path, as reference values write them.
#[derive(Debug, Default)]
pub struct Digests(BTreeMap<String, BTreeSet<String>>);

impl Digests {
    /// Adds a digest.
    pub fn add(&mut self, path: &str, digest: String) {
        self.0.entry(path.to_owned()).or_default().insert(digest);
    }

    /// Adds the file of a package, where it is whether or not `/bin` and its like are links.
    pub fn add_packaged(&mut self, path: &str, digest: String) {
        if MERGED.iter().any(|directory| path.starts_with(directory)) {
            self.add(&format!("/usr{path}"), digest.clone());
        }
        self.add(path, digest);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The member `files` of reference values.
    pub fn to_json(&self) -> Value {
        json!(self.0)
    }
}

/// The digest of what is read.
pub fn sha256(mut content: impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(format!("sha256:{}", hex::encode(hasher.finalize()))),
            Ok(length) => hasher.update(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
