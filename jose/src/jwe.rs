use aes_gcm::aead::AeadInOut as _;
use aes_gcm::{Aes256Gcm, KeyInit as _};
use aes_kw::KwAes256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand_core::CryptoRng;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::agreement::concat_kdf;
use crate::jwk::Key;
use crate::{Curve, EphemeralKey, Error, Jwk, Result};

const ALG: &str = "ECDH-ES+A256KW";
const ALG_RSA: &str = "RSA-OAEP-256";
const ENC: &str = "A256GCM";
const KEY_BITS: u32 = 256;
const KEY_LEN: usize = 32;
/// RFC 3394: the wrapped key is one block of 8 bytes longer than the key.
const WRAPPED_KEY_LEN: usize = KEY_LEN + 8;
const IV_LEN: usize = 12;
const TAG_LEN: usize = 16;

/// Longest plaintext sealed, in bytes.
pub const MAX_PLAINTEXT_LEN: usize = 512 * 1024;
/// Longest compact serialisation opened, in bytes. Without it a sender chooses how much memory the recipient spends
/// before the first check on authenticity.
pub const MAX_COMPACT_LEN: usize = MAX_HEADER_LEN + MAX_PLAINTEXT_LEN / 3 * 4 + 1024;
/// Longest base64url text of a protected header, in bytes. It is parsed before anything is authenticated.
const MAX_HEADER_LEN: usize = 4096;

/// A message sealed to one recipient. It serialises as the flattened JSON of RFC 7516 section 7.2.2.
#[derive(Clone, Debug, Serialize)]
pub struct Jwe {
    protected: String,
    encrypted_key: String,
    iv: String,
    ciphertext: String,
    tag: String,
}

impl Jwe {
    /// The compact serialisation (RFC 7516 section 7.1).
    #[must_use]
    pub fn compact(&self) -> String {
        let Self { protected, encrypted_key, iv, ciphertext, tag } = self;
        format!("{protected}.{encrypted_key}.{iv}.{ciphertext}.{tag}")
    }
}

/// What the sender writes. CoCo's guests authenticate their own re-serialisation of the header, so the order is
/// fixed: `alg`, `enc`, then the rest.
#[derive(Serialize)]
struct Written<'a> {
    alg: &'static str,
    enc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    epk: Option<&'a Jwk>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    enc: String,
    epk: Jwk,
    #[serde(default)]
    apu: Option<String>,
    #[serde(default)]
    apv: Option<String>,
    #[serde(default, deserialize_with = "present")]
    zip: bool,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

/// True for a member that is there, whatever its value: `null` must not pass for absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl Header {
    fn read(encoded: &str) -> Result<Self> {
        if encoded.len() > MAX_HEADER_LEN {
            return Err(Error::TooLong {
                what: "the JWE header",
                found: encoded.len(),
                limit: MAX_HEADER_LEN,
            });
        }
        let header: Self = serde_json::from_slice(&decode(
            encoded,
            "the protected header must be base64url without padding",
        )?)
        .map_err(Error::Header)?;
        for (parameter, found, expected) in [("alg", &header.alg, ALG), ("enc", &header.enc, ENC)] {
            if found != expected {
                return Err(Error::Unsupported { parameter, found: found.clone(), expected });
            }
        }
        // Compression before encryption tells about the plaintext through the length, and can be a bomb.
        for (parameter, found) in [("zip", header.zip), ("crit", header.crit)] {
            if found {
                return Err(Error::Unsupported {
                    parameter,
                    found: "set".to_owned(),
                    expected: "its absence",
                });
            }
        }
        Ok(header)
    }

    fn key_encryption_key(&self, shared_secret: &[u8]) -> Result<Zeroizing<[u8; KEY_LEN]>> {
        let party_u =
            decode(self.apu.as_deref().unwrap_or_default(), "apu must be base64url without padding")?;
        let party_v =
            decode(self.apv.as_deref().unwrap_or_default(), "apv must be base64url without padding")?;
        Ok(concat_kdf(shared_secret, ALG, &party_u, &party_v, KEY_BITS))
    }
}

fn decode(text: &str, wrong: &'static str) -> Result<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Error::Form(wrong))
}

