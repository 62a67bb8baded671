use std::convert::Infallible;

use ciborium::Value;
use proptest::prelude::*;

use super::*;
use crate::cbor::{self, CborError};
use crate::hash::{Digest, HashAlgorithm};
use crate::token::{Claim, Lifecycle, MAX_COMPONENTS, Scope, sign};

const SHA256: HashAlgorithm = HashAlgorithm::Sha256;

fn p521() -> CvmKey {
    let mut point = vec![0x5a; 133];
    point[0] = 4;
    CvmKey::new(point).unwrap()
}

fn rsa() -> CvmKey {
    let mut spki = vec![0x5a; 550];
    spki[0] = 0x30;
    CvmKey::new(spki).unwrap()
}

fn cvm() -> CvmClaims {
    CvmClaims {
        challenge: [0xab; 64],
        rpv: [0xcd; 64],
        hash: SHA256,
        key: p521(),
        rim: SHA256.digest(b"rim"),
        rems: [Digest::zero(SHA256), SHA256.digest(b"1"), SHA256.digest(b"2"), SHA256.digest(b"3")],
        key_hash: SHA256,
    }
}

fn component(kind: &str, hash: Option<HashAlgorithm>) -> SoftwareComponent {
    SoftwareComponent {
        kind: kind.to_owned(),
        measurement: hash.unwrap_or(SHA256).digest(kind.as_bytes()),
        version: "21.23.0".to_owned(),
        signer_id: Vec::new(),
        hash,
    }
}

fn platform() -> PlatformClaims {
    PlatformClaims {
        profile: String::new(),
        challenge: SHA256.digest(p521().claim_bytes()),
        implementation_id: [7; 32],
        instance_id: [1; 33],
        config: Vec::new(),
        lifecycle: Lifecycle(0x2000),
        components: vec![component("tf_bl2", None), component("tee", Some(HashAlgorithm::Sha512))],
        verification_service: String::new(),
        hash: SHA256,
    }
}

fn sign1(payload: &[u8], algorithm: SignatureAlgorithm) -> Vec<u8> {
    let Ok(token) = sign::<Infallible>(payload, algorithm, |_| Ok(vec![0x11; algorithm.signature_len()]));
    token
}

fn token(platform: Option<&[u8]>, cvm: &[u8]) -> Vec<u8> {
    let platform = platform.map(|claims| sign1(claims, SignatureAlgorithm::Es512));
    wrap(platform.as_deref(), &sign1(cvm, SignatureAlgorithm::Es512))
}

fn wrapped(claims: &[u8]) -> Vec<u8> {
    cbor::write(&Value::Bytes(claims.to_vec()))
}

type Entries = Vec<(Value, Value)>;

fn edited(claims: &[u8], edit: impl FnOnce(&mut Entries)) -> Vec<u8> {
    let mut entries = cbor::read(claims).unwrap().into_map().unwrap();
    edit(&mut entries);
    cbor::write(&Value::Map(entries))
}

fn cvm_map() -> Vec<u8> {
    cbor::read(&cvm().encode()).unwrap().into_bytes().unwrap()
}

fn decode_cvm(edit: impl FnOnce(&mut Entries)) -> Result<VirtccaToken, DecodeError> {
    VirtccaToken::decode(&token(None, &wrapped(&edited(&cvm_map(), edit))))
}

fn decode_platform(edit: impl FnOnce(&mut Entries)) -> Result<VirtccaToken, DecodeError> {
    VirtccaToken::decode(&token(Some(&edited(&platform().encode(), edit)), &cvm().encode()))
}

fn decode_component(edit: impl FnOnce(&mut Entries)) -> Result<VirtccaToken, DecodeError> {
    decode_platform(|entries| {
        let label = platform::COMPONENTS.label.into();
        let (_, components) = entries.iter_mut().find(|(found, _)| *found == label).unwrap();
        edit(components.as_array_mut().unwrap()[1].as_map_mut().unwrap());
    })
}

fn set(claim: Claim, value: impl Into<Value>) -> impl FnOnce(&mut Entries) {
    move |entries| {
        entries.retain(|(label, _)| *label != claim.label.into());
        entries.push((claim.label.into(), value.into()));
    }
}

