//! Documents of vendors and build systems: who may register them, and what becomes of them.

use attestation_service::admin::identity::{Operator, Role};
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Request, StatusCode};
use evidence::cca::SoftwareComponent;
use evidence::token::SignatureAlgorithm;
use p384::ecdsa::signature::Signer as _;
use p384::ecdsa::{Signature, SigningKey};
use p384::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};
use verifier::PublicKey;
use verifier::corim::{
    ComponentEndorsement, Header, KeyEndorsement, MaskedValue, PlatformEndorsement, RealmEndorsement,
    Validity, platform_document, realm_document, to_be_signed, with_signature,
};

use crate::support::mint::{Mint, PUBLISHED_CPAK, digest, key, key_from_hex, point};
use crate::support::{Answer, Home, Instance, NOW, send};

const UNSIGNED: &str = "application/rim+cbor";
const SIGNED: &str = "application/rim+cose";

fn problem(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn header(not_after: Option<i64>) -> Header<'static> {
    Header {
        id: "example.com/guest/7",
        creator: "Example",
        validity: Validity { not_before: None, not_after },
    }
}

/// A document about one Realm, the one that [`Mint`] makes.
fn realms(not_after: Option<i64>) -> Vec<u8> {
    let realm = RealmEndorsement { rim: digest(0x11), rpv: None, rems: [None; 4] };
    realm_document(header(not_after), &[realm]).unwrap()
}

fn platform(mint: &Mint) -> PlatformEndorsement {
    let component = |found: &SoftwareComponent| ComponentEndorsement {
        component_type: found.kind.clone(),
        version: found.version.clone(),
        measurements: vec![found.measurement],
        signer_id: found.signer_id,
    };
    let config = mint.platform.config.clone();
    PlatformEndorsement {
        implementation_id: mint.platform.implementation_id,
        instance_id: None,
        components: mint.platform.components.iter().map(component).collect(),
        configuration: MaskedValue { mask: vec![0xff; config.len()], value: config },
    }
}

fn platform_key(mint: &Mint) -> KeyEndorsement {
    KeyEndorsement {
        implementation_id: mint.platform.implementation_id,
        instance_id: mint.platform.instance_id,
        key: PublicKey::from_sec1(&point(&mint.cpak)).unwrap(),
    }
}

fn signed(document: &[u8], key: &SigningKey) -> Vec<u8> {
    let message = to_be_signed(document, "Example", SignatureAlgorithm::Es384).unwrap();
    let signature: Signature = key.sign(&message);
    let signature = signature.to_bytes().to_vec();
    with_signature(document, "Example", SignatureAlgorithm::Es384, signature).unwrap()
}

async fn call(
    instance: &Instance,
    roles: &[Role],
    method: Method,
    path: &str,
    kind: &str,
    body: Vec<u8>,
) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(CONTENT_TYPE, kind)
        .body(Body::from(body))
        .unwrap();
    let operator = Operator { name: "test:operator".to_owned(), roles: roles.to_vec() };
    request.extensions_mut().insert(operator);
    send(&attestation_service::admin::router(instance.service.clone()), request).await
}

/// Imports as an admin.
async fn import(instance: &Instance, query: &str, document: &[u8]) -> Answer {
    call(instance, &[Role::Admin], Method::POST, &format!("/corim?{query}"), SIGNED, document.to_vec()).await
}

async fn register_signer(instance: &Instance, name: &str, key: &SigningKey, endorses: &[&str]) {
    let pem = p384::PublicKey::from(*key.verifying_key()).to_public_key_pem(LineEnding::LF).unwrap();
    let document = json!({ "name": name, "public_key": pem, "endorses": endorses });
    let answer = instance.admin(Method::POST, "/corim-signers", &document).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
}

async fn open() -> (Instance, Home) {
    let home = Home::new();
    (Instance::open(&home).await, home)
}

async fn list(instance: &Instance, path: &str) -> Value {
    instance.admin(Method::GET, path, &json!(null)).await.json()
}

/// What the service makes of the guest of `mint`.
async fn attest(instance: &Instance, change: impl Fn(&mut Mint)) -> (u16, String) {
    let challenge = instance.challenge(&[]).await;
    let mut mint = Mint::new(challenge.attested());
    change(&mut mint);
    let answer = instance.attest(&challenge, &mint, json!({})).await;
    if answer.status == StatusCode::OK { (200, String::new()) } else { answer.problem() }
}

