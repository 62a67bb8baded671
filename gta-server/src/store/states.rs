//! What is known of TPMs and nodes from what they last sent. It changes with every report, so it is in no journal: a row
//! that was changed is found, an older one that was put back is not.

use aws_lc_rs::hmac;
use serde::Serialize;
use serde::de::DeserializeOwned;
use service_kit::db::{Param, Row, params};

use super::tag::{Field, tag};
use super::{Change, Purpose, Store, StoreError};

/// What is kept as a state.
pub trait State: Serialize + DeserializeOwned {
    /// What kind of state it is: the name in the database and in messages.
    const KIND: &'static str;

    /// When something must have happened, seconds since the Unix epoch.
    fn due_at(&self) -> Option<i64> {
        None
    }
}

/// A state with its version.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    version: i64,
    /// The state.
    pub state: T,
}

/// A row as the database has it, believed by nobody yet.
pub(super) struct RawState {
    pub kind: String,
    pub tenant: String,
    pub id: String,
    pub version: i64,
    pub due_at: Option<i64>,
    pub body: String,
    pub key_id: String,
    pub tag: Vec<u8>,
}

impl RawState {
    pub(super) fn read(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            kind: row.get("kind")?,
            tenant: row.get("tenant")?,
            id: row.get("id")?,
            version: row.get("version")?,
            due_at: row.get("due_at")?,
            body: row.get("body")?,
            key_id: row.get("key_id")?,
            tag: row.get("tag")?,
        })
    }

    pub(super) fn fields(&self) -> Vec<Field<'_>> {
        let mut fields = vec![
            Field::Text(&self.kind),
            Field::Text(&self.tenant),
            Field::Text(&self.id),
            Field::Number(self.version),
            Field::Text(&self.body),
        ];
        fields.extend(self.due_at.map(Field::Number));
        fields
    }
}

impl RawState {
    fn new<T: State>(
        tenant: &str,
        id: &str,
        before: Option<&Stored<T>>,
        state: &T,
        (key_id, key): (String, &hmac::Key),
    ) -> Result<Self, StoreError> {
        let mut row = Self {
            kind: T::KIND.to_owned(),
            tenant: tenant.to_owned(),
            id: id.to_owned(),
            version: before.map_or(0, |before| before.version).saturating_add(1),
            due_at: state.due_at(),
            body: serde_json::to_string(state).map_err(|_| StoreError::Key)?,
            key_id,
            tag: Vec::new(),
        };
        row.tag = tag(key, &row.fields());
        Ok(row)
    }

    const fn statement(&self) -> &'static str {
        const INSERT: &str = "INSERT INTO states (kind, tenant, id, version, due_at, body, key_id, tag)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (kind, tenant, id) DO NOTHING";
        const UPDATE: &str = "UPDATE states SET version = $4, due_at = $5, body = $6, key_id = $7, tag = $8
            WHERE kind = $1 AND tenant = $2 AND id = $3 AND version = $4 - 1";
        if self.version == 1 { INSERT } else { UPDATE }
    }

    fn params(&self) -> [Param<'_>; 8] {
        *params![
            &self.kind,
            &self.tenant,
            &self.id,
            self.version,
            self.due_at,
            &self.body,
            &self.key_id,
            &self.tag
        ]
    }
}

/// Whether a row was there to be replaced, or was not there to be added.
const fn written(rows: u64) -> Result<(), StoreError> {
    if rows == 0 { Err(StoreError::Conflict("the state of this node")) } else { Ok(()) }
}

impl Change {
    /// Replaces the state that was read as `before`, together with what else is changed.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it has been replaced since.
    pub async fn set_state<T: State>(
        &mut self,
        tenant: &str,
        id: &str,
        before: Option<&Stored<T>>,
        state: &T,
    ) -> Result<(), StoreError> {
        let row = RawState::new(tenant, id, before, state, (self.key_id.clone(), &self.key))?;
        written(self.tx.execute(row.statement(), &row.params()).await?)
    }

    /// Forgets a state, together with what else is changed.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn forget_state<T: State>(&mut self, tenant: &str, id: &str) -> Result<(), StoreError> {
        self.tx.execute(FORGET, params![T::KIND, tenant, id]).await?;
        Ok(())
    }
}

const FORGET: &str = "DELETE FROM states WHERE kind = $1 AND tenant = $2 AND id = $3";
/// Most states that are looked at in one go.
const BATCH: i64 = 500;

