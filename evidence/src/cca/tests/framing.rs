//! What stands around the claims: the wrapper, COSE_Sign1, and CBOR itself.

use super::*;
use crate::cbor::CborError;

#[test]
fn wrapper_is_exactly_two_tokens_under_a_known_tag() {
    let (platform, realm) = {
        let sign = |claims: Vec<u8>| bytes(&sign1(&claims, SignatureAlgorithm::Es384));
        ((Value::from(44234), sign(platform().encode())), (Value::from(44241), sign(realm().encode())))
    };
    let decode = |tag, entries: &[&(Value, Value)]| {
        let map = Value::Map(entries.iter().map(|entry| (*entry).clone()).collect());
        CcaToken::decode(&cbor::write(&Value::Tag(tag, Box::new(map))))
    };
    assert!(decode(399, &[&realm, &platform]).is_ok());
    assert!(matches!(
        fault(decode(18, &[&platform, &realm])),
        DecodeError::WrapperTag { found: Some(18), .. }
    ));
    assert!(matches!(
        fault(decode(907, &[&platform, &realm])),
        DecodeError::WrapperRecord { wrapper: Wrapper::Tag907, token: Token::Platform }
    ));
    assert!(matches!(fault(decode(399, &[&platform])), DecodeError::MissingToken { token: Token::Realm }));
    assert!(matches!(fault(decode(399, &[&realm])), DecodeError::MissingToken { token: Token::Platform }));
    assert!(matches!(
        fault(decode(399, &[&platform, &realm, &realm])),
        DecodeError::DuplicateToken { token: Token::Realm }
    ));
    for label in [Value::from(44235), "x".into(), Value::Null] {
        let other = (label, bytes(b""));
        assert!(matches!(fault(decode(399, &[&platform, &realm, &other])), DecodeError::WrapperEntry));
    }
    let record = |kind: i64| (Value::from(44241), Value::Array(vec![kind.into(), realm.1.clone()]));
    let wrapped = (platform.0.clone(), Value::Array(vec![263.into(), platform.1.clone()]));
    assert!(decode(907, &[&wrapped, &record(263)]).is_ok());
    assert!(matches!(
        fault(decode(907, &[&wrapped, &record(264)])),
        DecodeError::WrapperRecord { wrapper: Wrapper::Tag907, token: Token::Realm }
    ));
    assert!(matches!(
        fault(decode(399, &[&wrapped, &realm])),
        DecodeError::WrapperRecord { wrapper: Wrapper::Tag399, token: Token::Platform }
    ));
    assert!(matches!(fault(CcaToken::decode(&[0xa0])), DecodeError::WrapperTag { found: None, .. }));
    assert!(matches!(fault(CcaToken::decode(&[0xd9, 0x01, 0x8f, 0x80])), DecodeError::WrapperContent));
}

/// A token whose Realm half is this COSE_Sign1.
fn with_realm_envelope(fields: Vec<Value>) -> Result<CcaToken, DecodeError> {
    let realm = cbor::write(&Value::Tag(18, Box::new(Value::Array(fields))));
    let platform = sign1(&platform().encode(), SignatureAlgorithm::Es384);
    CcaToken::decode(&wrap(Wrapper::Tag399, &platform, &realm))
}

fn with_header(protected: &Value, unprotected: Value) -> Result<CcaToken, DecodeError> {
    with_realm_envelope(vec![
        bytes(&cbor::write(protected)),
        unprotected,
        bytes(&realm().encode()),
        bytes(&[0; 96]),
    ])
}

fn map(entries: &[(i64, Value)]) -> Value {
    Value::Map(entries.iter().map(|(label, value)| ((*label).into(), value.clone())).collect())
}

