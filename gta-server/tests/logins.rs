//! The program, and who comes without an API key: over TLS, with tokens that others have signed.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failed test panics")]

#[path = "support/issuer.rs"]
mod issuer;
mod process;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

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
