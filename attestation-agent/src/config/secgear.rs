//! secGear's configuration file, with every member defaulted: the files in its documents lack some that its agent needs.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::Options;
use crate::agent::App;

/// Where secGear's agent looks for the issuer's certificate.
const DEFAULT_TOKEN_CERT: &str = "/etc/attestation/attestation-agent/as_cert.pem";

/// Members that only secGear's files have.
const OURS_NEVER: [&str; 4] = ["svr_url", "token_cfg", "protocal", "enable_active_attestation"];

/// Whether this is one of secGear's files.
pub(super) fn is_meant(file: &Value) -> bool {
    OURS_NEVER.iter().any(|member| file.get(member).is_some())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default = "File::default_url")]
    svr_url: String,
    #[serde(default)]
    token_cfg: TokenConfig,
    #[serde(default)]
    protocal: Protocol,
    #[serde(default)]
    enable_active_attestation: bool,
    #[serde(default)]
    app_list: Vec<App>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenConfig {
    cert: Option<PathBuf>,
    iss: Option<String>,
}

#[derive(Default, Deserialize)]
enum Protocol {
    /// Nothing said: by the address.
    #[default]
    #[serde(skip)]
    Unsaid,
    Http(Said),
    Https(Https),
}

/// The protocol once more.
#[derive(Deserialize)]
struct Said {}

#[derive(Deserialize)]
struct Https {
    cert_root: Option<String>,
}

impl File {
    fn default_url() -> String {
        "http://127.0.0.1:8080".to_owned()
    }

    pub(super) fn into_options(self) -> Result<Options, String> {
        let is_https = self.svr_url.starts_with("https://");
        let service_cert_pem = match self.protocal {
            Protocol::Http(Said {}) if is_https => {
                return Err(format!("svr_url is {:?}, but protocal is Http", self.svr_url));
            }
            Protocol::Https(_) if !is_https => {
                return Err(format!("svr_url is {:?}, but protocal is Https", self.svr_url));
            }
            Protocol::Https(Https { cert_root, .. }) => cert_root,
            Protocol::Http(Said {}) | Protocol::Unsaid => None,
        };
        let token_cert = self.token_cfg.cert.or_else(|| {
            let path = Path::new(DEFAULT_TOKEN_CERT);
            path.exists().then(|| path.to_owned())
        });
        let apps = (!self.app_list.is_empty()).then_some(self.app_list);
        let (app_list, idle_apps) = if self.enable_active_attestation { (apps, None) } else { (None, apps) };
        Ok(Options {
            service: Some(self.svr_url),
            service_cert_pem,
            token_cert,
            token_issuer: Some(self.token_cfg.iss.unwrap_or_else(|| "oeas".to_owned())),
            app_list,
            idle_apps,
            ..Options::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Options {
        Options::from_json(text.as_bytes()).unwrap()
    }

    #[test]
    fn reads_the_file_of_the_documents() {
        let options = read(
            r#"{"svr_url": "http://127.0.0.1:8080",
                "token_cfg": {"cert": "/etc/as_cert.pem", "iss": "oeas"},
                "protocal": {"Http": {"protocal": "http"}}}"#,
        );
        assert_eq!(options.service.as_deref(), Some("http://127.0.0.1:8080"));
        assert_eq!(options.token_cert.as_deref(), Some(Path::new("/etc/as_cert.pem")));
        assert_eq!(options.token_issuer.as_deref(), Some("oeas"));
        assert_eq!(options.app_list, None);
        assert!(options.client().is_ok());
    }

    #[test]
    fn every_member_has_a_default() {
        for text in
            [r#"{"svr_url": "http://127.0.0.1:1"}"#, r#"{"protocal": {"Http": {}}}"#, r#"{"token_cfg": {}}"#]
        {
            let options = read(text);
            assert_eq!(options.token_issuer.as_deref(), Some("oeas"), "{text}");
            assert!(options.client().is_ok(), "{text}");
        }
    }

    #[test]
    fn reads_the_file_of_2026_with_https_and_applications() {
        let pem = crate::testing::self_signed("as.example").cert.pem();
        let text = serde_json::json!({
            "svr_url": "https://as.example:8443",
            "token_cfg": {"cert": "/c", "iss": "i"},
            "protocal": {"Https": {"protocal": "https", "cert_root": pem}},
            "enable_active_attestation": true,
            "app_list": [{"uuid": "auto", "ima": true, "interval": 60, "platform": "virtcca", "rim_auto_discover": true},
                         {"uuid": "db"}],
        });
        let options = read(&text.to_string());
        assert!(options.client().is_ok());
        let apps = options.app_list.unwrap();
        assert_eq!((apps[0].interval, apps[1].interval, apps[1].ima), (60, 30, false));
    }

    #[test]
    fn applications_of_a_file_wait_until_they_are_enabled() {
        let mut options = read(r#"{"svr_url": "http://127.0.0.1:1", "app_list": [{"uuid": "db"}]}"#);
        assert_eq!(options.app_list, None);
        options.enable_active_attestation();
        assert_eq!(options.app_list.unwrap()[0].uuid, "db");
    }

    #[test]
    fn refuses_what_contradicts_itself_or_leaves_the_machine_without_tls() {
        for text in [
            r#"{"svr_url": "https://x:1", "protocal": {"Http": {}}}"#,
            r#"{"svr_url": "http://127.0.0.1:1", "protocal": {"Https": {}}}"#,
            r#"{"svr_url": "http://127.0.0.1:1", "service": "https://x:1"}"#,
            r#"{"enable_active_attestation": true, "app_list": [{"uuid": "a"}, {"uuid": "a"}]}"#,
        ] {
            assert!(Options::from_json(text.as_bytes()).is_err(), "{text}");
        }
        assert!(read(r#"{"svr_url": "http://10.0.0.1:8080"}"#).client().is_err());
        assert!(read(r#"{"svr_url": "https://x:1"}"#).client().is_err());
    }
}