fn remove(claim: Claim) -> impl FnOnce(&mut Entries) {
    move |entries| entries.retain(|(label, _)| *label != claim.label.into())
}

fn bytes(len: usize) -> Value {
    Value::Bytes(vec![1; len])
}

#[track_caller]
fn fault<T: std::fmt::Debug>(result: Result<T, DecodeError>) -> DecodeError {
    match result.expect_err("the token must be refused") {
        DecodeError::Component { source, .. } => *source,
        error => error,
    }
}

#[test]
fn both_flavours_survive_encoding_and_decoding() {
    let decoded = VirtccaToken::decode(&token(Some(&platform().encode()), &cvm().encode())).unwrap();
    assert_eq!(decoded.platform.unwrap().claims, platform());
    assert_eq!(decoded.cvm.claims, cvm());
    assert_eq!(decoded.cvm.algorithm, SignatureAlgorithm::Es512);

    let legacy = CvmClaims { key: rsa(), ..cvm() };
    let signed = sign1(&legacy.encode(), SignatureAlgorithm::Ps256);
    let decoded = VirtccaToken::decode(&wrap(None, &signed)).unwrap();
    assert_eq!(decoded.platform, None);
    assert_eq!(decoded.cvm.claims, legacy);
    assert_eq!(decoded.cvm.algorithm, SignatureAlgorithm::Ps256);
}

#[test]
fn the_claims_are_wrapped_twice_and_the_signature_covers_the_inner_header() {
    let decoded = VirtccaToken::decode(&token(None, &cvm().encode())).unwrap();
    let structure = cbor::read(decoded.cvm.to_be_signed()).unwrap().into_array().unwrap();
    assert_eq!(structure[3], Value::Bytes(wrapped(&cvm_map())));
    let single = VirtccaToken::decode(&token(None, &cvm_map()));
    assert!(matches!(fault(single), DecodeError::NotWrapped { token: Token::Cvm }));
    let trailing = VirtccaToken::decode(&token(None, &[cvm().encode(), vec![0]].concat()));
    assert!(matches!(fault(trailing), DecodeError::Cbor { source: CborError::Trailing { .. }, .. }));
}

#[test]
fn each_claim_is_mandatory_and_missed_by_name() {
    for missing in cvm::KNOWN {
        let error = fault(decode_cvm(remove(missing)));
        assert!(matches!(error, DecodeError::MissingClaim { claim } if claim == missing), "{error}");
        assert!(error.to_string().contains(missing.name));
    }
    for missing in platform::KNOWN {
        let error = fault(decode_platform(remove(missing)));
        assert!(matches!(error, DecodeError::MissingClaim { claim } if claim == missing), "{error}");
    }
    for missing in [platform::COMPONENT_TYPE, platform::MEASUREMENT, platform::VERSION] {
        let error = fault(decode_component(remove(missing)));
        assert!(matches!(error, DecodeError::MissingClaim { claim } if claim == missing), "{error}");
    }
}

#[test]
fn each_claim_may_stand_only_once() {
    fn again(index: usize) -> impl FnOnce(&mut Entries) {
        move |entries| entries.push(entries[index].clone())
    }
    let scope = |error: DecodeError| match error {
        DecodeError::DuplicateClaim { claim } => claim.scope,
        other => panic!("{other}"),
    };
    for index in 0..cvm::KNOWN.len() {
        assert_eq!(scope(fault(decode_cvm(again(index)))), Scope::Cvm);
    }
    for index in 0..platform::KNOWN.len() {
        assert_eq!(scope(fault(decode_platform(again(index)))), Scope::Platform);
    }
    for index in 0..5 {
        assert_eq!(scope(fault(decode_component(again(index)))), Scope::Component);
    }
}

