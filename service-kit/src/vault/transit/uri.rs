//! Where a key of a transit engine is.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use axum::http::Uri;
use percent_encoding::percent_decode_str;

use super::credentials::Credentials;

const SCHEME: &str = "transit";

/// Where a key is: `transit+https://HOST[:PORT]/MOUNT/keys/NAME?token-file=FILE[&ca=FILE][&namespace=NAME]`, or with
/// `role-id=ID&secret-id-file=FILE[&approle=MOUNT]` in place of `token-file`.
#[derive(Clone, PartialEq, Eq)]
pub struct TransitUri {
    text: String,
    /// Whether the server is asked over TLS. Without, it is on this machine.
    pub tls: bool,
    /// Host and port, as they were given.
    pub authority: String,
    /// Host, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path of the engine.
    pub mount: String,
    /// Name of the key.
    pub name: String,
    /// Where the token is from that the server asks for.
    pub credentials: Credentials,
    /// Authorities that certify the server, in PEM.
    pub ca: Option<PathBuf>,
    /// Namespace of the engine.
    pub namespace: Option<String>,
}

/// Text that does not say where a key is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; expected transit+https://HOST:PORT/MOUNT/keys/NAME?token-file=FILE, or ?role-id=ID&secret-id-file=FILE, and ca=FILE \
     and namespace=NAME where they are needed; http leads to an address of this machine only, 127.0.0.1 or [::1]"
)]
pub struct TransitUriError(String);

impl TransitUri {
    /// Whether `text` is meant to be such a URI.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        let Some((scheme, rest)) = text.split_at_checked(SCHEME.len()) else { return false };
        scheme.eq_ignore_ascii_case(SCHEME) && rest.starts_with([':', '+'])
    }

    /// The server's name for people.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.authority
    }
}

/// The attributes behind the question mark.
#[derive(Default)]
struct Attributes {
    token: Option<String>,
    role: Option<String>,
    secret: Option<String>,
    approle: Option<String>,
    ca: Option<String>,
    namespace: Option<String>,
}

impl Attributes {
    fn parse(query: &str) -> Result<Self, TransitUriError> {
        let error = |reason: &str| TransitUriError(reason.to_owned());
        let mut attributes = Self::default();
        for attribute in query.split('&').filter(|attribute| !attribute.is_empty()) {
            let (name, value) =
                attribute.split_once('=').ok_or_else(|| error("an attribute has no value"))?;
            let value =
                percent_decode_str(value).decode_utf8().map_err(|_| error("an attribute is not UTF-8"))?;
            let slot = match name {
                "token-file" => &mut attributes.token,
                "role-id" => &mut attributes.role,
                "secret-id-file" => &mut attributes.secret,
                "approle" => &mut attributes.approle,
                "ca" => &mut attributes.ca,
                "namespace" => &mut attributes.namespace,
                "token" | "secret-id" => {
                    return Err(error(
                        "a credential in the URI would be shown to every user of the machine: write it to a file with \
                         mode 0600 and give token-file or secret-id-file",
                    ));
                }
                _ => return Err(error("it has an attribute that is not supported here")),
            };
            if slot.replace(value.into_owned()).is_some() {
                return Err(TransitUriError(format!("{name} is given twice")));
            }
        }
        Ok(attributes)
    }

    fn credentials(&self) -> Result<Credentials, TransitUriError> {
        let error = |reason: &str| TransitUriError(reason.to_owned());
        match (&self.token, &self.role, &self.secret, &self.approle) {
            (Some(token), None, None, None) => Ok(Credentials::TokenFile(absolute(token)?)),
            (None, Some(role), Some(secret), mount) => {
                let mount = mount.clone().unwrap_or_else(|| "approle".to_owned());
                if !is_path(&mount) {
                    return Err(error("approle is no path of letters, digits and . _ -"));
                }
                Ok(Credentials::AppRole { mount, role: role.clone(), secret: absolute(secret)? })
            }
            _ => {
                Err(error("it has not either token-file, a file with a token, or role-id and secret-id-file"))
            }
        }
    }
}

fn absolute(path: &str) -> Result<PathBuf, TransitUriError> {
    let path = PathBuf::from(path);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(TransitUriError("token-file, secret-id-file and ca must be absolute paths of files".to_owned()))
}

impl FromStr for TransitUri {
    type Err = TransitUriError;

