//! Authenticated documents and the journal of their changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::hmac;
use serde::Serialize;
use serde::de::DeserializeOwned;
use service_kit::db::{Row, Tx, params};

use super::tag::{Field, is_tag, tag};
use super::{Purpose, Store, StoreError};

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A tenant.
    Tenant,
    /// A key with which a tenant's people and machines authenticate.
    ApiKey,
    /// A machine with its attestation key.
    Node,
    /// A policy.
    Policy,
    /// Certificates of authorities.
    Certificate,
    /// A certificate revocation list.
    Crl,
    /// Reference values.
    RefValue,
    /// A change of how a node is.
    Event,
    /// Where a tenant wants such changes to be told.
    Webhook,
    /// Somebody whom an issuer of tokens or a certificate names.
    Identity,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Tenant,
        Self::ApiKey,
        Self::Node,
        Self::Policy,
        Self::Certificate,
        Self::Crl,
        Self::RefValue,
        Self::Event,
        Self::Webhook,
        Self::Identity,
    ];

    /// The name, in the database and in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::ApiKey => "api_key",
            Self::Node => "node",
            Self::Policy => "policy",
            Self::Certificate => "cert",
            Self::Crl => "crl",
            Self::RefValue => "ref_value",
            Self::Event => "event",
            Self::Webhook => "webhook",
            Self::Identity => "identity",
        }
    }
}

/// What is kept as a document.
pub trait Registered: Serialize + DeserializeOwned {
    /// Its kind.
    const KIND: Kind;
}

/// A document as it was read.
#[derive(Clone, Debug)]
pub struct Document<T> {
    /// Its id, unique among those of its kind and tenant.
    pub id: String,
    /// Its name, which is unique, too.
    pub name: String,
    /// 1 when it was added, and one more with each change.
    pub version: i64,
    /// The content.
    pub body: T,
}

/// Which versions of which documents there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision(BTreeMap<String, (i64, Vec<u8>)>);

/// A row as the database has it, believed by nobody yet.
pub(super) struct RawRow {
    pub tenant: String,
    pub id: String,
    pub name: String,
    pub version: i64,
    pub body: String,
    pub key_id: String,
    pub tag: Vec<u8>,
}

impl RawRow {
    pub(super) fn read(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            tenant: row.get("tenant")?,
            id: row.get("id")?,
            name: row.get("name")?,
            version: row.get("version")?,
            body: row.get("body")?,
            key_id: row.get("key_id")?,
            tag: row.get("tag")?,
        })
    }

    pub(super) fn fields<'a>(&'a self, kind: &'a str) -> [Field<'a>; 7] {
        [
            Field::Text("document"),
            Field::Text(kind),
            Field::Text(&self.tenant),
            Field::Text(&self.id),
            Field::Text(&self.name),
            Field::Number(self.version),
            Field::Text(&self.body),
        ]
    }
}

/// An entry of the journal as the database has it.
pub(super) struct RawEntry {
    pub seq: i64,
    pub tenant: String,
    pub id: String,
    pub version: i64,
    pub gone: bool,
    pub tag: Vec<u8>,
    pub actor: String,
    pub at: i64,
    pub prev: Vec<u8>,
    pub key_id: String,
    pub mac: Vec<u8>,
}

impl RawEntry {
    pub(super) fn read(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            seq: row.get("seq")?,
            tenant: row.get("tenant")?,
            id: row.get("id")?,
            version: row.get("version")?,
            gone: row.flag("gone")?,
            tag: row.get("tag")?,
            actor: row.get("actor")?,
            at: row.get("at")?,
            prev: row.get("prev")?,
            key_id: row.get("key_id")?,
            mac: row.get("mac")?,
        })
    }

    pub(super) fn fields<'a>(&'a self, kind: &'a str) -> [Field<'a>; 11] {
        [
            Field::Text("journal"),
            Field::Text(kind),
            Field::Number(self.seq),
            Field::Text(&self.tenant),
            Field::Text(&self.id),
            Field::Number(self.version),
            Field::Number(self.gone.into()),
            Field::Bytes(&self.tag),
            Field::Text(&self.actor),
            Field::Number(self.at),
            Field::Bytes(&self.prev),
        ]
    }
}

