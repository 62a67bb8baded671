//! Rego, within limits: a module is compiled once and evaluated on a fresh engine per appraisal.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, PolicyLengthConfig, Value};

const ENTRY_POINT: &str = "data.attestation.output";

/// Without this bound one policy with a long comprehension would hold a worker thread for as long as it likes.
const TIME_LIMIT: Duration = Duration::from_millis(200);

/// How many interpreter steps may pass between two looks at the clock.
const CHECK_INTERVAL: NonZeroU32 = NonZeroU32::new(32).unwrap();

/// Without these bounds the parser would take as much memory as a policy's author likes.
const LENGTH: PolicyLengthConfig = PolicyLengthConfig {
    max_col: NonZeroU32::new(1024).unwrap(),
    max_file_bytes: NonZeroUsize::new(256 * 1024).unwrap(),
    max_lines: NonZeroUsize::new(8192).unwrap(),
};

/// The Rego text is not a usable policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy {id} cannot be used (it must be package attestation and define output): {reason}")]
pub struct CompileError {
    id: String,
    reason: String,
}

/// A compiled policy.
#[derive(Clone)]
pub struct Rego {
    engine: Engine,
    sha256: [u8; 32],
}

impl Rego {
    /// Compiles `text`, which must define `data.attestation.output`.
    ///
    /// # Errors
    /// [`CompileError`] with the position of the first mistake.
    pub fn compile(id: &str, text: &str) -> Result<Self, CompileError> {
        let error = |reason: String| CompileError { id: id.to_owned(), reason };
        let mut engine = Engine::new();
        engine.set_policy_length_config(LENGTH);
        engine.set_execution_timer_config(ExecutionTimerConfig {
            limit: TIME_LIMIT,
            check_interval: CHECK_INTERVAL,
        });
        engine.set_strict_builtin_errors(true);
        engine.add_policy(id.to_owned(), text.to_owned()).map_err(|e| error(format!("{e:#}")))?;
        engine.compile_with_entrypoint(&ENTRY_POINT.into()).map_err(|e| error(format!("{e:#}")))?;
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Ok(Self { engine, sha256 })
    }

    /// SHA-256 of the policy's text.
    #[must_use]
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Evaluates the policy for `input`.
    ///
    /// # Errors
    /// A sentence for the operator: a run-time error, the time limit, or an undefined output.
    pub fn evaluate(&self, input: &serde_json::Value) -> Result<serde_json::Value, String> {
        let mut engine = self.engine.clone();
        engine.set_input(Value::from(input.clone()));
        let output = engine.eval_rule(ENTRY_POINT.to_owned()).map_err(|e| format!("{e:#}"))?;
        if output == Value::Undefined {
            return Err(format!("{ENTRY_POINT} is undefined for this evidence"));
        }
        serde_json::to_value(&output).map_err(|e| format!("{ENTRY_POINT} is not JSON: {e}"))
    }
}

impl std::fmt::Debug for Rego {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rego(sha256 {})", hex::encode(self.sha256))
    }
}
