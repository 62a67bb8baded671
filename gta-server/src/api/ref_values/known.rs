//! What a tenant knows, ready to hold evidence against it.

use std::sync::Arc;

use service_kit::problem::Problem;
use verifier::logs::{FileReference, ImaReferences, LogReferences};
use verifier::{Provenance, RealmReference};

use crate::appraise::tpm::KnownBoot;
use crate::model::{AttesterType, KnownFile, RefValue};
use crate::service::Service;

/// The files that a tenant knows; `None` if it has registered none.
pub async fn files(service: &Service, tenant: &str) -> Result<Arc<Option<ImaReferences>>, Problem> {
    let revision = service.revision::<RefValue>(tenant).await?;
    service.known.files.get(tenant.to_owned(), revision, async || read_files(service, tenant).await).await
}

async fn read_files(service: &Service, tenant: &str) -> Result<Option<ImaReferences>, Problem> {
    let mut sets = service.store.list::<RefValue>(tenant).await?;
    sets.retain(|set| set.body.attester_type == AttesterType::TpmIma);
    if sets.is_empty() {
        return Ok(None);
    }
    Ok(Some(references(sets.iter().map(|set| &set.body))))
}

/// What the sets together say of files.
fn references<'a>(sets: impl IntoIterator<Item = &'a RefValue>) -> ImaReferences {
    let mut all = ImaReferences::default();
    for set in sets {
        for file in &set.files {
            // All were checked when they were registered.
            if let Some(reference) = reference(file) {
                all.files.insert(&file.path, &reference);
            }
        }
        if let Some(ima) = &set.ima {
            all.extend(ima);
        }
    }
    all
}

/// The virtCCA machines that a tenant knows.
pub async fn realms(service: &Service, tenant: &str) -> Result<Arc<Vec<RealmReference>>, Problem> {
    let revision = service.revision::<RefValue>(tenant).await?;
    let read = async || read_realms(service, tenant).await;
    service.known.realms.get(tenant.to_owned(), revision, read).await
}

async fn read_realms(service: &Service, tenant: &str) -> Result<Vec<RealmReference>, Problem> {
    let mut realms = Vec::new();
    for set in service.store.list::<RefValue>(tenant).await? {
        // The files of a set may be used in each of its machines that has no list of its own.
        let files = Some(references([&set.body])).filter(|files| !files.is_empty());
        for realm in set.body.realms {
            let mut logs = realm.logs.unwrap_or_default();
            logs.ima = logs.ima.or_else(|| files.clone());
            realms.push(RealmReference {
                name: realm.name,
                rim: realm.rim,
                // Of this length it was registered.
                rpv: realm.rpv.map(|rpv| rpv.0.try_into()).transpose().map_err(|_| unusable())?,
                rems: realm.rems,
                logs: Some(Arc::new(logs)),
                provenance: Provenance { source: format!("ref_value {}", set.name), added_at: 0 },
            });
        }
    }
    Ok(realms)
}

fn unusable() -> Problem {
    Problem::unavailable("ref_values_unusable", "the registered reference values cannot be used")
}

/// The boots that a tenant knows: a machine must have booted as one of them says.
pub async fn boots(service: &Service, tenant: &str) -> Result<Arc<Vec<KnownBoot>>, Problem> {
    let revision = service.revision::<RefValue>(tenant).await?;
    let read = async || read_boots(service, tenant).await;
    service.known.boots.get(tenant.to_owned(), revision, read).await
}

async fn read_boots(service: &Service, tenant: &str) -> Result<Vec<KnownBoot>, Problem> {
    let mut boots = Vec::new();
    for set in service.store.list::<RefValue>(tenant).await? {
        if let Some(boot) = set.body.boot {
            let references = LogReferences { boot: Some(boot), ..LogReferences::default() };
            boots.push(KnownBoot { name: set.name, references });
        }
    }
    Ok(boots)
}

/// The digest of a file, if it is one.
pub fn reference(file: &KnownFile) -> Option<FileReference> {
    format!("sha256:{}", file.sha256).parse().ok()
}
