//! Who may come without an API key: those whom an issuer of tokens or a certificate names, as an operator has written down
//! for one tenant.
//!
//! An identity is text that says what must be there exactly, and it is the document's id, so that the journal is readable:
//! `sub:ISSUER#SUBJECT`, `group:ISSUER#GROUP`, `uri:URI`, `dns:NAME`, `dn:DISTINGUISHED NAME`.

use std::fmt;
use std::str::FromStr;

use axum::http::StatusCode;
use service_kit::oidc::{Login, MAX_SUBJECT, is_issuer};
use service_kit::problem::Problem;
use service_kit::serve::ClientCertificate;

use crate::model::{Identity, Role, Tenant};
use crate::service::Service;
use crate::store::{Document, StoreError};

/// Longest identity, in bytes: what an id has room for.
const MAX_IDENTITY: usize = 500;
/// Most groups or names of a caller that are looked up.
const MAX_NAMES: usize = 64;
/// What of an identity is shown of those that a caller has.
const MAX_SHOWN: usize = 8;

/// Whom an identity is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named(String);

/// A text names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected sub:ISSUER#SUBJECT, group:ISSUER#GROUP, uri:URI, dns:NAME or dn:NAME (RFC 4514), of at most 500 bytes and \
     without control characters; the issuer is https://HOST[/PATH], and a DNS name has small letters and no *"
)]
pub struct NotNamed;

impl FromStr for Named {
    type Err = NotNamed;

    fn from_str(text: &str) -> Result<Self, NotNamed> {
        let (kind, name) = text.split_once(':').ok_or(NotNamed)?;
        let good = match kind {
            "sub" | "group" => name
                .split_once('#')
                .is_some_and(|(issuer, name)| is_issuer(issuer) && (1..=MAX_SUBJECT).contains(&name.len())),
            "uri" => {
                name.split_once(':').is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty())
            }
            "dns" => {
                let letter = |byte: u8| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
                };
                !name.is_empty() && name.bytes().all(letter)
            }
            "dn" => name.contains('='),
            _ => false,
        };
        if good && text.len() <= MAX_IDENTITY && !text.chars().any(char::is_control) {
            return Ok(Self(text.to_owned()));
        }
        Err(NotNamed)
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a caller has proved about themselves, in the order in which it decides: of each list, what is found.
pub(crate) struct Proved {
    /// How the journal names the caller; none if as what is found.
    pub(crate) name: Option<String>,
    /// Until when, seconds since the Unix epoch.
    pub(crate) until: i64,
    ranks: Vec<Vec<String>>,
}

impl Proved {
    /// None if the certificate has no name that anybody could be known by.
    pub(crate) fn by_certificate(certificate: &ClientCertificate) -> Option<Self> {
        let ClientCertificate { uris, dns, subject, not_after } = certificate;
        let uris = uris.iter().map(|uri| format!("uri:{uri}"));
        let dns = dns.iter().map(|name| format!("dns:{name}"));
        let names: Vec<String> =
            uris.chain(dns).chain(subject.as_ref().map(|name| format!("dn:{name}"))).collect();
        (!names.is_empty()).then(|| Self { name: None, until: *not_after, ranks: vec![names] })
    }

    pub(crate) fn by_token(login: Login) -> Self {
        let Login { issuer, subject, groups, expires } = login;
        let groups = groups.into_iter().map(|group| format!("group:{issuer}#{group}")).collect();
        Self {
            name: Some(format!("oidc:{issuer}#{subject}")),
            until: expires,
            ranks: vec![vec![format!("sub:{issuer}#{subject}")], groups],
        }
    }
}

impl Service {
    /// Says that whom this names may come as somebody of the tenant.
    ///
    /// # Errors
    /// [`StoreError`] if the identity is there already, there is no such tenant, or it has too many.
    pub async fn add_identity(
        &self,
        tenant: &str,
        role: Role,
        named: &Named,
        actor: &str,
    ) -> Result<(), StoreError> {
        if self.store.get::<Tenant>("", tenant).await?.is_none() {
            return Err(StoreError::Conflict("the tenant, which does not exist or"));
        }
        if self.store.count::<Identity>(tenant).await? >= self.settings.max_identities {
            return Err(StoreError::Full("identities"));
        }
        let mut change = self.store.change(actor).await?;
        let identity = Identity { role, created_at: self.now() };
        change.add(tenant, &named.0, &named.0, &identity).await?;
        change.commit().await
    }