/// Decodes a part whose length the algorithms fix.
fn decode_exact<const N: usize>(text: &str, wrong: &'static str) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
        Ok(len) if len == N => Ok(bytes),
        _ => Err(Error::Form(wrong)),
    }
}

/// A content key wrapped for its recipient, and the header that says how.
struct WrappedKey {
    header: Vec<u8>,
    key: Vec<u8>,
}

/// Seals `plaintext` to the owner of `to`, in compact serialisation (RFC 7516 section 7.1).
///
/// # Errors
/// If the plaintext is longer than [`MAX_PLAINTEXT_LEN`].
pub fn encrypt(to: &Jwk, plaintext: &[u8], rng: &mut impl CryptoRng) -> Result<String> {
    seal(to, plaintext, rng).map(|jwe| jwe.compact())
}

/// Seals `plaintext` to the owner of `to`: ECDH-ES+A256KW for an EC key, RSA-OAEP-256 for an RSA key.
///
/// # Errors
/// If the plaintext is longer than [`MAX_PLAINTEXT_LEN`].
pub fn seal(to: &Jwk, plaintext: &[u8], rng: &mut impl CryptoRng) -> Result<Jwe> {
    if plaintext.len() > MAX_PLAINTEXT_LEN {
        return Err(Error::TooLong {
            what: "the plaintext",
            found: plaintext.len(),
            limit: MAX_PLAINTEXT_LEN,
        });
    }
    let mut content_key = Zeroizing::new([0; KEY_LEN]);
    rng.fill_bytes(content_key.as_mut_slice());
    let mut iv = [0; IV_LEN];
    rng.fill_bytes(&mut iv);

    let wrapped = match (&to.0, to.curve()) {
        (Key::Rsa(key), _) => wrap_rsa(key, &content_key, rng)?,
        (_, Some(curve)) => wrap_ec(to, curve, &content_key, rng)?,
        (_, None) => return Err(Error::Encrypt),
    };
    let protected = URL_SAFE_NO_PAD.encode(&wrapped.header);

    // Room for the tag from the start: growing would leave a copy of the plaintext behind.
    let mut sealed = Zeroizing::new(Vec::with_capacity(plaintext.len() + TAG_LEN));
    sealed.extend_from_slice(plaintext);
    Aes256Gcm::new((&*content_key).into())
        .encrypt_in_place((&iv).into(), protected.as_bytes(), &mut *sealed)
        .map_err(|_| Error::Encrypt)?;
    let (ciphertext, tag) = sealed.split_at(plaintext.len());
    Ok(Jwe {
        protected,
        encrypted_key: URL_SAFE_NO_PAD.encode(&wrapped.key),
        iv: URL_SAFE_NO_PAD.encode(iv),
        ciphertext: URL_SAFE_NO_PAD.encode(ciphertext),
        tag: URL_SAFE_NO_PAD.encode(tag),
    })
}

/// RFC 7518 section 4.6, with a key pair made for this message.
fn wrap_ec(
    to: &Jwk,
    curve: Curve,
    content_key: &[u8; KEY_LEN],
    rng: &mut impl CryptoRng,
) -> Result<WrappedKey> {
    let ephemeral = EphemeralKey::generate(curve, rng);
    let header = Written { alg: ALG, enc: ENC, epk: Some(ephemeral.public_jwk()) };
    let key_encryption_key = concat_kdf(&ephemeral.shared_secret(to)?, ALG, &[], &[], KEY_BITS);
    let mut key = vec![0; WRAPPED_KEY_LEN];
    KwAes256::new((&*key_encryption_key).into())
        .wrap_key(content_key.as_slice(), &mut key)
        .map_err(|_| Error::Encrypt)?;
    Ok(WrappedKey { header: serde_json::to_vec(&header).map_err(Error::Header)?, key })
}

/// RFC 7518 section 4.3: OAEP and MGF1 with SHA-256.
fn wrap_rsa(
    to: &rsa::PublicKey,
    content_key: &[u8; KEY_LEN],
    rng: &mut impl CryptoRng,
) -> Result<WrappedKey> {
    let header = Written { alg: ALG_RSA, enc: ENC, epk: None };
    let key =
        to.encrypt(rng, rsa::Oaep::<Sha256>::new(), content_key.as_slice()).map_err(|_| Error::Encrypt)?;
    Ok(WrappedKey { header: serde_json::to_vec(&header).map_err(Error::Header)?, key })
}

