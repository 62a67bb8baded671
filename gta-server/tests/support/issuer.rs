//! An OpenID Connect issuer, as Keycloak or Kubernetes is one, with keys that tests replace and answers that they choose.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use service_kit::oidc::IssuerConfig;
use service_kit::serve;
use service_kit::serve::tls::{Tls, TlsFiles};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What an issuer's tokens are for.
pub const AUDIENCE: &str = "gta";

/// A key that signs tokens.
pub struct SigningKey {
    pub kid: String,
    pair: rcgen::KeyPair,
}

impl SigningKey {
    pub fn new(kid: &str) -> Self {
        Self {
            kid: kid.to_owned(),
            pair: rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(),
        }
    }

    pub fn public(&self) -> Value {
        let point = self.pair.public_key_raw();
        let coordinate = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid,
            "x": coordinate(&point[1..33]), "y": coordinate(&point[33..]) })
    }

    pub fn sign(&self, claims: &Value) -> String {
        let kid = Some(self.kid.clone());
        self.sign_with(&Header { kid, ..Header::new(Algorithm::ES256) }, claims)
    }

    pub fn sign_with(&self, header: &Header, claims: &Value) -> String {
        let key = EncodingKey::from_ec_pem(self.pair.serialize_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(header, claims, &key).unwrap()
    }

    /// The text that a symmetric key would be taken for by who does not look at the algorithm.
    pub fn public_pem(&self) -> String {
        self.pair.public_key_pem()
    }
}

/// How an issuer answers when it is asked for its keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    Honest,
    /// It sends elsewhere, where the keys are.
    Redirecting,
    /// Its document is of another issuer.
    Lying,
    /// Its keys are more than anybody wants to have.
    Endless,
    /// It takes its time.
    Slow,
    /// It leads to keys without TLS.
    Clear,
    Broken,
}

struct Told {
    url: String,
    keys: Vec<Value>,
    mood: Mood,
    /// How often keys were asked for.
    asked: usize,
}

/// A running issuer; it ends with this.
pub struct Issuer {
    pub url: String,
    directory: TempDir,
    told: Arc<Mutex<Told>>,
    _stop: watch::Sender<bool>,
}

impl Issuer {
    /// Starts one with these keys.
    pub async fn start(keys: &[&SigningKey]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("cert.pem"), certified.cert.pem()).unwrap();
        std::fs::write(at("key.pem"), certified.signing_key.serialize_pem()).unwrap();
        let files = TlsFiles { certificate: at("cert.pem"), key: at("key.pem"), client_ca: None };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("https://localhost:{port}/realms/fleet");
        let keys = keys.iter().map(|key| key.public()).collect();
        let told = Arc::new(Mutex::new(Told { url: url.clone(), keys, mood: Mood::Honest, asked: 0 }));
        let router = Router::new()
            .route("/realms/fleet/.well-known/openid-configuration", get(document))
            .route("/keys", get(keys_of))
            .route("/elsewhere", get(set_of))
            .with_state(Arc::clone(&told));
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(serve::public(listener, Arc::new(Tls::load(files).unwrap()), router, stopped));
        Self { url, directory, told, _stop: stop }
    }

    /// What the server is told of it.
    pub fn config(&self) -> IssuerConfig {
        IssuerConfig {
            issuer: self.url.clone(),
            audience: AUDIENCE.to_owned(),
            jwks_file: None,
            ca: Some(self.certificate()),
            groups_claim: Some("groups".to_owned()),
            max_lifetime: 3600,
            refresh_interval: 1,
        }
    }

    /// The file with its certificate.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("cert.pem")
    }

    pub fn publish(&self, keys: &[&SigningKey]) {
        self.told.lock().unwrap().keys = keys.iter().map(|key| key.public()).collect();
    }

    pub fn set_mood(&self, mood: Mood) {
        self.told.lock().unwrap().mood = mood;
    }

    /// How often its keys were asked for.
    pub fn asked(&self) -> usize {
        self.told.lock().unwrap().asked
    }

    /// What its tokens say of `subject` from `now` on, for five minutes.
    pub fn claims(&self, subject: &str, now: i64) -> Value {
        json!({ "iss": self.url, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 300 })
    }
}

async fn document(State(told): State<Arc<Mutex<Told>>>) -> axum::Json<Value> {
    let Told { url, mood, .. } = &*told.lock().unwrap();
    let base = url.strip_suffix("/realms/fleet").unwrap();
    let issuer = if *mood == Mood::Lying { "https://else.example" } else { url };
    let base = if *mood == Mood::Clear { base.replace("https", "http") } else { base.to_owned() };
    axum::Json(json!({ "issuer": issuer, "jwks_uri": format!("{base}/keys"), "grant_types_supported": [] }))
}

async fn keys_of(State(told): State<Arc<Mutex<Told>>>) -> Response {
    let (mood, mut set) = {
        let mut told = told.lock().unwrap();
        told.asked += 1;
        (told.mood, json!({ "keys": told.keys }))
    };
    match mood {
        Mood::Redirecting => return (StatusCode::FOUND, [(LOCATION, "/elsewhere")]).into_response(),
        Mood::Broken => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mood::Endless => set["padding"] = json!("x".repeat(64 * 1024)),
        Mood::Slow => tokio::time::sleep(Duration::from_millis(400)).await,
        Mood::Honest | Mood::Lying | Mood::Clear => {}
    }
    axum::Json(set).into_response()
}

async fn set_of(State(told): State<Arc<Mutex<Told>>>) -> axum::Json<Value> {
    axum::Json(json!({ "keys": told.lock().unwrap().keys }))
}
