mod claims;
mod framing;

use std::convert::Infallible;

use ciborium::Value;
use proptest::prelude::*;

use super::*;
use crate::cbor;
use crate::hash::{Digest, HashAlgorithm};

const SHA256: HashAlgorithm = HashAlgorithm::Sha256;

fn point(curve: Curve) -> Vec<u8> {
    let mut point = vec![0x5a; 1 + 2 * curve.coordinate_len()];
    point[0] = 4;
    point
}

fn platform() -> PlatformClaims {
    let component = |kind: &str, hash: Option<HashAlgorithm>| SoftwareComponent {
        kind: Some(kind.to_owned()),
        measurement: hash.unwrap_or(SHA256).digest(kind.as_bytes()),
        version: Some("1.2.3".to_owned()),
        signer_id: HashAlgorithm::Sha384.digest(b"signer"),
        hash,
    };
    let mut instance_id = [7; 33];
    instance_id[0] = 1;
    PlatformClaims {
        profile: PlatformProfile::Cca2023,
        nonce: vec![3; 32],
        implementation_id: [9; 32],
        instance_id,
        config: vec![1, 2, 3],
        lifecycle: Lifecycle(0x3003),
        components: vec![
            component("BL", None),
            component("RMM", Some(HashAlgorithm::Sha512)),
            SoftwareComponent { kind: None, version: None, ..component("M", None) },
        ],
        verification_service: Some("https://verifier.example".to_owned()),
        hash: SHA256,
    }
}

fn realm() -> RealmClaims {
    RealmClaims {
        challenge: [0xab; 64],
        profile: RealmProfile::Realm2023,
        rpv: [0xcd; 64],
        hash: SHA256,
        rak: RealmKey::cose_p384(&point(Curve::P384)).unwrap(),
        rim: SHA256.digest(b"rim"),
        rems: [Digest::zero(SHA256), SHA256.digest(b"1"), SHA256.digest(b"2"), SHA256.digest(b"3")],
        rak_hash: SHA256,
    }
}

fn legacy_realm() -> RealmClaims {
    RealmClaims {
        profile: RealmProfile::Legacy,
        rak: RealmKey::raw_p384(&point(Curve::P384)).unwrap(),
        ..realm()
    }
}

fn realm_2024(instance_id: Option<[u8; 33]>, mec_policy: MecPolicy) -> RealmClaims {
    RealmClaims { profile: RealmProfile::Realm2024 { instance_id, mec_policy }, ..realm() }
}

fn sign1(payload: &[u8], algorithm: SignatureAlgorithm) -> Vec<u8> {
    sign::<Infallible>(payload, algorithm, |_| Ok(vec![0x11; algorithm.signature_len()])).unwrap()
}

fn token(platform: &[u8], realm: &[u8]) -> Vec<u8> {
    let platform = sign1(platform, SignatureAlgorithm::Es384);
    wrap(Wrapper::Tag399, &platform, &sign1(realm, SignatureAlgorithm::Es384))
}

fn valid() -> Vec<u8> {
    token(&platform().encode(), &realm().encode())
}

type Entries = Vec<(Value, Value)>;

fn edited(claims: &[u8], edit: impl FnOnce(&mut Entries)) -> Vec<u8> {
    let mut entries = cbor::read(claims).unwrap().into_map().unwrap();
    edit(&mut entries);
    cbor::write(&Value::Map(entries))
}

fn set(claim: Claim, value: impl Into<Value>) -> impl FnOnce(&mut Entries) {
    move |entries| {
        entries.retain(|(label, _)| *label != claim.label.into());
        entries.push((claim.label.into(), value.into()));
    }
}

fn decode_platform(edit: impl FnOnce(&mut Entries)) -> Result<CcaToken, DecodeError> {
    CcaToken::decode(&token(&edited(&platform().encode(), edit), &realm().encode()))
}

fn decode_realm(edit: impl FnOnce(&mut Entries)) -> Result<CcaToken, DecodeError> {
    CcaToken::decode(&token(&platform().encode(), &edited(&realm().encode(), edit)))
}

fn decode_component(edit: impl FnOnce(&mut Entries)) -> Result<CcaToken, DecodeError> {
    decode_platform(|entries| {
        let (_, components) =
            entries.iter_mut().find(|(label, _)| *label == platform::COMPONENTS.label.into()).unwrap();
        edit(components.as_array_mut().unwrap()[1].as_map_mut().unwrap());
    })
}

fn bytes(bytes: &[u8]) -> Value {
    Value::Bytes(bytes.to_vec())
}

#[track_caller]
fn fault(result: Result<CcaToken, DecodeError>) -> DecodeError {
    result.expect_err("the token must be refused")
}

