//! Operators who come over TCP: by certificate or by token.

use std::sync::Arc;

use attestation_service::admin::credentials::{AUDIENCE, Credentials, Grant};
use attestation_service::admin::identity::{Operator, Role};
use attestation_service::admin::{remote_router, router};
use attestation_service::serve::{self, ClientCertificate};
use axum::http::{Method, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use p384::elliptic_curve::Generate as _;
use p384::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};

use crate::support::{Answer, Home, Instance, NOW, process, request, send};

/// The listener's side, with a token key and one subject that has a role.
struct Remote {
    instance: Instance,
    credentials: Arc<Credentials>,
    key: EncodingKey,
    /// Of certificates.
    expiry: i64,
    _home: Home,
}

impl Remote {
    async fn new() -> Self {
        let (instance, home) = Instance::ready().await;
        let secret = p384::SecretKey::generate_from_rng(&mut rand::rng());
        let public = secret.public_key().to_public_key_pem(LineEnding::LF).unwrap();
        let path = home.path().join("operators.pem");
        std::fs::write(&path, public).unwrap();
        let grants: [Grant; 2] = ["reader=CN=monitoring".parse().unwrap(), "admin=CN=alice".parse().unwrap()];
        let clock = Arc::clone(&instance.service.environment.clock);
        let credentials = Arc::new(Credentials::new(&grants, Some(&path), clock).unwrap());
        let key = EncodingKey::from_ec_der(secret.to_pkcs8_der().unwrap().as_bytes());
        Self { instance, credentials, key, expiry: NOW + 1, _home: home }
    }

    async fn send(&self, subject: Option<&str>, token: Option<&str>, method: Method, path: &str) -> Answer {
        let policy = json!({ "id": "a.rego", "rego": "package attestation\noutput := {\"allow\": true}" });
        let mut request = request(method, path, &policy);
        if let Some(subject) = subject {
            let subject = Some(subject.to_owned());
            let certificate =
                ClientCertificate { uris: Vec::new(), dns: Vec::new(), subject, not_after: self.expiry };
            request.extensions_mut().insert(certificate);
        }
        if let Some(token) = token {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        send(&remote_router(Arc::clone(&self.instance.service), Arc::clone(&self.credentials)), request).await
    }

    fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = json!({ "sub": "bob", "aud": AUDIENCE, "exp": NOW + 60, "roles": ["policy-admin"] });
        change(&mut claims);
        jsonwebtoken::encode(&Header::new(Algorithm::ES384), &claims, &self.key).unwrap()
    }
}

#[tokio::test]
async fn a_certificate_has_the_roles_of_its_subject() {
    let remote = Remote::new().await;
    let read = remote.send(Some("CN=monitoring"), None, Method::GET, "/policies").await;
    assert_eq!(read.status, StatusCode::OK, "{}", read.text());
    let write = remote.send(Some("CN=monitoring"), None, Method::POST, "/policies").await;
    assert_eq!(write.problem(), (403, "role_missing".to_owned()));
    let write = remote.send(Some("CN=alice"), None, Method::POST, "/policies").await;
    assert_eq!(write.status, StatusCode::CREATED, "{}", write.text());
    let log = remote.send(Some("CN=alice"), None, Method::GET, "/audit").await.json();
    assert_eq!(log.as_array().unwrap().last().unwrap()["actor"], "cert:CN=alice");
}

#[tokio::test]
async fn a_certificate_without_a_role_and_no_credentials_at_all_are_refused() {
    let remote = Remote::new().await;
    for subject in ["CN=mallory", "CN=alice,O=Other", "cn=alice", ""] {
        let answer = remote.send(Some(subject), None, Method::GET, "/policies").await;
        assert_eq!(answer.problem(), (403, "admin_subject_unknown".to_owned()), "{subject}");
    }
    let answer = remote.send(None, None, Method::GET, "/policies").await;
    assert_eq!(answer.problem(), (401, "admin_credentials_missing".to_owned()));
}

