//! Looks at every row of the database: which of them were changed, exchanged, restored, removed or added behind the service's
//! back.
//!
//! A table that was put back as a whole, with its journal and the journal's head, is consistent. Only somebody who
//! remembers a later head can tell: [`Head`]s are printed, to be kept elsewhere and given to the next run.

use std::collections::BTreeMap;
use std::fmt;

use service_kit::db::params;

use super::documents::{RawEntry, RawRow};
use super::states::RawState;
use super::{Kind, Store, StoreError};

/// The end of a journal.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Head {
    /// Of what.
    pub kind: String,
    /// How many entries it has.
    pub seq: i64,
    /// What authenticates the last, in hexadecimal.
    pub mac: String,
}

/// A row that is not what the service made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The table: the kind of document or state, or `journal`.
    pub table: String,
    /// The row: tenant and id, or the entry's number.
    pub row: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.table, self.row, self.reason)
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The rows that are broken.
    pub broken: Vec<Broken>,
    /// How many rows and entries were looked at.
    pub checked: usize,
    /// Where the journals end.
    pub heads: Vec<Head>,
}

/// The documents of a kind, their journal and its head.
struct Contents {
    journal: Vec<RawEntry>,
    head: Option<(i64, Vec<u8>)>,
    rows: Vec<RawRow>,
}

impl Store {
    /// Looks at every row, while the service may go on. `remembered` are heads that an earlier run has printed.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub async fn fsck(&self, remembered: &[Head]) -> Result<Report, StoreError> {
        let mut report = Report::default();
        for kind in Kind::ALL {
            let kind = kind.name();
            let Contents { journal, head, rows } = self.contents(kind).await?;
            self.check_journal(kind, &journal, head, remembered, &mut report).await?;
            self.check_rows(kind, &journal, &rows, &mut report).await?;
        }
        self.check_states(&mut report).await?;
        Ok(report)
    }

    /// What there is of a kind at one moment: the service may go on meanwhile.
    async fn contents(&self, kind: &str) -> Result<Contents, StoreError> {
        const JOURNAL: &str =
            "SELECT seq, tenant, id, version, gone, tag, actor, at, prev, key_id, mac FROM journal
            WHERE kind = $1 ORDER BY seq";
        const HEAD: &str = "SELECT seq, mac FROM heads WHERE kind = $1";
        const ROWS: &str =
            "SELECT tenant, id, name, version, body, key_id, tag FROM documents WHERE kind = $1";
        let mut now = self.db.snapshot().await?;
        let journal = now.fetch_all(JOURNAL, params![kind]).await?;
        let head = now.fetch_all(HEAD, params![kind]).await?.pop();
        let rows = now.fetch_all(ROWS, params![kind]).await?;
        Ok(Contents {
            journal: journal.iter().map(RawEntry::read).collect::<Result<_, _>>()?,
            head: head.map(|row| Ok::<_, sqlx::Error>((row.get("seq")?, row.get("mac")?))).transpose()?,
            rows: rows.iter().map(RawRow::read).collect::<Result<_, _>>()?,
        })
    }

    async fn check_journal(
        &self,
        kind: &'static str,
        journal: &[RawEntry],
        head: Option<(i64, Vec<u8>)>,
        remembered: &[Head],
        report: &mut Report,
    ) -> Result<(), StoreError> {
        let mut broken = |seq: i64, reason| {
            report.broken.push(Broken { table: "journal".to_owned(), row: format!("{kind} {seq}"), reason });
        };
        let mut prev: &[u8] = &[];
        for (expected, entry) in (1..).zip(journal) {
            if entry.seq != expected {
                broken(expected, "the entry was removed");
                break;
            }
            if !self.is_authentic(&entry.key_id, &entry.fields(kind), &entry.mac).await? {
                broken(entry.seq, "the entry was changed or added");
            } else if entry.prev != prev {
                broken(entry.seq, "the entry does not follow the one before it");
            }
            prev = &entry.mac;
        }
        let end = journal.last().map(|entry| (entry.seq, entry.mac.clone()));
        if head != end {
            broken(head.as_ref().map_or(0, |(seq, _)| *seq), "the journal does not end with this entry");
        }
        for known in remembered.iter().filter(|known| known.kind == kind) {
            let entry = journal.iter().find(|entry| entry.seq == known.seq);
            if entry.is_none_or(|entry| hex::encode(&entry.mac) != known.mac) {
                broken(known.seq, "the journal once had another entry here: the table was put back");
            }
        }
        report.checked += journal.len();
        report.heads.extend(end.map(|(seq, mac)| Head { kind: kind.to_owned(), seq, mac: hex::encode(mac) }));
        Ok(())
    }

    async fn check_rows(
        &self,
        kind: &'static str,
        journal: &[RawEntry],
        rows: &[RawRow],
        report: &mut Report,
    ) -> Result<(), StoreError> {
        let mut latest: BTreeMap<(String, String), &RawEntry> = BTreeMap::new();
        for entry in journal {
            latest.insert((entry.tenant.clone(), entry.id.clone()), entry);
        }
        let mut broken = |tenant: &str, id: &str, reason| {
            report.broken.push(Broken { table: kind.to_owned(), row: format!("{tenant}/{id}"), reason });
        };
        for row in rows {
            report.checked += 1;
            let entry = latest.remove(&(row.tenant.clone(), row.id.clone()));
            let reason = match entry {
                None => Some("the row was added"),
                Some(entry) if entry.gone => Some("the row was deleted, and restored"),
                Some(_) if !self.is_authentic(&row.key_id, &row.fields(kind), &row.tag).await? => {
                    Some("the row was changed")
                }
                Some(entry) if (entry.version, &entry.tag) != (row.version, &row.tag) => {
                    Some("the row is an earlier version, restored")
                }
                Some(_) => None,
            };
            if let Some(reason) = reason {
                broken(&row.tenant, &row.id, reason);
            }
        }
        for ((tenant, id), _) in latest.into_iter().filter(|(_, entry)| !entry.gone) {
            broken(&tenant, &id, "the row was removed");
        }
        Ok(())
    }

    async fn check_states(&self, report: &mut Report) -> Result<(), StoreError> {
        const ALL: &str = "SELECT kind, tenant, id, version, due_at, body, key_id, tag FROM states";
        for row in self.db.fetch_all(ALL, params![]).await? {
            let row = RawState::read(&row)?;
            report.checked += 1;
            if !self.is_authentic(&row.key_id, &row.fields(), &row.tag).await? {
                report.broken.push(Broken {
                    row: format!("{}/{}", row.tenant, row.id),
                    table: row.kind,
                    reason: "the row was changed or added",
                });
            }
        }
        Ok(())
    }
}
