//! What the two sets of claims may and must contain.

use super::*;
use crate::cbor::CborError;
use crate::cca::{platform, realm};

#[test]
fn each_mandatory_platform_claim_is_missed_by_name() {
    use platform::*;
    for missing in [PROFILE, NONCE, IMPLEMENTATION_ID, INSTANCE_ID, CONFIG, LIFECYCLE, COMPONENTS, HASH] {
        let error =
            fault(decode_platform(|entries| entries.retain(|(label, _)| *label != missing.label.into())));
        assert!(
            matches!(error, DecodeError::MissingClaim { claim } if claim == missing),
            "{missing}: {error}"
        );
        assert!(error.to_string().contains(missing.name));
    }
    let error = fault(decode_platform(set(PROFILE, "tag:arm.com,2024:cca_platform#2.0.0")));
    assert!(matches!(error, DecodeError::MissingClaim { claim } if claim == CLIENT_ID));
}

#[test]
fn each_mandatory_realm_claim_is_missed_by_name() {
    use realm::*;
    for missing in [CHALLENGE, RPV, HASH, RAK, RIM, REMS, RAK_HASH] {
        let error =
            fault(decode_realm(|entries| entries.retain(|(label, _)| *label != missing.label.into())));
        assert!(
            matches!(error, DecodeError::MissingClaim { claim } if claim == missing),
            "{missing}: {error}"
        );
    }
    let error = fault(decode_realm(set(PROFILE, "tag:arm.com,2024:realm#2.0.0")));
    assert!(matches!(error, DecodeError::MissingClaim { claim } if claim == MEC_POLICY));
}

#[test]
fn each_mandatory_component_claim_is_missed_by_name() {
    for missing in [platform::MEASUREMENT, platform::SIGNER_ID] {
        let error =
            fault(decode_component(|entries| entries.retain(|(label, _)| *label != missing.label.into())));
        let DecodeError::Component { index: 1, source } = error else { panic!("{error}") };
        assert!(matches!(*source, DecodeError::MissingClaim { claim } if claim == missing));
    }
}

#[test]
fn each_claim_may_stand_only_once() {
    fn again(index: usize) -> impl FnOnce(&mut Entries) {
        move |entries| entries.push(entries[index].clone())
    }
    for index in 0..9 {
        let error = fault(decode_platform(again(index)));
        assert!(
            matches!(error, DecodeError::DuplicateClaim { claim } if claim.scope == Scope::Platform),
            "{error}"
        );
    }
    for index in 0..8 {
        let error = fault(decode_realm(again(index)));
        assert!(
            matches!(error, DecodeError::DuplicateClaim { claim } if claim.scope == Scope::Realm),
            "{error}"
        );
    }
    for index in 0..5 {
        let error = fault(decode_component(again(index)));
        let DecodeError::Component { source, .. } = error else { panic!("{error}") };
        assert!(matches!(*source, DecodeError::DuplicateClaim { claim } if claim.scope == Scope::Component));
    }
    // The same label in a longer encoding is still the same label.
    let mut longer = edited(&realm().encode(), |entries| entries.truncate(7));
    longer[0] += 1;
    longer.extend([0x1a, 0, 0, 0, 10, 0x40]);
    let error = fault(CcaToken::decode(&token(&platform().encode(), &longer)));
    assert!(matches!(error, DecodeError::DuplicateClaim { claim } if claim == realm::CHALLENGE), "{error}");
}

#[test]
fn unknown_claims_are_tolerated_once() {
    let unknown = |label: Value| move |entries: &mut Entries| entries.push((label, Value::Null));
    for label in [Value::from(99), Value::from(-1), "note".into()] {
        assert!(decode_realm(unknown(label.clone())).is_ok());
        assert!(decode_platform(unknown(label.clone())).is_ok());
        assert!(decode_component(unknown(label.clone())).is_ok());
        let error = fault(decode_realm(|entries| {
            unknown(label.clone())(entries);
            unknown(label)(entries);
        }));
        assert!(matches!(error, DecodeError::DuplicateLabel { token: Token::Realm, .. }), "{error}");
    }
    assert!(matches!(fault(decode_realm(unknown(bytes(b"x")))), DecodeError::ClaimLabel { .. }));
}

#[test]
fn claims_of_a_wrong_size_are_refused_by_name() {
    for (expected, sizes) in [
        (realm::CHALLENGE, &[0, 32, 63, 65][..]),
        (realm::RPV, &[0, 63, 65]),
        (realm::RIM, &[0, 31, 33, 48, 64]),
        (realm::RAK, &[0]),
    ] {
        for size in sizes {
            match fault(decode_realm(set(expected, bytes(&vec![1; *size])))) {
                DecodeError::ClaimSize { claim, found, .. } | DecodeError::HashSize { claim, found, .. } => {
                    assert_eq!((claim, found), (expected, *size));
                }
                DecodeError::Key { claim, .. } => assert_eq!(claim, expected),
                error => panic!("{error}"),
            }
        }
    }
    for (expected, sizes) in [
        (platform::NONCE, &[0, 31, 33, 63, 65][..]),
        (platform::IMPLEMENTATION_ID, &[0, 31, 33]),
        (platform::INSTANCE_ID, &[0, 32, 34]),
    ] {
        for size in sizes {
            let error = fault(decode_platform(set(expected, bytes(&vec![1; *size]))));
            assert!(
                matches!(error, DecodeError::ClaimSize { claim, found, .. } if claim == expected && found == *size),
                "{error}"
            );
        }
    }
}