#[tokio::test]
async fn a_certificate_that_expires_while_it_is_connected_is_refused() {
    let mut remote = Remote::new().await;
    remote.expiry = NOW;
    let answer = remote.send(Some("CN=alice"), None, Method::GET, "/policies").await;
    assert_eq!(answer.problem(), (401, "certificate_expired".to_owned()));
}

#[tokio::test]
async fn a_token_has_the_roles_that_it_says() {
    let remote = Remote::new().await;
    let token = remote.token(|_| {});
    let write = remote.send(None, Some(&token), Method::POST, "/policies").await;
    assert_eq!(write.status, StatusCode::CREATED, "{}", write.text());
    let other = remote.send(None, Some(&token), Method::POST, "/resources").await;
    assert_eq!(other.problem(), (403, "role_missing".to_owned()));
    let log = remote.send(None, Some(&token), Method::GET, "/audit").await.json();
    let last = log.as_array().unwrap().last().unwrap();
    assert_eq!((&last["actor"], &last["action"]), (&json!("jwt:bob"), &json!("policy.add")));
}

#[tokio::test]
async fn a_token_of_other_times_audiences_keys_and_shapes_is_refused() {
    let remote = Remote::new().await;
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 9] = [
        ("expired", |claims| claims["exp"] = json!(NOW)),
        ("not yet valid", |claims| claims["nbf"] = json!(NOW + 1)),
        ("valid for too long", |claims| claims["exp"] = json!(NOW + 24 * 3600 + 1)),
        ("for somebody else", |claims| claims["aud"] = json!("redoubt")),
        ("for nobody", |claims| drop(claims.as_object_mut().unwrap().remove("aud"))),
        ("without an end", |claims| drop(claims.as_object_mut().unwrap().remove("exp"))),
        ("of nobody", |claims| drop(claims.as_object_mut().unwrap().remove("sub"))),
        ("of no name", |claims| claims["sub"] = json!("a\nb")),
        ("with a role of its own making", |claims| claims["roles"] = json!(["god"])),
    ];
    for (what, change) in changes {
        let token = remote.token(change);
        let answer = remote.send(None, Some(&token), Method::GET, "/policies").await;
        assert_eq!(answer.problem(), (401, "admin_token_invalid".to_owned()), "{what}");
    }
    let foreign = Remote::new().await.token(|_| {});
    for token in [foreign.as_str(), "", "a.b.c"] {
        // A certificate does not make up for it.
        let answer = remote.send(Some("CN=alice"), Some(token), Method::GET, "/policies").await;
        assert_eq!(answer.problem(), (401, "admin_token_invalid".to_owned()), "{token}");
    }
}

#[tokio::test]
async fn an_attestation_token_is_no_admin_token() {
    let remote = Remote::new().await;
    let token = remote.instance.token(&crate::support::ephemeral_key()).await;
    let answer = remote.send(None, Some(&token), Method::GET, "/policies").await;
    assert_eq!(answer.problem(), (401, "admin_token_invalid".to_owned()));
}

#[tokio::test]
async fn the_admin_socket_serves_its_own_user_and_nobody_else() {
    let (instance, home) = Instance::ready().await;
    let me = rustix::process::geteuid().as_raw();
    for (uid, status) in [(me, 200_u16), (me + 1, 403)] {
        let path = home.path().join(format!("admin-{uid}.sock"));
        let listener = serve::bind_admin(&path).await.unwrap();
        let owner = Operator { name: format!("uid:{uid}"), roles: vec![Role::Admin] };
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        tokio::spawn(serve::unix(listener, router(Arc::clone(&instance.service)), uid, owner, stopped));
        let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        let request = process::request(Method::GET, "/policies", &[], &json!(null));
        let (answer, text) = process::exchange(stream, request).await.unwrap();
        assert_eq!(answer.status(), status, "{text}");
    }
}