#[test]
fn algorithm_must_be_protected_and_on_the_list() {
    assert!(with_header(&map(&[(1, (-35).into())]), map(&[])).is_ok());
    assert!(with_header(&map(&[(1, (-35).into())]), map(&[(4, bytes(b"kid"))])).is_ok());
    let es384 = map(&[(1, (-35).into())]);
    for (protected, unprotected) in [
        (map(&[]), map(&[])),
        (map(&[]), es384.clone()),
        (map(&[(1, (-37).into())]), es384.clone()),
        (map(&[(1, (-8).into())]), map(&[])),
        (map(&[(1, 5.into())]), map(&[])),
        (map(&[(1, "ES384".into())]), map(&[])),
    ] {
        let error = fault(with_header(&protected, unprotected));
        assert!(matches!(error, DecodeError::Algorithm { token: Token::Realm, .. }), "{error}");
    }
    let fields = vec![bytes(&[]), es384, bytes(&realm().encode()), bytes(&[0; 96])];
    assert!(matches!(fault(with_realm_envelope(fields)), DecodeError::Algorithm { .. }));
}

#[test]
fn critical_headers_are_refused() {
    let protected = map(&[(1, (-35).into()), (2, vec![Value::from(4)].into()), (4, bytes(b"kid"))]);
    assert!(matches!(
        fault(with_header(&protected, map(&[]))),
        DecodeError::CriticalHeader { token: Token::Realm }
    ));
}

#[test]
fn header_parameters_may_stand_only_once() {
    let protected = map(&[(1, (-35).into()), (1, (-7).into())]);
    assert!(matches!(
        fault(with_header(&protected, map(&[]))),
        DecodeError::Cose { token: Token::Realm, .. }
    ));
}

#[test]
fn envelope_is_a_tagged_array_of_four_with_an_attached_payload() {
    let header = bytes(&cbor::write(&map(&[(1, (-35).into())])));
    let (payload, signature) = (bytes(&realm().encode()), bytes(&[0; 96]));
    let whole = vec![header, map(&[]), payload, signature];
    assert!(with_realm_envelope(whole.clone()).is_ok());
    for (index, value) in [(0, map(&[])), (1, Value::Null), (2, Value::Null)] {
        let mut fields = whole.clone();
        fields[index] = value;
        assert!(matches!(fault(with_realm_envelope(fields)), DecodeError::NotSign1 { .. }), "field {index}");
    }
    assert!(matches!(fault(with_realm_envelope(whole[..3].to_vec())), DecodeError::NotSign1 { .. }));
    let untagged = cbor::write(&Value::Array(whole));
    let platform = sign1(&platform().encode(), SignatureAlgorithm::Es384);
    let error = fault(CcaToken::decode(&wrap(Wrapper::Tag399, &platform, &untagged)));
    assert!(matches!(error, DecodeError::NotSign1 { token: Token::Realm, .. }));
}

#[test]
fn signature_must_have_the_size_of_the_algorithm() {
    for size in [0, 64, 95, 97] {
        let realm =
            sign::<Infallible>(&realm().encode(), SignatureAlgorithm::Es384, |_| Ok(vec![0; size])).unwrap();
        let platform = sign1(&platform().encode(), SignatureAlgorithm::Es384);
        let error = fault(CcaToken::decode(&wrap(Wrapper::Tag399, &platform, &realm)));
        assert!(matches!(error, DecodeError::SignatureSize { found, .. } if found == size), "{error}");
    }
}

/// Countersignatures hold headers, which hold countersignatures: a recursion that no nesting limit of CBOR sees, as
/// each level is a byte string.
#[test]
fn headers_inside_headers_do_not_exhaust_the_stack() {
    let mut header = cbor::write(&map(&[(1, (-35).into())]));
    while header.len() < MAX_TOKEN_SIZE / 2 {
        header = cbor::write(&map(&[(7, Value::Array(vec![bytes(&header), map(&[]), bytes(&[0])]))]));
    }
    let header = cbor::read(&header).unwrap();
    assert!(matches!(fault(with_header(&header, map(&[]))), DecodeError::NotSign1 { .. }));
    let es384 = map(&[(1, (-35).into())]);
    assert!(with_header(&es384, header).is_ok(), "the unprotected header is not interpreted");
}

