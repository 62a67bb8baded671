//! Who is at the other end of an admin connection, and what they may do.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// What an operator may do. Everybody who has a role may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Look at everything but the contents of resources.
    Reader,
    /// Change appraisal policies and reference values.
    PolicyAdmin,
    /// Change resources, resource policies and their bindings.
    ResourceAdmin,
    /// Everything: trust anchors, authorities and signing keys, too.
    Admin,
}

impl Role {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::PolicyAdmin => "policy-admin",
            Self::ResourceAdmin => "resource-admin",
            Self::Admin => "admin",
        }
    }

    /// The role of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Reader, Self::PolicyAdmin, Self::ResourceAdmin, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == name)
    }
}

/// An authenticated operator. A listener puts it into every request that it could authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// How the audit log names them: `uid:0`, `cert:CN=alice`, `jwt:alice`.
    pub name: String,
    /// What they may do.
    pub roles: Vec<Role>,
}

impl Operator {
    fn may(&self, needed: Role) -> bool {
        self.roles.iter().any(|role| *role == Role::Admin || *role == needed || needed == Role::Reader)
    }

    /// For what depends on more than the path.
    ///
    /// # Errors
    /// 403 `role_missing` if the operator lacks the role.
    pub fn demand(&self, needed: Role) -> Result<(), Problem> {
        if self.may(needed) {
            return Ok(());
        }
        tracing::warn!(operator = self.name, needed = needed.as_str(), "admin request refused");
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "role_missing",
            format!("{} lacks the role {}", self.name, needed.as_str()),
        ))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(unauthenticated)
    }
}

fn unauthenticated() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "admin_denied",
        "this listener serves operators that it can authenticate: over the admin socket, the user that the service runs \
         as; over TCP, those with a client certificate or an admin token that has a role",
    )
}

/// Lets a request through if its operator has the role.
pub async fn require(State(needed): State<Role>, request: Request, next: Next) -> Response {
    match request.extensions().get::<Operator>() {
        Some(operator) => match operator.demand(needed) {
            Ok(()) => next.run(request).await,
            Err(problem) => problem.into_response(),
        },
        None => {
            tracing::warn!("admin request of nobody in particular refused");
            unauthenticated().into_response()
        }
    }
}