#[test]
fn instance_id_must_be_a_random_ueid() {
    let error = fault(decode_platform(set(platform::INSTANCE_ID, bytes(&[2; 33]))));
    assert!(matches!(error, DecodeError::ClaimValue { claim, .. } if claim == platform::INSTANCE_ID));
}

#[test]
fn claims_of_a_wrong_type_are_refused_by_name() {
    for claim in [
        realm::CHALLENGE,
        realm::PROFILE,
        realm::RPV,
        realm::HASH,
        realm::RAK,
        realm::RIM,
        realm::REMS,
        realm::RAK_HASH,
    ] {
        let error = fault(decode_realm(set(claim, true)));
        assert!(matches!(error, DecodeError::ClaimType { claim: found, .. } if found == claim), "{error}");
    }
    for claim in [
        platform::PROFILE,
        platform::NONCE,
        platform::IMPLEMENTATION_ID,
        platform::INSTANCE_ID,
        platform::CONFIG,
        platform::LIFECYCLE,
        platform::COMPONENTS,
        platform::VERIFICATION_SERVICE,
        platform::HASH,
    ] {
        let error = fault(decode_platform(set(claim, true)));
        assert!(matches!(error, DecodeError::ClaimType { claim: found, .. } if found == claim), "{error}");
    }
}

#[test]
fn hash_algorithms_outside_the_list_are_refused() {
    for name in ["sha-1", "sha256", "SHA-256", "sha-256\0", ""] {
        for claim in [realm::HASH, realm::RAK_HASH] {
            let error = fault(decode_realm(set(claim, name)));
            assert!(
                matches!(error, DecodeError::ClaimValue { claim: found, .. } if found == claim),
                "{error}"
            );
        }
        let error = fault(decode_platform(set(platform::HASH, name)));
        assert!(matches!(error, DecodeError::ClaimValue { claim, .. } if claim == platform::HASH), "{error}");
        assert!(matches!(
            fault(decode_component(set(platform::COMPONENT_HASH, name))),
            DecodeError::Component { .. }
        ));
    }
}

#[test]
fn measurements_must_have_the_length_of_the_declared_algorithm() {
    let error = fault(decode_realm(set(realm::HASH, "sha-512")));
    assert!(
        matches!(error, DecodeError::HashSize { claim, algorithm: HashAlgorithm::Sha512, found: 32 } if claim == realm::RIM)
    );
    let rems = vec![bytes(&[0; 32]), bytes(&[0; 32]), bytes(&[0; 32]), bytes(&[0; 48])];
    let error = fault(decode_realm(set(realm::REMS, rems)));
    assert!(matches!(error, DecodeError::HashSize { claim, found: 48, .. } if claim == realm::REMS));
    // The second component declares its own algorithm.
    let error = fault(decode_component(set(platform::MEASUREMENT, bytes(&[0; 32]))));
    let DecodeError::Component { index: 1, source } = error else { panic!("{error}") };
    assert!(matches!(*source, DecodeError::HashSize { algorithm: HashAlgorithm::Sha512, found: 32, .. }));
}

#[test]
fn exactly_four_extensible_measurements() {
    for count in [0, 3, 5] {
        let error = fault(decode_realm(set(realm::REMS, vec![bytes(&[0; 32]); count])));
        assert!(matches!(error, DecodeError::ClaimType { claim, .. } if claim == realm::REMS), "{error}");
    }
}

#[test]
fn number_of_components_is_bounded() {
    let component = cbor::read(&platform().encode()).unwrap().into_map().unwrap();
    let (_, components) =
        component.iter().find(|(label, _)| *label == platform::COMPONENTS.label.into()).unwrap();
    let component = components.as_array().unwrap()[0].clone();
    assert!(decode_platform(set(platform::COMPONENTS, vec![component.clone(); MAX_COMPONENTS])).is_ok());
    for count in [0, MAX_COMPONENTS + 1] {
        let error = fault(decode_platform(set(platform::COMPONENTS, vec![component.clone(); count])));
        assert!(matches!(error, DecodeError::ComponentCount { found, .. } if found == count), "{error}");
    }
}

#[test]
fn unknown_profiles_are_refused() {
    let error = fault(decode_realm(set(realm::PROFILE, "tag:arm.com,2026:realm#2.0.0")));
    assert!(matches!(error, DecodeError::ClaimValue { claim, .. } if claim == realm::PROFILE));
    let error = fault(decode_platform(set(platform::PROFILE, "")));
    assert!(matches!(error, DecodeError::ClaimValue { claim, .. } if claim == platform::PROFILE));
}

