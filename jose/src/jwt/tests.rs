use jsonwebtoken::{EncodingKey, Header};
use p384::elliptic_curve::Generate as _;
use p384::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use serde_json::json;

use super::*;
use crate::{Curve, Jwk};

const NOW: i64 = 1_800_000_000;

struct Issuer {
    secret: p384::SecretKey,
    kid: &'static str,
}

impl Issuer {
    fn new(kid: &'static str) -> Self {
        Self { secret: p384::SecretKey::generate_from_rng(&mut rand::rng()), kid }
    }

    fn jwk(&self) -> Value {
        use p384::elliptic_curve::sec1::ToSec1Point as _;
        let point = self.secret.public_key().to_sec1_point(false);
        let mut jwk = json!(Jwk::from_sec1(Curve::P384, point.as_bytes()).unwrap());
        jwk["kid"] = json!(self.kid);
        jwk
    }

    fn keys(&self) -> TokenKeys {
        TokenKeys::from_jwks(json!({"keys": [self.jwk()]}).to_string().as_bytes()).unwrap()
    }

    fn sign(&self, claims: &Value) -> String {
        let pem = self.secret.to_pkcs8_pem(LineEnding::LF).unwrap();
        let mut header = Header::new(Algorithm::ES384);
        header.kid = Some(self.kid.to_owned());
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_ec_pem(pem.as_bytes()).unwrap()).unwrap()
    }
}

fn claims() -> Value {
    json!({"iss": "service", "aud": ["agent", "other"], "nbf": NOW, "exp": NOW + 300})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

const EXPECTED: Expected<'_> = Expected { issuer: Some("service"), audience: Some("agent") };

fn refusal(claims: &Value, now: i64) -> TokenError {
    let issuer = Issuer::new("one");
    issuer.keys().verify(&issuer.sign(claims), &EXPECTED, now).unwrap_err()
}

#[test]
fn takes_a_token_of_its_issuer() {
    let issuer = Issuer::new("one");
    let token = issuer.sign(&claims());
    let verified = issuer.keys().verify(&token, &EXPECTED, NOW + 10).unwrap();
    assert_eq!((verified.issued, verified.expires), (NOW, NOW + 300));
    assert_eq!(verified.claims["iss"], "service");
    assert_eq!(verified.header["alg"], "ES384");
    let pem = issuer.secret.public_key().to_public_key_pem(LineEnding::LF).unwrap();
    assert!(TokenKeys::from_pem(pem.as_bytes()).unwrap().verify(&token, &EXPECTED, NOW).is_ok());
}

#[test]
fn refuses_a_token_that_someone_else_signed_or_altered() {
    let (issuer, impostor) = (Issuer::new("one"), Issuer::new("one"));
    let token = impostor.sign(&claims());
    assert!(matches!(issuer.keys().verify(&token, &EXPECTED, NOW), Err(TokenError::Signature)));
    let token = issuer.sign(&claims());
    let (head, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = head.split_once('.').unwrap();
    let other = issuer.sign(&with("exp", json!(NOW + 9_000)));
    let payload = other.split('.').nth(1).unwrap();
    let mixed = format!("{header}.{payload}.{signature}");
    assert!(matches!(issuer.keys().verify(&mixed, &EXPECTED, NOW), Err(TokenError::Signature)));
}

#[test]
fn refuses_unsigned_and_symmetric_tokens() {
    let issuer = Issuer::new("one");
    let unsigned = "eyJhbGciOiJub25lIn0.e30.";
    assert!(matches!(issuer.keys().verify(unsigned, &EXPECTED, NOW), Err(TokenError::Form)));
    let pem = issuer.secret.public_key().to_public_key_pem(LineEnding::LF).unwrap();
    let key = EncodingKey::from_secret(pem.as_bytes());
    let confused = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &key).unwrap();
    assert!(matches!(issuer.keys().verify(&confused, &EXPECTED, NOW), Err(TokenError::Algorithm { .. })));
    // A set may hold symmetric keys; they are passed over.
    let set = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}).to_string();
    assert!(matches!(TokenKeys::from_jwks(set.as_bytes()), Err(TokenError::Keys(_))));
}