/// The latest entry of the journal for each document of a tenant.
const LATEST: &str = "SELECT seq, tenant, id, version, gone, tag, actor, at, prev, key_id, mac FROM journal j
    WHERE kind = $1 AND tenant = $2 AND seq =
    (SELECT MAX(seq) FROM journal WHERE kind = $1 AND tenant = $2 AND id = j.id)";
const LATEST_OF_ONE: &str = "SELECT seq, tenant, id, version, gone, tag, actor, at, prev, key_id, mac
    FROM journal WHERE kind = $1 AND tenant = $2 AND id = $3 ORDER BY seq DESC LIMIT 1";

impl Store {
    /// Takes a document away; gives whether it was there.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if somebody else changes it at the same time.
    pub async fn remove<T: Registered>(
        &self,
        tenant: &str,
        id: &str,
        actor: &str,
    ) -> Result<bool, StoreError> {
        let Some(document) = self.get::<T>(tenant, id).await? else { return Ok(false) };
        let mut change = self.change(actor).await?;
        change.remove(tenant, &document).await?;
        change.commit().await?;
        Ok(true)
    }

    /// A document by its id.
    ///
    /// # Errors
    /// [`StoreError::Tampered`] if it, or its absence, is not what the service made of it.
    pub async fn get<T: Registered>(
        &self,
        tenant: &str,
        id: &str,
    ) -> Result<Option<Document<T>>, StoreError> {
        // The row and the entry in one question, either of which may be absent.
        const FIND: &str =
            "SELECT d.name, d.version AS row_version, d.body, d.key_id AS row_key_id, d.tag AS row_tag,
            j.seq, j.tenant, j.id, j.version, j.gone, j.tag, j.actor, j.at, j.prev, j.key_id, j.mac
            FROM (SELECT 1 AS present) asked
            LEFT JOIN documents d ON d.kind = $1 AND d.tenant = $2 AND d.id = $3
            LEFT JOIN journal j ON j.kind = $1 AND j.seq =
            (SELECT MAX(seq) FROM journal WHERE kind = $1 AND tenant = $2 AND id = $3)";
        let kind = T::KIND.name();
        let Some(found) = self.db.fetch_optional(FIND, params![kind, tenant, id]).await? else {
            return Ok(None);
        };
        let entry = found.get::<Option<i64>>("seq")?.map(|_| RawEntry::read(&found)).transpose()?;
        let row = match found.get::<Option<i64>>("row_version")? {
            None => None,
            Some(version) => Some(RawRow {
                tenant: tenant.to_owned(),
                id: id.to_owned(),
                name: found.get("name")?,
                version,
                body: found.get("body")?,
                key_id: found.get("row_key_id")?,
                tag: found.get("row_tag")?,
            }),
        };
        self.believe::<T>(row, entry).await
    }

