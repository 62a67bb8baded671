//! Writes documents: one profile each, so Realms and platforms go into separate ones.

use corim::builder::{ComidBuilder, CorimBuilder};
use corim::profile::cca::{CCA_PLATFORM_PROFILE_URI, CCA_REALM_PROFILE_URI};
use corim::types::common::{EntityMap, TagIdChoice};
use corim::types::corim::{CorimId, ProfileChoice};

use super::error::CorimError;
use super::{KeyEndorsement, PlatformEndorsement, RealmEndorsement, Validity};

/// The role "manifest creator" of an entity (section 4.1.5).
const MANIFEST_CREATOR: i64 = 1;

/// What a document says about itself.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// The document's identifier.
    pub id: &'a str,
    /// Who made it.
    pub creator: &'a str,
    /// When it holds. The format needs a last second if there is a first.
    pub validity: Validity,
}

/// A document about `realms`.
///
/// # Errors
/// [`CorimError::Write`], also if there is nothing to write.
pub fn realm_document(header: Header<'_>, realms: &[RealmEndorsement]) -> Result<Vec<u8>, CorimError> {
    let tag = realms
        .iter()
        .fold(ComidBuilder::new(tag_id(header)), |tag, realm| tag.add_reference_triple(realm.to_triple()));
    document(header, CCA_REALM_PROFILE_URI, tag)
}

/// A document about `platforms` and attestation `keys`.
///
/// # Errors
/// [`CorimError::Write`], also if there is nothing to write.
pub fn platform_document(
    header: Header<'_>,
    platforms: &[PlatformEndorsement],
    keys: &[KeyEndorsement],
) -> Result<Vec<u8>, CorimError> {
    let mut tag = platforms.iter().fold(ComidBuilder::new(tag_id(header)), |tag, platform| {
        tag.add_reference_triple(platform.to_triple())
    });
    for key in keys {
        tag = tag.add_attest_key_triple(key.to_triple().map_err(CorimError::Write)?);
    }
    document(header, CCA_PLATFORM_PROFILE_URI, tag)
}

fn tag_id(header: Header<'_>) -> TagIdChoice {
    TagIdChoice::Text(header.id.to_owned())
}

fn document(header: Header<'_>, profile: &str, tag: ComidBuilder) -> Result<Vec<u8>, CorimError> {
    let write = |error: &dyn std::fmt::Display| CorimError::Write(error.to_string());
    let tag = tag.build().map_err(|error| write(&error))?;
    let mut document = CorimBuilder::new(CorimId::Text(header.id.to_owned()))
        .set_profile(ProfileChoice::Uri(profile.to_owned()))
        .add_entity(EntityMap {
            entity_name: header.creator.to_owned(),
            reg_id: None,
            role: vec![MANIFEST_CREATOR],
        })
        .add_comid_tag(tag)
        .map_err(|error| write(&error))?;
    match header.validity {
        Validity { not_before, not_after: Some(not_after) } => {
            document = document.set_validity(not_before, not_after).map_err(|error| write(&error))?;
        }
        Validity { not_before: None, not_after: None } => {}
        Validity { not_before: Some(_), not_after: None } => {
            return Err(CorimError::Write("a validity needs its last second".to_owned()));
        }
    }
    document.build_bytes().map_err(|error| write(&error))
}
