//! The program, and who comes without an API key: over TLS, with tokens and certificates that others have signed.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failed test panics")]

#[path = "support/issuer.rs"]
mod issuer;
mod process;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256, SanType,
    SerialNumber, date_time_ymd,
};
use serde_json::{Value, json};
use verifier::testing::Authority;

use crate::issuer::{AUDIENCE, Issuer, SigningKey};
use crate::process::{Server, home, printed, run};

const WHO: &str = "/global-trust-authority/service/v1/whoami";

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// What curl is told of who it is: the status, and the body.
async fn who(server: &Server, directory: &Path, arguments: &[&str]) -> (u16, Value) {
    let mut command = Command::new("curl");
    command
        .current_dir(directory)
        .args(["--silent", "--show-error", "--cacert", "cert.pem", "--write-out", "\n%{http_code}"])
        .args(["--header", "User-Id: acme"])
        .args(arguments)
        .arg(format!("https://localhost:{}{WHO}", server.address.port()));
    // The issuer answers in this process.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

fn serve(directory: &Path, oidc: &str) -> Server {
    std::fs::write(directory.join("oidc.toml"), oidc).unwrap();
    Server::start(directory, |command| {
        command.args(["--oidc", "oidc.toml"]);
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_names_issuers_and_identities() {
    let home = home();
    let directory = home.path();
    printed(&run(directory, &["add-tenant", "acme"]));
    let key = SigningKey::new("one");
    let issuer = Issuer::start(&[&key]).await;
    let ca = issuer.certificate();
    let oidc = format!(
        "[[issuer]]\nissuer = {:?}\naudience = {AUDIENCE:?}\nca = {ca:?}\ngroups_claim = \"/realm_access/roles\"\n",
        issuer.url
    );
    let server = serve(directory, &oidc);
    let mut claims = issuer.claims("alice", now());
    claims["realm_access"] = json!({ "roles": ["acme-auditors"] });
    let header = format!("Authorization: Bearer {}", key.sign(&claims));
    let ask = async || who(&server, directory, &["--header", &header]).await;
    let (status, problem) = ask().await;
    assert_eq!((status, &problem["code"]), (403, &json!("identity_unknown")));
    let identity = format!("group:{}#acme-auditors", issuer.url);
    let quiet = |arguments: &[&str]| {
        let output = run(directory, arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output
    };
    let until = async |status: u16| {
        // Running servers know within a second.
        for _ in 0..40 {
            if ask().await.0 == status {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{:?}", ask().await);
    };
    quiet(&["add-identity", "acme", "auditor", &identity]);
    until(200).await;
    let actor = format!("oidc:{}#alice", issuer.url);
    assert_eq!(ask().await.1, json!({ "User-Id": "acme", "role": "auditor", "actor": actor }));
    let listed = printed(&quiet(&["list-identities", "acme"]));
    let first = &listed[0];
    assert_eq!((&first["identity"], &first["role"]), (&json!(identity), &json!("auditor")));
    assert_eq!(printed(&quiet(&["list-identities", "umbrella"])), json!([]));
    quiet(&["remove-identity", "acme", &identity]);
    until(403).await;
    for (arguments, complaint) in [
        (["remove-identity", "acme", &identity].as_slice(), "is no identity of acme"),
        (&["add-identity", "nobody", "agent", &identity], "does not exist"),
        (&["add-identity", "acme", "agent", "alice"], "sub:ISSUER#SUBJECT"),
        (&["add-identity", "acme", "owner", &identity], "relying-party"),
    ] {
        let output = run(directory, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(complaint), "{arguments:?}: {said}");
    }
}

#[test]
fn issuers_that_cannot_be_believed_are_refused_at_start() {
    let home = home();
    let directory = home.path();
    let issuer = "[[issuer]]\nissuer = \"https://kc.example\"\naudience = \"gta\"\n";
    for (text, more, complaint) in [
        (String::new(), [].as_slice(), "missing field `issuer`"),
        ("issuer = 1".to_owned(), &[], "invalid type"),
        (format!("{issuer}audiences = []\n"), &[], "unknown field"),
        (issuer.replace("https", "http"), &[], "it is not https://"),
        (format!("{issuer}{issuer}"), &[], "there twice"),
        (format!("{issuer}jwks_file = \"absent.json\"\n"), &[], "absent.json: cannot read the file"),
        (issuer.to_owned(), &["--issuer", "https://kc.example"], "this server's own --issuer"),
    ] {
        std::fs::write(directory.join("oidc.toml"), &text).unwrap();
        let arguments = ["serve", "--tls-cert", "cert.pem", "--tls-key", "key.pem", "--oidc", "oidc.toml"];
        let output = run(directory, &[&arguments, more].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(complaint), "{text}: {said}");
    }
}

/// PyJWT signs in every way that is taken, and in one that is not.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_keys_of_another_library_are_understood() {
    const SIGN: &str = r#"
import json, sys, jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
now = int(sys.argv[1])
claims = {"iss": "https://kubernetes.default.svc", "aud": ["gta"], "sub": "system:serviceaccount:acme:ci",
          "iat": now, "nbf": now, "exp": now + 600, "kubernetes.io": {"namespace": "acme"}}
pair = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ways = {"RS256": pair, "RS512": pair, "PS256": pair, "ES256": ec.generate_private_key(ec.SECP256R1()),
        "ES384": ec.generate_private_key(ec.SECP384R1()), "EdDSA": ed25519.Ed25519PrivateKey.generate()}
keys, tokens = [], {}
for name, key in ways.items():
    algorithm = jwt.get_algorithm_by_name(name) if hasattr(jwt, "get_algorithm_by_name") \
        else jwt.algorithms.get_default_algorithms()[name]
    public = algorithm.to_jwk(key.public_key())
    public = json.loads(public) if isinstance(public, str) else public
    keys.append({**public, "kid": name, "use": "sig", "key_ops": ["verify"]})
    tokens[name] = jwt.encode(claims, key, algorithm=name, headers={"kid": name})
tokens["HS256"] = jwt.encode(claims, json.dumps(keys[0]), algorithm="HS256", headers={"kid": "RS256"})
json.dump({"keys": keys}, open("jwks.json", "w"))
print(json.dumps(tokens))
"#;
    let home = home();
    let directory = home.path();
    let output = Command::new("/usr/bin/python3")
        .current_dir(directory)
        .args(["-c", SIGN, &now().to_string()])
        .output()
        .expect("`cargo xtask test` installs PyJWT");
    let tokens = printed(&output);
    printed(&run(directory, &["add-tenant", "acme"]));
    let identity = "sub:https://kubernetes.default.svc#system:serviceaccount:acme:ci";
    assert!(run(directory, &["add-identity", "acme", "agent", identity]).status.success());
    let server = serve(
        directory,
        "[[issuer]]\nissuer = \"https://kubernetes.default.svc\"\naudience = \"gta\"\njwks_file = \"jwks.json\"\n",
    );
    let mut taken = 0;
    for (name, token) in tokens.as_object().unwrap() {
        let header = format!("Authorization: Bearer {}", token.as_str().unwrap());
        let (status, answer) = who(&server, directory, &["--header", &header]).await;
        assert_eq!(status, if name == "HS256" { 401 } else { 200 }, "{name}: {answer}");
        taken += usize::from(status == 200);
    }
    assert_eq!(taken, 6);
}

/// The parameters of a client's certificate, named by a URI.
fn params(number: u64) -> CertificateParams {
    let mut params = Authority::params("client");
    params.subject_alt_names =
        vec![SanType::URI(Ia5String::try_from("spiffe://example.org/acme/ci").unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(SerialNumber::from(number));
    params
}

/// Has a certificate issued, and writes it with its chain and key to `NAME.pem` and `NAME.key`.
fn issue(directory: &Path, name: &str, authority: &Authority, params: &CertificateParams, chain: &str) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let pem = authority.issue(params, &key).pem();
    std::fs::write(directory.join(format!("{name}.pem")), pem + chain).unwrap();
    std::fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

async fn with_certificate(server: &Server, directory: &Path, name: &str, more: &[&str]) -> (u16, Value) {
    let (pem, key) = (format!("{name}.pem"), format!("{name}.key"));
    who(server, directory, &[&["--cert", pem.as_str(), "--key", key.as_str()], more].concat()).await
}

const REFUSED: (u16, Value) = (0, Value::Null);

#[tokio::test]
async fn a_certificate_is_verified_in_the_handshake_or_there_is_none() {
    let home = home();
    let directory = home.path();
    let tenant = printed(&run(directory, &["add-tenant", "acme"]));
    let root = Authority::root(Authority::ca_params("Clients", 1), &PKCS_ECDSA_P256_SHA256);
    let sub = root.sub(Authority::ca_params("Site", 0), &PKCS_ECDSA_P256_SHA256);
    // One of the same name, who is not believed.
    let impostor = Authority::root(Authority::ca_params("Clients", 1), &PKCS_ECDSA_P256_SHA256);
    std::fs::write(directory.join("clients.pem"), root.pem()).unwrap();
    issue(directory, "good", &root, &params(1), "");
    issue(directory, "below", &sub, &params(2), &sub.pem());
    issue(directory, "foreign", &impostor, &params(3), "");
    let mut expired = params(4);
    expired.not_after = date_time_ymd(2021, 1, 1);
    issue(directory, "expired", &root, &expired, "");
    let mut server_only = params(5);
    server_only.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    issue(directory, "server-only", &root, &server_only, "");
    let mut other = params(6);
    other.subject_alt_names.clear();
    other.distinguished_name.push(DnType::OrganizationName, "Acme");
    issue(directory, "other", &root, &other, "");
    // The key of one with the certificate of another.
    std::fs::copy(directory.join("below.key"), directory.join("stolen.key")).unwrap();
    std::fs::copy(directory.join("good.pem"), directory.join("stolen.pem")).unwrap();
    let identity = "uri:spiffe://example.org/acme/ci";
    assert!(run(directory, &["add-identity", "acme", "auditor", identity]).status.success());
    let server = Server::start(directory, |command| {
        command.args(["--client-ca", "clients.pem"]);
    });
    let known = json!({ "User-Id": "acme", "role": "auditor", "actor": format!("cert:{identity}") });
    assert_eq!(with_certificate(&server, directory, "good", &[]).await, (200, known.clone()));
    assert_eq!(with_certificate(&server, directory, "below", &[]).await, (200, known));
    for refused in ["foreign", "expired", "server-only", "stolen"] {
        assert_eq!(with_certificate(&server, directory, refused, &[]).await, REFUSED, "{refused}");
    }
    let (status, problem) = with_certificate(&server, directory, "other", &[]).await;
    assert_eq!((status, &problem["code"]), (403, &json!("identity_unknown")));
    assert!(problem["detail"].as_str().unwrap().contains("dn:O=Acme,CN=client,C=CN"), "{problem}");
    // Whoever has none comes with a key, as before, and a good key is of no use beside a certificate that is not of the tenant.
    let api_key = format!("API-Key: {}", tenant["API-Key"].as_str().unwrap());
    let key = ["--header", api_key.as_str()];
    assert_eq!(who(&server, directory, &key).await.1["role"], "admin");
    assert_eq!(who(&server, directory, &[]).await.1["code"], "api_key_invalid");
    assert_eq!(with_certificate(&server, directory, "good", &key).await.1["role"], "admin");
    assert_eq!(with_certificate(&server, directory, "other", &key).await.1["code"], "credentials_conflict");
    assert_eq!(with_certificate(&server, directory, "foreign", &key).await, REFUSED);
    drop(server);
    // Without the option nobody is asked, and a certificate says nothing.
    let server = Server::start(directory, |_| {});
    assert_eq!(with_certificate(&server, directory, "good", &[]).await.1["code"], "api_key_invalid");
}

#[tokio::test]
async fn a_certificate_that_is_revoked_is_refused_while_the_server_runs() {
    let home = home();
    let directory = home.path();
    printed(&run(directory, &["add-tenant", "acme"]));
    let root = Authority::root(Authority::ca_params("Clients", 1), &PKCS_ECDSA_P256_SHA256);
    std::fs::write(directory.join("clients.pem"), root.pem()).unwrap();
    for (number, name) in [(1, "one"), (2, "two")] {
        issue(directory, name, &root, &params(number), "");
    }
    let revoke = |serials: &[u64], until: i32| {
        std::fs::write(directory.join("crl.pem"), root.revocation_list(serials, 2020..until)).unwrap();
    };
    let identity = "uri:spiffe://example.org/acme/ci";
    assert!(run(directory, &["add-identity", "acme", "auditor", identity]).status.success());
    let start = || {
        Server::start(directory, |command| {
            command.args(["--client-ca", "clients.pem", "--client-crl", "crl.pem"]);
        })
    };
    revoke(&[1], 2060);
    let server = start();
    assert_eq!(with_certificate(&server, directory, "one", &[]).await, REFUSED);
    assert_eq!(with_certificate(&server, directory, "two", &[]).await.0, 200);
    revoke(&[1, 2], 2060);
    let began = Instant::now();
    while with_certificate(&server, directory, "two", &[]).await != REFUSED {
        assert!(began.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    drop(server);
    // A list of another time says nothing of this one.
    revoke(&[], 2021);
    let server = start();
    assert_eq!(with_certificate(&server, directory, "two", &[]).await, REFUSED);
    drop(server);
    for (name, text, complaint) in [
        ("crl.pem", root.pem(), "--client-crl crl.pem"),
        ("clients.pem", String::new(), "--client-ca clients.pem: there is no certificate in it"),
    ] {
        std::fs::write(directory.join(name), text).unwrap();
        let arguments = ["--tls-cert", "cert.pem", "--tls-key", "key.pem", "--client-ca", "clients.pem"];
        let output = run(directory, &[&["serve"][..], &arguments, &["--client-crl", "crl.pem"]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(complaint), "{said}");
    }
}

/// A session that is resumed would have the certificate of before.
#[tokio::test]
async fn no_session_is_resumed_where_certificates_count() {
    let home = home();
    let directory = home.path();
    let root = Authority::root(Authority::ca_params("Clients", 1), &PKCS_ECDSA_P256_SHA256);
    std::fs::write(directory.join("clients.pem"), root.pem()).unwrap();
    issue(directory, "good", &root, &params(1), "");
    let sessions = |server: &Server| {
        let saved = directory.join("session");
        let _ = std::fs::remove_file(&saved);
        let mut openssl = Command::new("openssl")
            .current_dir(directory)
            .args(["s_client", "-connect", &server.address.to_string(), "-servername", "localhost", "-quiet"])
            .args(["-cert", "good.pem", "-key", "good.key", "-sess_out", "session"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::io::Write::write_all(
            openssl.stdin.as_mut().unwrap(),
            b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        )
        .unwrap();
        assert!(openssl.wait().unwrap().success());
        saved.exists()
    };
    let server = Server::start(directory, |command| {
        command.args(["--client-ca", "clients.pem"]);
    });
    assert!(!sessions(&server));
    drop(server);
    // Where none counts, they are.
    assert!(sessions(&Server::start(directory, |_| {})));
}