    /// All documents of a tenant, by name.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn list<T: Registered>(&self, tenant: &str) -> Result<Vec<Document<T>>, StoreError> {
        const FIND: &str = "SELECT tenant, id, name, version, body, key_id, tag FROM documents
            WHERE kind = $1 AND tenant = $2 ORDER BY name";
        let kind = T::KIND.name();
        let mut entries = Vec::new();
        for row in self.db.fetch_all(LATEST, params![kind, tenant]).await? {
            entries.push(RawEntry::read(&row)?);
        }
        let mut documents = Vec::new();
        for row in self.db.fetch_all(FIND, params![kind, tenant]).await? {
            let row = RawRow::read(&row)?;
            let entry = entries.iter().position(|entry| entry.id == row.id).map(|at| entries.swap_remove(at));
            documents.extend(self.believe::<T>(Some(row), entry).await?);
        }
        for entry in entries {
            self.believe::<T>(None, Some(entry)).await?;
        }
        Ok(documents)
    }

    /// How many documents of this kind a tenant has. The bodies are not looked at: it is good for bounds only.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn count<T: Registered>(&self, tenant: &str) -> Result<usize, StoreError> {
        const COUNT: &str = "SELECT COUNT(*) AS present FROM documents WHERE kind = $1 AND tenant = $2";
        let row = self.db.fetch_optional(COUNT, params![T::KIND.name(), tenant]).await?;
        let present: i64 = row.map_or(Ok(0), |row| row.get("present"))?;
        Ok(usize::try_from(present).unwrap_or(usize::MAX))
    }

    /// What the documents of a tenant are, without their bodies: it is another one after every change, by whomever.
    ///
    /// # Errors
    /// [`StoreError::Tampered`] if an entry of the journal was changed, or rows and journal do not agree.
    pub async fn revision<T: Registered>(&self, tenant: &str) -> Result<Revision, StoreError> {
        // Every document's latest entry with its row, and rows without an entry.
        const FIND: &str = "SELECT j.seq, j.tenant, j.id, j.version, j.gone, j.tag, j.actor, j.at, j.prev, j.key_id,
            j.mac, d.version AS row_version, d.tag AS row_tag
            FROM journal j LEFT JOIN documents d ON d.kind = j.kind AND d.tenant = j.tenant AND d.id = j.id
            WHERE j.kind = $1 AND j.tenant = $2 AND j.seq =
            (SELECT MAX(seq) FROM journal WHERE kind = $1 AND tenant = $2 AND id = j.id)
            UNION ALL SELECT NULL, d.tenant, d.id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, d.version, d.tag
            FROM documents d WHERE d.kind = $1 AND d.tenant = $2 AND NOT EXISTS
            (SELECT 1 FROM journal WHERE kind = $1 AND tenant = $2 AND id = d.id)";
        let kind = T::KIND.name();
        let mut live = BTreeMap::new();
        for found in self.db.fetch_all(FIND, params![kind, tenant]).await? {
            let id: String = found.get("id")?;
            let tampered = |id: &str, reason| StoreError::Tampered {
                kind,
                tenant: tenant.to_owned(),
                id: id.to_owned(),
                reason,
            };
            if found.get::<Option<i64>>("seq")?.is_none() {
                return Err(tampered(&id, "the row was added behind the service's back"));
            }
            let entry = RawEntry::read(&found)?;
            if !self.is_authentic(&entry.key_id, &entry.fields(kind), &entry.mac).await? {
                return Err(tampered(&id, "its entry in the journal was changed"));
            }
            let row = (found.get::<Option<i64>>("row_version")?, found.get::<Option<Vec<u8>>>("row_tag")?);
            let named =
                if entry.gone { (None, None) } else { (Some(entry.version), Some(entry.tag.clone())) };
            if row != named {
                return Err(tampered(&id, "the row is not the one that the journal names"));
            }
            if !entry.gone {
                live.insert(entry.id, (entry.version, entry.tag));
            }
        }
        Ok(Revision(live))
    }

    /// A row, if it and the latest entry about it are authentic and agree.
    pub(super) async fn believe<T: Registered>(
        &self,
        row: Option<RawRow>,
        entry: Option<RawEntry>,
    ) -> Result<Option<Document<T>>, StoreError> {
        let kind = T::KIND.name();
        let (tenant, id) = match (&row, &entry) {
            (Some(row), _) => (row.tenant.clone(), row.id.clone()),
            (None, Some(entry)) => (entry.tenant.clone(), entry.id.clone()),
            (None, None) => return Ok(None),
        };
        let tampered = |reason| StoreError::Tampered { kind, tenant: tenant.clone(), id: id.clone(), reason };
        let Some(entry) = entry else { return Err(tampered("the row was added behind the service's back")) };
        if !self.is_authentic(&entry.key_id, &entry.fields(kind), &entry.mac).await? {
            return Err(tampered("its entry in the journal was changed"));
        }
        let row = match (row, entry.gone) {
            (None, true) => return Ok(None),
            (None, false) => return Err(tampered("the row was removed behind the service's back")),
            // Of one that was deleted, the journal has a later version than any row.
            (Some(row), _) => row,
        };
        if !self.is_authentic(&row.key_id, &row.fields(kind), &row.tag).await? {
            return Err(tampered("the row was changed behind the service's back"));
        }
        if (row.version, &row.tag) != (entry.version, &entry.tag) {
            return Err(tampered("the row is an earlier version, restored behind the service's back"));
        }
        let body = serde_json::from_str(&row.body).map_err(|_| tampered("this version cannot read it"))?;
        Ok(Some(Document { id: row.id, name: row.name, version: row.version, body }))
    }

    pub(super) async fn is_authentic(
        &self,
        key_id: &str,
        fields: &[Field<'_>],
        tag: &[u8],
    ) -> Result<bool, StoreError> {
        let key = self.keys.mac(Purpose::Row, key_id).await?;
        Ok(key.is_some_and(|key| is_tag(&key, fields, tag)))
    }

    /// Begins a change by `actor`.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn change(&self, actor: &str) -> Result<Change, StoreError> {
        let (key_id, key) = self.keys.active_mac(Purpose::Row).await?;
        let (tx, changes) = (self.db.begin().await?, Arc::clone(&self.changes));
        Ok(Change { tx, key_id, key, actor: actor.to_owned(), at: self.now(), changes })
    }
}

