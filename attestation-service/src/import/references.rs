//! Reference values and lists of digests.
//!
//! secGear's lists have no roles and hold for every guest, or for the guest with one initial measurement. They become
//! untyped lists of that guest's reference, which count only under a policy that names them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use axum::http::Method;
use evidence::hash::Digest;
use serde::Deserialize;
use serde_json::{Value, json};
use verifier::logs::digest_list;

use super::Import;
use super::files::{Entry, files_below};

/// The export of secGear's sled database, which this program does not read.
const EXPORT: &str = "reference.json";
/// What the untyped lists are called.
const BOOT_LIST: &str = "secgear-uefi";
const IMA_LIST: &str = "secgear-ima";

/// A row of the export, as it is in the database.
#[derive(Deserialize)]
struct Named {
    name: String,
    value: Value,
}

type Lists = BTreeMap<String, BTreeSet<Digest>>;

impl Import {
    pub(super) async fn references(&mut self, directory: &Path) {
        let mut guests: BTreeMap<Digest, Lists> = BTreeMap::new();
        self.export(directory, &mut guests).await;
        let mut common = Lists::new();
        for entry in files_below(&directory.join("verifier/virtcca"), 3) {
            let Some(place) = entry.name.strip_suffix("/digest_list_file") else { continue };
            let list = match entry.text().and_then(|text| digest_list(&text).map_err(|e| e.to_string())) {
                Ok(list) => list,
                Err(reason) => {
                    self.report.add("list of digests", entry.name, Err(reason));
                    continue;
                }
            };
            match place {
                // The name of openEuler 25.09, and the one after it.
                "uefi" | "event" => common.entry(BOOT_LIST.to_owned()).or_default().extend(list),
                "ima" => common.entry(IMA_LIST.to_owned()).or_default().extend(list),
                other => match other.strip_prefix("ima/").and_then(|rim| rim.parse::<Digest>().ok()) {
                    Some(rim) => {
                        guests.entry(rim).or_default().entry(IMA_LIST.to_owned()).or_default().extend(list);
                    }
                    None => {
                        let reason = "it is for no initial measurement and not for all".to_owned();
                        self.report.add("list of digests", entry.name, Err(reason));
                        continue;
                    }
                },
            }
            self.report.add("list of digests", entry.name, Ok("kept with the guests' references".to_owned()));
        }
        if guests.is_empty() && !common.is_empty() {
            let reason =
                "no guest is known that it could be kept with: export secGear's references as reference.json";
            self.report.skip("list of digests", "for all guests".to_owned(), reason);
        }
        for (rim, own) in guests {
            let mut lists = common.clone();
            // A guest's own list stands in place of the common one, as in secGear.
            lists.extend(own);
            let outcome = self.add_guest(rim, lists).await;
            self.report.add("guest", rim.to_string(), outcome);
        }
    }

    /// Registers the named values of the export and notes the initial measurements among them.
    async fn export(&mut self, directory: &Path, guests: &mut BTreeMap<Digest, Lists>) {
        let path = directory.join(EXPORT);
        if !path.is_file() {
            if directory.join("reference").exists() {
                let reason =
                    "a sled database: export it as reference.json beside it, see docs/attestation-api.md";
                self.report.skip("references", "reference".to_owned(), reason);
            }
            return;
        }
        let entry = Entry { name: EXPORT.to_owned(), path };
        let rows: Result<Vec<Named>, String> = entry.text().and_then(|text| {
            serde_json::from_str(&text)
                .map_err(|error| format!("expected an array of name and value: {error}"))
        });
        let rows = match rows {
            Ok(rows) => rows,
            Err(reason) => return self.report.add("references", entry.name, Err(reason)),
        };
        for Named { name, value } in rows {
            if name == "vcca.cvm.rim"
                && let Some(rim) = value.as_str().and_then(|text| text.parse().ok())
            {
                guests.entry(rim).or_default();
            }
            let document = json!({ "name": name, "value": value, "source": "secGear: reference" });
            let outcome = self.send(Method::POST, "/named-references", &document).await;
            self.report.add("reference", name, outcome.map(|()| String::new()));
        }
    }

    async fn add_guest(&self, rim: Digest, untyped: Lists) -> Result<String, String> {
        let note = if untyped.is_empty() { "" } else { "its lists count under a policy that names them" };
        let name = format!("secgear-{}", rim.to_string().chars().take(48).collect::<String>());
        let logs = (!untyped.is_empty()).then(|| json!({ "untyped": untyped }));
        let document = json!({ "name": name, "rim": rim, "logs": logs, "source": "secGear: reference" });
        self.send(Method::POST, "/references", &document).await?;
        Ok(note.to_owned())
    }
}
