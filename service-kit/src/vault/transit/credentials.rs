//! What the server asks for: a token out of a file, or one that it gives for an AppRole.

use std::fmt;
use std::path::PathBuf;

use axum::http::{HeaderValue, StatusCode};
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::client::{Call, Client};
use super::error::TransitKeyError;
use super::json;
use crate::private_file;

/// Where a token comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A file, in which an agent may put another at any moment.
    TokenFile(PathBuf),
    /// A login, which the server is asked for again when a token is over.
    AppRole {
        /// Path of the method.
        mount: String,
        /// Identifier of the role, which is no secret.
        role: String,
        /// File with what is one.
        secret: PathBuf,
    },
}

/// Whose a token is.
impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TokenFile(file) => write!(f, "in {}", file.display()),
            Self::AppRole { .. } => f.write_str("of the AppRole"),
        }
    }
}

/// What is remembered of logins.
#[derive(Default)]
pub struct Logins(Mutex<State>);

#[derive(Default)]
struct State {
    token: Option<HeaderValue>,
    /// What the server did not accept. It is not asked again with the same: after some tries it locks the role out.
    refused: Option<Zeroizing<String>>,
}

#[derive(Serialize)]
struct Login<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

#[derive(Deserialize)]
struct LoggedIn {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    client_token: String,
}

impl Client {
    /// A token; not `refused`, if there is another to be had.
    pub(super) async fn token(&self, refused: Option<&HeaderValue>) -> Result<HeaderValue, TransitKeyError> {
        let (mount, role, file) = match &self.uri().credentials {
            Credentials::TokenFile(file) => {
                let token = as_header(private_file::read(file)?.trim());
                return token.ok_or_else(|| TransitKeyError::Nothing(file.clone()));
            }
            Credentials::AppRole { mount, role, secret } => (mount, role, secret),
        };
        // One logs in, the others wait for it.
        let mut state = self.logins.0.lock().await;
        if let Some(token) = &state.token
            && Some(token) != refused
        {
            return Ok(token.clone());
        }
        let secret = private_file::read(file)?;
        let secret_id = secret.trim();
        if secret_id.is_empty() {
            return Err(TransitKeyError::Nothing(file.clone()));
        }
        let not_accepted = || TransitKeyError::Login {
            server: self.uri().server().to_owned(),
            file: file.clone(),
            mount: mount.clone(),
        };
        if state.refused.as_ref().is_some_and(|refused| refused.as_str() == secret_id) {
            return Err(not_accepted());
        }
        let body = json(&Login { role_id: role, secret_id });
        let login = Call { path: format!("auth/{mount}/login"), body: Some(Bytes::from_owner(body)) };
        let (status, answer) = self.send(&login, None).await?;
        match status {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => {
                state.refused = Some(Zeroizing::new(secret_id.to_owned()));
                return Err(not_accepted());
            }
            StatusCode::NOT_FOUND => return Err(not_accepted()),
            status => return Err(self.failed(login.path, status)),
        }
        let token = serde_json::from_slice(&answer).ok().and_then(|LoggedIn { auth }| {
            let token = Zeroizing::new(auth.client_token);
            as_header(&token)
        });
        let token = token.ok_or_else(|| self.strange(login.path))?;
        state.token = Some(token.clone());
        Ok(token)
    }
}

fn as_header(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(token).ok().filter(|value| !value.is_empty())?;
    value.set_sensitive(true);
    Some(value)
}
