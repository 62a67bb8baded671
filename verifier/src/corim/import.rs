//! Reads documents.

use corim::cbor::DecodeLimits;
use corim::document::{self, ProfileCoverage, TimeCheck, ValidationContext};
use corim::profile::ProfileRegistry;
use corim::profile::cca::{
    CCA_PLATFORM_PROFILE_URI, CCA_REALM_PROFILE_URI, CcaPlatformProfile, CcaRealmProfile,
};
use corim::types::comid::ComidTag;
use corim::types::common::{CborTime, TagIdChoice};
use corim::types::corim::{CorimMap, ProfileChoice};

use super::error::CorimError;
use super::signature::{self, Authority};
use super::{
    Corim, KeyEndorsement, MAX_CORIM_SIZE, MAX_ENDORSEMENTS, PlatformEndorsement, RealmEndorsement, Validity,
};
use crate::signature::SignatureVerifier;

/// Arrays, maps and tags inside one another: a document of these profiles has about ten levels.
const MAX_DEPTH: usize = 32;

/// Reads a signed or unsigned document at the time `now`, in seconds since the Unix epoch.
///
/// # Errors
/// [`CorimError`] if the document is malformed, not valid now, not vouched for, or has a part that would be dropped.
pub fn import(
    bytes: &[u8],
    now: i64,
    authority: Authority<'_>,
    signatures: &dyn SignatureVerifier,
) -> Result<Corim, CorimError> {
    if bytes.len() > MAX_CORIM_SIZE {
        return Err(CorimError::TooLarge(bytes.len()));
    }
    let mut registry = ProfileRegistry::new();
    registry.register(Box::new(CcaPlatformProfile::new()));
    registry.register(Box::new(CcaRealmProfile::new()));
    let mut limits = DecodeLimits::default();
    limits.max_input_bytes = MAX_CORIM_SIZE;
    limits.max_depth = MAX_DEPTH;
    let context = ValidationContext::new(TimeCheck::At(now), &registry).with_limits(limits);
    let document =
        document::validate(bytes, &context).map_err(|error| CorimError::Invalid(error.to_string()))?;

    let signer = signature::verify(document.envelope(), authority, signatures)?;
    let ProfileCoverage::Checked(ProfileChoice::Uri(profile)) = document.coverage().profile() else {
        let named = document.payload().corim.profile.as_ref();
        return Err(CorimError::Profile(named.map_or_else(|| "none".to_owned(), ToString::to_string)));
    };
    let payload = document.payload();
    complete(&payload.corim)?;
    let mut corim = Corim {
        id: payload.corim.id.to_string(),
        signer,
        validity: validity(&payload.corim),
        realms: Vec::new(),
        platforms: Vec::new(),
        keys: Vec::new(),
    };
    for tag in &payload.comids {
        read_tag(tag, profile, &mut corim)?;
        if corim.realms.len() + corim.platforms.len() + corim.keys.len() > MAX_ENDORSEMENTS {
            return Err(CorimError::TooMany);
        }
    }
    Ok(corim)
}

/// Whether everything at the document's top level is read: measurements only, complete in themselves.
fn complete(corim: &CorimMap) -> Result<(), CorimError> {
    if corim.dependent_rims.is_some() {
        return Err(CorimError::Unsupported("dependent documents".to_owned()));
    }
    if let Some(index) = corim.tags.iter().position(|tag| tag.as_comid().is_err()) {
        return Err(CorimError::Unsupported(format!("a tag at position {index} that is not a CoMID")));
    }
    Ok(())
}

fn validity(corim: &CorimMap) -> Validity {
    corim.rim_validity.as_ref().map_or_else(Validity::default, |validity| Validity {
        not_before: validity.not_before.map(CborTime::epoch_secs),
        not_after: Some(validity.not_after.epoch_secs()),
    })
}

fn read_tag(tag: &ComidTag, profile: &str, corim: &mut Corim) -> Result<(), CorimError> {
    let name = match &tag.tag_identity.tag_id {
        TagIdChoice::Text(text) => text.clone(),
        other => format!("{other:?}"),
    };
    let triples = &tag.triples;
    let unread = [
        ("endorsed triples", triples.endorsed_triples.is_some()),
        ("identity triples", triples.identity_triples.is_some()),
        ("dependency triples", triples.dependency_triples.is_some()),
        ("membership triples", triples.membership_triples.is_some()),
        ("CoSWID triples", triples.coswid_triples.is_some()),
        ("conditional endorsement series", triples.conditional_endorsement_series.is_some()),
        ("conditional endorsements", triples.conditional_endorsement.is_some()),
    ];
    if let Some((what, _)) = unread.iter().find(|(_, present)| *present) {
        return Err(CorimError::Unsupported(format!("{what} in tag {name}")));
    }
    let at = |triple| {
        let tag = name.clone();
        move |problem| CorimError::Triple { tag, triple, problem }
    };
    for (index, triple) in triples.reference_triples.iter().flatten().enumerate() {
        match profile {
            CCA_REALM_PROFILE_URI => {
                corim.realms.push(RealmEndorsement::from_triple(triple).map_err(at(index))?);
            }
            CCA_PLATFORM_PROFILE_URI => {
                corim.platforms.push(PlatformEndorsement::from_triple(triple).map_err(at(index))?);
            }
            other => return Err(CorimError::Profile(other.to_owned())),
        }
    }
    for (index, triple) in triples.attest_key_triples.iter().flatten().enumerate() {
        if profile != CCA_PLATFORM_PROFILE_URI {
            return Err(CorimError::Unsupported(format!("attestation keys in tag {name} about Realms")));
        }
        corim.keys.push(KeyEndorsement::from_triple(triple).map_err(at(index))?);
    }
    Ok(())
}
