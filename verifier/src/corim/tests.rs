//! Documents that are written are read back; documents that say something else are refused.

use corim::builder::{ComidBuilder, CorimBuilder};
use corim::profile::cca::CCA_REALM_PROFILE_URI;
use corim::types::common::{CryptoKey, TagIdChoice};
use corim::types::corim::{CorimId, ProfileChoice};
use corim::types::triples::IdentityTriple;
use evidence::cca::SignatureAlgorithm;
use evidence::hash::{Digest, HashAlgorithm};
use p384::ecdsa::signature::Signer as _;
use p384::ecdsa::{Signature, SigningKey};

use super::realm::{digest_measurement, measurement};
use super::*;
use crate::key::PublicKey;
use crate::signature::AwsLc;

const NOW: i64 = 1_800_000_000;
const UNSIGNED: Authority<'_> = Authority::Importer(&[]);

fn digest(text: &str) -> Digest {
    HashAlgorithm::Sha256.digest(text.as_bytes())
}

fn realm() -> RealmEndorsement {
    RealmEndorsement {
        rim: digest("rim"),
        rpv: Some([7; 64]),
        rems: [Some(digest("rem0")), None, Some(digest("rem2")), None],
    }
}

fn instance() -> [u8; 33] {
    let mut id = [9; 33];
    id[0] = 1;
    id
}

fn platform() -> PlatformEndorsement {
    PlatformEndorsement {
        implementation_id: [3; 32],
        instance_id: None,
        components: vec![ComponentEndorsement {
            component_type: Some("BL2".to_owned()),
            version: Some("3.4.2".to_owned()),
            measurements: vec![digest("bl2"), HashAlgorithm::Sha512.digest(b"bl2")],
            signer_id: digest("signer"),
        }],
        configuration: MaskedValue { value: vec![0xcf, 1], mask: vec![0xff, 1] },
    }
}

fn signing_key(seed: u8) -> (SigningKey, PublicKey) {
    let key = SigningKey::from_slice(&[seed; 48]).unwrap();
    let point = key.verifying_key().to_sec1_point(false);
    let public = PublicKey::from_sec1(point.as_bytes()).unwrap();
    (key, public)
}

fn header(validity: Validity) -> Header<'static> {
    Header { id: "example.com/realm/7", creator: "Example", validity }
}

fn realms(validity: Validity) -> Vec<u8> {
    realm_document(header(validity), &[realm()]).unwrap()
}

fn signed(document: &[u8], key: &SigningKey) -> Vec<u8> {
    let message = to_be_signed(document, "Example", SignatureAlgorithm::Es384).unwrap();
    let signature: Signature = key.sign(&message);
    with_signature(document, "Example", SignatureAlgorithm::Es384, signature.to_bytes().to_vec()).unwrap()
}

fn read(bytes: &[u8], authority: Authority<'_>) -> Result<Corim, CorimError> {
    import(bytes, NOW, authority, &AwsLc)
}

#[test]
fn realm_document_is_read_back_with_its_validity() {
    let validity = Validity { not_before: Some(NOW - 1), not_after: Some(NOW + 1) };
    let corim = read(&realms(validity), UNSIGNED).unwrap();
    assert_eq!(corim.realms, [realm()]);
    assert_eq!((corim.id.as_str(), corim.validity, corim.signer), ("example.com/realm/7", validity, None));
}

#[test]
fn platform_document_is_read_back_with_its_keys() {
    let key = KeyEndorsement { implementation_id: [3; 32], instance_id: instance(), key: signing_key(1).1 };
    let bytes =
        platform_document(header(Validity::default()), &[platform()], std::slice::from_ref(&key)).unwrap();
    let corim = read(&bytes, UNSIGNED).unwrap();
    assert_eq!((corim.platforms, corim.keys), (vec![platform()], vec![key]));
}

#[test]
fn refuses_document_outside_its_validity() {
    for validity in [
        Validity { not_before: None, not_after: Some(NOW - 1) },
        Validity { not_before: Some(NOW + 1), not_after: Some(NOW + 2) },
    ] {
        assert!(matches!(read(&realms(validity), UNSIGNED), Err(CorimError::Invalid(_))), "{validity:?}");
    }
}

#[test]
fn refuses_unsigned_document_where_a_signature_is_demanded() {
    let bytes = realms(Validity::default());
    assert!(matches!(read(&bytes, Authority::Signed(&[])), Err(CorimError::Unsigned)));
}