#[tokio::test]
async fn a_signed_document_is_registered_with_its_signer_and_its_validity() {
    let (instance, _home) = Instance::ready().await;
    let deleted = instance.admin(Method::DELETE, "/references/guest", &json!(null)).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    assert_eq!(attest(&instance, |_| ()).await, problem(403, "rim_mismatch"));

    register_signer(&instance, "builder", &key(7), &["realms"]).await;
    let document = signed(&realms(Some(NOW + 100)), &key(7));
    let answer = import(&instance, "name=guest&source=nightly+build", &document).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    let imported = answer.json();
    assert_eq!(imported["id"], "example.com/guest/7");
    assert_eq!((&imported["signer"], &imported["references"]), (&json!("builder"), &json!(["guest"])));
    let listed = list(&instance, "/references").await;
    assert_eq!(listed[0]["source"], "CoRIM example.com/guest/7 signed by builder; nightly build");
    assert_eq!(listed[0]["expires_at"], NOW + 101);
    let audit = list(&instance, "/audit?after=0&limit=100").await;
    let entry = audit.as_array().unwrap().last().unwrap();
    assert_eq!((&entry["action"], &entry["result"]), (&json!("corim.import"), &json!("ok")));

    assert_eq!(attest(&instance, |_| ()).await.0, 200);
    instance.clock.advance(100);
    assert_eq!(attest(&instance, |_| ()).await.0, 200, "it is valid through its last second");
    instance.clock.advance(1);
    assert_eq!(attest(&instance, |_| ()).await, problem(403, "rim_mismatch"));
    let late = import(&instance, "name=late", &document).await;
    assert_eq!(late.problem(), problem(422, "corim_invalid"));
}

#[tokio::test]
async fn a_document_that_nobody_known_has_signed_is_refused() {
    let (instance, _home) = open().await;
    let (document, by_stranger) = (realms(None), signed(&realms(None), &key(8)));
    assert_eq!(import(&instance, "name=a", &document).await.problem(), problem(403, "corim_unsigned"));
    for query in ["name=a", "name=a&unsigned=true"] {
        let answer = import(&instance, query, &by_stranger).await;
        assert_eq!(answer.problem(), problem(403, "corim_signature_invalid"), "{query}");
    }
    register_signer(&instance, "builder", &key(8), &["realms"]).await;
    let mut changed = by_stranger.clone();
    let rim = changed.windows(32).rposition(|window| window == [0x11; 32]).unwrap();
    changed[rim] ^= 1;
    assert_ne!(import(&instance, "name=a", &changed).await.status, StatusCode::CREATED);
    assert_eq!(list(&instance, "/references").await, json!([]));
    assert_eq!(import(&instance, "name=a", &by_stranger).await.status, StatusCode::CREATED);

    let deleted = instance.admin(Method::DELETE, "/corim-signers/builder", &json!(null)).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    let answer = import(&instance, "name=b", &by_stranger).await;
    assert_eq!(answer.problem(), problem(403, "corim_signature_invalid"));
}

#[tokio::test]
async fn a_signer_is_believed_about_what_it_was_registered_for_only() {
    let (instance, _home) = open().await;
    let mint = Mint::new([0; 64]);
    register_signer(&instance, "builder", &key(7), &["realms"]).await;
    register_signer(&instance, "vendor", &key(8), &["platforms"]).await;
    let firmware = platform_document(header(None), &[platform(&mint)], &[]).unwrap();
    let keys = platform_document(header(None), &[], &[platform_key(&mint)]).unwrap();
    for (document, signer, fits) in [
        (realms(None), 7, true),
        (realms(None), 8, false),
        (firmware.clone(), 7, false),
        (firmware, 8, true),
        (keys.clone(), 7, false),
        (keys, 8, false),
    ] {
        let answer = import(&instance, "name=a", &signed(&document, &key(signer))).await;
        if fits {
            assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        } else {
            assert_eq!(answer.problem(), problem(403, "corim_signer_unfit"));
        }
    }
    assert_eq!(list(&instance, "/trust-anchors").await, json!([]));
    let nobody = json!({ "name": "nobody", "public_key": mint.public_key_pem(), "endorses": [] });
    let answer = instance.admin(Method::POST, "/corim-signers", &nobody).await;
    assert_eq!(answer.problem(), problem(422, "endorses_invalid"));
}