impl EphemeralKey {
    /// Opens a JWE in compact serialisation that is sealed to this key (RFC 7516 section 5.2).
    ///
    /// # Errors
    /// If the message is too long, malformed, of another algorithm suite, sealed to another key, or altered.
    pub fn decrypt(&self, jwe: &str) -> Result<Zeroizing<Vec<u8>>> {
        if jwe.len() > MAX_COMPACT_LEN {
            return Err(Error::TooLong { what: "the JWE", found: jwe.len(), limit: MAX_COMPACT_LEN });
        }
        let mut parts = jwe.split('.');
        let (Some(protected), Some(wrapped_key), Some(iv), Some(ciphertext), Some(tag), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Error::Form("the compact serialisation has five parts, divided by dots"));
        };
        let header = Header::read(protected)?;
        let wrapped_key: [u8; WRAPPED_KEY_LEN] =
            decode_exact(wrapped_key, "the encrypted key must be base64url of 40 bytes")?;
        let iv: [u8; IV_LEN] = decode_exact(iv, "the initialisation vector must be base64url of 12 bytes")?;
        let tag: [u8; TAG_LEN] = decode_exact(tag, "the authentication tag must be base64url of 16 bytes")?;
        let ciphertext = decode(ciphertext, "the ciphertext must be base64url without padding")?;

        let shared_secret = self.shared_secret(&header.epk)?;
        let key_encryption_key = header.key_encryption_key(&shared_secret)?;
        let mut content_key = Zeroizing::new([0; KEY_LEN]);
        KwAes256::new((&*key_encryption_key).into())
            .unwrap_key(&wrapped_key, content_key.as_mut_slice())
            .map_err(|_| Error::Decrypt)?;

        let mut plaintext = Zeroizing::new(ciphertext);
        plaintext.extend_from_slice(&tag);
        Aes256Gcm::new((&*content_key).into())
            .decrypt_in_place((&iv).into(), protected.as_bytes(), &mut *plaintext)
            .map_err(|_| Error::Decrypt)?;
        Ok(plaintext)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::ThreadRng;
    use rsa::traits::PublicKeyParts as _;

    use super::*;

