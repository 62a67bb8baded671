//! What was imported and what was not.

use std::fmt;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// What became of something that secGear kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is registered.
    Imported,
    /// It is not fit to be registered; the note says why.
    Refused,
    /// It is not taken over; the note says what there is instead.
    Skipped,
}

/// A line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// What it is.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, or what is to be done next.
    pub note: String,
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Report(pub Vec<Item>);

impl Report {
    pub(super) fn add(&mut self, kind: &'static str, name: String, outcome: Result<String, String>) {
        let (outcome, note) = match outcome {
            Ok(note) => (Outcome::Imported, note),
            Err(reason) => (Outcome::Refused, reason),
        };
        self.0.push(Item { kind, name, outcome, note });
    }

    pub(super) fn skip(&mut self, kind: &'static str, name: String, note: &str) {
        self.0.push(Item { kind, name, outcome: Outcome::Skipped, note: note.to_owned() });
    }

    /// How many have this outcome.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.0.iter().filter(|item| item.outcome == outcome).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["KIND", "NAME", "OUTCOME", "NOTE"]);
        for item in &self.0 {
            let outcome = match item.outcome {
                Outcome::Imported => "imported",
                Outcome::Refused => "refused",
                Outcome::Skipped => "skipped",
            };
            table.add_row([item.kind, &item.name, outcome, &item.note]);
        }
        writeln!(f, "{table}")?;
        let count = |outcome| self.count(outcome);
        write!(
            f,
            "{} imported, {} refused, {} skipped",
            count(Outcome::Imported),
            count(Outcome::Refused),
            count(Outcome::Skipped)
        )
    }
}