#[test]
fn names_the_trusted_signer_and_refuses_any_other() {
    let (key, public) = signing_key(1);
    let trusted = [
        CorimSigner { name: "other".to_owned(), key: signing_key(2).1 },
        CorimSigner { name: "vendor".to_owned(), key: public },
    ];
    let bytes = signed(&realms(Validity::default()), &key);
    assert_eq!(read(&bytes, Authority::Signed(&trusted)).unwrap().signer.as_deref(), Some("vendor"));
    let strangers = &trusted[..1];
    for authority in [Authority::Signed(strangers), Authority::Importer(strangers), UNSIGNED] {
        assert!(matches!(read(&bytes, authority), Err(CorimError::Signature { .. })));
    }
}

#[test]
fn refuses_every_changed_byte_of_a_signed_document() {
    let (key, public) = signing_key(1);
    let trusted = [CorimSigner { name: "vendor".to_owned(), key: public }];
    let bytes = signed(&realms(Validity::default()), &key);
    for index in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[index] ^= 1;
        assert!(read(&changed, Authority::Signed(&trusted)).is_err(), "byte {index}");
    }
}

#[test]
fn refuses_every_shortened_document() {
    let bytes = realms(Validity::default());
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length], UNSIGNED).is_err(), "{length} bytes");
    }
}

#[test]
fn refuses_what_it_would_drop() {
    let environment = realm().to_triple().environment().clone();
    let key = CryptoKey::Bytes(vec![1]);
    let tag = ComidBuilder::new(TagIdChoice::Text("tag".to_owned()))
        .add_reference_triple(realm().to_triple())
        .add_identity_triple(IdentityTriple::new(environment, vec![key], None))
        .build()
        .unwrap();
    let bytes = CorimBuilder::new(CorimId::Text("id".to_owned()))
        .set_profile(ProfileChoice::Uri(CCA_REALM_PROFILE_URI.to_owned()))
        .add_comid_tag(tag)
        .unwrap()
        .build_bytes()
        .unwrap();
    let refusal = read(&bytes, UNSIGNED).unwrap_err();
    assert!(refusal.to_string().contains("identity triples in tag tag"), "{refusal}");
}

#[test]
fn refuses_a_profile_that_it_does_not_understand() {
    let tag = ComidBuilder::new(TagIdChoice::Text("tag".to_owned()))
        .add_reference_triple(realm().to_triple())
        .build()
        .unwrap();
    let document = |profile: Option<&str>| {
        let builder = CorimBuilder::new(CorimId::Text("id".to_owned()));
        let builder = match profile {
            Some(profile) => builder.set_profile(ProfileChoice::Uri(profile.to_owned())),
            None => builder,
        };
        builder.add_comid_tag(tag.clone()).unwrap().build_bytes().unwrap()
    };
    for profile in [None, Some("tag:example.com,2026:other")] {
        assert!(matches!(read(&document(profile), UNSIGNED), Err(CorimError::Profile(_))), "{profile:?}");
    }
}

#[test]
fn refuses_a_rim_that_differs_from_the_class_it_is_filed_under() {
    let triple = realm().to_triple();
    let other = corim::types::triples::ReferenceTriple::new(
        triple.environment().clone(),
        vec![digest_measurement("cca.rim", &digest("another"))],
    );
    assert!(RealmEndorsement::from_triple(&other).unwrap_err().contains("differs"));
}

#[test]
fn refuses_a_measurement_of_another_algorithm_only() {
    let triple = realm().to_triple();
    let other = corim::types::triples::ReferenceTriple::new(
        triple.environment().clone(),
        vec![digest_measurement("cca.rem0", &HashAlgorithm::Sha512.digest(b"rem0"))],
    );
    assert!(RealmEndorsement::from_triple(&other).unwrap_err().contains("no sha-256 digest"));
    let unknown = corim::types::triples::ReferenceTriple::new(
        triple.environment().clone(),
        vec![measurement("cca.rem4", Default::default())],
    );
    assert!(RealmEndorsement::from_triple(&unknown).unwrap_err().contains("cca.rem4"));
}

#[test]
fn masked_configuration_compares_the_bits_that_count() {
    let configuration = MaskedValue { value: vec![0xcf, 0b01], mask: vec![0xff, 0b01] };
    assert!(configuration.matches(&[0xcf, 0b11]));
    assert!(!configuration.matches(&[0xcf, 0b10]));
    assert!(!configuration.matches(&[0xcf]));
    assert!(!configuration.matches(&[0xcf, 0b01, 0]));
}

#[test]
fn refuses_more_than_the_bounds() {
    assert!(matches!(read(&vec![0; MAX_CORIM_SIZE + 1], UNSIGNED), Err(CorimError::TooLarge(_))));
    let many: Vec<_> = (0..=MAX_ENDORSEMENTS)
        .map(|n| RealmEndorsement { rim: digest(&n.to_string()), rpv: None, rems: [None; 4] })
        .collect();
    let bytes = realm_document(header(Validity::default()), &many).unwrap();
    assert!(matches!(read(&bytes, UNSIGNED), Err(CorimError::TooMany)));
}
