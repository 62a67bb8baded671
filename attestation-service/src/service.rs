//! The service itself: what both planes share.

use std::collections::BTreeSet;
use std::sync::Arc;

use evidence::envelope::Evidence;
use evidence::hash::Digest;
use serde_json::{Map, Value};
use service_kit::http::Observer;
use tokio::runtime::Handle;
use verifier::rego::{APPRAISAL, RegoCache};
use verifier::{
    AppraisalPolicy, AwsLc, DEFAULT_CCA_POLICY, DEFAULT_VIRTCCA_POLICY, PlatformReference, RealmReference,
    ReferenceValues, Rules, TrustAnchor, TrustAnchors,
};

use crate::authorities::Authorities;
use crate::environment::Environment;
use crate::metrics::{Metrics, Plane};
use crate::problem::Problem;
use crate::store::audit::OK;
use crate::store::policies::StoredPolicy;
use crate::store::{Store, StoreError};
use crate::token::Tokens;
use crate::vault::Vault;

/// The policy that applies to every appraisal of a CCA token; an operator replaces it by registering one of this name.
pub const DEFAULT_POLICY_ID: &str = "default_cca.rego";

/// The same for virtCCA.
pub const DEFAULT_VIRTCCA_POLICY_ID: &str = "default_vcca.rego";

/// The default policies as they are until an operator replaces them.
#[must_use]
pub fn built_in_policies() -> [StoredPolicy; 2] {
    [(DEFAULT_POLICY_ID, DEFAULT_CCA_POLICY), (DEFAULT_VIRTCCA_POLICY_ID, DEFAULT_VIRTCCA_POLICY)].map(
        |(id, rego)| StoredPolicy {
            id: id.to_owned(),
            version: 0,
            rego: rego.to_owned(),
            exceptions: Vec::new(),
            rules: Rules::default(),
            added_at: 0,
        },
    )
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
    /// Who certifies devices.
    pub authorities: Authorities,
    /// Policies that were compiled before.
    pub rego: RegoCache,
    /// What is counted.
    pub metrics: Metrics,
}

impl Service {
    /// Counts the answers of a plane.
    pub fn observer(self: &Arc<Self>, plane: Plane) -> impl Observer + use<> {
        let service = Arc::clone(self);
        move |status, took| service.metrics.request(plane, status, took)
    }

    /// The policies of an appraisal: the default one of the evidence's kind always, and those that the client names. All must allow, so a
    /// client can narrow what passes and never widen it.
    ///
    /// # Errors
    /// 422 `policy_unknown` for a name that is not registered.
    pub async fn policies(
        &self,
        evidence: &Evidence,
        requested: &[crate::names::Name],
    ) -> Result<Vec<AppraisalPolicy>, Problem> {
        let mut policies = vec![self.default_policy(evidence).await?];
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
            policies.push(self.compile(stored)?);
        }
        Ok(policies)
    }

    async fn default_policy(&self, evidence: &Evidence) -> Result<AppraisalPolicy, Problem> {
        let [cca, virtcca] = built_in_policies();
        let built_in = match evidence {
            Evidence::Cca(_) => cca,
            Evidence::Virtcca(_) => virtcca,
        };
        self.compile(self.store.policy(&built_in.id).await?.unwrap_or(built_in))
    }

    fn compile(&self, stored: StoredPolicy) -> Result<AppraisalPolicy, Problem> {
        let compiled = self.rego.get(&stored.id, APPRAISAL, &stored.rego).map_err(|error| {
            // Policies are compiled when they are registered; one that no longer compiles came with another version.
            tracing::error!(error = &error as &dyn std::error::Error, "policy");
            Problem::unavailable(
                "policy_unusable",
                "a registered policy cannot be used; the operator's log says why",
            )
        })?;
        Ok(AppraisalPolicy::compiled(stored.id, compiled, stored.exceptions).with_rules(stored.rules))
    }

    /// The Rego text of an appraisal policy; the built-in one unless an operator replaced it.
    ///
    /// # Errors
    /// 503 if the database cannot be used.
    pub async fn policy_text(&self, id: &crate::names::Name) -> Result<Option<String>, Problem> {
        let stored = self.store.policy(id.as_str()).await?;
        let built_in = || built_in_policies().into_iter().find(|policy| policy.id == id.as_str());
        Ok(stored.or_else(built_in).map(|policy| policy.rego))
    }

    /// Appraises evidence on a thread where signatures and policies may take their time.
    ///
    /// # Errors
    /// The refusal as a problem.
    pub async fn appraise(
        self: &Arc<Self>,
        evidence: Evidence,
        challenge: [u8; 64],
        policies: Vec<AppraisalPolicy>,
    ) -> Result<verifier::Appraisal, Problem> {
        let now = self.environment.clock.now();
        let authorities = self.authorities.current(&self.store).await?;
        let registry = Registry { store: self.store.clone(), runtime: Handle::current(), now };
        let appraised = tokio::task::spawn_blocking(move || {
            verifier::appraise(
                &evidence,
                &challenge,
                &verifier::Context {
                    now,
                    signatures: &AwsLc,
                    anchors: &registry,
                    certificates: &authorities,
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
        self.runtime
            .block_on(self.store.anchor(implementation_id, instance_id, self.now))
            .map_err(|e| report(&e))
    }
}

impl ReferenceValues for Registry {
    fn realm(&self, rim: &Digest) -> Result<Vec<RealmReference>, verifier::StoreError> {
        let stored =
            self.runtime.block_on(self.store.references_for(rim, self.now)).map_err(|e| report(&e))?;
        Ok(stored.into_iter().map(|stored| stored.reference).collect())
    }

    fn platforms(
        &self,
        implementation_id: &[u8; 32],
    ) -> Result<Vec<PlatformReference>, verifier::StoreError> {
        self.runtime.block_on(self.store.platform_references_for(implementation_id)).map_err(|e| report(&e))
    }

    fn registered(&self, values: &Map<String, Value>) -> Result<BTreeSet<String>, verifier::StoreError> {
        self.runtime.block_on(self.store.registered_names(values, self.now)).map_err(|e| report(&e))
    }
}

fn report(error: &StoreError) -> verifier::StoreError {
    tracing::error!(error = error as &dyn std::error::Error, "store");
    verifier::StoreError
}