#[test]
fn every_profile_in_every_wrapper_survives_encoding_and_decoding() {
    let mut instance_id = [2; 33];
    instance_id[0] = 1;
    let realms = [
        legacy_realm(),
        realm(),
        realm_2024(Some(instance_id), MecPolicy::Private),
        realm_2024(None, MecPolicy::Shared),
    ];
    let profiles =
        [PlatformProfile::Legacy, PlatformProfile::Cca2023, PlatformProfile::Cca2024 { client_id: -1 }];
    for wrapper in [Wrapper::Tag399, Wrapper::Tag907] {
        for profile in profiles {
            for realm in &realms {
                let platform = PlatformClaims { profile, ..platform() };
                let token = wrap(
                    wrapper,
                    &sign1(&platform.encode(), SignatureAlgorithm::Es256),
                    &sign1(&realm.encode(), SignatureAlgorithm::Es384),
                );
                let decoded = CcaToken::decode(&token).unwrap();
                assert_eq!(decoded.wrapper, wrapper);
                assert_eq!(decoded.platform.claims, platform);
                assert_eq!(decoded.platform.algorithm, SignatureAlgorithm::Es256);
                assert_eq!(decoded.realm.claims, *realm);
                assert_eq!(decoded.realm.algorithm, SignatureAlgorithm::Es384);
            }
        }
    }
}

#[test]
fn every_hash_algorithm_and_curve_survives() {
    for (hash, curve, algorithm) in [
        (HashAlgorithm::Sha256, Curve::P256, SignatureAlgorithm::Es256),
        (HashAlgorithm::Sha384, Curve::P384, SignatureAlgorithm::Es384),
        (HashAlgorithm::Sha512, Curve::P521, SignatureAlgorithm::Es512),
    ] {
        let claims = RealmClaims {
            hash,
            rak: RealmKey::cose(curve, &point(curve)).unwrap(),
            rim: hash.digest(b"rim"),
            rems: [Digest::zero(hash); 4],
            rak_hash: hash,
            ..realm()
        };
        let platform = sign1(&platform().encode(), algorithm);
        let token = wrap(Wrapper::Tag399, &platform, &sign1(&claims.encode(), algorithm));
        let decoded = CcaToken::decode(&token).unwrap();
        assert_eq!(decoded.realm.claims, claims);
        assert_eq!(decoded.realm.claims.rak.sec1_point(), point(curve));
        assert_eq!(decoded.realm.claims.rak.curve(), curve);
    }
}

/// What a decoder hands to the verifier is what the signer signed, and has the shape of RFC 9052 section 4.4.
#[test]
fn signer_and_verifier_see_the_same_bytes() {
    let payload = realm().encode();
    let mut signed = Vec::new();
    let realm = sign::<Infallible>(&payload, SignatureAlgorithm::Es384, |bytes| {
        signed = bytes.to_vec();
        Ok(vec![0x22; 96])
    })
    .unwrap();
    let platform = sign1(&platform().encode(), SignatureAlgorithm::Es384);
    let decoded = CcaToken::decode(&wrap(Wrapper::Tag907, &platform, &realm)).unwrap();
    assert_eq!(decoded.realm.to_be_signed(), signed);
    assert_eq!(decoded.realm.signature(), [0x22; 96]);
    let structure = vec!["Signature1".into(), bytes(&[0xa1, 0x01, 0x38, 0x22]), bytes(&[]), bytes(&payload)];
    assert_eq!(signed, cbor::write(&Value::Array(structure)));
}

#[test]
fn errors_of_the_signer_come_back() {
    assert_eq!(sign(b"", SignatureAlgorithm::Es256, |_| Err("no key")), Err("no key"));
}

#[test]
fn key_claim_is_the_encoding_that_platforms_hash() {
    let key = RealmKey::cose_p384(&point(Curve::P384)).unwrap();
    assert_eq!(key.claim_bytes().len(), 107);
    assert!(key.claim_bytes().starts_with(&[0xa4, 0x01, 0x02, 0x20, 0x02, 0x21, 0x58, 0x30]));
    let key = RealmKey::raw_p384(&point(Curve::P384)).unwrap();
    assert_eq!(key.claim_bytes(), key.sec1_point());
}

proptest! {
    #[test]
    fn flipped_bits_never_panic(position in 0usize..10_000, bit in 0u8..8) {
        let mut token = valid();
        let position = position % token.len();
        token[position] ^= 1 << bit;
        // Not every bit is checked here, and the payloads stay under the signature.
        let _ = CcaToken::decode(&token);
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = CcaToken::decode(&bytes);
        let _ = CcaToken::decode(&token(&bytes, &bytes));
        let _ = CcaToken::decode(&wrap(Wrapper::Tag907, &bytes, &bytes));
    }

    #[test]
    fn platform_claims_survive(
        nonce in prop::sample::select(vec![32usize, 48, 64]),
        config in prop::collection::vec(any::<u8>(), 0..100),
        state in 0u16..=6,
        low in any::<u8>(),
        service in prop::option::of(".{0,40}"),
        kinds in prop::collection::vec(prop::option::of(".{0,10}"), 1..=MAX_COMPONENTS),
    ) {
        let base = platform();
        let component = &base.components[0];
        let claims = PlatformClaims {
            nonce: vec![1; nonce],
            config,
            lifecycle: Lifecycle(state << 12 | u16::from(low)),
            verification_service: service,
            components: kinds.into_iter().map(|kind| SoftwareComponent { kind, ..component.clone() }).collect(),
            ..base.clone()
        };
        let decoded = CcaToken::decode(&token(&claims.encode(), &realm().encode())).unwrap();
        prop_assert_eq!(decoded.platform.claims, claims);
    }
}
