//! Where a webhook leads to.

use std::net::{IpAddr, SocketAddr};

use hyper::Uri;
use tokio::net::lookup_host;

use super::address::is_public;

/// Longest URL, in bytes.
const MAX_URL: usize = 2048;

/// Not a place where a webhook may lead to.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Not a URL of the kind that is taken.
    #[error(
        "url must be https://HOST:PORT/PATH of at most {MAX_URL} bytes, without a user and a fragment; http:// leads to this \
         machine only (127.0.0.1, [::1], localhost)"
    )]
    Form,
    /// An address of the server's own network.
    #[error(
        "{0} is not a public address: name one that is, or have the operator start the server with --webhook-allow-private"
    )]
    Private(String),
    /// The name has no address.
    #[error("{host} has no address")]
    Unresolved {
        /// The name.
        host: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Where a webhook leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Name or address; IPv6 addresses without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Host and port as the URL has them.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Reads a URL. A name is looked up when it is used, each time.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn parse(url: &str, allow_private: bool) -> Result<Self, TargetError> {
        let uri: Uri = url.parse().map_err(|_| TargetError::Form)?;
        let authority = uri.authority().ok_or(TargetError::Form)?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(TargetError::Form),
        };
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        // Neither a user before the host, nor a port that is none.
        let whole = match authority.port_u16() {
            Some(port) => format!("{}:{port}", authority.host()),
            None => authority.host().to_owned(),
        };
        let good = url.len() <= MAX_URL && !url.contains('#') && whole == authority.as_str();
        if !good || host.is_empty() || port == 0 {
            return Err(TargetError::Form);
        }
        let address: Option<IpAddr> = host.parse().ok();
        let is_here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        if !tls && !is_here {
            return Err(TargetError::Form);
        }
        if let Some(address) = address.filter(|address| !allow_private && !is_public(*address)) {
            return Err(TargetError::Private(address.to_string()));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { tls, host, port, authority: whole, path })
    }

    /// The addresses that it has now, of those that may be connected to. They are what is connected to: a name that is
    /// looked up again may lead elsewhere.
    ///
    /// # Errors
    /// [`TargetError`] if there is none.
    pub async fn addresses(&self, allow_private: bool) -> Result<Vec<SocketAddr>, TargetError> {
        let found = lookup_host((self.host.as_str(), self.port))
            .await
            .map_err(|source| TargetError::Unresolved { host: self.host.clone(), source })?;
        let good = |address: &SocketAddr| {
            (self.tls || address.ip().is_loopback()) && (allow_private || is_public(address.ip()))
        };
        let good: Vec<SocketAddr> = found.filter(good).collect();
        if good.is_empty() { Err(TargetError::Private(self.host.clone())) } else { Ok(good) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lead_to_servers_on_the_internet() {
        let target = Target::parse("https://hooks.example:8443/a/b?c=d", false).unwrap();
        assert_eq!((target.tls, target.host.as_str(), target.port), (true, "hooks.example", 8443));
        assert_eq!((target.authority.as_str(), target.path.as_str()), ("hooks.example:8443", "/a/b?c=d"));
        let target = Target::parse("https://[2606:4700::1]", false).unwrap();
        assert_eq!((target.host.as_str(), target.port, target.path.as_str()), ("2606:4700::1", 443, "/"));
        assert_eq!(target.authority, "[2606:4700::1]");
        for url in [
            "",
            "hooks.example",
            "/path",
            "ftp://hooks.example",
            "http://hooks.example",
            "http://8.8.8.8",
            "https://",
            "https://user@hooks.example",
            "https://user:password@hooks.example",
            "https://hooks.example:0",
            "https://hooks.example:65536",
            "https://hooks.example:x",
            "https://hooks.example/#fragment",
            "https://hooks example",
            "http://127.0.0.1.example",
            &format!("https://hooks.example/{}", "a".repeat(MAX_URL)),
        ] {
            let found = Target::parse(url, true);
            assert!(matches!(found, Err(TargetError::Form)), "{url}: {found:?}");
        }
    }

    #[tokio::test]
    async fn addresses_of_the_servers_network_are_taken_only_if_that_is_said() {
        for url in [
            "https://127.0.0.1",
            "https://169.254.169.254/latest",
            "https://[::1]:8443",
            "https://[::ffff:10.0.0.1]",
            "http://127.0.0.1:80",
        ] {
            let found = Target::parse(url, false);
            assert!(matches!(found, Err(TargetError::Private(_))), "{url}: {found:?}");
            assert!(Target::parse(url, true).is_ok(), "{url}");
        }
        // What a name, or a number that the resolver takes for an address, leads to is seen when it is looked up.
        for url in ["https://localhost:1", "https://2130706433", "https://0x7f.1", "http://localhost:1"] {
            let target = Target::parse(url, false).unwrap();
            let found = target.addresses(false).await;
            assert!(
                matches!(found, Err(TargetError::Private(_) | TargetError::Unresolved { .. })),
                "{url}: {found:?}"
            );
        }
        let here = Target::parse("http://localhost:1", false).unwrap().addresses(true).await.unwrap();
        assert!(here.iter().all(|address| address.ip().is_loopback()) && !here.is_empty());
        // Without TLS it is this machine, whatever the name resolves to.
        let clear = Target { tls: false, ..Target::parse("https://8.8.8.8", false).unwrap() };
        assert!(matches!(clear.addresses(true).await, Err(TargetError::Private(_))));
    }
}
