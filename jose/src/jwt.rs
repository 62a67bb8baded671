//! Signed tokens of an attestation service (JWT, RFC 7519), checked against its public keys.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde::Deserialize;
use serde_json::{Map, Value};
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo, X509Certificate};
use x509_parser::public_key::PublicKey;

/// Longest token read, in bytes. Without the bound, whoever sends one decides how much memory and time it takes.
pub const MAX_TOKEN_LEN: usize = 64 * 1024;
/// Longest key set read, in bytes; same reason.
pub const MAX_KEYS_LEN: usize = 64 * 1024;
/// Most keys of a set: a token without `kid` is tried with each.
const MAX_KEYS: usize = 16;
/// How much earlier than a token's `nbf` it is taken, in seconds: the clocks of issuer and reader differ.
const EARLY: i64 = 60;

const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";

/// RSA keys sign either way (RFC 7518 sections 3.3 and 3.5); secGear's services can be set to any of these.
const RSA: &[Algorithm] = &[
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
];

/// Why a token or the keys for it were refused.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The keys cannot be read.
    #[error("the token keys cannot be used: {0}")]
    Keys(String),
    /// Not a JWT, or not a signed one.
    #[error("this is not a signed JWT of at most {MAX_TOKEN_LEN} bytes")]
    Form,
    /// Signed with something else than a key of this kind signs with.
    #[error("the token is signed with {found}; none of the known keys signs that way")]
    Algorithm {
        /// The algorithm in the token's header.
        found: String,
    },
    /// Its header has extensions that must be understood, and none is.
    #[error("the token's header has critical extensions (crit), which are not understood here")]
    Critical,
    /// Signed with a key that is not known.
    #[error("the token names the key {kid:?}, which is not among the known keys")]
    UnknownKey {
        /// The key's name, shortened.
        kid: String,
    },
    /// The signature is of another key, or something was altered.
    #[error("the token's signature is not valid: it was issued by someone else, or was altered")]
    Signature,
    /// A claim that must be there is not, or has another type.
    #[error("the token has no usable claim {0:?}")]
    Claim(&'static str),
    /// Issued by another service than expected.
    #[error("the token's {claim} is {found}; {expected:?} was expected")]
    Other {
        /// `iss` or `aud`.
        claim: &'static str,
        /// What the token says, shortened.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// Not valid at this time.
    #[error("the token is valid from {from} to {to}, and now is {now} (seconds since 1970): get a new one")]
    Time {
        /// Beginning of validity.
        from: i64,
        /// End of validity.
        to: i64,
        /// The time it was compared with.
        now: i64,
    },
}

/// A JWK set whose keys are read one by one: of one that cannot be read, the others are no worse.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

struct TokenKey {
    kid: Option<String>,
    algorithms: &'static [Algorithm],
    decoding: DecodingKey,
}

/// The public keys of an issuer.
pub struct TokenKeys(Vec<TokenKey>);

/// What a token must say besides being signed and of this time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected<'a> {
    /// The issuer (`iss`).
    pub issuer: Option<&'a str>,
    /// The audience (`aud`).
    pub audience: Option<&'a str>,
}

/// A token that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// The header, JSON.
    pub header: Value,
    /// The claims.
    pub claims: Map<String, Value>,
    /// When its validity began, seconds since 1970.
    pub issued: i64,
    /// When its validity ends.
    pub expires: i64,
}

