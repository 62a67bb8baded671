//! The security lifecycle of a platform.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Security lifecycle of a platform: the state in bits 15:8, the rest implementation defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lifecycle(pub u16);

/// The states of a [`Lifecycle`] (RMM specification A7.2.3.2.3), spelt in snake case where policies name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LifecycleState {
    /// 0x00: not known.
    Unknown,
    /// 0x10: assembly and test.
    AssemblyAndTest,
    /// 0x20: the root of trust is being provisioned.
    RotProvisioning,
    /// 0x30: in production.
    Secured,
    /// 0x40: debugging outside the root of trust.
    NonRotDebug,
    /// 0x50: debugging of the root of trust from which the platform can recover.
    RecoverableRotDebug,
    /// 0x60: not to be used any more.
    Decommissioned,
}

impl Lifecycle {
    /// The state, if the value stands for one.
    pub fn state(self) -> Option<LifecycleState> {
        match self.0 >> 8 {
            0x00 => Some(LifecycleState::Unknown),
            0x10 => Some(LifecycleState::AssemblyAndTest),
            0x20 => Some(LifecycleState::RotProvisioning),
            0x30 => Some(LifecycleState::Secured),
            0x40 => Some(LifecycleState::NonRotDebug),
            0x50 => Some(LifecycleState::RecoverableRotDebug),
            0x60 => Some(LifecycleState::Decommissioned),
            _ => None,
        }
    }

    /// The platform is in production, with debugging closed.
    pub fn is_secured(self) -> bool {
        self.state() == Some(LifecycleState::Secured)
    }
}

impl From<Lifecycle> for u16 {
    fn from(lifecycle: Lifecycle) -> Self {
        lifecycle.0
    }
}

/// The state's name and the value, such as `secured (0x3003)`.
impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.state() {
            Some(LifecycleState::Unknown) => "unknown",
            Some(LifecycleState::AssemblyAndTest) => "assembly and test",
            Some(LifecycleState::RotProvisioning) => "root-of-trust provisioning",
            Some(LifecycleState::Secured) => "secured",
            Some(LifecycleState::NonRotDebug) => "non-root-of-trust debug",
            Some(LifecycleState::RecoverableRotDebug) => "recoverable root-of-trust debug",
            Some(LifecycleState::Decommissioned) => "decommissioned",
            None => "not defined",
        };
        write!(f, "{name} (0x{:04x})", self.0)
    }
}
