//! What is known of a TPM from its last quote.

use evidence::bank::{Bank, BankValue};
use evidence::ima::ExtendRule;
use evidence::tpm::ClockInfo;
use serde::{Deserialize, Serialize};
use verifier::tpm::ImaState;

use crate::store::State;

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

impl State for TpmState {
    const KIND: &'static str = "tpm_state";
}
