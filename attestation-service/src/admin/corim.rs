//! `/corim`: reference values and keys as documents that vendors and build systems publish (CoRIM,
//! draft-ietf-rats-corim). A document is registered whole or not at all.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use verifier::corim::{
    Authority, Corim, CorimError, CorimSigner, Header, KeyEndorsement, RealmEndorsement, Validity,
    platform_document, realm_document,
};
use verifier::{AwsLc, PlatformReference, Provenance, RealmReference, TrustAnchor, corim};

use super::identity::{Operator, Role};
use super::{Intent, name, not_published, provenance, unprocessable};
use crate::api::{CorimExport, CorimImport, CorimImported, Endorsed};
use crate::extract::{body_problem, media_type};
use crate::names::Name;
use crate::problem::Problem;
use crate::service::Service;
use crate::store::anchors::PlatformAnchor;
use crate::store::references::StoredReference;
use crate::store::{Change, sha256};

/// Media type of a document that is not signed.
const UNSIGNED: &str = "application/rim+cbor";

/// Media type of a signed document.
const SIGNED: &str = "application/rim+cose";

/// So much of a document's identifier goes into the provenance of what it says.
const MAX_ID: usize = 200;

/// Registers what a document says.
pub async fn import(
    State(service): State<Arc<Service>>,
    operator: Operator,
    query: Result<Query<CorimImport>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<CorimImported>), Problem> {
    let Query(query) = query.map_err(|_| {
        Problem::bad_request(
            "query_malformed",
            "expected ?name=NAME, and optionally unsigned=true, development=true and source=TEXT",
        )
    })?;
    if ![UNSIGNED, SIGNED].contains(&media_type(&headers)) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media_type_unsupported",
            format!("the body must have Content-Type: {UNSIGNED} or {SIGNED}"),
        ));
    }
    let body = body.map_err(body_problem)?;
    let registered = service.store.corim_signers().await?;
    let signers: Vec<_> = registered
        .iter()
        .map(|signer| CorimSigner { name: signer.name.clone(), key: signer.key.clone() })
        .collect();
    let object = query.name.to_string();
    let digest = Some(sha256(&body));
    let intent = Intent { operator: &operator, action: "corim.import", object: &object, digest };
    let imported = service
        .change(intent, async |change| {
            let authority = if query.unsigned {
                operator.demand(Role::Admin)?;
                Authority::Importer(&signers)
            } else {
                Authority::Signed(&signers)
            };
            let now = service.environment.clock.now();
            let document = corim::import(&body, now, authority, &AwsLc).map_err(|error| problem(&error))?;
            if !document.keys.is_empty() {
                operator.demand(Role::Admin)?;
            }
            if let Some(name) = &document.signer {
                let signer = registered.iter().find(|signer| signer.name == *name);
                check_signer(&document, name, signer.map_or(&[], |signer| &signer.endorses))?;
            }
            let provenance = provenance(&service, source(&document, &query.source))?;
            register(change, document, &query, &provenance).await
        })
        .await?;
    Ok((StatusCode::CREATED, Json(imported)))
}

/// Who builds guests says nothing about platforms, unless the operator believes that, too.
fn check_signer(document: &Corim, signer: &str, endorses: &[Endorsed]) -> Result<(), Problem> {
    let about = [
        (Endorsed::Realms, document.realms.is_empty()),
        (Endorsed::Platforms, document.platforms.is_empty()),
        (Endorsed::Keys, document.keys.is_empty()),
    ];
    match about.into_iter().find(|(kind, empty)| !empty && !endorses.contains(kind)) {
        None => Ok(()),
        Some((kind, _)) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "corim_signer_unfit",
            format!(
                "the document is about {}, and signer {signer} is not believed about them",
                kind.as_str()
            ),
        )),
    }
}

/// Document, signer and the operator's note.
fn source(document: &Corim, note: &str) -> String {
    let id: String = document.id.chars().filter(|c| !c.is_control()).take(MAX_ID).collect();
    let signed = document.signer.as_ref().map(|signer| format!(" signed by {signer}")).unwrap_or_default();
    let note = if note.is_empty() { String::new() } else { format!("; {note}") };
    format!("CoRIM {id}{signed}{note}")
}

async fn register(
    change: &mut Change,
    document: Corim,
    query: &CorimImport,
    provenance: &Provenance,
) -> Result<CorimImported, Problem> {
    if document.realms.is_empty() && document.platforms.is_empty() && document.keys.is_empty() {
        return Err(unprocessable("corim_empty", "the document endorses nothing".to_owned()));
    }
    // A document is valid through its last second.
    let expires_at = document.validity.not_after.map(|last| last.saturating_add(1));
    let references = numbered(&query.name, document.realms.len())?;
    for (name, realm) in references.iter().zip(document.realms) {
        let RealmEndorsement { rim, rpv, rems } = realm;
        let (name, provenance) = (name.to_string(), provenance.clone());
        let reference = RealmReference { name, rim, rpv, rems, logs: None, provenance };
        change.add_reference(&StoredReference { reference, expires_at }).await?;
    }
    let platform_references = numbered(&query.name, document.platforms.len())?;
    for (name, expected) in platform_references.iter().zip(document.platforms) {
        let (name, provenance) = (name.to_string(), provenance.clone());
        change.add_platform_reference(&PlatformReference { name, expected, provenance, expires_at }).await?;
    }
    let trust_anchors = numbered(&query.name, document.keys.len())?;
    for (name, endorsed) in trust_anchors.iter().zip(document.keys) {
        let KeyEndorsement { implementation_id, instance_id, key } = endorsed;
        not_published(&key)?;
        let (name, provenance) = (name.to_string(), provenance.clone());
        let anchor = TrustAnchor { name, key, development: query.development, provenance };
        change.add_anchor(&PlatformAnchor { implementation_id, instance_id, anchor, expires_at }).await?;
    }
    Ok(CorimImported {
        id: document.id,
        signer: document.signer,
        expires_at,
        references,
        platform_references,
        trust_anchors,
    })
}