    // Keys and messages made by jwcrypto 1.6.1 (Python); the APU_APV ones name the parties Alice and Bob.
    const P256_D: &str = "965r55_RGTmvjBWLwdJ3jDjJIQcw3PIALD_2sT_GFQ0";
    const P256: &str = "eyJhbGciOiJFQ0RILUVTK0EyNTZLVyIsImVuYyI6IkEyNTZHQ00iLCJlcGsiOnsiY3J2IjoiUC0yNTYiLCJrdHkiOiJFQyIsIngiOiJnUzJCd3N4MWVUdmw5QzdfWERFcTd3dkUyOFJwZFBKb21RNGtEc05aMEtNIiwieSI6IlJHS2ExYmpQZllYeHNPd0c0SXRjQnUtUVBYd0hyZjJvR1pNTmQwcU9ENk0ifX0.3K51v1opbR2cjGL8id9S9dCniZGg18Z_0kXFts-uF9UaVSLGgaCjyA.EplBTTPSnvgy7RYP.-2BK3hrKlp2WjOe7Hhssy8ndaw.9erb_EdBSB3VEwrJZOcHGA";
    const P256_APU_APV: &str = "eyJhbGciOiJFQ0RILUVTK0EyNTZLVyIsImFwdSI6IlFXeHBZMlUiLCJhcHYiOiJRbTlpIiwiZW5jIjoiQTI1NkdDTSIsImVwayI6eyJjcnYiOiJQLTI1NiIsImt0eSI6IkVDIiwieCI6Ik10OGFzM3JCUzZkWDFGRTMzOHByN0V5QmJCMjVuZG5ueEJzaWdLWW5QNEEiLCJ5IjoiSnROMGpHTmFwaHB6S2FqOE5zVEt1bnUwaXU1ZGxnWEJwdTFYV1lXc1g0MCJ9fQ.606Ia3ILgG97aGntVe0yuk16ryp4Hh14Slgxw-rvfyg8oN3UHZASYw.kqvMb7MmP3AcPrGO.ucu7AIt3v2pCvzTWr8OyMmP3yQ.Ah7ZNYIYOgmRb-T6MxOonA";
    const P384_D: &str = "LnHfEJdVBD48znNiCaLIB4pimP61ObiNn6bgOVSO77kzUg9ENkoIQ_4_yFKzxpzn";
    const P384: &str = "eyJhbGciOiJFQ0RILUVTK0EyNTZLVyIsImVuYyI6IkEyNTZHQ00iLCJlcGsiOnsiY3J2IjoiUC0zODQiLCJrdHkiOiJFQyIsIngiOiJENDhiNDFYUndrM3R6emxuOVhTTndCS3o1bE55alBzMFYzaWhLTzBJaHhDejNSc1lzbm1LWjdXb0RMaTF4TVM0IiwieSI6Ijk5cDhSTG1wSVpvWHc5NzE1Wi1jdERKMzFqdE1KTTcxeV9QcXZRTHAtNnM4YmJUMG50NUs2MmpVYTRiN2RzY1kifX0.mHcsUU31yhOyNh284ertLxJS_kUoAMA286beZzjrzPKt9IuGEXcpQg.A1YUrEB4w18IYK51.T6moDGXeF8g05_yzVTJCIy7UvQ.0ELI95eHsZtnY2Zb-G1EfA";
    const P384_APU_APV: &str = "eyJhbGciOiJFQ0RILUVTK0EyNTZLVyIsImFwdSI6IlFXeHBZMlUiLCJhcHYiOiJRbTlpIiwiZW5jIjoiQTI1NkdDTSIsImVwayI6eyJjcnYiOiJQLTM4NCIsImt0eSI6IkVDIiwieCI6ImN5QllPNmRpUkxTXzQ4TUJHWVVVMzBjUHpraEU2VTVGMW1aTjlUSDRzbF9YNDI3UmVRSHRmZ0s3TGgybjFIb3ciLCJ5IjoiVFRMZEI1cmhMMmY0VDlvNFY4RTE1YlRuV004U1Q3RDNqeTA1cFkxSFdTeWJ4MW8yOGtHUjNvNm10TzUxZk9CSSJ9fQ.B8UVzXf2shejgsaEjPWYJQWtIakLkfheMNRGz-1167oovn2POvruCA.xcgOP0KU1oognrOR.5iAd-8QLUQMe4QyBsntsxzrYJw.xB_asV2TnNcaHKcr44V42A";

    fn key(curve: Curve, d: &str) -> EphemeralKey {
        EphemeralKey::from_private_bytes(curve, &URL_SAFE_NO_PAD.decode(d).unwrap())
    }

    fn fresh() -> (EphemeralKey, String, ThreadRng) {
        let mut rng = rand::rng();
        let key = EphemeralKey::generate(Curve::P256, &mut rng);
        let jwe = encrypt(key.public_jwk(), b"secret", &mut rng).unwrap();
        (key, jwe, rng)
    }

