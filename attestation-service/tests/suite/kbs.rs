//! Trustee's key-broker protocol, as stock guest components speak it.

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, SET_COOKIE};
use axum::http::{Method, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use evidence::hash::HashAlgorithm;
use jose::{Curve, EphemeralKey};
use serde_json::{Value, json};

use crate::support::mint::Mint;
use crate::support::{Answer, Instance, SECRET, request, send};

fn problem(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// A guest with a key and a session.
struct Guest {
    key: EphemeralKey,
    nonce: String,
    cookie: String,
}

fn tee_pubkey(key: &EphemeralKey) -> Value {
    let mut jwk = json!(key.public_jwk());
    jwk["alg"] = json!("ECDH-ES+A256KW");
    jwk
}

/// What the guest's evidence signs: SHA-384 of the canonical JSON of the runtime data.
fn report_data(key: &Value, nonce: &str, additional: &str) -> [u8; 64] {
    // serde_json sorts the members of an object made by `json!`, and the values are plain text.
    let canonical =
        json!({ "additional-evidence": additional, "nonce": nonce, "tee-pubkey": key }).to_string();
    let mut data = [0; 64];
    data[..48].copy_from_slice(HashAlgorithm::Sha384.digest(canonical.as_bytes()).as_bytes());
    data
}

impl Guest {
    async fn new(instance: &Instance, curve: Curve) -> Self {
        let body = json!({ "version": "0.4.0", "tee": "cca", "extra-params": { "supported-hash-algorithms": ["sha384"] } });
        let answer = send(&instance.public, request(Method::POST, "/kbs/v0/auth", &body)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let cookie = answer.headers[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
        let nonce = answer.json()["nonce"].as_str().unwrap().to_owned();
        assert_eq!(STANDARD.decode(&nonce).unwrap().len(), 32);
        Self { key: EphemeralKey::generate(curve, &mut rand::rng()), nonce, cookie }
    }

    fn mint(&self) -> Mint {
        Mint::new(report_data(&tee_pubkey(&self.key), &self.nonce, ""))
    }

    fn attestation(&self, mint: &Mint) -> Value {
        json!({
            "runtime-data": { "nonce": self.nonce, "tee-pubkey": tee_pubkey(&self.key) },
            "tee-evidence": { "primary_evidence": { "token": mint.token() }, "additional_evidence": "" },
        })
    }

    async fn send(&self, instance: &Instance, body: &Value) -> Answer {
        let mut request = request(Method::POST, "/kbs/v0/attest", body);
        request.headers_mut().insert(COOKIE, self.cookie.parse().unwrap());
        send(&instance.public, request).await
    }

    async fn attest(&self, instance: &Instance) -> Answer {
        self.send(instance, &self.attestation(&self.mint())).await
    }

    async fn fetch(&self, instance: &Instance, path: &str) -> Answer {
        let request = Request::get(path).header(COOKIE, &self.cookie).body(Body::empty()).unwrap();
        send(&instance.public, request).await
    }

    fn open(&self, sealed: &Answer) -> Vec<u8> {
        assert_eq!(sealed.status, StatusCode::OK, "{}", sealed.text());
        let jwe = sealed.json();
        let parts = ["protected", "encrypted_key", "iv", "ciphertext", "tag"];
        let compact = parts.map(|part| jwe[part].as_str().unwrap()).join(".");
        self.key.decrypt(&compact).unwrap().to_vec()
    }
}

const KEY: &str = "/kbs/v0/resource/acme/disk/key";

/// An instance with `acme/disk/key`, registered as with Trustee and bound to a policy.
async fn ready() -> (Instance, crate::support::Home) {
    let (instance, home) = Instance::ready().await;
    let mut request = Request::post(KEY).body(Body::from(SECRET)).unwrap();
    use attestation_service::admin::identity::{Operator, Role};
    request.extensions_mut().insert(Operator { name: "test".to_owned(), roles: vec![Role::ResourceAdmin] });
    let router = attestation_service::admin::router(std::sync::Arc::clone(&instance.service));
    assert_eq!(send(&router, request).await.status, StatusCode::OK);
    let binding = json!({ "resource": "acme/disk/key", "policy": "oeas/affirming.rego" });
    assert_eq!(instance.admin(Method::POST, "/bindings", &binding).await.status, StatusCode::NO_CONTENT);
    (instance, home)
}

#[tokio::test]
async fn a_guest_attests_and_fetches_with_its_session_or_its_token() {
    let (instance, _home) = ready().await;
    for curve in [Curve::P256, Curve::P521, Curve::P384] {
        let guest = Guest::new(&instance, curve).await;
        let attested = guest.attest(&instance).await;
        assert_eq!(attested.status, StatusCode::OK, "{}", attested.text());
        assert!(attested.headers[SET_COOKIE].to_str().unwrap().starts_with(&guest.cookie));
        assert_eq!(guest.open(&guest.fetch(&instance, KEY).await), SECRET);

        let token = attested.json()["token"].as_str().unwrap().to_owned();
        let bearer = Request::get(KEY).header(AUTHORIZATION, format!("Bearer {token}"));
        assert_eq!(guest.open(&send(&instance.public, bearer.body(Body::empty()).unwrap()).await), SECRET);
        let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(claims["submods"]["CCA_REALM"]["ear_status"], "affirming");
        assert_eq!(claims["eat_nonce"], URL_SAFE_NO_PAD.encode(STANDARD.decode(&guest.nonce).unwrap()));
    }
}

#[tokio::test]
async fn a_second_attestation_in_a_session_gives_the_same_token_and_no_other() {
    let (instance, _home) = ready().await;
    let guest = Guest::new(&instance, Curve::P256).await;
    let first = guest.attest(&instance).await.json();
    assert_eq!(guest.attest(&instance).await.json(), first);
}

#[tokio::test]
async fn only_version_0_4_0_and_known_environments_are_spoken_to() {
    let (instance, _home) = ready().await;
    for (version, tee, status, code) in [
        ("0.1.1", "cca", 401, "protocol_version_unsupported"),
        ("0.4.1", "cca", 401, "protocol_version_unsupported"),
        ("", "cca", 401, "protocol_version_unsupported"),
        ("0.4.0", "sample", 422, "tee_unsupported"),
        ("0.4.0", "snp", 422, "tee_unsupported"),
    ] {
        let body = json!({ "version": version, "tee": tee, "extra-params": "" });
        let answer = send(&instance.public, request(Method::POST, "/kbs/v0/auth", &body)).await;
        assert_eq!(answer.problem(), problem(status, code), "{version} {tee}");
        assert!(answer.json()["type"].is_string() && answer.json()["detail"].is_string());
    }
}

#[tokio::test]
async fn evidence_for_another_key_or_nonce_is_refused() {
    let (instance, _home) = ready().await;
    let guest = Guest::new(&instance, Curve::P256).await;
    let other = EphemeralKey::generate(Curve::P256, &mut rand::rng());
    let mut exchanged = guest.attestation(&guest.mint());
    exchanged["runtime-data"]["tee-pubkey"] = tee_pubkey(&other);
    assert_eq!(guest.send(&instance, &exchanged).await.problem(), problem(403, "nonce_mismatch"));

    let (guest, other) = (Guest::new(&instance, Curve::P256).await, Guest::new(&instance, Curve::P256).await);
    let mut foreign = guest.attestation(&Mint::new(report_data(&tee_pubkey(&guest.key), &other.nonce, "")));
    foreign["runtime-data"]["nonce"] = json!(other.nonce);
    assert_eq!(guest.send(&instance, &foreign).await.problem(), problem(401, "nonce_mismatch"));
}

#[tokio::test]
async fn a_nonce_is_for_one_attempt_of_its_own_session_and_for_its_time() {
    let (instance, _home) = ready().await;
    let guest = Guest::new(&instance, Curve::P256).await;
    let wrong = guest.attestation(&Mint::new([0; 64]));
    assert_eq!(guest.send(&instance, &wrong).await.problem(), problem(403, "nonce_mismatch"));
    assert_eq!(guest.attest(&instance).await.problem(), problem(401, "session_used"));
    assert_eq!(guest.fetch(&instance, KEY).await.problem(), problem(401, "session_unattested"));

    let guest = Guest::new(&instance, Curve::P256).await;
    let stolen = Guest { cookie: "kbs-session-id=00".to_owned(), ..guest };
    assert_eq!(stolen.attest(&instance).await.problem(), problem(401, "session_unknown"));
    let bare =
        send(&instance.public, request(Method::POST, "/kbs/v0/attest", &stolen.attestation(&stolen.mint())))
            .await;
    assert_eq!(bare.problem(), problem(401, "session_missing"));

    let late = Guest::new(&instance, Curve::P256).await;
    instance.clock.advance(301);
    assert_eq!(late.attest(&instance).await.problem(), problem(401, "session_expired"));
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let (instance, _home) = ready().await;
    let guest = Guest::new(&instance, Curve::P256).await;
    assert_eq!(guest.attest(&instance).await.status, StatusCode::OK);
    instance.clock.advance(300);
    assert_eq!(guest.fetch(&instance, KEY).await.problem(), problem(401, "session_unattested"));
}

#[tokio::test]
async fn a_challenge_of_secgears_interface_is_no_session_here() {
    let (instance, _home) = ready().await;
    let challenge = instance.challenge(&[]).await;
    let (_, session) = challenge.cookie.split_once('=').unwrap();
    let guest = Guest {
        key: EphemeralKey::generate(Curve::P256, &mut rand::rng()),
        nonce: STANDARD.encode(URL_SAFE_NO_PAD.decode(&challenge.text).unwrap()),
        cookie: format!("kbs-session-id={session}"),
    };
    assert_eq!(guest.attest(&instance).await.problem(), problem(401, "session_unknown"));
}

#[tokio::test]
async fn init_data_must_be_what_the_guest_was_launched_with() {
    let (instance, _home) = ready().await;
    let document = "algorithm = \"sha384\"\nversion = \"0.1.0\"\n";
    for (launched, expected) in [(document, StatusCode::OK), ("another", StatusCode::FORBIDDEN)] {
        let guest = Guest::new(&instance, Curve::P256).await;
        let mut mint = guest.mint();
        mint.realm.rpv[..48].copy_from_slice(HashAlgorithm::Sha384.digest(launched.as_bytes()).as_bytes());
        let mut attestation = guest.attestation(&mint);
        attestation["init-data"] = json!({ "format": "toml", "body": document });
        let answer = guest.send(&instance, &attestation).await;
        assert_eq!(answer.status, expected, "{}", answer.text());
        if expected != StatusCode::OK {
            assert_eq!(answer.problem(), problem(403, "init_data_mismatch"));
        }
    }
}

#[tokio::test]
async fn what_is_malformed_costs_no_nonce() {
    let (instance, _home) = ready().await;
    let guest = Guest::new(&instance, Curve::P256).await;
    let good = guest.attestation(&guest.mint());
    for (pointer, value, status, code) in [
        ("/runtime-data/tee-pubkey/alg", json!("RSA1_5"), 400, "tee_key_invalid"),
        ("/runtime-data/tee-pubkey/y", json!("AAAA"), 400, "tee_key_invalid"),
        ("/runtime-data/tee-pubkey", json!({ "kty": "AKP", "alg": "x", "pub": "y" }), 422, "body_invalid"),
        ("/runtime-data", json!(null), 422, "body_invalid"),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert_eq!(guest.send(&instance, &bad).await.problem(), problem(status, code), "{pointer}");
    }
    assert_eq!(guest.send(&instance, &good).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_guest_without_a_session_or_permission_gets_nothing() {
    let (instance, _home) = ready().await;
    let none = send(&instance.public, Request::get(KEY).body(Body::empty()).unwrap()).await;
    assert_eq!(none.problem(), problem(401, "session_missing"));
    let guest = Guest::new(&instance, Curve::P256).await;
    assert_eq!(guest.fetch(&instance, KEY).await.problem(), problem(401, "session_unattested"));
    guest.attest(&instance).await;
    let absent = guest.fetch(&instance, "/kbs/v0/resource/acme/no/thing").await;
    assert_eq!(absent.problem(), problem(404, "resource_unknown"));
    let tricky = guest.fetch(&instance, "/kbs/v0/resource/acme/..%2f/x").await;
    assert_eq!(tricky.problem(), problem(400, "resource_name_invalid"));

    let unbind = json!({ "resource": "acme/disk/key", "policy": "oeas/affirming.rego" });
    instance.admin(Method::DELETE, "/bindings", &unbind).await;
    assert_eq!(guest.fetch(&instance, KEY).await.problem(), problem(403, "resource_policy_missing"));
}

#[tokio::test]
async fn rsa_keys_get_rsa_oaep() {
    let (instance, _home) = ready().await;
    let guest = Guest::new(&instance, Curve::P256).await;
    let mut modulus = vec![0xff; 256];
    modulus[0] = 0x80;
    let key =
        json!({ "alg": "RSA-OAEP-256", "e": "AQAB", "kty": "RSA", "n": URL_SAFE_NO_PAD.encode(modulus) });
    let mint = Mint::new(report_data(&key, &guest.nonce, ""));
    let mut attestation = guest.attestation(&mint);
    attestation["runtime-data"]["tee-pubkey"] = key;
    let attested = guest.send(&instance, &attestation).await;
    assert_eq!(attested.status, StatusCode::OK, "{}", attested.text());
    let sealed = guest.fetch(&instance, KEY).await;
    assert_eq!(sealed.headers[CONTENT_TYPE], "application/json");
    let header = URL_SAFE_NO_PAD.decode(sealed.json()["protected"].as_str().unwrap()).unwrap();
    assert_eq!(header, br#"{"alg":"RSA-OAEP-256","enc":"A256GCM"}"#);
}