/// What a statement says if the id or name that it would write is another's.
fn taken(error: sqlx::Error, kind: &'static str) -> StoreError {
    match &error {
        sqlx::Error::Database(database) if database.is_unique_violation() => StoreError::Exists(kind),
        _ => StoreError::from(error),
    }
}

/// What is being changed. Dropped without [`Change::commit`], nothing was changed.
pub struct Change {
    pub(super) tx: Tx,
    pub(super) key_id: String,
    pub(super) key: Arc<hmac::Key>,
    actor: String,
    at: i64,
    changes: Arc<AtomicU64>,
}

impl Change {
    /// Adds a document.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if its id or name is taken.
    pub async fn add<T: Registered>(
        &mut self,
        tenant: &str,
        id: &str,
        name: &str,
        body: &T,
    ) -> Result<(), StoreError> {
        // A document that was deleted may come again: its versions go on, so that no old row is ever good.
        let kind = T::KIND.name();
        let last = self.tx.fetch_optional(LATEST_OF_ONE, params![kind, tenant, id]).await?;
        let last = last.as_ref().map(RawEntry::read).transpose()?.map_or(0, |entry| entry.version);
        let row = self.row(tenant, id, name, last.saturating_add(1), body)?;
        const INSERT: &str = "INSERT INTO documents (kind, tenant, id, name, version, body, key_id, tag)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let inserted = self
            .tx
            .execute(INSERT, params![kind, tenant, id, name, row.version, &row.body, &row.key_id, &row.tag])
            .await;
        inserted.map_err(|error| taken(error, kind))?;
        self.note(kind, &row, false).await
    }

    /// Replaces a document that was read as `before`; gives the new version.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it has been changed since, [`StoreError::Exists`] if its new name is taken.
    pub async fn replace<T: Registered>(
        &mut self,
        tenant: &str,
        before: &Document<T>,
        name: &str,
        body: &T,
    ) -> Result<i64, StoreError> {
        let kind = T::KIND.name();
        let row = self.row(tenant, &before.id, name, before.version.saturating_add(1), body)?;
        const UPDATE: &str = "UPDATE documents SET name = $1, version = $2, body = $3, key_id = $4, tag = $5
            WHERE kind = $6 AND tenant = $7 AND id = $8 AND version = $9";
        let changed = self
            .tx
            .execute(
                UPDATE,
                params![
                    name,
                    row.version,
                    &row.body,
                    &row.key_id,
                    &row.tag,
                    kind,
                    tenant,
                    &before.id,
                    before.version
                ],
            )
            .await
            .map_err(|error| taken(error, kind))?;
        if changed == 0 {
            return Err(StoreError::Conflict(kind));
        }
        self.note(kind, &row, false).await?;
        Ok(row.version)
    }

