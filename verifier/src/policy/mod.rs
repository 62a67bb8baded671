//! An appraisal policy: a Rego module, the exceptions to the built-in rules that the operator makes by name, and typed
//! rules for what Rego should not have to express.

mod components;
mod version;
mod virtcca;

pub use components::{ComponentRule, ComponentRules};
pub use version::{Version, VersionError};
pub use virtcca::{HexBytes, VirtccaRules};

use evidence::cca::LifecycleState;
use serde::{Deserialize, Serialize};

use crate::logs::LogRules;
use crate::rego::{CompileError, Rego};

/// What a policy allows for one named trust anchor beyond the built-in rules. Everything is refused by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// The name of the trust anchor.
    pub trust_anchor: String,
    /// Accept it although it is marked as a development key.
    #[serde(default)]
    pub development: bool,
    /// Accept these lifecycle states in addition to `secured`.
    #[serde(default)]
    pub lifecycles: Vec<LifecycleState>,
}

/// Typed rules of a policy. Absent rules are the strict ones. With several policies, evidence must satisfy the rules of
/// each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// For evidence of virtCCA.
    pub virtcca: VirtccaRules,
    /// For boot and IMA logs.
    pub logs: LogRules,
}

/// One appraisal policy.
#[derive(Clone, Debug)]
pub struct AppraisalPolicy {
    id: String,
    rego: Rego,
    exceptions: Vec<Exception>,
    rules: Rules,
}

impl AppraisalPolicy {
    /// Compiles a policy with the strict rules.
    ///
    /// # Errors
    /// [`CompileError`] says what is wrong with the Rego text.
    pub fn new(id: impl Into<String>, rego: &str, exceptions: Vec<Exception>) -> Result<Self, CompileError> {
        let id = id.into();
        let rego = Rego::appraisal(&id, rego)?;
        Ok(Self { id, rego, exceptions, rules: Rules::default() })
    }

    /// Replaces the rules.
    #[must_use]
    pub fn with_rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// The typed rules.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// A policy whose module is compiled already, with the entry point [`crate::rego::APPRAISAL`].
    #[must_use]
    pub fn compiled(id: impl Into<String>, rego: Rego, exceptions: Vec<Exception>) -> Self {
        Self { id: id.into(), rego, exceptions, rules: Rules::default() }
    }

    /// The policy's name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The compiled Rego module.
    #[must_use]
    pub const fn rego(&self) -> &Rego {
        &self.rego
    }

    /// Whether the policy makes an exception for the development key named `trust_anchor`.
    #[must_use]
    pub fn allows_development(&self, trust_anchor: &str) -> bool {
        self.exceptions_for(trust_anchor).any(|exception| exception.development)
    }

    /// Whether the policy makes an exception for this lifecycle state of the platform of `trust_anchor`.
    #[must_use]
    pub fn allows_lifecycle(&self, trust_anchor: &str, state: LifecycleState) -> bool {
        self.exceptions_for(trust_anchor).any(|exception| exception.lifecycles.contains(&state))
    }

    fn exceptions_for(&self, trust_anchor: &str) -> impl Iterator<Item = &Exception> {
        self.exceptions.iter().filter(move |exception| exception.trust_anchor == trust_anchor)
    }
}
