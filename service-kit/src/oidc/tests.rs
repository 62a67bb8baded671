use serde_json::json;

use super::*;

const ISSUER: &str = "https://kc.example/realms/fleet";
/// RFC 7517, appendix A.1.
const KEYS: &str = r#"{"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "use": "sig",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

fn config() -> IssuerConfig {
    serde_json::from_value(json!({ "issuer": ISSUER, "audience": "gta" })).unwrap()
}

#[test]
fn an_issuer_is_believed_within_bounds_only() {
    assert_eq!(Issuers::new(vec![config()]).unwrap().names().collect::<Vec<_>>(), [ISSUER]);
    assert!(Issuers::new(Vec::new()).unwrap().is_empty());
    let said = |change: fn(&mut IssuerConfig)| {
        let mut config = config();
        change(&mut config);
        Issuers::new(vec![config]).map(drop).unwrap_err().to_string()
    };
    for url in [
        "",
        "kc.example",
        "http://kc.example",
        "https://",
        "https://kc.example/?a",
        "https://kc.example/#a",
        "https://u@kc.example/",
        "https://kc .example/",
        "https://kc.example:x/",
    ] {
        let error = Issuers::new(vec![IssuerConfig { issuer: url.to_owned(), ..config() }]);
        assert!(error.map(drop).unwrap_err().to_string().contains("https://HOST"), "{url}");
        assert!(!is_issuer(url), "{url}");
    }
    assert!(!is_issuer(&format!("https://kc.example/{}", "a".repeat(MAX_ISSUER))));
    for url in ["https://kc.example", "https://kc.example:8443/a/", "https://[::1]:8443/a"] {
        assert!(is_issuer(url), "{url}");
    }
    assert!(said(|config| config.audience.clear()).contains("audience"));
    assert!(said(|config| config.groups_claim = Some(String::new())).contains("groups_claim"));
    for lifetime in [i64::MIN, 0, MAX_LIFETIME + 1] {
        let error = Issuers::new(vec![IssuerConfig { max_lifetime: lifetime, ..config() }]);
        assert!(error.map(drop).unwrap_err().to_string().contains("max_lifetime"));
    }
    assert!(said(|config| config.refresh_interval = 0).contains("refresh_interval"));
    assert!(
        said(|config| config.ca = Some("/nonexistent".into()))
            .contains("/nonexistent: expected certificates")
    );
    assert!(said(|config| config.jwks_file = Some("/nonexistent".into())).contains("cannot read the file"));
    let both = |config: &mut IssuerConfig| {
        (config.ca, config.jwks_file) = (Some("a".into()), Some("b".into()));
    };
    assert!(said(both).contains("none with jwks_file"));
    let twice = Issuers::new(vec![config(), config()]).map(drop).unwrap_err();
    assert!(twice.to_string().contains("there twice"));
    let many = (0..=MAX_ISSUERS).map(|n| IssuerConfig { issuer: format!("{ISSUER}/{n}"), ..config() });
    assert!(matches!(Issuers::new(many.collect()), Err(ConfigError::TooMany)));
    let wrong = json!({ "issuer": ISSUER, "audience": "gta", "audiance": "x" });
    assert!(serde_json::from_value::<IssuerConfig>(wrong).is_err());
}

#[test]
fn a_file_with_keys_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    let new = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Issuers::new(vec![IssuerConfig { jwks_file: Some(path.clone()), ..config() }]).map(drop)
    };
    new(KEYS).unwrap();
    for (text, problem) in [
        ("{}".to_owned(), "not a JWK set"),
        (r#"{"keys": []}"#.to_owned(), "no RSA"),
        (format!("{KEYS}{}", " ".repeat(64 * 1024)), "more than 65536 bytes"),
    ] {
        let error = new(&text).unwrap_err().to_string();
        assert!(error.contains("jwks.json") && error.contains(problem), "{error}");
    }
}

#[test]
fn groups_are_the_texts_in_a_claim() {
    let claims = json!({ "groups": ["a", 1, null, "b"], "role": "c", "n": 1,
        "https://x/roles": ["d"], "realm_access": { "roles": ["e"], "a/b": { "~": ["f"] } } });
    let of = |claim: &str| groups_of(claims.as_object().unwrap(), claim);
    assert_eq!(of("groups"), ["a", "b"]);
    assert_eq!(of("role"), ["c"]);
    assert_eq!(of("https://x/roles"), ["d"]);
    assert_eq!(of("/realm_access/roles"), ["e"]);
    assert_eq!(of("/realm_access/a~1b/~0"), ["f"]);
    for none in ["n", "realm_access", "/realm_access", "/realm_access/roles/0/x", "/n/0", "/", "absent"] {
        assert!(of(none).is_empty(), "{none}");
    }
}

#[test]
fn what_a_token_says_of_its_issuer_is_read_within_bounds() {
    let token = |payload: &str| format!("e30.{}.", URL_SAFE_NO_PAD.encode(payload));
    assert_eq!(issuer_of(&token(r#"{"iss": "a", "x": 1}"#)).as_deref(), Some("a"));
    let deep = format!("{{\"a\": {}", "[".repeat(5000));
    for wrong in ["", "{}", "[]", r#"{"iss": 1}"#, r#"{"iss": "a", "iss": "b"}"#, deep.as_str()] {
        assert_eq!(issuer_of(&token(wrong)), None, "{wrong}");
    }
    assert_eq!(issuer_of(&token(&format!(r#"{{"iss": "a", "x": "{}"}}"#, "x".repeat(MAX_TOKEN)))), None);
    for wrong in ["", "a", "a.b", "a.*.c"] {
        assert_eq!(issuer_of(wrong), None, "{wrong}");
    }
}
