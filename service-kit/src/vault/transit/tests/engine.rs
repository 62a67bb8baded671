//! A transit engine for tests that can be told to lie.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::{TransitKey, TransitKeyError, TransitUri};
use crate::environment::Environment;
use crate::private_file;
use crate::vault::Vault;

pub const TOKEN: &str = "s.SECRETtoken";
pub const SECRET_ID: &str = "SECRETid";

/// Makes another answer of an operation's honest one.
pub type Twist = Box<dyn Fn(&str, &Value, (u16, Value)) -> Response + Send + Sync>;

/// An engine with one key, which it lacks: it remembers what it was given.
pub struct Engine {
    pub address: SocketAddr,
    pub directory: TempDir,
    pub token: Mutex<String>,
    pub wrapped: Mutex<Vec<(u32, Value, Value)>>,
    /// What the HMACs of this key begin with.
    pub secret: Mutex<u8>,
    /// The newest version of the key, and the oldest that opens.
    pub versions: Mutex<(u32, u32)>,
    /// What it was given for a token.
    pub logins: Mutex<Vec<Value>>,
    pub twist: Mutex<Option<Twist>>,
}

impl Engine {
    pub async fn start() -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        private_file::create(&directory.path().join("token"), TOKEN.as_bytes()).unwrap();
        let engine = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            directory,
            token: Mutex::new(TOKEN.to_owned()),
            wrapped: Mutex::default(),
            secret: Mutex::new(1),
            versions: Mutex::new((1, 1)),
            logins: Mutex::default(),
            twist: Mutex::default(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&engine));
        tokio::spawn(async { axum::serve(listener, router).await });
        engine
    }

    pub fn twist(&self, twist: impl Fn(&str, &Value, (u16, Value)) -> Response + Send + Sync + 'static) {
        *self.twist.lock().unwrap() = Some(Box::new(twist));
    }

    pub fn token_file(&self) -> PathBuf {
        self.directory.path().join("token")
    }

    pub fn uri(&self) -> TransitUri {
        uri(self.address, &self.token_file())
    }

    pub async fn open(&self) -> Result<TransitKey, TransitKeyError> {
        TransitKey::open(self.uri()).await
    }

    pub async fn vault(&self) -> Vault {
        Vault::new(Arc::new(self.open().await.unwrap()), Vec::new(), Environment::system())
    }

    /// A role in place of the token.
    pub fn role(&self) -> TransitUri {
        let file = self.directory.path().join("secret-id");
        std::fs::write(&file, SECRET_ID).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let (address, file) = (self.address, file.display());
        format!("transit+http://{address}/transit/keys/a?role-id=role&secret-id-file={file}").parse().unwrap()
    }

    fn log_in(&self, body: &Value) -> (u16, Value) {
        self.logins.lock().unwrap().push(body.clone());
        if *body == json!({ "role_id": "role", "secret_id": SECRET_ID }) {
            return (200, json!({ "auth": { "client_token": *self.token.lock().unwrap() } }));
        }
        (400, json!({ "errors": ["invalid role or secret ID"] }))
    }

    fn honest(&self, operation: &str, body: &Value) -> (u16, Value) {
        let data = match operation {
            "keys" => json!({
                "type": "aes256-gcm96", "derived": false, "exportable": false, "allow_plaintext_backup": false,
                "min_decryption_version": self.versions.lock().unwrap().1,
            }),
            "encrypt" => {
                let mut wrapped = self.wrapped.lock().unwrap();
                let version = self.versions.lock().unwrap().0;
                wrapped.push((version, body["plaintext"].clone(), body["associated_data"].clone()));
                json!({ "ciphertext": self.ciphertext(version, wrapped.len()) })
            }
            "decrypt" => match body["batch_input"].as_array() {
                None => match self.decrypt(body) {
                    Some(opened) => opened,
                    None => return (400, json!({ "errors": ["cipher: message authentication failed"] })),
                },
                Some(items) => {
                    let opened: Option<Vec<Value>> = items.iter().map(|item| self.decrypt(item)).collect();
                    let Some(opened) = opened else { return (400, json!({ "errors": [] })) };
                    json!({ "batch_results": opened })
                }
            },
            "hmac" => {
                let mac = STANDARD.encode([*self.secret.lock().unwrap(); 32]);
                json!({ "hmac": format!("vault:v{}:{mac}", body["key_version"]) })
            }
            other => unreachable!("{other}"),
        };
        (200, json!({ "data": data }))
    }

    /// No two engines make the same.
    fn ciphertext(&self, version: u32, number: usize) -> String {
        format!("vault:v{version}:{}", STANDARD.encode(format!("{} {number}", self.address)))
    }

    fn decrypt(&self, item: &Value) -> Option<Value> {
        let wrapped = self.wrapped.lock().unwrap();
        let mut numbered = wrapped.iter().zip(1..);
        let ((version, plaintext, context), _) = numbered
            .find(|((version, ..), number)| item["ciphertext"] == *self.ciphertext(*version, *number))?;
        let opens = *version >= self.versions.lock().unwrap().1 && *context == item["associated_data"];
        opens.then(|| json!({ "plaintext": plaintext }))
    }
}

pub fn uri(address: SocketAddr, token: &Path) -> TransitUri {
    format!("transit+http://{address}/transit/keys/a?token-file={}", token.display()).parse().unwrap()
}

async fn answer(State(engine): State<Arc<Engine>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let path = head.uri.path();
    let operation =
        path.strip_prefix("/v1/transit/").and_then(|path| path.strip_suffix("/a")).unwrap_or("login");
    let honest = if path == "/v1/auth/approle/login" {
        engine.log_in(&body)
    } else if head.headers["X-Vault-Token"] == **engine.token.lock().unwrap() {
        engine.honest(operation, &body)
    } else {
        (403, json!({ "errors": ["permission denied"] }))
    };
    match &*engine.twist.lock().unwrap() {
        Some(twist) => twist(operation, &body, honest),
        None => plain(honest),
    }
}

pub fn plain((status, body): (u16, Value)) -> Response {
    text(status, body.to_string())
}

pub fn text(status: u16, body: impl Into<Body>) -> Response {
    (StatusCode::from_u16(status).unwrap(), body.into()).into_response()
}
