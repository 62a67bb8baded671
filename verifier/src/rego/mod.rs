//! Rego, within limits: a module is compiled once and evaluated on a fresh engine each time.
//!
//! Time is bounded by the interpreter's own timer and [`time`], text by [`LENGTH`] and [`text`], what rules ask of each other by
//! [`shape`], results by [`MAX_OUTPUT`], and the built-in functions whose results have nothing to do with the size of their
//! arguments are bounded in [`builtins`]. The interpreter is recursive, and a stack that runs over ends the process: so it
//! has a stack of its own, which is larger than what these bounds allow. What remains is what a chain of ordinary functions
//! can make of its input before the timer stops it; policies come from administrators only, and the service's memory is
//! bounded by its unit file.

mod builtins;
mod cache;
mod document;
mod shape;
mod text;
mod time;
mod why;

pub use cache::RegoCache;
pub use document::Document;
pub use why::MAX_LINES;

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, LimitError, PolicyLengthConfig, Value};

use time::Failure;

/// Where an appraisal policy puts its result; secGear's entry point.
pub const APPRAISAL: &str = "data.attestation.output";

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

/// Without this bound a result with shared parts could have more values when it is written down than memory has room for.
const MAX_OUTPUT: usize = 10_000;

/// The interpreter's stack, in bytes: a hundred times what the bounds of the text allow, because values can be nested as
/// deeply as there is time for, and each level takes some when a value is compared or dropped. Only what is used of it takes
/// memory.
const STACK: usize = 256 << 20;

/// The Rego text is not a usable policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy {id} cannot be used (it must define {entry_point}): {reason}")]
pub struct CompileError {
    id: String,
    entry_point: String,
    reason: String,
}

/// A compiled module with its entry point; clones share it.
#[derive(Clone)]
pub struct Rego(Arc<Compiled>);

struct Compiled {
    engine: Engine,
    entry_point: String,
    sha256: [u8; 32],
    outline: OnceLock<why::Outline>,
}

impl Rego {
    /// Compiles an appraisal policy: package `attestation`, rule `output`.
    ///
    /// # Errors
    /// [`CompileError`] with the position of the first mistake.
    pub fn appraisal(id: &str, text: &str) -> Result<Self, CompileError> {
        Self::compile(id, APPRAISAL, text)
    }

    /// Compiles `text`, which must define the rule `entry_point`. A module in Rego's older dialect, as secGear's policies
    /// are, is taken as such if it is not valid in the present one.
    ///
    /// # Errors
    /// [`CompileError`] with the position of the first mistake.
    pub fn compile(id: &str, entry_point: &str, text: &str) -> Result<Self, CompileError> {
        let engine = engine(entry_point, text).map_err(|reason| CompileError {
            id: id.to_owned(),
            entry_point: entry_point.to_owned(),
            reason,
        })?;
        let sha256 = sha256(text);
        Ok(Self(Arc::new(Compiled {
            engine,
            entry_point: entry_point.to_owned(),
            sha256,
            outline: OnceLock::new(),
        })))
    }

    /// SHA-256 of the policy's text.
    #[must_use]
    pub fn sha256(&self) -> &[u8; 32] {
        &self.0.sha256
    }

    /// Evaluates the entry point for `input`, with an empty `data` document.
    ///
    /// # Errors
    /// A sentence for the operator: a run-time error, a limit, or an undefined result.
    pub fn evaluate(&self, input: &Document) -> Result<serde_json::Value, String> {
        with_stack(|| self.run(|| Ok(self.0.engine.clone()), input))
    }

    /// Evaluates the entry point for `input` and the `data` document `data`, an object.
    ///
    /// # Errors
    /// As [`Rego::evaluate`], and if `data` collides with the module's package.
    pub fn evaluate_with(&self, input: &Document, data: &Document) -> Result<serde_json::Value, String> {
        let engine = || {
            let mut engine = self.0.engine.clone();
            engine.add_data(data.0.clone()).map_err(|error| format!("{error:#}"))?;
            Ok(engine)
        };
        with_stack(|| self.run(engine, input))
    }

    fn run(
        &self,
        engine: impl Fn() -> Result<Engine, String>,
        input: &Document,
    ) -> Result<serde_json::Value, String> {
        let entry_point = &self.0.entry_point;
        let output = time::with_its_share(|| {
            let mut engine = engine().map_err(Failure::Final)?;
            engine.set_input(input.0.clone());
            engine.eval_rule(entry_point.clone()).map_err(|error| {
                let reason = format!("{error:#}");
                match error.downcast_ref() {
                    Some(LimitError::TimeLimitExceeded { .. }) => Failure::Stopped(reason),
                    _ => Failure::Final(reason),
                }
            })
        })?;
        if output == Value::Undefined {
            return Err(format!("{entry_point} is undefined for this input"));
        }
        document::to_json(&output, MAX_OUTPUT).map_err(|reason| format!("{entry_point} {reason}"))
    }
}

impl std::fmt::Debug for Rego {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rego({}, sha256 {})", self.0.entry_point, hex::encode(self.0.sha256))
    }
}

/// A module that has been compiled, in the present dialect or else in the older one.
fn engine(entry_point: &str, text: &str) -> Result<Engine, String> {
    text::check(text)?;
    with_stack(|| {
        let present = match parsed(text, false) {
            Ok(engine) => {
                shape::check(&engine, text)?;
                match entered(engine, entry_point) {
                    Ok(engine) => return Ok(engine),
                    Err(reason) => reason,
                }
            }
            Err(reason) => reason,
        };
        let Ok(engine) = parsed(text, true) else { return Err(present) };
        shape::check(&engine, text)?;
        entered(engine, entry_point).map_err(|_| present)
    })
}

fn parsed(text: &str, older_dialect: bool) -> Result<Engine, String> {
    let mut engine = Engine::new();
    engine.set_rego_v0(older_dialect);
    engine.set_policy_length_config(LENGTH);
    engine.set_execution_timer_config(ExecutionTimerConfig {
        limit: TIME_LIMIT,
        check_interval: CHECK_INTERVAL,
    });
    engine.set_strict_builtin_errors(true);
    builtins::bound(&mut engine)?;
    engine.add_policy("policy.rego".to_owned(), text.to_owned()).map_err(|error| format!("{error:#}"))?;
    Ok(engine)
}

fn entered(mut engine: Engine, entry_point: &str) -> Result<Engine, String> {
    engine.compile_with_entrypoint(&entry_point.into()).map_err(|error| format!("{error:#}"))?;
    Ok(engine)
}

/// Runs the interpreter on a stack of its own, wherever it is called.
fn with_stack<T>(work: impl FnOnce() -> T) -> T {
    stacker::grow(STACK, work)
}

fn sha256(text: &str) -> [u8; 32] {
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    sha256
}