#[test]
fn indefinite_lengths_are_refused_at_every_level() {
    let definite = valid();
    // The outermost map: d9 018f a2 ... becomes d9 018f bf ... ff.
    let mut outer = definite.clone();
    outer[3] = 0xbf;
    outer.push(0xff);
    assert!(matches!(
        fault(CcaToken::decode(&outer)),
        DecodeError::Wrapper { source: CborError::IndefiniteLength { offset: 3 } }
    ));
    let indefinite_map = |claims: Vec<u8>| [&[0xbf], &claims[1..], &[0xff]].concat();
    let platform_claims = platform().encode();
    assert!(matches!(
        fault(CcaToken::decode(&token(&indefinite_map(platform_claims.clone()), &realm().encode()))),
        DecodeError::Cbor { token: Token::Platform, source: CborError::IndefiniteLength { offset: 0 }, .. }
    ));
    assert!(matches!(
        fault(CcaToken::decode(&token(&platform_claims, &indefinite_map(realm().encode())))),
        DecodeError::Cbor { token: Token::Realm, source: CborError::IndefiniteLength { offset: 0 }, .. }
    ));
    let header = Value::Bytes(vec![0xbf, 0x01, 0x38, 0x22, 0xff]);
    let fields = vec![header, map(&[]), bytes(&realm().encode()), bytes(&[0; 96])];
    assert!(matches!(
        fault(with_realm_envelope(fields)),
        DecodeError::Cbor { part: "protected header", source: CborError::IndefiniteLength { .. }, .. }
    ));
}

#[test]
fn nothing_may_follow_at_any_level() {
    let mut trailing = valid();
    trailing.push(0);
    assert!(matches!(
        fault(CcaToken::decode(&trailing)),
        DecodeError::Wrapper { source: CborError::Trailing { .. } }
    ));
    let claims = [realm().encode(), vec![0]].concat();
    assert!(matches!(
        fault(CcaToken::decode(&token(&platform().encode(), &claims))),
        DecodeError::Cbor { token: Token::Realm, source: CborError::Trailing { .. }, .. }
    ));
    let platform = [sign1(&platform().encode(), SignatureAlgorithm::Es384), vec![0]].concat();
    let realm = sign1(&realm().encode(), SignatureAlgorithm::Es384);
    assert!(matches!(
        fault(CcaToken::decode(&wrap(Wrapper::Tag399, &platform, &realm))),
        DecodeError::Cbor { token: Token::Platform, source: CborError::Trailing { .. }, .. }
    ));
}

#[test]
fn size_is_bounded() {
    let error = fault(CcaToken::decode(&vec![0; MAX_TOKEN_SIZE + 1]));
    assert!(matches!(error, DecodeError::TooLarge { found } if found == MAX_TOKEN_SIZE + 1));
}

#[test]
fn tokens_cut_short_at_any_byte_are_refused() {
    for wrapper in [Wrapper::Tag399, Wrapper::Tag907] {
        let token = wrap(
            wrapper,
            &sign1(&platform().encode(), SignatureAlgorithm::Es384),
            &sign1(&realm().encode(), SignatureAlgorithm::Es384),
        );
        for end in 0..token.len() {
            assert!(CcaToken::decode(&token[..end]).is_err(), "cut at {end}");
        }
    }
    // The same inside, where the outer lengths still agree.
    let (platform, realm) = (platform().encode(), realm().encode());
    for end in 0..platform.len() {
        assert!(CcaToken::decode(&token(&platform[..end], &realm)).is_err(), "platform claims cut at {end}");
    }
    for end in 0..realm.len() {
        assert!(CcaToken::decode(&token(&platform, &realm[..end])).is_err(), "Realm claims cut at {end}");
    }
}