/// The name itself for one thing; with numbers from 1 for several.
fn numbered(prefix: &Name, count: usize) -> Result<Vec<Name>, Problem> {
    match count {
        1 => Ok(vec![prefix.clone()]),
        _ => (1..=count).map(|number| name(&format!("{prefix}-{number}"))).collect(),
    }
}

fn problem(error: &CorimError) -> Problem {
    let (status, code) = match error {
        CorimError::Unsigned => (StatusCode::FORBIDDEN, "corim_unsigned"),
        CorimError::Signature { .. } => (StatusCode::FORBIDDEN, "corim_signature_invalid"),
        CorimError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
        CorimError::Profile(_) | CorimError::Unsupported(_) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "corim_unsupported")
        }
        CorimError::Invalid(_) | CorimError::Triple { .. } | CorimError::TooMany | CorimError::Write(_) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "corim_invalid")
        }
    };
    Problem::new(status, code, error.to_string())
}

type Exported = ([(HeaderName, &'static str); 1], Vec<u8>);

/// The registered reference values of Realms as a document, which whoever publishes it signs.
pub async fn export_realms(
    State(service): State<Arc<Service>>,
    query: Result<Query<CorimExport>, QueryRejection>,
) -> Result<Exported, Problem> {
    let mut selection = Selection::new(&service, query)?;
    let mut realms = Vec::new();
    for StoredReference { reference, expires_at } in service.store.references().await? {
        if !selection.takes(&reference.name, expires_at) {
            continue;
        }
        if reference.logs.is_some() {
            return Err(incomplete(&reference.name, "what may be in its logs"));
        }
        let RealmReference { rim, rpv, rems, .. } = reference;
        realms.push(RealmEndorsement { rim, rpv, rems });
    }
    selection.write(!realms.is_empty(), |header| realm_document(header, &realms))
}

/// The registered reference values and keys of CCA platforms as a document.
pub async fn export_platforms(
    State(service): State<Arc<Service>>,
    query: Result<Query<CorimExport>, QueryRejection>,
) -> Result<Exported, Problem> {
    let mut selection = Selection::new(&service, query)?;
    let mut platforms = Vec::new();
    for reference in service.store.platform_references().await? {
        if selection.takes(&reference.name, reference.expires_at) {
            platforms.push(reference.expected);
        }
    }
    let mut keys = Vec::new();
    for PlatformAnchor { implementation_id, instance_id, anchor, expires_at } in
        service.store.anchors().await?
    {
        if !selection.takes(&anchor.name, expires_at) {
            continue;
        }
        if anchor.development {
            return Err(incomplete(&anchor.name, "that it is a development key"));
        }
        keys.push(KeyEndorsement { implementation_id, instance_id, key: anchor.key });
    }
    let any = !platforms.is_empty() || !keys.is_empty();
    selection.write(any, |header| platform_document(header, &platforms, &keys))
}

/// A document would say less than what is registered, and whoever reads it would accept more.
fn incomplete(name: &str, what: &str) -> Problem {
    unprocessable(
        "corim_incomplete",
        format!("a CoRIM document cannot say of {name} {what}: choose others with names=A,B"),
    )
}

/// What goes into a document, and for how long all of it is valid.
struct Selection {
    query: CorimExport,
    names: Vec<Name>,
    now: i64,
    last: Option<i64>,
}

impl Selection {
    fn new(service: &Service, query: Result<Query<CorimExport>, QueryRejection>) -> Result<Self, Problem> {
        let Query(query) = query.map_err(|_| {
            Problem::bad_request(
                "query_malformed",
                "expected ?id=TEXT&creator=TEXT, and optionally not_after=SECONDS and names=A,B",
            )
        })?;
        let names = query.names.split(',').filter(|text| !text.is_empty()).map(name);
        let names = names.collect::<Result<_, _>>()?;
        let now = service.environment.clock.now();
        Ok(Self { names, now, last: query.not_after, query })
    }

    fn takes(&mut self, found: &str, expires_at: Option<i64>) -> bool {
        let chosen = self.names.is_empty() || self.names.iter().any(|name| name.as_str() == found);
        let valid = expires_at.is_none_or(|end| end > self.now);
        if chosen
            && valid
            && let Some(end) = expires_at
        {
            let last = end.saturating_sub(1);
            self.last = Some(self.last.map_or(last, |other| other.min(last)));
        }
        chosen && valid
    }

    fn write(
        self,
        any: bool,
        document: impl FnOnce(Header<'_>) -> Result<Vec<u8>, CorimError>,
    ) -> Result<Exported, Problem> {
        if !any {
            let detail = "nothing that is registered and valid was chosen".to_owned();
            return Err(Problem::new(StatusCode::NOT_FOUND, "unknown", detail));
        }
        let validity = Validity { not_before: None, not_after: self.last };
        let header = Header { id: &self.query.id, creator: &self.query.creator, validity };
        let bytes = document(header).map_err(|error| problem(&error))?;
        Ok(([(CONTENT_TYPE, UNSIGNED)], bytes))
    }
}
