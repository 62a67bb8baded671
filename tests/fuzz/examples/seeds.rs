//! Writes the seeds of the evidence and HTTP targets: `cargo run --example seeds`, in this directory.

use std::path::Path;
use std::{fs, io};

use attestation_service::harness;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use evidence::cca::{self, PlatformProfile, RealmProfile, Wrapper};
use evidence::envelope::{BootLog, Dialect, Evidence, Logs};
use evidence::hash::HashAlgorithm;
use evidence::virtcca;
use redoubt_fuzz::{cvm, guest, platform, realm, realm_2024, sign, virtcca_platform};
use verifier::corim::{
    ComponentEndorsement, CorimError, Header, MaskedValue, PlatformEndorsement, RealmEndorsement, Validity,
    platform_document, realm_document,
};
use verifier::testing::VirtccaMint;

fn main() -> io::Result<()> {
    let platforms = [
        platform(PlatformProfile::Legacy).encode(),
        platform(PlatformProfile::Cca2023).encode(),
        platform(PlatformProfile::Cca2024 { client_id: 1 }).encode(),
    ];
    let realms = [
        realm(RealmProfile::Legacy, HashAlgorithm::Sha256).encode(),
        realm(RealmProfile::Realm2023, HashAlgorithm::Sha384).encode(),
        realm(realm_2024(), HashAlgorithm::Sha512).encode(),
    ];
    let generations = ["legacy", "2023", "2024"];
    let mut tokens = Vec::new();
    for ((name, platform), realm) in generations.iter().zip(&platforms).zip(&realms) {
        for (wrapper, tag) in [(Wrapper::Tag399, 399), (Wrapper::Tag907, 907)] {
            let token = cca::wrap(wrapper, &sign(platform), &sign(realm));
            tokens.push((format!("{name}_{tag}"), token));
        }
    }
    for (name, token) in &tokens {
        write("cca_token", name, token)?;
    }
    for ((name, platform), realm) in generations.iter().zip(&platforms).zip(&realms) {
        write("cca_token", &format!("platform_claims_{name}"), platform)?;
        write("cca_token", &format!("realm_claims_{name}"), realm)?;
    }

    for (name, token) in &tokens {
        write("evidence_envelope", name, Evidence::cca(token.clone()).to_json().as_bytes())?;
    }
    for (name, json) in [
        ("array", r#"{"tee":"Rustcca","evidence":"{\"token\":[217,1,143,160]}"}"#),
        ("padded", r#"{"evidence":"{\"x\":null,\"token\":\"2QGPoA==\"}","tee":"CCA","more":[1.5,{}]}"#),
    ] {
        write("evidence_envelope", name, json.as_bytes())?;
    }
    virtccas()?;
    corims()?;
    requests(&tokens)
}

/// Tokens of virtCCA, their envelopes, and certificate chains.
fn virtccas() -> io::Result<()> {
    let mint = VirtccaMint::new([0x5a; 64]);
    let mut evidence = mint.virtcca_evidence();
    write("virtcca_token", "with_platform", &evidence.token)?;
    write("virtcca_token", "stripped", &virtcca::wrap(None, &mint.cvm_token()))?;
    write("virtcca_token", "platform_claims", &virtcca_platform().encode())?;
    // Without the head of the byte string around them.
    write("virtcca_token", "cvm_claims", cvm().encode().get(3..).unwrap_or_default())?;

    let (sub, root) = (mint.sub.pem(), mint.root.pem());
    let list = mint.sub.revocation_list(&[1], 2026..2040);
    write("certificate_chain", "authorities", [root, sub.clone(), list.clone()].concat().as_bytes())?;
    write("certificate_chain", "device", &evidence.device_certificate)?;
    write("certificate_chain", "device_and_sub", &[&evidence.device_certificate, sub.as_bytes()].concat())?;
    write("certificate_chain", "root_der", &mint.root.der())?;
    write("certificate_chain", "revocation_list", list.as_bytes())?;

    evidence.logs = Logs {
        ima: Some(vec![10, 0, 0, 0]),
        boot: Some(BootLog { table: b"CCEL".to_vec(), data: vec![1, 0, 0, 0, 3, 0, 0, 0] }),
    };
    let evidence = Evidence::Virtcca(evidence);
    for (name, dialect) in
        [("compact", Dialect::Compact), ("secgear_2509", Dialect::SecGear2509), ("secgear", Dialect::SecGear)]
    {
        write("evidence_envelope", &format!("virtcca_{name}"), evidence.to_json_as(dialect).as_bytes())?;
    }
    let gta = r#"{"attester_type":"virt_cca","evidence":{"vcca_token":"2QGPoA==","dev_cert":"MAA=","logs":[{"log_type":"ImaLog","log_data":"MTA="},{"log_type":"CCEL","log_data":"AQ=="}]}}"#;
    write("evidence_envelope", "virtcca_gta", gta.as_bytes())
}

/// Documents in both profiles, unsigned.
fn corims() -> io::Result<()> {
    let digest = |text: &str| HashAlgorithm::Sha256.digest(text.as_bytes());
    let validity = Validity { not_before: Some(0), not_after: Some(4_000_000_000) };
    let header = Header { id: "example.com/1", creator: "Example", validity };
    let realm = RealmEndorsement {
        rim: digest("rim"),
        rpv: Some([7; 64]),
        rems: [Some(digest("rem0")), None, None, Some(digest("rem3"))],
    };
    let component = ComponentEndorsement {
        component_type: Some("BL2".to_owned()),
        version: Some("3.4.2".to_owned()),
        measurements: vec![digest("bl2"), HashAlgorithm::Sha512.digest(b"bl2")],
        signer_id: digest("signer"),
    };
    let platform = PlatformEndorsement {
        implementation_id: [3; 32],
        instance_id: None,
        components: vec![component],
        configuration: MaskedValue { value: vec![0xcf, 1], mask: vec![0xff, 1] },
    };
    let written = |document: Result<Vec<u8>, CorimError>| document.map_err(io::Error::other);
    write("corim", "realm", &written(realm_document(header, &[realm]))?)?;
    write("corim", "platform", &written(platform_document(header, &[platform], &[]))?)
}

/// Requests to the attestation service: the shape is `METHOD PATH`, bearer token, body, one a line.
fn requests(tokens: &[(String, Vec<u8>)]) -> io::Result<()> {
    let request = |name: &str, line: &str, bearer: &str, body: &str| {
        write("http_body", name, format!("{line}\n{bearer}\n{body}").as_bytes())
    };
    let challenge = URL_SAFE_NO_PAD.encode(harness::CHALLENGE);
    for (name, token) in tokens {
        let evidence = URL_SAFE_NO_PAD.encode(Evidence::cca(token.clone()).to_json());
        let body = format!(r#"{{"challenge":"{challenge}","evidence":"{evidence}","policy_id":null}}"#);
        request(&format!("attestation_{name}"), "POST /attestation", "", &body)?;
    }
    let key = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    let body =
        format!(r#"{{"challenge":"{challenge}","evidence":"e30","policy_id":["a.rego"],"tee_key":{key}}}"#);
    request("attestation_key", "POST /attestation", "", &body)?;
    request("challenge", "GET /challenge", "", r#"{"user_data":[1,2,3]}"#)?;
    request("challenge_query", "GET /challenge?user_data=AQID", "", "")?;
    request("challenge_post", "POST /challenge", "", "")?;
    let body = r#"{"TeeGet":{"resource":{"vendor":"acme","path":"disk/key"}}}"#;
    request("resource", "POST /resource/storage", "e30.e30.AAAA", body)?;
    request(
        "resource_get",
        "GET /resource/storage",
        "",
        r#"{"TeeGet":{"resource":{"vendor":null,"path":"p"}}}"#,
    )?;
    request("attestation_accepted", "POST /attestation", "", &guest::attestation())?;
    let wanted = r#"{"TeeGet":{"resource":{"vendor":"acme","path":"disk/key"}}}"#;
    request("resource_released", "POST /resource/storage", harness::TOKEN, wanted)?;
    request("resource_query", "GET /resource/storage?vendor=acme&path=disk/key", harness::TOKEN, "")?;
    request("resource_names", "GET /resource/storage", harness::TOKEN, r#"{"VendorGet":{"vendor":"acme"}}"#)?;
    let change =
        r#"{"op":{"Bind":{"policy":["acme/own.rego"]}},"resource":{"vendor":"acme","path":"disk/key"}}"#;
    request("resource_change", "POST /resource/storage", harness::TOKEN, change)?;
    request("policy", "GET /policy", "", r#"{"policy_id":"a.rego"}"#)?;
    request("policy_query", "GET /policy?policy_id=default_cca.rego", "", "")?;
    request("policy_change", "POST /policy", "", r#"{"tee":"vcca","id":"a.rego","policy":"cGFja2FnZSBh"}"#)?;
    request("reference_change", "POST /reference", "", r#"{"refs":"{\"vcca.cvm.rim\":\"00\"}"}"#)?;
    for (name, wanted) in [
        ("resource_policy_one", r#"{"GetOne":{"policy":{"vendor":"acme","id":"own.rego"}}}"#),
        ("resource_policy_all", r#""GetAll""#),
        ("resource_policy_vendor", r#"{"GetAllInVendor":{"vendor":"acme"}}"#),
    ] {
        request(name, "GET /resource/policy", harness::TOKEN, wanted)?;
    }
    request("kbs_auth", "POST /kbs/v0/auth", "", r#"{"version":"0.4.0","tee":"cca","extra-params":""}"#)?;
    request("kbs_attest", "POST /kbs/v0/attest", "", &guest::kbs_attestation())?;
    request("kbs_resource", "GET /kbs/v0/resource/acme/disk/key", harness::TOKEN, "")?;
    request("kbs_session", "GET /kbs/v0/resource/acme/disk/key", "", "")?;
    request("openapi", "GET /openapi.json", "", "")?;
    request("keys", "GET /.well-known/jwks.json", "", "")?;
    request("health", "HEAD /healthz", "", "")
}

fn write(target: &str, name: &str, seed: &[u8]) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), seed)
}
