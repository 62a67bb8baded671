//! What is known of a TPM from its last quote.

use evidence::bank::{Bank, BankValue};
use evidence::ima::ExtendRule;
use evidence::tpm::ClockInfo;
use serde::{Deserialize, Serialize};
use service_kit::db::{Row, params};
use verifier::tpm::ImaState;

use super::tag::{Field, tag};
use super::{Purpose, Store, StoreError};

/// What is known of a TPM from its last quote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmState {
    clock: u64,
    reset_count: u32,
    restart_count: u32,
    safe: bool,
    ima: Option<StoredIma>,
    /// When the quote was appraised, seconds since the Unix epoch.
    pub seen_at: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StoredIma {
    entries: u64,
    bank: Bank,
    value: String,
    per_bank: bool,
}

impl TpmState {
    /// What a quote tells.
    #[must_use]
    pub fn new(clock: &ClockInfo, ima: Option<&ImaState>, seen_at: i64) -> Self {
        Self {
            clock: clock.clock,
            reset_count: clock.reset_count,
            restart_count: clock.restart_count,
            safe: clock.safe,
            ima: ima.map(|ima| StoredIma {
                entries: ima.entries,
                bank: ima.value.bank(),
                value: ima.value.to_string(),
                per_bank: ima.rule == ExtendRule::PerBank,
            }),
            seen_at,
        }
    }

    /// The TPM's time.
    #[must_use]
    pub const fn clock(&self) -> ClockInfo {
        ClockInfo {
            clock: self.clock,
            reset_count: self.reset_count,
            restart_count: self.restart_count,
            safe: self.safe,
        }
    }

    /// How far the IMA log was proven.
    #[must_use]
    pub fn ima(&self) -> Option<ImaState> {
        let ima = self.ima.as_ref()?;
        let value = BankValue::from_slice(ima.bank, &hex::decode(&ima.value).ok()?)?;
        let rule = if ima.per_bank { ExtendRule::PerBank } else { ExtendRule::PaddedSha1 };
        Some(ImaState { entries: ima.entries, value, rule })
    }
}

/// A state with its version.
#[derive(Clone, Debug)]
pub struct StoredState {
    version: i64,
    /// The state.
    pub state: TpmState,
}

/// A row as the database has it, believed by nobody yet.
pub(super) struct RawState {
    pub tenant: String,
    pub ak: String,
    pub version: i64,
    pub body: String,
    pub key_id: String,
    pub tag: Vec<u8>,
}

impl RawState {
    pub(super) fn read(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            tenant: row.get("tenant")?,
            ak: row.get("ak")?,
            version: row.get("version")?,
            body: row.get("body")?,
            key_id: row.get("key_id")?,
            tag: row.get("tag")?,
        })
    }

    pub(super) fn fields(&self) -> [Field<'_>; 5] {
        [
            Field::Text("tpm_state"),
            Field::Text(&self.tenant),
            Field::Text(&self.ak),
            Field::Number(self.version),
            Field::Text(&self.body),
        ]
    }
}

impl Store {
    /// The state of the TPM with the attestation key `ak`.
    ///
    /// # Errors
    /// [`StoreError::Tampered`] if it is not what the service wrote.
    pub async fn state(&self, tenant: &str, ak: &str) -> Result<Option<StoredState>, StoreError> {
        const FIND: &str =
            "SELECT tenant, ak, version, body, key_id, tag FROM tpm_states WHERE tenant = $1 AND ak = $2";
        let Some(row) = self.db.fetch_optional(FIND, params![tenant, ak]).await? else { return Ok(None) };
        let row = RawState::read(&row)?;
        let tampered = |reason| StoreError::Tampered {
            kind: "tpm_state",
            tenant: tenant.to_owned(),
            id: ak.to_owned(),
            reason,
        };
        if !self.is_authentic(&row.key_id, &row.fields(), &row.tag).await? {
            return Err(tampered("the row was changed behind the service's back"));
        }
        let state = serde_json::from_str(&row.body).map_err(|_| tampered("this version cannot read it"))?;
        Ok(Some(StoredState { version: row.version, state }))
    }

    /// Replaces the state that was read as `before`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another quote of this TPM was appraised at the same time.
    pub async fn set_state(
        &self,
        tenant: &str,
        ak: &str,
        before: Option<&StoredState>,
        state: &TpmState,
    ) -> Result<(), StoreError> {
        let (key_id, key) = self.keys.active_mac(Purpose::Row).await?;
        let body = serde_json::to_string(state).map_err(|_| StoreError::Key)?;
        let version = before.map_or(0, |before| before.version).saturating_add(1);
        let (tenant, ak) = (tenant.to_owned(), ak.to_owned());
        let mut row = RawState { tenant, ak, version, body, key_id, tag: Vec::new() };
        row.tag = tag(&key, &row.fields());
        const INSERT: &str = "INSERT INTO tpm_states (tenant, ak, version, body, key_id, tag)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant, ak) DO NOTHING";
        const UPDATE: &str = "UPDATE tpm_states SET version = $3, body = $4, key_id = $5, tag = $6
            WHERE tenant = $1 AND ak = $2 AND version = $3 - 1";
        let values = params![&row.tenant, &row.ak, row.version, &row.body, &row.key_id, &row.tag];
        let statement = if before.is_some() { UPDATE } else { INSERT };
        if self.db.execute(statement, values).await? == 0 {
            return Err(StoreError::Conflict("the state of this node"));
        }
        Ok(())
    }
}