#[test]
fn sizes_are_exact() {
    use cvm::*;
    for (claim, sizes) in [
        (CHALLENGE, &[0, 32, 63, 65][..]),
        (RPV, &[0, 63, 65]),
        (RIM, &[0, 31, 48, 64]),
        (KEY, &[0, 97, 132, 133, 134, 549, 550, 551]),
    ] {
        for size in sizes {
            let named = match fault(decode_cvm(set(claim, bytes(*size)))) {
                DecodeError::ClaimSize { claim, .. }
                | DecodeError::HashSize { claim, .. }
                | DecodeError::Key { claim, .. } => claim,
                error => panic!("{error}"),
            };
            assert_eq!(named, claim, "{size}");
        }
    }
    for (claim, sizes) in [
        (platform::CHALLENGE, &[0, 31, 33, 63, 65][..]),
        (platform::IMPLEMENTATION_ID, &[0, 31, 33]),
        (platform::INSTANCE_ID, &[0, 32, 34]),
    ] {
        for size in sizes {
            let error = fault(decode_platform(set(claim, bytes(*size))));
            assert!(
                matches!(error, DecodeError::ClaimSize { claim: named, .. } if named == claim),
                "{error}"
            );
        }
    }
    for size in [0, 31, 33, 48] {
        let error = fault(decode_platform(|entries| {
            set(
                platform::COMPONENTS,
                vec![Value::Map(vec![
                    (1.into(), "tee".into()),
                    (2.into(), bytes(size)),
                    (4.into(), "1".into()),
                ])],
            )(entries);
        }));
        assert!(matches!(error, DecodeError::HashSize { .. }), "{error}");
    }
}

/// T6: what made secGear's decoder panic is read.
#[test]
fn t6_config_and_signer_of_any_length_are_read() {
    for config in [0, 1, 32, 33, 1000] {
        for signer in [0, 1, 32, 33, 64] {
            let mut claims = platform();
            claims.config = vec![0xcf; config];
            claims.components[0].signer_id = vec![0x51; signer];
            let decoded = VirtccaToken::decode(&token(Some(&claims.encode()), &cvm().encode())).unwrap();
            assert_eq!(decoded.platform.unwrap().claims, claims);
        }
    }
    let unsigned = decode_component(remove(platform::SIGNER_ID)).unwrap();
    assert_eq!(unsigned.platform.unwrap().claims, platform());
}

#[test]
fn any_number_of_components_from_one_is_read() {
    let with = |count: usize| {
        let components = vec![component("tee", None); count];
        let claims = PlatformClaims { components, ..platform() };
        VirtccaToken::decode(&token(Some(&claims.encode()), &cvm().encode()))
    };
    for count in [1, 6, 7, MAX_COMPONENTS] {
        assert_eq!(with(count).unwrap().platform.unwrap().claims.components.len(), count);
    }
    for count in [0, MAX_COMPONENTS + 1] {
        assert!(matches!(fault(with(count)), DecodeError::ComponentCount { found, .. } if found == count));
    }
}

#[test]
fn hash_algorithms_are_on_the_list_and_may_be_padded() {
    for claim in [cvm::HASH, cvm::KEY_HASH] {
        assert_eq!(decode_cvm(set(claim, "sha-256\0\0")).unwrap().cvm.claims, cvm());
        for name in ["", "sha-1", "SHA-256", "sha-256 ", "\0sha-256", "sha\0-256"] {
            let error = fault(decode_cvm(set(claim, name)));
            assert!(
                matches!(error, DecodeError::ClaimValue { claim: named, .. } if named == claim),
                "{error}"
            );
        }
    }
    for result in
        [decode_platform(set(platform::HASH, "md5")), decode_component(set(platform::COMPONENT_HASH, "md5"))]
    {
        assert!(matches!(fault(result), DecodeError::ClaimValue { .. }));
    }
    let sha384 = CvmClaims {
        hash: HashAlgorithm::Sha384,
        rim: HashAlgorithm::Sha384.digest(b"rim"),
        rems: [Digest::zero(HashAlgorithm::Sha384); 4],
        key_hash: HashAlgorithm::Sha512,
        ..cvm()
    };
    assert_eq!(VirtccaToken::decode(&token(None, &sha384.encode())).unwrap().cvm.claims, sha384);
}