    /// Takes an identity away; gives whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used, or somebody else changes the same.
    pub async fn remove_identity(&self, tenant: &str, id: &str, actor: &str) -> Result<bool, StoreError> {
        self.store.remove::<Identity>(tenant, id, actor).await
    }

    /// The identity of this id, as it was a moment ago.
    pub(crate) async fn identity(
        &self,
        tenant: &str,
        id: &str,
    ) -> Result<Option<Document<Identity>>, StoreError> {
        let read = async || self.store.get::<Identity>(tenant, id).await;
        let (of, changes) = ((tenant.to_owned(), id.to_owned()), self.store.changes());
        self.known.identities.get(of, self.settings.fresh, changes, read).await
    }

    /// Which identity of a tenant the caller is, and with it the role.
    ///
    /// # Errors
    /// 403 `identity_unknown` if none, `identity_ambiguous` if several with different roles, none of which has the rights of
    /// the others, `identity_names` if it cannot be looked for all.
    pub(crate) async fn recognise(&self, tenant: &str, proved: &Proved) -> Result<(String, Role), Problem> {
        for names in &proved.ranks {
            if names.len() > MAX_NAMES {
                return Err(forbidden(
                    "identity_names",
                    format!(
                        "you have more than {MAX_NAMES} groups or names: have fewer put into what you come with"
                    ),
                ));
            }
            let mut found: Vec<(&String, Role)> = Vec::new();
            for id in names.iter().filter(|id| id.len() <= MAX_IDENTITY && !id.chars().any(char::is_control))
            {
                found.extend(self.identity(tenant, id).await?.map(|identity| (id, identity.body.role)));
            }
            let Some(first) = found.first() else { continue };
            // Whoever is an administrator by one name has what all others could give.
            let (id, role) = *found.iter().find(|(_, role)| *role == Role::Admin).unwrap_or(first);
            if let Some((other, _)) = found.iter().find(|(_, other)| role != Role::Admin && *other != role) {
                return Err(forbidden(
                    "identity_ambiguous",
                    format!("{id} and {other} have different roles: have one of them taken away"),
                ));
            }
            return Ok((id.clone(), role));
        }
        let names: Vec<&str> = proved.ranks.iter().flatten().take(MAX_SHOWN).map(String::as_str).collect();
        Err(forbidden(
            "identity_unknown",
            format!(
                "none of these is an identity of this tenant: {}; the operator can add it (gta-server add-identity)",
                names.join(", ")
            ),
        ))
    }
}

fn forbidden(code: &'static str, detail: String) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, code, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_names_exactly_one() {
        let long = format!("uri:spiffe://x/{}", "a".repeat(MAX_IDENTITY));
        for good in [
            "sub:https://kubernetes.default.svc#system:serviceaccount:acme:agent",
            "sub:https://kc.example:8443/realms/a#a#b",
            "group:https://kc.example/realms/a#/fleet/admins",
            "uri:spiffe://example.org/acme/agent",
            "uri:urn:uuid:1",
            "dns:node-1.acme.example",
            "dn:CN=alice,O=Acme",
        ] {
            assert_eq!(good.parse::<Named>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "alice",
            "key:a",
            "sub:alice",
            "sub:#alice",
            "sub:http://kc.example#alice",
            "sub:https://kc.example",
            "sub:https://kc.example#",
            "sub:https://kc.example/?a=b#alice",
            "sub:https://u@kc.example/#alice",
            "sub:https://kc.example#a\nb",
            "uri:alice",
            "uri::",
            "dns:",
            "dns:*.example",
            "dns:Node",
            "dn:alice",
            "DNS:node",
            long.as_str(),
        ] {
            assert_eq!(bad.parse::<Named>(), Err(NotNamed), "{bad}");
        }
    }
}