    /// The message with its header's JSON text edited; the tag no longer fits, but the header is judged first.
    fn with_header(jwe: &str, edit: impl Fn(String) -> String) -> String {
        let (header, rest) = jwe.split_once('.').unwrap();
        let json = String::from_utf8(URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
        let edited = edit(json.clone());
        assert_ne!(edited, json, "the edit changed nothing");
        format!("{}.{rest}", URL_SAFE_NO_PAD.encode(edited))
    }

    fn refusal(key: &EphemeralKey, jwe: &str) -> String {
        match key.decrypt(jwe).unwrap_err() {
            Error::Header(e) => e.to_string(),
            other => other.to_string(),
        }
    }

    #[test]
    fn opens_messages_of_another_implementation() {
        let p256 = key(Curve::P256, P256_D);
        let p384 = key(Curve::P384, P384_D);
        for (key, jwe, secret) in [
            (&p256, P256, "the secret of P-256"),
            (&p256, P256_APU_APV, "the secret of P-256"),
            (&p384, P384, "the secret of P-384"),
            (&p384, P384_APU_APV, "the secret of P-384"),
        ] {
            assert_eq!(key.decrypt(jwe).unwrap().as_slice(), secret.as_bytes());
        }
    }

    #[test]
    fn opens_what_it_sealed_at_every_size() {
        let mut rng = rand::rng();
        for curve in [Curve::P256, Curve::P384, Curve::P521] {
            let key = EphemeralKey::generate(curve, &mut rng);
            for len in [0, 1, 15, 16, 17, MAX_PLAINTEXT_LEN] {
                let plaintext = vec![0xa5; len];
                let jwe = encrypt(key.public_jwk(), &plaintext, &mut rng).unwrap();
                assert_eq!(key.decrypt(&jwe).unwrap().as_slice(), plaintext, "{curve} {len}");
            }
        }
    }

    #[test]
    fn seals_the_same_text_differently_each_time() {
        let (key, first, mut rng) = fresh();
        let second = encrypt(key.public_jwk(), b"secret", &mut rng).unwrap();
        for (a, b) in first.split('.').zip(second.split('.')) {
            assert_ne!(a, b);
        }
    }

    #[test]
    fn the_flattened_form_has_the_parts_of_the_compact_one_and_a_header_in_cocos_order() {
        let (key, _, mut rng) = fresh();
        let jwe = seal(key.public_jwk(), b"secret", &mut rng).unwrap();
        let json = serde_json::to_value(&jwe).unwrap();
        let parts = ["protected", "encrypted_key", "iv", "ciphertext", "tag"];
        let joined = parts.map(|part| json[part].as_str().unwrap()).join(".");
        assert_eq!(joined, jwe.compact());
        assert_eq!(json.as_object().unwrap().len(), parts.len());
        let header = URL_SAFE_NO_PAD.decode(json["protected"].as_str().unwrap()).unwrap();
        let header = String::from_utf8(header).unwrap();
        let start = r#"{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":{"crv":"P-256","kty":"EC","x":""#;
        assert!(header.starts_with(start), "{header}");
    }

    #[test]
    fn seals_to_an_rsa_key_so_that_its_owner_can_open_it() {
        let mut rng = rand::rng();
        let owner = rsa::PrivateKey::new(&mut rng, 2048).unwrap();
        let public = owner.as_public_key();
        let jwk = Jwk::from_rsa(&public.n_bytes(), &public.e_bytes()).unwrap();
        let jwe = encrypt(&jwk, b"secret", &mut rng).unwrap();
        let parts: Vec<_> = jwe.split('.').collect();
        let bytes = |index: usize| URL_SAFE_NO_PAD.decode(parts[index]).unwrap();

        assert_eq!(bytes(0), br#"{"alg":"RSA-OAEP-256","enc":"A256GCM"}"#);
        let content_key = owner.decrypt(rsa::Oaep::<Sha256>::new(), &bytes(1)).unwrap();
        let mut text = [bytes(3), bytes(4)].concat();
        let iv: [u8; IV_LEN] = bytes(2).try_into().unwrap();
        Aes256Gcm::new_from_slice(&content_key)
            .unwrap()
            .decrypt_in_place((&iv).into(), parts[0].as_bytes(), &mut text)
            .unwrap();
        assert_eq!(text, b"secret");
    }

    #[test]
    fn refuses_a_message_for_another_key() {
        let (_, jwe, mut rng) = fresh();
        let other = EphemeralKey::generate(Curve::P256, &mut rng);
        assert!(matches!(other.decrypt(&jwe), Err(Error::Decrypt)));
        let other_curve = EphemeralKey::generate(Curve::P384, &mut rng);
        assert!(matches!(other_curve.decrypt(&jwe), Err(Error::KeyMismatch { .. })));
    }

    #[test]
    fn refuses_a_change_of_any_byte() {
        let (key, jwe, _) = fresh();
        let parts: Vec<_> = jwe.split('.').collect();
        for (index, part) in parts.iter().enumerate().skip(1) {
            let bytes = URL_SAFE_NO_PAD.decode(part).unwrap();
            for position in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[position] ^= 1;
                let flipped = URL_SAFE_NO_PAD.encode(flipped);
                let mut changed = parts.clone();
                changed[index] = &flipped;
                assert!(matches!(key.decrypt(&changed.join(".")), Err(Error::Decrypt)), "{index} {position}");
            }
        }
    }

    #[test]
    fn refuses_an_altered_header() {
        let (key, jwe, _) = fresh();
        // A member that nobody reads: only the authentication of the header notices it.
        let altered = with_header(&jwe, |json| json.replacen('{', "{\"kid\":\"x\",", 1));
        assert!(matches!(key.decrypt(&altered), Err(Error::Decrypt)));
        // Bound through the key derivation.
        let altered = with_header(&jwe, |json| json.replacen('{', "{\"apu\":\"QQ\",", 1));
        assert!(matches!(key.decrypt(&altered), Err(Error::Decrypt)));
    }

    #[test]
    fn refuses_every_other_algorithm() {
        let (key, jwe, _) = fresh();
        for alg in
            ["ECDH-ES", "ECDH-ES+A128KW", "dir", "A256KW", "RSA-OAEP-256", "none", "", "ecdh-es+a256kw"]
        {
            let changed = with_header(&jwe, |json| json.replace("ECDH-ES+A256KW", alg));
            assert!(refusal(&key, &changed).contains("\"alg\""), "{alg}: {}", refusal(&key, &changed));
        }
        for enc in ["A128GCM", "A256CBC-HS512", "ECDH-ES+A256KW", ""] {
            let changed = with_header(&jwe, |json| json.replace("A256GCM", enc));
            assert!(refusal(&key, &changed).contains("\"enc\""), "{enc}: {}", refusal(&key, &changed));
        }
    }

    #[test]
    fn refuses_compression_and_critical_extensions() {
        let (key, jwe, _) = fresh();
        for member in
            ["\"zip\":\"DEF\"", "\"zip\":null", "\"crit\":[]", "\"crit\":[\"exp\"]", "\"crit\":null"]
        {
            let changed = with_header(&jwe, |json| json.replacen('{', &format!("{{{member},"), 1));
            assert!(refusal(&key, &changed).contains("its absence"), "{member}: {}", refusal(&key, &changed));
        }
    }

    #[test]
    fn refuses_an_ephemeral_key_off_the_curve() {
        let (key, jwe, _) = fresh();
        let changed = with_header(&jwe, |json| {
            let mut header: serde_json::Value = serde_json::from_str(&json).unwrap();
            header["epk"]["y"] = header["epk"]["x"].clone();
            header.to_string()
        });
        assert!(refusal(&key, &changed).contains("not a point of the curve"), "{}", refusal(&key, &changed));
    }

    #[test]
    fn refuses_a_header_member_given_twice() {
        let (key, jwe, _) = fresh();
        let changed = with_header(&jwe, |json| json.replacen('{', "{\"alg\":\"ECDH-ES+A256KW\",", 1));
        assert!(refusal(&key, &changed).contains("duplicate field"), "{}", refusal(&key, &changed));
    }

    #[test]
    fn refuses_malformed_messages() {
        let (key, jwe, _) = fresh();
        let parts: Vec<_> = jwe.split('.').collect();
        for (index, bad) in
            [(0, "e30"), (0, "!"), (1, "AAAA"), (1, ""), (2, "AAAA"), (3, "A=="), (4, ""), (4, "AAAA")]
        {
            let mut changed = parts.clone();
            changed[index] = bad;
            let changed = changed.join(".");
            assert!(matches!(key.decrypt(&changed), Err(Error::Form(_) | Error::Header(_))), "{index} {bad}");
        }
        for text in
            ["", ".", "....", "a.b.c.d", &format!("{jwe}."), &format!("{jwe}.AAAA"), &jwe.replace('.', "")]
        {
            assert!(key.decrypt(text).is_err(), "{text}");
        }
        for len in 0..jwe.len() {
            assert!(key.decrypt(&jwe[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn bounds_what_it_reads_and_seals() {
        let (key, jwe, mut rng) = fresh();
        let long = format!("{jwe}{}", "A".repeat(MAX_COMPACT_LEN));
        assert!(refusal(&key, &long).contains("the JWE has"), "{}", refusal(&key, &long));
        let long_header = with_header(&jwe, |json| {
            json.replacen('{', &format!("{{\"kid\":\"{}\",", "k".repeat(MAX_HEADER_LEN)), 1)
        });
        assert!(
            refusal(&key, &long_header).contains("the JWE header has"),
            "{}",
            refusal(&key, &long_header)
        );
        let long_text = vec![0; MAX_PLAINTEXT_LEN + 1];
        assert!(matches!(encrypt(key.public_jwk(), &long_text, &mut rng), Err(Error::TooLong { .. })));
    }
}