#[test]
fn exactly_four_extensible_measurements() {
    let rem = Value::Bytes(vec![0; 32]);
    for count in [0, 3, 5] {
        let error = fault(decode_cvm(set(cvm::REMS, vec![rem.clone(); count])));
        assert!(matches!(error, DecodeError::ClaimType { claim: cvm::REMS, .. }), "{error}");
    }
    let error = fault(decode_cvm(set(cvm::REMS, vec![rem.clone(), rem.clone(), rem, bytes(31)])));
    assert!(matches!(error, DecodeError::HashSize { claim: cvm::REMS, found: 31, .. }), "{error}");
}

#[test]
fn lifecycle_is_an_integer_of_16_bits() {
    for value in [0, 0x2000, 0x3000, 0x7777, 0xffff] {
        let decoded = decode_platform(set(platform::LIFECYCLE, value)).unwrap();
        assert_eq!(decoded.platform.unwrap().claims.lifecycle.0, u16::try_from(value).unwrap());
    }
    for value in [-1, 0x1_0000] {
        assert!(matches!(
            fault(decode_platform(set(platform::LIFECYCLE, value))),
            DecodeError::ClaimValue { .. }
        ));
    }
}

#[test]
fn key_must_fit_the_signature_algorithm() {
    for (key, algorithm) in [
        (p521(), SignatureAlgorithm::Ps256),
        (p521(), SignatureAlgorithm::Es384),
        (rsa(), SignatureAlgorithm::Es512),
    ] {
        let claims = CvmClaims { key, ..cvm() };
        let result = VirtccaToken::decode(&wrap(None, &sign1(&claims.encode(), algorithm)));
        assert!(matches!(fault(result), DecodeError::KeyAlgorithm { token: Token::Cvm, .. }));
    }
}

#[test]
fn wrapper_needs_a_cvm_token_and_tag_399() {
    let cvm = sign1(&cvm().encode(), SignatureAlgorithm::Es512);
    let platform = sign1(&platform().encode(), SignatureAlgorithm::Es512);
    let with = |tag, entries: &[(i64, &[u8])]| {
        let entries = entries.iter().map(|(label, token)| ((*label).into(), Value::Bytes(token.to_vec())));
        VirtccaToken::decode(&cbor::write(&Value::Tag(tag, Box::new(Value::Map(entries.collect())))))
    };
    assert!(with(399, &[(44234, &platform), (44241, &cvm)]).is_ok());
    assert!(matches!(fault(with(907, &[(44241, &cvm)])), DecodeError::WrapperTag { found: Some(907), .. }));
    assert!(matches!(
        fault(with(399, &[(44234, &platform)])),
        DecodeError::MissingToken { token: Token::Cvm }
    ));
    assert!(matches!(
        fault(with(399, &[(44241, &cvm), (44241, &cvm)])),
        DecodeError::DuplicateToken { token: Token::Cvm }
    ));
    assert!(matches!(fault(with(399, &[(44241, &cvm), (1, &cvm)])), DecodeError::WrapperEntry));
}

#[test]
fn tokens_cut_short_at_any_byte_are_refused() {
    let whole = token(Some(&platform().encode()), &cvm().encode());
    for end in 0..whole.len() {
        assert!(VirtccaToken::decode(&whole[..end]).is_err(), "cut at {end}");
    }
    let (platform, cvm) = (platform().encode(), cvm_map());
    for end in 0..platform.len() {
        let result = VirtccaToken::decode(&token(Some(&platform[..end]), &wrapped(&cvm)));
        assert!(result.is_err(), "platform claims cut at {end}");
    }
    for end in 0..cvm.len() {
        assert!(
            VirtccaToken::decode(&token(None, &wrapped(&cvm[..end]))).is_err(),
            "CVM claims cut at {end}"
        );
    }
}

proptest! {
    #[test]
    fn flipped_bits_never_panic(position in 0usize..10_000, bit in 0u8..8) {
        let mut token = token(Some(&platform().encode()), &cvm().encode());
        let position = position % token.len();
        token[position] ^= 1 << bit;
        let _ = VirtccaToken::decode(&token);
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = VirtccaToken::decode(&bytes);
        let _ = VirtccaToken::decode(&token(Some(&bytes), &bytes));
        let _ = VirtccaToken::decode(&token(None, &wrapped(&bytes)));
        let _ = VirtccaToken::decode(&wrap(Some(&bytes), &bytes));
    }
}
