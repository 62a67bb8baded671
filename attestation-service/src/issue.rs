//! From an accepted appraisal to the claims of a token.

use crate::environment::EntropyError;
use crate::problem::Problem;
use crate::service::Service;
use crate::token::{Claims, Issue};

impl Service {
    /// The claims of a new token.
    ///
    /// # Errors
    /// 503 `entropy_unavailable`.
    pub fn issue(&self, issue: Issue) -> Result<Claims, Problem> {
        tracing::info!(
            tee = issue.appraisal.tee,
            trust_anchor = issue.appraisal.trust.name(),
            reference = issue.appraisal.reference.name,
            "evidence accepted"
        );
        let jti = self.environment.random::<16>().map_err(|_: EntropyError| {
            Problem::unavailable("entropy_unavailable", "no randomness for a token")
        })?;
        Ok(self.tokens.claims(issue, jti, self.environment.clock.now()))
    }
}
