//! Whether a resource is released, by whatever protocol it was asked for: the token says that the evidence was accepted
//! and confirms an attested key, and every policy that is bound to the resource allows it. Default deny: without a bound
//! policy nothing is released. Every decision is in the audit log before the content is.

use axum::http::StatusCode;
use jose::Jwk;
use serde_json::{Value, json};
use verifier::AFFIRMING_RESOURCE_POLICY;
use verifier::rego::Document;
use zeroize::Zeroizing;

use crate::names::{PolicyName, ResourceName};
use crate::problem::Problem;
use crate::service::Service;
use crate::store::audit::{Entry, OK};
use crate::store::resource_policies::StoredResourcePolicy;
use crate::store::resources::StoredResource;
use crate::token::Claims;
use crate::vault::{Sealed, VaultError};

/// The built-in resource policy, which every vendor may bind.
pub const AFFIRMING: &str = "oeas/affirming.rego";

/// What is released, and to which key alone.
pub struct Release {
    /// The content, to be encrypted to `key`.
    pub content: Zeroizing<Vec<u8>>,
    /// The attested key.
    pub key: Jwk,
    digest: [u8; 32],
}

/// What a sealed resource is. Names have neither `:` nor `#`.
#[must_use]
pub fn context(name: &ResourceName, version: i64) -> String {
    format!("resource:{name}#{version}")
}

impl Service {
    /// Releases `name` to the holder of the key that `claims` confirm. The claims are those of a token that was verified.
    ///
    /// # Errors
    /// 403 with the reason, 404 `resource_unknown`, 503.
    pub async fn release(&self, claims: &Claims, name: &ResourceName) -> Result<Release, Problem> {
        let decision = self.decide(claims, name).await;
        let (digest, result) = match &decision {
            Ok(release) => (Some(release.digest), OK),
            Err(problem) => (None, problem.code),
        };
        let actor = match &claims.cnf {
            Some(confirmation) => format!("tee:{} jti:{}", confirmation.jkt, claims.jti),
            None => format!("tee jti:{}", claims.jti),
        };
        let object = name.to_string();
        let entry = Entry {
            at: self.environment.clock.now(),
            actor: &actor,
            action: "resource.release",
            object: &object,
            digest,
            result,
        };
        // What cannot be recorded is not released.
        self.store.record(&entry).await?;
        self.metrics.release(result);
        tracing::info!(resource = object, actor, result, "resource release");
        decision
    }

    async fn decide(&self, claims: &Claims, name: &ResourceName) -> Result<Release, Problem> {
        let key = attested_key(claims)?;
        let resource = self.store.resource(name).await?.ok_or_else(|| {
            Problem::new(StatusCode::NOT_FOUND, "resource_unknown", format!("there is no resource {name}"))
        })?;
        self.check_policies(claims, name).await?;
        let content = self.open_resource(&resource).await?;
        Ok(Release { content, key, digest: resource.content.digest() })
    }

    async fn check_policies(&self, claims: &Claims, name: &ResourceName) -> Result<(), Problem> {
        let bound = self.store.bound_policies(name).await?;
        if bound.is_empty() {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "resource_policy_missing",
                format!(
                    "no resource policy is bound to {name}, so it is released to nobody; the operator can bind one"
                ),
            ));
        }
        let input = serde_json::to_value(claims)
            .map_err(|_| Problem::unavailable("resource_policy_error", "the claims cannot be evaluated"))?;
        for policy in bound {
            self.check_policy(&policy, &input, name).await?;
        }
        Ok(())
    }

    async fn check_policy(
        &self,
        policy: &PolicyName,
        input: &Value,
        name: &ResourceName,
    ) -> Result<(), Problem> {
        let refuse =
            |code, detail: String| Problem::new(StatusCode::FORBIDDEN, code, format!("{name}: {detail}"));
        if !policy.may_be_bound_for(&name.vendor) {
            return Err(refuse("resource_policy_foreign", format!("policy {policy} is another vendor's")));
        }
        let stored = self.resource_policy(policy).await?.ok_or_else(|| {
            refuse("resource_policy_missing", format!("policy {policy} is bound but not registered"))
        })?;
        let compiled = self.rego.get(&policy.to_string(), &policy.entry_point(), &stored.rego);
        let (input, data) =
            (Document::from(input.clone()), Document::from(json!({ "resource": name.to_string() })));
        let allowed = tokio::task::spawn_blocking(move || {
            let compiled = compiled.map_err(|error| error.to_string())?;
            // The rule is `true`, not merely defined.
            Ok::<_, String>(compiled.evaluate_with(&input, &data)? == Value::Bool(true))
        })
        .await;
        match allowed {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => {
                Err(refuse("resource_policy_denied", format!("policy {policy} does not allow it")))
            }
            Ok(Err(reason)) => {
                tracing::warn!(%policy, reason, "resource policy");
                Err(refuse(
                    "resource_policy_error",
                    format!("policy {policy} gives no answer for this token"),
                ))
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, %policy, "resource policy");
                Err(Problem::unavailable("resource_policy_error", "the evaluation did not finish"))
            }
        }
    }

    /// The resource policy of this name, the built-in one unless an operator replaced it.
    ///
    /// # Errors
    /// 503 if the database cannot be used.
    pub async fn resource_policy(&self, name: &PolicyName) -> Result<Option<StoredResourcePolicy>, Problem> {
        let stored = self.store.resource_policy(name).await?;
        Ok(stored.or_else(|| built_in().filter(|built_in| built_in.name == *name)))
    }

    /// Seals the content of a resource.
    ///
    /// # Errors
    /// 503 if it cannot be sealed.
    pub async fn seal_resource(
        &self,
        name: &ResourceName,
        version: i64,
        content: &[u8],
    ) -> Result<Sealed, Problem> {
        self.vault.seal(&context(name, version), content).await.map_err(vault_problem)
    }

    /// Opens the content of a resource.
    ///
    /// # Errors
    /// 503 if it cannot be opened.
    pub async fn open_resource(&self, resource: &StoredResource) -> Result<Zeroizing<Vec<u8>>, Problem> {
        let entry = &resource.entry;
        self.vault.open(&context(&entry.name, entry.version), &resource.content).await.map_err(vault_problem)
    }
}

/// The resource policy that is there without being registered.
#[must_use]
pub fn built_in() -> Option<StoredResourcePolicy> {
    let name = AFFIRMING.parse().ok()?;
    Some(StoredResourcePolicy { name, version: 0, rego: AFFIRMING_RESOURCE_POLICY.to_owned(), added_at: 0 })
}

#[allow(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn vault_problem(error: VaultError) -> Problem {
    tracing::error!(error = &error as &dyn std::error::Error, "vault");
    Problem::unavailable("vault_unavailable", "the service cannot seal or open secrets now")
}

/// The evidence was accepted, and there is an attested key to encrypt to.
fn attested_key(claims: &Claims) -> Result<Jwk, Problem> {
    if !claims.evaluation_reports.eval_result {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "appraisal_not_affirming",
            "the token says that the evidence was not accepted",
        ));
    }
    let confirmation = claims.cnf.as_ref().ok_or_else(|| {
        Problem::new(
            StatusCode::FORBIDDEN,
            "no_bound_key",
            "the token confirms no key; attest with tee_key and its thumbprint in the challenge",
        )
    })?;
    Ok(confirmation.jwk.clone())
}