impl Store {
    /// The state of what is called `id`.
    ///
    /// # Errors
    /// [`StoreError::Tampered`] if it is not what the service wrote.
    pub async fn state<T: State>(&self, tenant: &str, id: &str) -> Result<Option<Stored<T>>, StoreError> {
        const FIND: &str = "SELECT kind, tenant, id, version, due_at, body, key_id, tag FROM states
            WHERE kind = $1 AND tenant = $2 AND id = $3";
        match self.db.fetch_optional(FIND, params![T::KIND, tenant, id]).await? {
            Some(row) => Ok(Some(self.believe_state(RawState::read(&row)?).await?.1)),
            None => Ok(None),
        }
    }

    /// All states of a tenant, each with its id, by id.
    ///
    /// # Errors
    /// As [`Self::state`].
    pub async fn states<T: State>(&self, tenant: &str) -> Result<Vec<(String, Stored<T>)>, StoreError> {
        const FIND: &str = "SELECT kind, tenant, id, version, due_at, body, key_id, tag FROM states
            WHERE kind = $1 AND tenant = $2";
        let mut states = Vec::new();
        for row in self.db.fetch_all(FIND, params![T::KIND, tenant]).await? {
            let (row, state) = self.believe_state(RawState::read(&row)?).await?;
            states.push((row.id, state));
        }
        // Databases have orders of their own.
        states.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(states)
    }

    /// States whose time has come, with tenant and id; not more than a few hundred, so there may be others.
    ///
    /// # Errors
    /// As [`Self::state`].
    pub async fn due_states<T: State>(&self) -> Result<Vec<(String, String, Stored<T>)>, StoreError> {
        const FIND: &str = "SELECT kind, tenant, id, version, due_at, body, key_id, tag FROM states
            WHERE kind = $1 AND due_at < $2 ORDER BY due_at LIMIT $3";
        let mut states = Vec::new();
        for row in self.db.fetch_all(FIND, params![T::KIND, self.now(), BATCH]).await? {
            let (row, state) = self.believe_state(RawState::read(&row)?).await?;
            states.push((row.tenant, row.id, state));
        }
        Ok(states)
    }

    /// States whose time never comes, with tenant and id: those that follow after these, not more than a few hundred.
    ///
    /// # Errors
    /// As [`Self::state`].
    pub async fn idle_states<T: State>(
        &self,
        tenant: &str,
        id: &str,
    ) -> Result<Vec<(String, String, Stored<T>)>, StoreError> {
        const FIND: &str = "SELECT kind, tenant, id, version, due_at, body, key_id, tag FROM states
            WHERE kind = $1 AND due_at IS NULL AND (tenant > $2 OR (tenant = $2 AND id > $3))
            ORDER BY tenant, id LIMIT $4";
        let mut states = Vec::new();
        for row in self.db.fetch_all(FIND, params![T::KIND, tenant, id, BATCH]).await? {
            let (row, state) = self.believe_state(RawState::read(&row)?).await?;
            states.push((row.tenant, row.id, state));
        }
        Ok(states)
    }

    /// Replaces the state that was read as `before`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it has been replaced since.
    pub async fn set_state<T: State>(
        &self,
        tenant: &str,
        id: &str,
        before: Option<&Stored<T>>,
        state: &T,
    ) -> Result<(), StoreError> {
        let (key_id, key) = self.keys.active_mac(Purpose::Row).await?;
        let row = RawState::new(tenant, id, before, state, (key_id, &key))?;
        written(self.db.execute(row.statement(), &row.params()).await?)
    }

    /// Replaces the state that was read as `before`; gives what is there now.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it has been replaced since.
    pub async fn advance_state<T: State>(
        &self,
        tenant: &str,
        id: &str,
        before: &Stored<T>,
        state: T,
    ) -> Result<Stored<T>, StoreError> {
        self.set_state(tenant, id, Some(before), &state).await?;
        Ok(Stored { version: before.version.saturating_add(1), state })
    }

    /// Forgets a state.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used.
    pub async fn forget_state<T: State>(&self, tenant: &str, id: &str) -> Result<(), StoreError> {
        self.db.execute(FORGET, params![T::KIND, tenant, id]).await?;
        Ok(())
    }

    async fn believe_state<T: State>(&self, row: RawState) -> Result<(RawState, Stored<T>), StoreError> {
        let tampered = |reason| StoreError::Tampered {
            kind: T::KIND,
            tenant: row.tenant.clone(),
            id: row.id.clone(),
            reason,
        };
        if !self.is_authentic(&row.key_id, &row.fields(), &row.tag).await? {
            return Err(tampered("the row was changed behind the service's back"));
        }
        let state = serde_json::from_str(&row.body).map_err(|_| tampered("this version cannot read it"))?;
        let version = row.version;
        Ok((row, Stored { version, state }))
    }
}