    /// Deletes a document that was read as `before`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it has been changed since.
    pub async fn remove<T: Registered>(
        &mut self,
        tenant: &str,
        before: &Document<T>,
    ) -> Result<(), StoreError> {
        let kind = T::KIND.name();
        const DELETE: &str =
            "DELETE FROM documents WHERE kind = $1 AND tenant = $2 AND id = $3 AND version = $4";
        let changed = self.tx.execute(DELETE, params![kind, tenant, &before.id, before.version]).await?;
        if changed == 0 {
            return Err(StoreError::Conflict(kind));
        }
        let row =
            self.row(tenant, &before.id, &before.name, before.version.saturating_add(1), &before.body)?;
        self.note(kind, &row, true).await
    }

    /// Makes the change durable.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used; then nothing was changed.
    pub async fn commit(self) -> Result<(), StoreError> {
        let committed = self.tx.commit().await;
        // If it is not known whether it was, it may have been.
        self.changes.fetch_add(1, Ordering::Release);
        Ok(committed?)
    }

    fn row<T: Registered>(
        &self,
        tenant: &str,
        id: &str,
        name: &str,
        version: i64,
        body: &T,
    ) -> Result<RawRow, StoreError> {
        let body = serde_json::to_string(body).map_err(|_| StoreError::Key)?;
        let mut row = RawRow {
            tenant: tenant.to_owned(),
            id: id.to_owned(),
            name: name.to_owned(),
            version,
            body,
            key_id: self.key_id.clone(),
            tag: Vec::new(),
        };
        row.tag = tag(&self.key, &row.fields(T::KIND.name()));
        Ok(row)
    }

    /// Appends to the journal. The head is written first: that is what other writers wait for.
    async fn note(&mut self, kind: &'static str, row: &RawRow, gone: bool) -> Result<(), StoreError> {
        const ADVANCE: &str = "UPDATE heads SET seq = seq + 1 WHERE kind = $1";
        if self.tx.execute(ADVANCE, params![kind]).await? == 0 {
            const FIRST: &str =
                "INSERT INTO heads (kind, seq, mac) VALUES ($1, 1, $2) ON CONFLICT (kind) DO NOTHING";
            if self.tx.execute(FIRST, params![kind, &[][..]]).await? == 0 {
                return Err(StoreError::Conflict(kind));
            }
        }
        let head =
            self.tx.fetch_optional("SELECT seq, mac FROM heads WHERE kind = $1", params![kind]).await?;
        let head = head.ok_or(StoreError::Conflict(kind))?;
        let mut entry = RawEntry {
            seq: head.get("seq")?,
            tenant: row.tenant.clone(),
            id: row.id.clone(),
            version: row.version,
            gone,
            tag: row.tag.clone(),
            actor: self.actor.clone(),
            at: self.at,
            prev: head.get("mac")?,
            key_id: self.key_id.clone(),
            mac: Vec::new(),
        };
        entry.mac = tag(&self.key, &entry.fields(kind));
        const APPEND: &str =
            "INSERT INTO journal (kind, seq, tenant, id, version, gone, tag, actor, at, prev, key_id, mac)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
        self.tx
            .execute(
                APPEND,
                params![
                    kind,
                    entry.seq,
                    &entry.tenant,
                    &entry.id,
                    entry.version,
                    entry.gone,
                    &entry.tag,
                    &entry.actor,
                    entry.at,
                    &entry.prev,
                    &entry.key_id,
                    &entry.mac
                ],
            )
            .await?;
        self.tx.execute("UPDATE heads SET mac = $1 WHERE kind = $2", params![&entry.mac, kind]).await?;
        Ok(())
    }
}