#[test]
fn key_must_have_the_form_of_the_profile() {
    // A bare point under a profile, and a COSE_Key without one.
    let error = fault(decode_realm(set(realm::RAK, bytes(&point(Curve::P384)))));
    assert!(matches!(error, DecodeError::Key { .. }), "{error}");
    let error =
        fault(decode_realm(|entries| entries.retain(|(label, _)| *label != realm::PROFILE.label.into())));
    assert!(matches!(error, DecodeError::Key { source: KeyError::Point { found: 107, .. }, .. }), "{error}");
    for bad in [&point(Curve::P256)[..], &point(Curve::P384)[1..], &[5; 97]] {
        assert!(matches!(RealmKey::raw_p384(bad), Err(KeyError::Point { .. })));
        assert!(matches!(RealmKey::cose_p384(bad), Err(KeyError::Point { .. })));
    }
}

#[test]
fn key_that_is_not_a_public_p256_p384_or_p521_key_is_refused() {
    let key = RealmKey::cose_p384(&point(Curve::P384)).unwrap();
    let decode = |edit: &dyn Fn(&mut Entries)| {
        RealmKey::decode_cose(edited(key.claim_bytes(), |entries| edit(entries))).map(|_| ())
    };
    let put = |label: i64, value: Value| {
        move |entries: &mut Entries| {
            entries.retain(|(found, _)| *found != label.into());
            entries.push((label.into(), value.clone()));
        }
    };
    assert!(decode(&|_| ()).is_ok());
    assert!(decode(&put(2, bytes(b"key id"))).is_ok());
    assert!(matches!(decode(&put(1, 1.into())), Err(KeyError::KeyType)));
    assert!(matches!(decode(&put(-1, 8.into())), Err(KeyError::Curve)));
    assert!(matches!(decode(&put(-1, 1.into())), Err(KeyError::Coordinate { name: "x", .. })));
    assert!(matches!(decode(&put(-2, bytes(&[1; 47]))), Err(KeyError::Coordinate { name: "x", .. })));
    assert!(matches!(decode(&put(-3, true.into())), Err(KeyError::Coordinate { name: "y", .. })));
    assert!(matches!(decode(&put(-4, bytes(&[1; 48]))), Err(KeyError::Private)));
    assert!(matches!(decode(&|entries| entries.truncate(3)), Err(KeyError::Coordinate { name: "y", .. })));
    assert!(matches!(decode(&|entries| entries.push(entries[2].clone())), Err(KeyError::Cose(_))));
    let trailing = [key.claim_bytes(), &[0]].concat();
    assert!(matches!(RealmKey::decode_cose(trailing), Err(KeyError::Cbor(CborError::Trailing { .. }))));
}

#[test]
fn key_must_fit_the_signature_algorithm() {
    let platform = sign1(&platform().encode(), SignatureAlgorithm::Es384);
    let realm = sign1(&realm().encode(), SignatureAlgorithm::Es256);
    let error = fault(CcaToken::decode(&wrap(Wrapper::Tag399, &platform, &realm)));
    assert!(matches!(
        error,
        DecodeError::KeyAlgorithm { key: "P-384", algorithm: SignatureAlgorithm::Es256, .. }
    ));
}

#[test]
fn mec_policy_is_read_as_number_and_as_text() {
    let decode = |value: Value| {
        decode_realm(|entries| {
            set(realm::PROFILE, "tag:arm.com,2024:realm#2.0.0")(entries);
            set(realm::MEC_POLICY, value)(entries);
        })
    };
    for (value, expected) in [
        (Value::from(0), MecPolicy::Shared),
        ("shared".into(), MecPolicy::Shared),
        (1.into(), MecPolicy::Private),
        ("private".into(), MecPolicy::Private),
    ] {
        let profile = decode(value).unwrap().realm.claims.profile;
        assert_eq!(profile, RealmProfile::Realm2024 { instance_id: None, mec_policy: expected });
    }
    for value in [Value::from(2), "Shared".into()] {
        assert!(matches!(fault(decode(value)), DecodeError::ClaimValue { .. }));
    }
    assert!(matches!(fault(decode(Value::Null)), DecodeError::ClaimType { .. }));
}

#[test]
fn lifecycle_outside_the_defined_ranges_is_refused() {
    for (value, secured) in [(0x3000, true), (0x30ff, true), (0x20ff, false), (0x4000, false), (0, false)] {
        let lifecycle = decode_platform(set(platform::LIFECYCLE, value)).unwrap().platform.claims.lifecycle;
        assert_eq!((u16::from(lifecycle), lifecycle.is_secured()), (value, secured));
    }
    for value in [0x0100, 0x2fff, 0x3100, 0x7000, 0xffff, 0x1_3000, -1] {
        let error = fault(decode_platform(set(platform::LIFECYCLE, value)));
        assert!(
            matches!(error, DecodeError::ClaimValue { claim, .. } if claim == platform::LIFECYCLE),
            "{error}"
        );
    }
}

#[test]
fn foreign_text_in_errors_is_escaped_and_short() {
    let error = fault(decode_realm(set(realm::PROFILE, "\u{1b}[31m".repeat(1000)))).to_string();
    assert!(!error.contains('\u{1b}') && error.len() < 600, "{error}");
}
