//! The service itself: what all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use service_kit::environment::{EntropyError, Environment};
use service_kit::oidc::Issuers;
use service_kit::problem::Problem;
use verifier::RealmReference;
use verifier::chain::TrustBundle;
use verifier::logs::ImaReferences;
use verifier::rego::RegoCache;

use crate::appraise::tpm::KnownBoot;
use crate::derived::Derived;
use crate::metrics::Metrics;
use crate::model::{ApiKey, CertType, Identity, Policy};
use crate::recent::Recent;
use crate::schedule::Rotation;
use crate::store::{Document, Registered, Revision, Store, StoreError};

/// Bounds and times that an operator sets. Those of a tenant are for each tenant.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who issues the tokens.
    pub issuer: String,
    /// How long a token is valid, in seconds.
    pub token_lifetime: i64,
    /// How long a nonce can be answered, in seconds.
    pub nonce_lifetime: i64,
    /// How old keys become.
    pub rotation: Rotation,
    /// Most nonces of a tenant that wait for an answer.
    pub max_nonces: i64,
    /// Most nodes of a tenant.
    pub max_nodes: usize,
    /// Most policies of a tenant.
    pub max_policies: usize,
    /// Most certificates of a tenant, and most revocation lists.
    pub max_certificates: usize,
    /// Most sets of reference values of a tenant.
    pub max_ref_values: usize,
    /// Most identities of a tenant.
    pub max_identities: usize,
    /// Whose tokens callers may come with.
    pub issuers: Issuers,
    /// Whether the web console is served.
    pub console: bool,
    /// Most webhooks of a tenant.
    pub max_webhooks: usize,
    /// How long the receiver of a webhook may take.
    pub webhook_timeout: Duration,
    /// Whether webhooks may lead into the server's own network.
    pub webhook_allow_private: bool,
    /// How long API keys, identities, policies, certificates and reference values that another instance changed may go on being used.
    pub fresh: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            issuer: "gta-server".to_owned(),
            token_lifetime: 600,
            nonce_lifetime: 120,
            rotation: Rotation::default(),
            max_nonces: 20_000,
            max_nodes: 20_000,
            max_policies: 30,
            max_certificates: 10,
            max_ref_values: 100,
            max_identities: 20_000,
            issuers: Issuers::default(),
            console: true,
            max_webhooks: 10,
            webhook_timeout: Duration::from_secs(15),
            webhook_allow_private: false,
            fresh: Duration::from_secs(1),
        }
    }
}

/// Everything that a request handler needs.
pub struct Service {
    /// The database.
    pub store: Store,
    /// Time and randomness.
    pub environment: Environment,
    /// Bounds.
    pub settings: Settings,
    /// Policies that were compiled before.
    pub(crate) rego: RegoCache,
    /// What was made of documents before.
    pub(crate) known: Known,
    /// What is counted.
    pub metrics: Metrics,
    stopping: AtomicBool,
}

/// The revisions of certificates and of revocation lists.
pub(crate) type Installed = (Arc<Revision>, Arc<Revision>);

/// What was made of tenants' documents.
#[derive(Default)]
pub(crate) struct Known {
    /// Keys of callers.
    pub(crate) api_keys: Recent<(String, String), Option<Document<ApiKey>>>,
    /// Identities of callers.
    pub(crate) identities: Recent<(String, String), Option<Document<Identity>>>,
    /// Which documents tenants have.
    revisions: Recent<(&'static str, String), Arc<Revision>>,
    /// The files that a tenant knows; none if it has registered no reference values.
    pub(crate) files: Derived<String, Arc<Revision>, Option<ImaReferences>>,
    /// The boots that a tenant knows.
    pub(crate) boots: Derived<String, Arc<Revision>, Vec<KnownBoot>>,
    /// The policies of a tenant.
    pub(crate) policies: Derived<String, Arc<Revision>, Vec<Document<Policy>>>,
    /// The virtCCA machines that a tenant knows.
    pub(crate) realms: Derived<String, Arc<Revision>, Vec<RealmReference>>,
    /// Whom a tenant believes, and the chains that were validated.
    pub(crate) authorities: Derived<(String, CertType), Installed, TrustBundle>,
}

/// What handlers share.
pub type Shared = Arc<Service>;

impl Service {
    /// A service on a database.
    #[must_use]
    pub fn new(store: Store, environment: Environment, settings: Settings) -> Self {
        let (rego, known) = (RegoCache::default(), Known::default());
        let (metrics, stopping) = (Metrics::default(), AtomicBool::new(false));
        Self { store, environment, settings, rego, known, metrics, stopping }
    }

    /// Ends what would go on for as long as the client likes.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether the service is about to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Which documents of this type a tenant has.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used, or is not what the service made of it.
    pub(crate) async fn revision<T: Registered>(&self, tenant: &str) -> Result<Arc<Revision>, StoreError> {
        let read = async || self.store.revision::<T>(tenant).await.map(Arc::new);
        let (key, changes) = ((T::KIND.name(), tenant.to_owned()), self.store.changes());
        self.known.revisions.get(key, self.settings.fresh, changes, read).await
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.environment.clock.now()
    }

    /// An id that nobody can foresee: 32 hexadecimal digits.
    ///
    /// # Errors
    /// 503 without randomness.
    pub fn new_id(&self) -> Result<String, Problem> {
        Ok(hex::encode(self.environment.random::<16>().map_err(no_entropy)?))
    }

    /// Adds a tenant with a key for its first administrator; gives the key.
    ///
    /// # Errors
    /// [`StoreError`] if there is one of this name, or the database cannot be used.
    pub async fn add_tenant(&self, tenant: &str, actor: &str) -> Result<String, StoreError> {
        let mut change = self.store.change(actor).await?;
        change.add("", tenant, tenant, &crate::model::Tenant { created_at: self.now() }).await?;
        let key =
            crate::auth::add_key(&self.environment, &mut change, tenant, crate::model::Role::Admin).await?;
        change.commit().await?;
        Ok(key)
    }

    /// Adds a key of a tenant; gives it.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used; [`StoreError::Conflict`] if there is no such tenant.
    pub async fn add_key(
        &self,
        tenant: &str,
        role: crate::model::Role,
        actor: &str,
    ) -> Result<String, StoreError> {
        if self.store.get::<crate::model::Tenant>("", tenant).await?.is_none() {
            return Err(StoreError::Conflict("the tenant, which does not exist or"));
        }
        let mut change = self.store.change(actor).await?;
        let key = crate::auth::add_key(&self.environment, &mut change, tenant, role).await?;
        change.commit().await?;
        Ok(key)
    }
}

pub(crate) fn no_entropy(error: EntropyError) -> Problem {
    tracing::error!(error = &error as &dyn std::error::Error, "randomness");
    Problem::unavailable("entropy_unavailable", "the service has no randomness now")
}