    /// What is wrong is said without what was given: there may be a credential in it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason: &str| TransitUriError(reason.to_owned());
        let url = text.split_once('+').filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME));
        let (_, url) = url.ok_or_else(|| error("not the URI of a key in a transit engine"))?;
        // It would be passed over.
        if url.contains('#') {
            return Err(error("it has a fragment"));
        }
        let uri: Uri = url.parse().map_err(|_| error("it is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(error("it is neither transit+https: nor transit+http:")),
        };
        let authority = uri.authority().ok_or_else(|| error("it names no server"))?;
        if authority.as_str().contains('@') {
            return Err(error("it names a user"));
        }
        let host = authority.host();
        // A port that is no number would otherwise be passed over.
        if host.is_empty() || (authority.as_str() != host && authority.port_u16().is_none()) {
            return Err(error("it names no server, or a port that is none"));
        }
        let host = host.trim_matches(['[', ']']).to_owned();
        if !tls && !is_this_machine(&host) {
            return Err(error("a token and keys would cross a network in clear: use transit+https:"));
        }
        let (mount, name) = path(uri.path()).ok_or_else(|| {
            error("its path is not MOUNT/keys/NAME, of letters, digits and . _ - (without /v1)")
        })?;
        let attributes = Attributes::parse(uri.query().unwrap_or_default())?;
        let credentials = attributes.credentials()?;
        let Attributes { ca, namespace, .. } = attributes;
        let ca = ca.map(|ca| absolute(&ca)).transpose()?;
        if ca.is_some() && !tls {
            return Err(error("ca is for https"));
        }
        if namespace.as_ref().is_some_and(|namespace| !is_path(namespace)) {
            return Err(error("namespace is not one: names of letters, digits and . _ - between slashes"));
        }
        Ok(Self {
            text: text.to_owned(),
            tls,
            authority: authority.as_str().to_owned(),
            host,
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            mount,
            name,
            credentials,
            ca,
            namespace,
        })
    }
}

/// An address: whoever answers for names could lead localhost elsewhere.
fn is_this_machine(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The engine's path and the key's name. Whatever a server could take for another path is refused.
fn path(path: &str) -> Option<(String, String)> {
    let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let [mount @ .., "keys", name] = segments.as_slice() else { return None };
    if mount.first().is_none_or(|&first| first == "v1")
        || !mount.iter().all(|it| is_name(it))
        || !is_name(name)
    {
        return None;
    }
    Some((mount.join("/"), (*name).to_owned()))
}

fn is_path(text: &str) -> bool {
    text.split('/').all(is_name)
}

fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.chars().all(allowed) && !matches!(text, "" | "." | "..")
}

