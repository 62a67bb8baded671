//! What is remembered between attestations: in a file, so that a restart of the agent does not send everything again. It is
//! of no use once the machine is started anew.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, whole_file};

/// The version of the file.
const VERSION: u32 = 1;

/// What is remembered. Nothing of it is trusted by anybody: the authority keeps its own account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// How far the authority knows the IMA log.
    pub ima: Option<ImaMark>,
}

/// A place in an IMA log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImaMark {
    /// How often the TPM was reset: the log begins anew with the next reset.
    pub reset_count: u32,
    /// The number of the next entry.
    pub next_entry: u64,
}

/// Agents of before have put more into it, which is passed over.
#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    node_id: String,
    ima: Option<ImaMark>,
}

impl State {
    /// Reads what was remembered of `node_id`; nothing if there is no file, or it is about another node.
    ///
    /// # Errors
    /// If the file cannot be read. It is left as it is.
    pub fn read(path: &Path, node_id: &str) -> Result<Self> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed("read", path, error.into())),
        };
        let file: File =
            serde_json::from_slice(&text).map_err(|error| failed("understand", path, error.into()))?;
        if file.version != VERSION {
            let problem =
                format!("it is of version {}, and this agent reads {VERSION}: move it away", file.version);
            return Err(failed("understand", path, problem.into()));
        }
        if file.node_id != node_id {
            return Ok(Self::default());
        }
        Ok(Self { ima: file.ima })
    }

    /// Writes it, whole or not at all, for its owner only.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path, node_id: &str) -> Result<()> {
        let file = File { version: VERSION, node_id: node_id.to_owned(), ima: self.ima };
        let text = serde_json::to_vec(&file).map_err(|error| failed("write", path, error.into()))?;
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(|error| failed("write", path, error.into()))?;
        }
        whole_file::write_private(path, &text).map_err(|error| failed("write", path, error.into()))
    }
}

fn failed(action: &'static str, path: &Path, source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::File { option: "--state", action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn is_read_as_it_was_written_and_for_its_node_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/state");
        assert_eq!(State::read(&path, "a").unwrap(), State::default());
        let state = State { ima: Some(ImaMark { reset_count: 7, next_entry: 1 << 40 }) };
        state.write(&path, "a").unwrap();
        assert_eq!(State::read(&path, "a").unwrap(), state);
        assert_eq!(State::read(&path, "b").unwrap(), State::default());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let older = r#"{"version":1,"node_id":"a","enrolled":"000b","ima":{"reset_count":7,"next_entry":9}}"#;
        fs::write(&path, older).unwrap();
        assert_eq!(State::read(&path, "a").unwrap().ima, Some(ImaMark { reset_count: 7, next_entry: 9 }));
    }

    #[test]
    fn a_file_that_is_not_understood_is_reported_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        for text in ["", "{}", r#"{"version":2,"node_id":"a","ima":null}"#] {
            fs::write(&path, text).unwrap();
            let error = State::read(&path, "a").unwrap_err();
            assert!(error.to_string().contains("--state"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
