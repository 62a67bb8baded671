//! secGear's files: found without following links, read within bounds.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

/// Longest file that is read; the admin plane takes no longer documents.
const MAX_FILE: u64 = 512 * 1024;

/// A file and its name below the directory that it was found in, with `/` between the parts.
pub struct Entry {
    pub name: String,
    pub path: PathBuf,
}

impl Entry {
    /// The content.
    pub fn text(&self) -> Result<String, String> {
        let mut text = String::new();
        let file = File::open(&self.path).map_err(|error| error.to_string())?;
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_FILE {
            return Err(format!("the file has more than {MAX_FILE} bytes"));
        }
        Ok(text)
    }
}

/// The files up to `depth` directories below `directory`, sorted by name; none if there is no such directory.
pub fn files_below(directory: &Path, depth: usize) -> Vec<Entry> {
    let mut found = Vec::new();
    collect(directory, "", depth, &mut found);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn collect(directory: &Path, prefix: &str, depth: usize, found: &mut Vec<Entry>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let (Ok(kind), name) = (entry.file_type(), entry.file_name()) else { continue };
        let name = format!("{prefix}{}", name.to_string_lossy());
        if kind.is_file() {
            found.push(Entry { name, path: entry.path() });
        } else if kind.is_dir() && depth > 1 {
            collect(&entry.path(), &format!("{name}/"), depth - 1, found);
        }
    }
}

/// The certificates of authorities.
pub fn certificates(directory: &Path) -> Vec<Entry> {
    let mut entries = files_below(directory, 1);
    entries.retain(|entry| entry.name.ends_with(".pem"));
    entries
}

/// A name for a bundle, of a file name that may have spaces in it.
pub fn bundle_name(file: &str) -> String {
    let stem = file.trim_end_matches(".pem");
    let plain: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    format!("secgear-{plain}").chars().take(64).collect()
}

/// secGear's file of a resource.
#[derive(Deserialize)]
struct Stored {
    content: String,
    #[serde(default)]
    policy: Vec<String>,
}

/// The admin plane's document for the resource `name`, of what secGear's file says.
pub fn resource(name: &str, text: &str) -> Result<Value, String> {
    let stored: Stored = serde_json::from_str(text)
        // The message of the parser may quote the secret.
        .map_err(|_| "expected a JSON object with content, a text, and policy, a list of texts".to_owned())?;
    Ok(json!({ "name": name, "content": STANDARD.encode(stored.content), "policies": stored.policy }))
}