#[tokio::test]
async fn roles_bound_who_imports_what() {
    let (instance, _home) = open().await;
    let mint = Mint::new([0; 64]);
    register_signer(&instance, "builder", &key(7), &["realms", "keys"]).await;
    let unsigned = realms(None);
    let document = signed(&unsigned, &key(7));
    let keys = signed(&platform_document(header(None), &[], &[platform_key(&mint)]).unwrap(), &key(7));
    let as_role = async |role: Role, query: &str, document: &[u8]| {
        let path = format!("/corim?{query}");
        call(&instance, &[role], Method::POST, &path, SIGNED, document.to_vec()).await
    };
    for role in [Role::Reader, Role::ResourceAdmin] {
        let answer = as_role(role, "name=a", &document).await;
        assert_eq!(answer.problem(), problem(403, "role_missing"));
    }
    let role = Role::PolicyAdmin;
    let vouching = as_role(role, "name=a&unsigned=true", &unsigned).await;
    assert_eq!(vouching.problem(), problem(403, "role_missing"));
    assert_eq!(as_role(role, "name=a", &keys).await.problem(), problem(403, "role_missing"));
    assert_eq!(as_role(role, "name=a", &document).await.status, StatusCode::CREATED);
    assert_eq!(as_role(Role::Admin, "name=b&unsigned=true", &unsigned).await.status, StatusCode::CREATED);
    assert_eq!(as_role(Role::Admin, "name=a", &keys).await.status, StatusCode::CREATED);
    let signer = json!({ "name": "mine", "public_key": mint.public_key_pem(), "endorses": ["realms"] });
    let answer = instance.admin_as(Some(&[role]), Method::POST, "/corim-signers", &signer).await;
    assert_eq!(answer.problem(), problem(403, "role_missing"));
}

#[tokio::test]
async fn keys_and_software_of_platforms_decide_about_guests() {
    let (instance, _home) = open().await;
    let mint = Mint::new([0; 64]);
    let keys = platform_document(header(Some(NOW + 50)), &[], &[platform_key(&mint)]).unwrap();
    for (query, document) in [
        ("name=guest&unsigned=true", realms(None)),
        ("name=rack&unsigned=true", keys),
        (
            "name=firmware&unsigned=true",
            platform_document(header(Some(NOW + 20)), &[platform(&mint)], &[]).unwrap(),
        ),
    ] {
        let answer = import(&instance, query, &document).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    }
    assert_eq!(list(&instance, "/platform-references").await[0]["components"][0]["type"], "BL");
    assert_eq!(attest(&instance, |_| ()).await.0, 200);
    let other = attest(&instance, |mint| mint.platform.components[0].measurement = digest(0x77)).await;
    assert_eq!(other, problem(403, "component_not_allowed"));
    let other = attest(&instance, |mint| mint.platform.config = vec![1, 2, 4]).await;
    assert_eq!(other, problem(403, "platform_config_not_allowed"));

    instance.clock.advance(21);
    let expired = attest(&instance, |_| ()).await;
    assert_eq!(expired, problem(403, "component_not_allowed"), "an expired reference is not no reference");
    let gone = instance.admin(Method::DELETE, "/platform-references/firmware", &json!(null)).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(attest(&instance, |_| ()).await.0, 200);
    instance.clock.advance(30);
    assert_eq!(attest(&instance, |_| ()).await, problem(403, "trust_anchor_unknown"));
}

#[tokio::test]
async fn a_document_is_registered_whole_or_not_at_all() {
    let (instance, _home) = open().await;
    let realm = |byte| RealmEndorsement { rim: digest(byte), rpv: None, rems: [None; 4] };
    let two = realm_document(header(None), &[realm(1), realm(2)]).unwrap();
    assert_eq!(
        import(&instance, "name=one-2&unsigned=true", &realms(None)).await.status,
        StatusCode::CREATED
    );
    let taken = import(&instance, "name=one&unsigned=true", &two).await;
    assert_eq!(taken.problem(), problem(409, "exists"));
    assert_eq!(list(&instance, "/references").await.as_array().unwrap().len(), 1);
    let answer = import(&instance, "name=two&unsigned=true", &two).await;
    assert_eq!(answer.json()["references"], json!(["two-1", "two-2"]));

    let mut mint = Mint::new([0; 64]);
    mint.cpak = key_from_hex(PUBLISHED_CPAK);
    let denied = platform_document(header(None), &[platform(&mint)], &[platform_key(&mint)]).unwrap();
    let answer = import(&instance, "name=rack&unsigned=true", &denied).await;
    assert_eq!(answer.problem(), problem(403, "trust_anchor_denied"));
    assert_eq!(list(&instance, "/platform-references").await, json!([]));

    let answer = import(&instance, "name=%2e%2e%2fa&unsigned=true", &two).await;
    assert_eq!(answer.problem(), problem(400, "query_malformed"));
    let cut = import(&instance, "name=a&unsigned=true", &two[..two.len() - 1]).await;
    assert_eq!(cut.problem(), problem(422, "corim_invalid"));
    let path = "/corim?name=a&unsigned=true";
    let json = call(&instance, &[Role::Admin], Method::POST, path, "application/json", two).await;
    assert_eq!(json.problem(), problem(415, "media_type_unsupported"));
}

