//! The service itself: what both planes share.

use std::sync::Arc;

use evidence::hash::Digest;
use tokio::runtime::Handle;
use verifier::chain::TrustBundle;
use verifier::{
    AppraisalPolicy, AwsLc, CertificateTrust, DEFAULT_CCA_POLICY, RealmReference, ReferenceValues,
    TrustAnchor, TrustAnchors,
};

use crate::environment::Environment;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::store::audit::OK;
use crate::store::policies::StoredPolicy;
use crate::store::{Store, StoreError};
use crate::token::Tokens;
use crate::vault::Vault;

/// The policy that applies to every appraisal of a CCA token; an operator replaces it by registering one of this name.
pub const DEFAULT_POLICY_ID: &str = "default_cca.rego";

/// The default policy as it is until an operator replaces it.
pub fn built_in_policy() -> StoredPolicy {
    StoredPolicy {
        id: DEFAULT_POLICY_ID.to_owned(),
        version: 0,
        rego: DEFAULT_CCA_POLICY.to_owned(),
        exceptions: Vec::new(),
        added_at: 0,
    }
}

/// Limits that an operator sets.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long a challenge can be answered, in seconds.
    pub challenge_lifetime: i64,
    /// How many unexpired challenges there may be; without it one client could fill the disk.
    pub max_challenges: u32,
}

/// Everything that a request handler needs.
pub struct Service {
    /// The database.
    pub store: Store,
    /// Seals what is secret at rest.
    pub vault: Vault,
    /// Issues and checks tokens.
    pub tokens: Tokens,
    /// Time and randomness.
    pub environment: Environment,
    /// Limits.
    pub settings: Settings,
    /// What is counted.
    pub metrics: Metrics,
}

impl Service {
    /// The policies of an appraisal: the default one always, and those that the client names. All must allow, so a
    /// client can narrow what passes and never widen it.
    ///
    /// # Errors
    /// 422 `policy_unknown` for a name that is not registered.
    pub async fn policies(&self, requested: &[crate::names::Name]) -> Result<Vec<AppraisalPolicy>, Problem> {
        let mut policies = vec![self.default_policy().await?];
        for id in requested {
            if policies.iter().any(|policy| policy.id() == id.as_str()) {
                continue;
            }
            let stored = self.store.policy(id.as_str()).await?.ok_or_else(|| {
                Problem::new(
                    axum::http::StatusCode::UNPROCESSABLE_ENTITY,
                    "policy_unknown",
                    format!("policy_id: there is no policy {id}"),
                )
            })?;
            policies.push(compile(stored)?);
        }
        Ok(policies)
    }

    async fn default_policy(&self) -> Result<AppraisalPolicy, Problem> {
        compile(self.store.policy(DEFAULT_POLICY_ID).await?.unwrap_or_else(built_in_policy))
    }

    /// Appraises evidence on a thread where signatures and policies may take their time.
    ///
    /// # Errors
    /// The refusal as a problem.
    pub async fn appraise(
        self: &Arc<Self>,
        evidence: evidence::envelope::Evidence,
        challenge: [u8; 64],
        policies: Vec<AppraisalPolicy>,
    ) -> Result<verifier::Appraisal, Problem> {
        let now = self.environment.clock.now();
        let registry = Registry { store: self.store.clone(), runtime: Handle::current(), now };
        let appraised = tokio::task::spawn_blocking(move || {
            verifier::appraise(
                &evidence,
                &challenge,
                &verifier::Context {
                    now,
                    signatures: &AwsLc,
                    anchors: &registry,
                    certificates: &registry,
                    references: &registry,
                    policies: &policies,
                },
            )
        })
        .await;
        let result = appraised.map_or_else(
            |error| {
                tracing::error!(error = &error as &dyn std::error::Error, "appraisal did not finish");
                Err(Problem::unavailable("appraisal_failed", "the appraisal did not finish"))
            },
            |appraised| appraised.map_err(Problem::from),
        );
        self.metrics.appraisal(result.as_ref().map_or_else(|problem| problem.code, |_| OK));
        result
    }
}

fn compile(stored: StoredPolicy) -> Result<AppraisalPolicy, Problem> {
    AppraisalPolicy::new(stored.id, &stored.rego, stored.exceptions).map_err(|error| {
        // Policies are compiled when they are registered; one that no longer compiles came with another version.
        tracing::error!(error = &error as &dyn std::error::Error, "policy");
        Problem::unavailable(
            "policy_unusable",
            "a registered policy cannot be used; the operator's log says why",
        )
    })
}

/// The verifier's view of the store. Its calls block and must not be made on a runtime thread.
struct Registry {
    store: Store,
    runtime: Handle,
    now: i64,
}

impl TrustAnchors for Registry {
    fn platform_key(
        &self,
        implementation_id: &[u8; 32],
        instance_id: &[u8; 33],
    ) -> Result<Option<TrustAnchor>, verifier::StoreError> {
        self.runtime.block_on(self.store.anchor(implementation_id, instance_id)).map_err(|e| report(&e))
    }
}

impl ReferenceValues for Registry {
    fn realm(&self, rim: &Digest) -> Result<Vec<RealmReference>, verifier::StoreError> {
        let stored =
            self.runtime.block_on(self.store.references_for(rim, self.now)).map_err(|e| report(&e))?;
        Ok(stored.into_iter().map(|stored| stored.reference).collect())
    }
}

/// No certificate authorities can be installed yet, so no device certificate is believed.
impl CertificateTrust for Registry {
    fn bundle(&self) -> Result<Arc<TrustBundle>, verifier::StoreError> {
        Ok(Arc::new(TrustBundle::empty()))
    }
}

fn report(error: &StoreError) -> verifier::StoreError {
    tracing::error!(error = error as &dyn std::error::Error, "store");
    verifier::StoreError
}