#[test]
fn names_the_key_that_is_not_known() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let error = old.keys().verify(&new.sign(&claims()), &EXPECTED, NOW).unwrap_err();
    assert!(matches!(error, TokenError::UnknownKey { kid } if kid == "new"));
    let both = json!({"keys": [old.jwk(), new.jwk()]}).to_string();
    let both = TokenKeys::from_jwks(both.as_bytes()).unwrap();
    assert!(both.verify(&new.sign(&claims()), &EXPECTED, NOW).is_ok());
}

#[test]
fn refuses_tokens_of_another_time() {
    for now in [NOW - 61, NOW + 300, NOW + 301, i64::MAX, i64::MIN] {
        assert!(matches!(refusal(&claims(), now), TokenError::Time { .. }), "{now}");
    }
    let issuer = Issuer::new("one");
    let token = issuer.sign(&claims());
    for now in [NOW - 60, NOW, NOW + 299] {
        assert!(issuer.keys().verify(&token, &EXPECTED, now).is_ok(), "{now}");
    }
}

#[test]
fn refuses_tokens_of_another_issuer_or_for_another_audience() {
    for (claim, value) in
        [("iss", json!("else")), ("iss", json!(["service"])), ("aud", json!("else")), ("aud", json!([]))]
    {
        let error = refusal(&with(claim, value.clone()), NOW);
        assert!(matches!(error, TokenError::Other { claim: c, .. } if c == claim), "{claim} {value}");
    }
}

#[test]
fn refuses_tokens_without_the_claims_that_are_checked() {
    for name in ["iss", "aud", "exp", "nbf"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        assert!(matches!(refusal(&claims, NOW), TokenError::Claim(claim) if claim == name), "{name}");
    }
    assert!(matches!(refusal(&with("exp", json!("soon")), NOW), TokenError::Claim("exp")));
}

#[test]
fn refuses_what_is_no_token_and_no_key() {
    let keys = Issuer::new("one").keys();
    for text in ["", "a", "a.b", "a.b.c", "....", &"a".repeat(MAX_TOKEN_LEN + 1)] {
        assert!(keys.verify(text, &EXPECTED, NOW).is_err());
    }
    for text in ["", "{}", "{\"keys\":[]}", "{\"keys\":[{}]}"] {
        assert!(TokenKeys::from_jwks(text.as_bytes()).is_err(), "{text}");
    }
    assert!(TokenKeys::from_pem(b"").is_err());
    assert!(TokenKeys::from_pem(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n").is_err());
}

#[test]
fn takes_keys_for_what_they_are_for() {
    let issuer = Issuer::new("one");
    let token = issuer.sign(&claims());
    let verify = |members: &Value| {
        let mut jwk = issuer.jwk();
        for (name, value) in members.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        // Another kind of key beside it changes nothing.
        let set = json!({"keys": [{"kty": "OKP", "crv": "Ed448", "x": "AAAA"}, {"kty": 1}, jwk]}).to_string();
        TokenKeys::from_jwks(set.as_bytes())?.verify(&token, &EXPECTED, NOW)
    };
    for good in [json!({}), json!({"use": "sig"}), json!({"alg": "ES384"}), json!({"use": "other"})] {
        assert!(verify(&good).is_ok(), "{good}");
    }
    for bad in
        [json!({"use": "enc"}), json!({"alg": "ES256"}), json!({"alg": "RSA-OAEP"}), json!({"alg": "x"})]
    {
        assert!(matches!(verify(&bad), Err(TokenError::Keys(_))), "{bad}");
    }
}

#[test]
fn takes_ed25519() {
    // RFC 8037, appendix A.
    let secret = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v_VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g";
    let secret = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE, secret).unwrap();
    let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]});
    let token =
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims(), &EncodingKey::from_ed_der(&secret));
    let keys = TokenKeys::from_jwks(set.to_string().as_bytes()).unwrap();
    assert!(keys.verify(&token.unwrap(), &EXPECTED, NOW).is_ok());
}

#[test]
fn refuses_critical_extensions() {
    let issuer = Issuer::new("one");
    let pem = issuer.secret.to_pkcs8_pem(LineEnding::LF).unwrap();
    let header = Header { crit: Some(vec!["b64".to_owned()]), ..Header::new(Algorithm::ES384) };
    let key = EncodingKey::from_ec_pem(pem.as_bytes()).unwrap();
    let token = jsonwebtoken::encode(&header, &claims(), &key).unwrap();
    assert!(matches!(issuer.keys().verify(&token, &EXPECTED, NOW), Err(TokenError::Critical)));
}