#[tokio::test]
async fn what_is_exported_is_what_was_imported() {
    let (instance, _home) = open().await;
    let mint = Mint::new([0; 64]);
    let realm =
        RealmEndorsement { rim: digest(1), rpv: Some([7; 64]), rems: [None, Some(digest(2)), None, None] };
    let realms = realm_document(header(Some(NOW + 9)), &[realm]).unwrap();
    let platforms =
        platform_document(header(Some(NOW + 9)), &[platform(&mint)], &[platform_key(&mint)]).unwrap();
    let export =
        async |path: &str| call(&instance, &[Role::Reader], Method::GET, path, UNSIGNED, Vec::new()).await;
    for (subject, document) in [("realms", realms), ("platforms", platforms)] {
        let path = format!("/corim/{subject}?id=example.com%2Fguest%2F7&creator=Example");
        assert_eq!(export(&path).await.problem(), problem(404, "unknown"));
        let answer = import(&instance, "name=a&unsigned=true", &document).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        let exported = export(&path).await;
        assert_eq!(exported.headers[CONTENT_TYPE], UNSIGNED);
        assert_eq!(exported.body, document);
        assert_eq!(export(&format!("{path}&names=b")).await.problem(), problem(404, "unknown"));
        assert_eq!(export(&format!("{path}&names=b,a&not_after=9999999999")).await.body, document);
    }
}

#[tokio::test]
async fn a_document_that_would_say_less_than_is_registered_is_not_made() {
    let (instance, _home) = Instance::ready().await;
    let logs = json!({ "name": "logged", "rim": "22".repeat(32), "logs": {} });
    assert_eq!(instance.admin(Method::POST, "/references", &logs).await.status, StatusCode::CREATED);
    let mut mint = Mint::new([0; 64]);
    mint.platform.implementation_id = [9; 32];
    let development = json!({
        "name": "bench", "development": true, "public_key": mint.public_key_pem(),
        "implementation_id": hex::encode([9; 32]), "instance_id": hex::encode(mint.platform.instance_id),
    });
    assert_eq!(
        instance.admin(Method::POST, "/trust-anchors", &development).await.status,
        StatusCode::CREATED
    );
    for (subject, good) in [("realms", "guest"), ("platforms", "demo-platform")] {
        let path = format!("/corim/{subject}?id=a&creator=b");
        let export = async |path: &str| instance.admin(Method::GET, path, &json!(null)).await;
        assert_eq!(export(&path).await.problem(), problem(422, "corim_incomplete"));
        assert_eq!(export(&format!("{path}&names={good}")).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn references_of_platforms_are_registered_by_hand_too() {
    let (instance, _home) = Instance::ready().await;
    let mint = Mint::new([0; 64]);
    let good = json!({
        "name": "firmware",
        "implementation_id": hex::encode(mint.platform.implementation_id),
        "components": [{ "type": "BL", "measurements": ["31".repeat(32)], "signer_id": "32".repeat(32) }],
        "config": { "value": "010203", "mask": "ffffff" },
    });
    let changed = |pointer: &str, value: Value| {
        let mut document = good.clone();
        *document.pointer_mut(pointer).unwrap() = value;
        document
    };
    for (document, code) in [
        (changed("/components", json!([])), "platform_reference_invalid"),
        (changed("/components/0/measurements", json!([])), "platform_reference_invalid"),
        (changed("/components/0/type", json!("x".repeat(300))), "platform_reference_invalid"),
        (changed("/components/0/type", json!("a\u{0}b")), "text_invalid"),
        (changed("/config/mask", json!("ff")), "platform_reference_invalid"),
        (changed("/implementation_id", json!("00")), "body_invalid"),
    ] {
        let answer = instance.admin(Method::POST, "/platform-references", &document).await;
        assert_eq!(answer.problem(), problem(422, code), "{document}");
    }
    let answer = instance.admin(Method::POST, "/platform-references", &good).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    assert_eq!(attest(&instance, |_| ()).await.0, 200);
    let other = attest(&instance, |mint| mint.platform.components[0].signer_id = digest(0x77)).await;
    assert_eq!(other, problem(403, "component_not_allowed"));
}