impl fmt::Display for TransitUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for TransitUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransitUri({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &str = "?token-file=/run/token";

    #[test]
    fn reads_what_names_a_key() {
        let text = "transit+https://bao.example:8200/team/a/transit/keys/redoubt?token-file=/run/to%20ken&ca=/etc/ca.pem\
                    &namespace=eu/west";
        let uri: TransitUri = text.parse().unwrap();
        assert_eq!((uri.tls, uri.host.as_str(), uri.port), (true, "bao.example", 8200));
        assert_eq!((uri.mount.as_str(), uri.name.as_str()), ("team/a/transit", "redoubt"));
        assert!(matches!(uri.credentials, Credentials::TokenFile(file) if file == *"/run/to ken"));
        assert_eq!(uri.ca, Some("/etc/ca.pem".into()));
        assert_eq!(uri.namespace.as_deref(), Some("eu/west"));

        let plain: TransitUri = format!("TRANSIT+https://bao.example/transit/keys/a{QUERY}").parse().unwrap();
        assert_eq!((plain.port, plain.ca, plain.namespace), (443, None, None));
        let approle = "transit+https://bao/transit/keys/a?role-id=r&secret-id-file=/run/secret";
        for (text, expected) in
            [(approle.to_owned(), "approle"), (format!("{approle}&approle=team/a"), "team/a")]
        {
            let Credentials::AppRole { mount, role, secret } =
                text.parse::<TransitUri>().unwrap().credentials
            else {
                unreachable!("{text}")
            };
            assert_eq!((mount.as_str(), role.as_str(), secret), (expected, "r", "/run/secret".into()));
        }
        for host in ["127.0.0.1", "127.1.2.3", "[::1]"] {
            let here: TransitUri =
                format!("transit+http://{host}:8200/transit/keys/a{QUERY}").parse().unwrap();
            assert!(!here.tls);
            assert_eq!(here.host, host.trim_matches(['[', ']']));
        }
    }

    #[test]
    fn refuses_what_names_no_key_or_gives_a_credential_away() {
        let long = format!("transit+https://bao/transit/keys/a{QUERY}");
        for (text, reason) in [
            ("master.key".to_owned(), "not the URI"),
            (format!("transit:https://bao/transit/keys/a{QUERY}"), "not the URI"),
            (format!("transit+ftp://bao/transit/keys/a{QUERY}"), "neither"),
            (format!("transit+bao/transit/keys/a{QUERY}"), "no URL"),
            (format!("transit+https:///transit/keys/a{QUERY}"), "no URL"),
            (format!("transit+https://s.SECRET@bao/transit/keys/a{QUERY}"), "names a user"),
            (format!("transit+https://bao:/transit/keys/a{QUERY}"), "port that is none"),
            (format!("transit+https://bao:99999/transit/keys/a{QUERY}"), "no"),
            (format!("transit+http://bao/transit/keys/a{QUERY}"), "in clear"),
            (format!("transit+http://127.0.0.1.example/transit/keys/a{QUERY}"), "in clear"),
            (format!("transit+http://10.0.0.1/transit/keys/a{QUERY}"), "in clear"),
            (format!("transit+http://localhost/transit/keys/a{QUERY}"), "in clear"),
            (format!("transit+https://bao/keys/a{QUERY}"), "MOUNT/keys/NAME"),
            (format!("transit+https://bao/v1/transit/keys/a{QUERY}"), "without /v1"),
            (format!("transit+https://bao/transit/encrypt/a{QUERY}"), "MOUNT/keys/NAME"),
            (format!("transit+https://bao/transit/keys/{QUERY}"), "MOUNT/keys/NAME"),
            (format!("transit+https://bao/transit//keys/a{QUERY}"), "MOUNT/keys/NAME"),
            (format!("transit+https://bao/transit/../sys/keys/a{QUERY}"), "MOUNT/keys/NAME"),
            (format!("transit+https://bao/transit/keys/%2e%2e{QUERY}"), "MOUNT/keys/NAME"),
            (format!("{long}#part"), "fragment"),
            ("transit+https://bao/transit/keys/a".to_owned(), "not either token-file"),
            (format!("{long}&token-file=/other"), "token-file is given twice"),
            (format!("{long}&ca=/a&ca=/b"), "ca is given twice"),
            (format!("{long}&namespace=a&namespace=b"), "namespace is given twice"),
            (format!("{long}&role-id=a"), "not either"),
            (format!("{long}&secret-id-file=/a"), "not either"),
            (format!("{long}&approle=a"), "not either"),
            ("transit+https://bao/transit/keys/a?role-id=a".to_owned(), "not either"),
            ("transit+https://bao/transit/keys/a?secret-id-file=/a".to_owned(), "not either"),
            ("transit+https://bao/transit/keys/a?role-id=a&secret-id-file=b".to_owned(), "absolute"),
            (
                "transit+https://bao/transit/keys/a?role-id=a&secret-id-file=/b&approle=../sys".to_owned(),
                "approle is no path",
            ),
            (format!("{long}&secret-id=SECRET"), "shown to every user"),
            (format!("{long}&token=s.SECRET"), "shown to every user"),
            (format!("{long}&password=s.SECRET"), "not supported"),
            (format!("{long}&s.SECRET"), "no value"),
            (format!("{long}&ca=%ff"), "not UTF-8"),
            (format!("{long}&ca=ca.pem"), "absolute"),
            ("transit+https://bao/transit/keys/a?token-file=token".to_owned(), "absolute"),
            (format!("transit+http://[::1]:1/transit/keys/a{QUERY}&ca=/a"), "ca is for https"),
            (format!("{long}&namespace=a%0d%0ab"), "namespace is not one"),
            (format!("{long}&namespace=a/../b"), "namespace is not one"),
            (format!("{long}&namespace="), "namespace is not one"),
        ] {
            let error = text.parse::<TransitUri>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains("SECRET"), "{error}");
        }
    }
}