impl TokenKeys {
    /// Reads a JWK set (RFC 7517 section 5). Keys of kinds that are not known are passed over, as it asks.
    ///
    /// # Errors
    /// If it is no set, too large, or has no usable key.
    pub fn from_jwks(json: &[u8]) -> Result<Self, TokenError> {
        if json.len() > MAX_KEYS_LEN {
            return Err(TokenError::Keys(format!("the key set has more than {MAX_KEYS_LEN} bytes")));
        }
        let set: KeySet = serde_json::from_slice(json)
            .map_err(|error| TokenError::Keys(format!("not a JWK set: {error}")))?;
        let keys = set.keys.into_iter().filter_map(|jwk| {
            let jwk: Jwk = serde_json::from_value(jwk).ok()?;
            // A key that is for encryption signs nothing.
            if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
                return None;
            }
            let algorithms = narrowed(algorithms(&jwk)?, jwk.common.key_algorithm)?;
            let decoding = DecodingKey::from_jwk(&jwk).ok()?;
            Some(TokenKey { kid: jwk.common.key_id, algorithms, decoding })
        });
        Self::some(keys.take(MAX_KEYS).collect())
    }

    /// Reads certificates or public keys in PEM. Of a certificate only the key is taken: who names the file trusts it.
    ///
    /// # Errors
    /// If there is none, or one is of a kind that is not known.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TokenError> {
        if pem.len() > MAX_KEYS_LEN {
            return Err(TokenError::Keys(format!("the PEM text has more than {MAX_KEYS_LEN} bytes")));
        }
        let unreadable = |error| TokenError::Keys(format!("not PEM: {error}"));
        let mut keys = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(unreadable)?;
            let (_, parsed) = X509Certificate::from_der(&certificate)
                .map_err(|error| TokenError::Keys(format!("not a certificate: {error}")))?;
            keys.push(from_spki(parsed.public_key())?);
        }
        for key in SubjectPublicKeyInfoDer::pem_slice_iter(pem) {
            let key = key.map_err(unreadable)?;
            let (_, parsed) = SubjectPublicKeyInfo::from_der(&key)
                .map_err(|error| TokenError::Keys(format!("not a public key: {error}")))?;
            keys.push(from_spki(&parsed)?);
        }
        Self::some(keys)
    }

    fn some(keys: Vec<TokenKey>) -> Result<Self, TokenError> {
        if keys.is_empty() {
            return Err(TokenError::Keys(
                "there is no RSA, P-256, P-384 or Ed25519 public key in it".to_owned(),
            ));
        }
        Ok(Self(keys))
    }

    /// Checks algorithm, signature, validity at `now` (seconds since 1970), and what is `expected`.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub fn verify(&self, token: &str, expected: &Expected<'_>, now: i64) -> Result<Verified, TokenError> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(TokenError::Form);
        }
        // Unknown algorithms, among them "none", are no header either.
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Form)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let named: Vec<&TokenKey> = self
            .0
            .iter()
            .filter(|key| key.kid.is_none() || header.kid.is_none() || key.kid == header.kid)
            .collect();
        if let (true, Some(kid)) = (named.is_empty(), &header.kid) {
            return Err(TokenError::UnknownKey { kid: shorten(kid) });
        }
        let able: Vec<&TokenKey> =
            named.into_iter().filter(|key| key.algorithms.contains(&header.alg)).collect();
        if able.is_empty() {
            return Err(TokenError::Algorithm { found: format!("{:?}", header.alg) });
        }
        let mut validation = Validation::new(header.alg);
        // Claims are checked below: with the caller's clock, and with messages that say what was found.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let claims = able
            .iter()
            .find_map(|key| {
                jsonwebtoken::decode::<Map<String, Value>>(token, &key.decoding, &validation).ok()
            })
            .ok_or(TokenError::Signature)?
            .claims;
        let (issued, expires) = check_claims(&claims, expected, now)?;
        let header = serde_json::to_value(&header).map_err(|_| TokenError::Form)?;
        Ok(Verified { header, claims, issued, expires })
    }
}

/// How a key of a set may sign. Above all not symmetrically: the bytes of such a key would be public.
fn algorithms(jwk: &Jwk) -> Option<&'static [Algorithm]> {
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Some(RSA),
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => Some(&[Algorithm::ES256]),
            EllipticCurve::P384 => Some(&[Algorithm::ES384]),
            _ => None,
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Some(&[Algorithm::EdDSA])
        }
        _ => None,
    }
}

/// What is left of `able` if the key says how it signs (RFC 7517 section 4.4).
fn narrowed(able: &'static [Algorithm], named: Option<KeyAlgorithm>) -> Option<&'static [Algorithm]> {
    let Some(named) = named else { return Some(able) };
    let at = able.iter().position(|algorithm| format!("{algorithm:?}") == format!("{named:?}"))?;
    able.get(at..=at)
}

fn from_spki(key: &SubjectPublicKeyInfo<'_>) -> Result<TokenKey, TokenError> {
    let unusable = || TokenError::Keys("only RSA, P-256 and P-384 keys sign tokens".to_owned());
    let bits = key.subject_public_key.data.as_ref();
    let (algorithms, decoding): (&[Algorithm], _) = if key.algorithm.algorithm.to_id_string() == EC_PUBLIC_KEY
    {
        let curve = key.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        let algorithms: &[Algorithm] = match curve.map(|oid| oid.to_id_string()).as_deref() {
            Some(P256) => &[Algorithm::ES256],
            Some(P384) => &[Algorithm::ES384],
            _ => return Err(unusable()),
        };
        (algorithms, DecodingKey::from_ec_der(bits))
    } else {
        match key.parsed() {
            Ok(PublicKey::RSA(_)) => (RSA, DecodingKey::from_rsa_der(bits)),
            _ => return Err(unusable()),
        }
    };
    Ok(TokenKey { kid: None, algorithms, decoding })
}

fn check_claims(
    claims: &Map<String, Value>,
    expected: &Expected<'_>,
    now: i64,
) -> Result<(i64, i64), TokenError> {
    let time = |name| claims.get(name).map(|value| value.as_i64().ok_or(TokenError::Claim(name)));
    let to = time("exp").ok_or(TokenError::Claim("exp"))??;
    let from = match time("nbf").or_else(|| time("iat")) {
        Some(from) => from?,
        None => return Err(TokenError::Claim("nbf")),
    };
    if now < from.saturating_sub(EARLY) || now >= to {
        return Err(TokenError::Time { from, to, now });
    }
    for (claim, expected) in [("iss", expected.issuer), ("aud", expected.audience)] {
        let Some(expected) = expected else { continue };
        let found = claims.get(claim).ok_or(TokenError::Claim(claim))?;
        let holds = match found {
            Value::String(text) => text == expected,
            // Several audiences (RFC 7519 section 4.1.3); there is one issuer only.
            Value::Array(several) if claim == "aud" => several.iter().any(|one| one == expected),
            _ => false,
        };
        if !holds {
            let found = shorten(&found.to_string());
            return Err(TokenError::Other { claim, found, expected: expected.to_owned() });
        }
    }
    Ok((from, to))
}

/// Foreign text for a message.
fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests;
