//! Everything by which something can be named.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384};
use serde_json::{Value, json};
use verifier::testing::{Authority, NOW};

use crate::support::{BOOT, Client, Machine, Signer, World, qualifying};

const POLICY: &str = "package verification\nresult := {\"policy_matched\": true}";
/// Nobody is there, and nobody calls.
const URL: &str = "https://hooks.example/";
/// A node of the first tenant.
pub const NODE: &str = "their-node";

/// Query and body of a request that names this.
type Naming = Box<dyn Fn(&str) -> (String, Value)>;

/// A request of the second tenant that names something.
pub struct Case {
    pub route: (&'static str, &'static str),
    /// What is named.
    pub what: &'static str,
    /// What the first tenant has.
    pub theirs: String,
    /// What nobody has.
    pub nothing: [String; 2],
    pub request: Naming,
    /// The status of the answers, and the code if they are problem documents.
    pub answered: (u16, &'static str),
    /// Members of the answer that are never the same twice.
    pub random: &'static [&'static str],
}

impl Case {
    fn new(
        route: (&'static str, &'static str),
        what: &'static str,
        theirs: &str,
        request: impl Fn(&str) -> (String, Value) + 'static,
    ) -> Self {
        let (nothing, request) = (nothing(theirs), Box::new(request));
        Self { route, what, theirs: theirs.to_owned(), nothing, request, answered: (200, ""), random: &[] }
    }

    /// In the query, after what is there of it.
    fn query(path: &'static str, what: &'static str, theirs: &str, query: &'static str) -> Self {
        Self::new(("get", path), what, theirs, move |named| (format!("{query}{named}"), Value::Null))
    }

    /// In the body, as its member `what`.
    fn body(route: (&'static str, &'static str), what: &'static str, theirs: &str, body: Value) -> Self {
        Self::new(route, what, theirs, move |named| {
            let mut body = body.clone();
            body[what] = json!(named);
            (String::new(), body)
        })
    }

    /// The only one of those that are to be deleted.
    fn deletion(path: &'static str, theirs: &str, body: Value) -> Self {
        Self::new(("delete", path), "ids", theirs, move |named| {
            let mut body = body.clone();
            body["ids"] = json!([named]);
            (String::new(), body)
        })
    }

    /// In evidence, which is already bound to a nonce of the second tenant's own.
    fn evidence(what: &'static str, theirs: &str, measurement: &Value, pointer: &'static str) -> Self {
        let measurement = measurement.clone();
        Self::new(("post", "/attest"), what, theirs, move |named| {
            let mut measurement = measurement.clone();
            *measurement.pointer_mut(pointer).unwrap() = json!(named);
            (String::new(), json!({ "measurements": [measurement] }))
        })
    }

    fn nothing(mut self, nothing: [String; 2]) -> Self {
        self.nothing = nothing;
        self
    }

    fn refused(mut self, status: u16, code: &'static str) -> Self {
        self.answered = (status, code);
        self
    }

    fn random(mut self, random: &'static [&'static str]) -> Self {
        self.random = random;
        self
    }
}

/// Two names beside this one.
pub fn nothing(name: &str) -> [String; 2] {
    let (stem, last) = name.split_at(name.len() - 1);
    let mut others = ["0", "1", "2"].into_iter().filter(|other| *other != last);
    [(); 2].map(|()| format!("{stem}{}", others.next().unwrap()))
}

/// Two others.
fn untaken(name: &str) -> [String; 2] {
    ["a", "b"].map(|end| format!("{}{end}", &name[..name.len() - 1]))
}

/// What the tenants have.
pub struct Stage {
    theirs: Tenant,
    ours: Tenant,
    /// The first tenant's machine.
    pub machine: Machine,
    /// A nonce that was given to the first tenant.
    pub nonce: String,
    /// An enrolment that the first tenant has begun, and what ends it.
    pub enrolment: String,
    pub credential: String,
    event: i64,
    guest: Machine,
}

/// One of each kind of document.
struct Tenant {
    signer: Signer,
    /// Certifies attestation keys.
    authority: Authority,
    certificate: String,
    list: String,
    policy: String,
    values: String,
    webhook: String,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn policy(name: &str) -> Value {
    let content = STANDARD.encode(POLICY);
    json!({ "name": name, "attester_type": ["tpm_ima"], "content_type": "text", "content": content })
}

/// A policy and reference values that a signer has signed.
fn signed_policy(signer: &Signer) -> String {
    signer.sign(&json!({ "policy": STANDARD.encode(POLICY) }))
}

fn signed_values(signer: &Signer) -> String {
    signer.sign(&json!({ "referenceValues": [{ "fileName": "/a", "sha256": "11".repeat(32) }] }))
}

impl Tenant {
    async fn new(world: &World, client: &Client, whose: &str) -> Self {
        let add =
            async |path: &str, document: Value| client.post(&world.instance, path, &document).await.ok();
        let signer = Signer::new();
        let signing = json!({ "name": format!("{whose}-signer"), "type": ["refvalue", "policy"], "content": signer.pem });
        let certificate = text(&add("/cert", signing).await["cert"]["cert_id"]);
        let authority = authority();
        let certifying = json!({ "name": format!("{whose}-authority"), "type": ["tpm_boot", "tpm_iak"], "content": authority.pem() });
        add("/cert", certifying).await;
        let list = authority.revocation_list(&[1], 2025..2059);
        let list = json!({ "name": format!("{whose}-list"), "type": ["crl"], "crl_content": list });
        let list = text(&add("/cert", list).await["crl"]["crl_id"]);
        let policy = text(&add("/policy", policy(&format!("{whose}-policy"))).await["policy"]["id"]);
        let values = json!({
            "name": format!("{whose}-values"), "attester_type": "tpm_ima", "content": signed_values(&signer),
        });
        let values = text(&add("/ref_value", values).await["ref_value"]["id"]);
        let webhook = json!({ "name": format!("{whose}-webhook"), "url": URL });
        let webhook = text(&add("/webhook", webhook).await["webhook"]["id"]);
        Self { signer, authority, certificate, list, policy, values, webhook }
    }
}

/// All are called the same.
fn authority() -> Authority {
    Authority::root(Authority::ca_params("AK CA", 1), &PKCS_ECDSA_P384_SHA384)
}

fn ak_certificate(authority: &Authority, machine: &Machine) -> String {
    let mut params: CertificateParams = Authority::params("AK");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    authority.issue(&params, &machine.tpm.attestation_key_pair()).pem()
}

impl Stage {
    pub async fn new(world: &World) -> Self {
        let theirs = Tenant::new(world, &world.admin, "their").await;
        let machine = world.machine(NODE).await;
        let measurement = machine.good(world, "tpm_boot").await;
        world.attest(measurement).await.ok();
        let events = world.admin.get(&world.instance, "/event").await.ok();
        let next = Machine::new("their-next", &world.maker);
        let begun = world.agent.post(&world.instance, "/enroll", &next.enrolment()).await.ok();
        let ours = Tenant::new(world, &world.other, "our").await;
        let guest = Machine::new("our-guest", &world.maker);
        let add = async |path: &str, body: Value| world.other.post(&world.instance, path, &body).await.ok();
        add("/cert", json!({ "name": "maker", "type": ["tpm_ek"], "content": world.maker.pem() })).await;
        add("/node", json!({ "node_id": "our-node", "ak_public": guest.enrolment()["ak_public"] })).await;
        add("/attest", json!({ "measurements": [certified(&bound(&guest), &ours.authority, &guest)] })).await;
        Self {
            theirs,
            nonce: world.agent.nonce(&world.instance, None).await,
            enrolment: text(&begun["enrollment_id"]),
            credential: STANDARD.encode(next.open(&begun).unwrap()),
            event: events["events"][0]["seq"].as_i64().unwrap(),
            ours,
            guest,
            machine,
        }
    }
}

/// Evidence for a nonce of the second tenant's own.
fn bound(machine: &Machine) -> Value {
    let nonce = STANDARD.encode([5; 32]);
    let evidence = machine.evidence("tpm_boot", &BOOT, &qualifying(&nonce, None));
    let mut measurement = machine.measurement(&nonce, &[evidence]);
    measurement["nonce_type"] = json!("user");
    measurement
}

/// The same with a certificate of the attestation key.
fn certified(measurement: &Value, authority: &Authority, machine: &Machine) -> Value {
    let mut measurement = measurement.clone();
    let certificate = ak_certificate(authority, machine);
    measurement["evidences"][0]["evidence"]["ak_certs"] =
        json!([{ "cert_type": "aik", "cert_data": certificate }]);
    measurement
}

/// Every case of every route.
pub fn cases(stage: &Stage) -> Vec<Case> {
    let mut cases = evidence(stage);
    cases.extend(nodes(stage));
    cases.extend(history(stage));
    cases.extend(policies(stage));
    cases.extend(certificates(stage));
    cases.extend(values(stage));
    cases.extend(webhooks(stage));
    // What changes something comes after what does not: names that it has taken are the second tenant's, too.
    cases.sort_by_key(|case| {
        ["get", "put", "delete", "post"].iter().position(|method| *method == case.route.0)
    });
    cases
}

fn evidence(stage: &Stage) -> Vec<Case> {
    let ours = certified(&bound(&stage.guest), &stage.ours.authority, &stage.guest);
    let mut with_policy = ours.clone();
    with_policy["evidences"][0]["policy_ids"] = json!([""]);
    let certificate = ak_certificate(&stage.theirs.authority, &stage.guest);
    let elsewhere = [(); 2].map(|()| ak_certificate(&authority(), &stage.guest));
    let mut issued = stage.guest.for_nonce(&stage.nonce, "tpm_boot");
    issued["evidences"] = ours["evidences"].clone();
    let made_up = made_up(&stage.nonce);
    const TOKEN: &[&str] = &["/tokens/0/token"];
    vec![
        Case::evidence("node_id", NODE, &ours, "/node_id").random(TOKEN),
        Case::evidence("node_id of an earlier report", NODE, &ours, "/node_id").random(TOKEN),
        Case::evidence("node_id of its own evidence", NODE, &bound(&stage.machine), "/node_id")
            .refused(400, "node_unknown"),
        Case::evidence("policy_ids", &stage.theirs.policy, &with_policy, "/evidences/0/policy_ids/0")
            .refused(400, "policy_unknown"),
        Case::evidence("ak_certs", &certificate, &ours, "/evidences/0/evidence/ak_certs/0/cert_data")
            .nothing(elsewhere)
            .refused(400, "certificate_untrusted"),
        Case::evidence("nonce", &stage.nonce, &issued, "/nonce")
            .nothing(made_up)
            .refused(400, "nonce_invalid"),
    ]
}

/// Nonces like this one, which nobody was given.
fn made_up(nonce: &str) -> [String; 2] {
    [1, 2].map(|number| {
        let mut body: Value = serde_json::from_slice(&STANDARD.decode(nonce).unwrap()).unwrap();
        body["value"] = json!(STANDARD.encode([number; 64]));
        STANDARD.encode(body.to_string())
    })
}

fn nodes(stage: &Stage) -> Vec<Case> {
    let enrolment = stage.guest.enrolment();
    let nonces = made_up(&stage.nonce);
    let certification = json!({
        "node_id": "our-next", "nonce": nonces[0], "certify_info": "", "signature": "",
        "iak_certificate": ak_certificate(&stage.ours.authority, &stage.guest),
        "ak_public": enrolment["ak_public"],
    });
    let by_their_maker = ak_certificate(&stage.theirs.authority, &stage.guest);
    let elsewhere = [(); 2].map(|()| ak_certificate(&authority(), &stage.guest));
    let pinned = json!({ "ak_public": enrolment["ak_public"] });
    const CREDENTIAL: &[&str] = &["/enrollment_id", "/credential_blob", "/encrypted_secret"];
    vec![
        Case::body(("post", "/challenge"), "node_id", NODE, json!({ "attester_type": ["tpm_boot"] }))
            .random(&["/nonce"]),
        Case::body(("post", "/enroll"), "node_id", NODE, enrolment).random(CREDENTIAL),
        Case::body(
            ("post", "/enroll/activate"),
            "enrollment_id",
            &stage.enrolment,
            json!({ "credential": stage.credential }),
        )
        .refused(403, "credential_wrong"),
        Case::body(("post", "/enroll/certified"), "node_id", NODE, certification.clone())
            .refused(400, "nonce_invalid"),
        Case::body(("post", "/enroll/certified"), "nonce", &stage.nonce, certification.clone())
            .nothing(nonces)
            .refused(400, "nonce_invalid"),
        Case::body(("post", "/enroll/certified"), "iak_certificate", &by_their_maker, certification)
            .nothing(elsewhere)
            .refused(400, "certificate_untrusted"),
        Case::query("/node", "ids", NODE, "?ids=our-node,"),
        Case::query("/node", "cursor", NODE, "?cursor="),
        Case::deletion("/node", NODE, json!({ "delete_type": "id" })).refused(404, "unknown"),
        Case::body(("post", "/node"), "node_id", NODE, pinned),
    ]
}

fn history(stage: &Stage) -> Vec<Case> {
    let event = stage.event.to_string();
    // The second tenant has nothing between these.
    let earlier = [stage.event - 1, stage.event - 2].map(|seq| seq.to_string());
    let mark = |seq: i64| format!("{NOW}.policy.{seq}");
    vec![
        Case::query("/audit", "cursor", &mark(1), "?cursor=").nothing([mark(0), mark(-1)]),
        Case::query("/status", "ids", NODE, "?ids=our-guest,"),
        Case::query("/status", "cursor", NODE, "?cursor="),
        Case::deletion("/status", NODE, json!({})),
        Case::query("/event", "node_id", NODE, "?node_id="),
        Case::query("/event", "before", &event, "?before=").nothing(earlier.clone()),
        Case::query("/event", "after", &event, "?after=").nothing(earlier.clone()),
        Case::query("/event/stream", "node_id", NODE, "?after=0&node_id="),
        Case::query("/event/stream", "after", &event, "?node_id=nobody&after=").nothing(earlier),
    ]
}

fn policies(stage: &Stage) -> Vec<Case> {
    let theirs = &stage.theirs;
    let id = &theirs.policy;
    let signed = signed_policy(&theirs.signer);
    let elsewhere = || [(); 2].map(|()| signed_policy(&Signer::new()));
    let by_jwt = json!({ "name": "signed", "attester_type": ["tpm_ima"], "content_type": "jwt" });
    let ours = json!({ "id": stage.ours.policy });
    let ours_by_jwt = json!({ "id": stage.ours.policy, "content_type": "jwt" });
    vec![
        Case::query("/policy", "ids", id, "?ids="),
        Case::query("/policy", "cursor", "their-policy", "?cursor="),
        Case::body(("post", "/policy"), "name", "their-policy", policy(""))
            .nothing(untaken("their-policy"))
            .random(&["/policy/id"]),
        Case::body(("post", "/policy"), "content", &signed, by_jwt)
            .nothing(elsewhere())
            .refused(400, "signature_invalid"),
        Case::body(("put", "/policy"), "id", id, json!({})).refused(404, "unknown"),
        Case::body(("put", "/policy"), "id", id, policy("another")).refused(404, "unknown"),
        Case::body(("put", "/policy"), "name", "their-policy", ours).random(&["/policy/version"]),
        Case::body(("put", "/policy"), "content", &signed, ours_by_jwt)
            .nothing(elsewhere())
            .refused(400, "signature_invalid"),
        Case::deletion("/policy", id, json!({ "delete_type": "id" })).refused(404, "unknown"),
    ]
}

fn certificates(stage: &Stage) -> Vec<Case> {
    let (theirs, ours) = (&stage.theirs, &stage.ours);
    let id = &theirs.certificate;
    let added = json!({ "type": ["refvalue"], "content": ours.signer.pem });
    vec![
        Case::query("/cert", "ids", id, "?ids="),
        Case::query("/cert", "ids", &theirs.list, "?cert_type=crl&ids="),
        Case::query("/cert", "cursor", "their-signer", "?cursor="),
        Case::query("/cert", "cursor", "their-list", "?cert_type=crl&cursor="),
        Case::body(("post", "/cert"), "name", "their-signer", added)
            .nothing(untaken("their-signer"))
            .random(&["/cert/cert_id"]),
        Case::body(("put", "/cert"), "id", id, json!({ "description": "ours" })).refused(404, "unknown"),
        Case::body(("put", "/cert"), "id", id, json!({ "name": "ours", "type": ["refvalue"] }))
            .refused(404, "unknown"),
        Case::body(("put", "/cert"), "name", "their-signer", json!({ "id": ours.certificate }))
            .random(&["/cert/version"]),
        Case::deletion("/cert", id, json!({ "delete_type": "id" })).refused(404, "unknown"),
        Case::deletion("/cert", &theirs.list, json!({ "delete_type": "id", "type": "crl" }))
            .refused(404, "unknown"),
    ]
}

fn values(stage: &Stage) -> Vec<Case> {
    let theirs = &stage.theirs;
    let id = &theirs.values;
    let signed = signed_values(&theirs.signer);
    let elsewhere = || [(); 2].map(|()| signed_values(&Signer::new()));
    let added = json!({ "attester_type": "tpm_ima", "content": signed_values(&stage.ours.signer) });
    let ours = json!({ "id": stage.ours.values });
    vec![
        Case::query("/ref_value", "ids", id, "?ids="),
        Case::query("/ref_value", "cursor", "their-values", "?cursor="),
        Case::body(("post", "/ref_value"), "name", "their-values", added)
            .nothing(untaken("their-values"))
            .random(&["/ref_value/id"]),
        Case::body(
            ("post", "/ref_value"),
            "content",
            &signed,
            json!({ "name": "signed", "attester_type": "tpm_ima" }),
        )
        .nothing(elsewhere())
        .refused(400, "signature_invalid"),
        Case::body(("put", "/ref_value"), "id", id, json!({ "description": "ours" })).refused(404, "unknown"),
        Case::body(("put", "/ref_value"), "name", "their-values", ours.clone())
            .random(&["/ref_value/version"]),
        Case::body(("put", "/ref_value"), "content", &signed, ours)
            .nothing(elsewhere())
            .refused(400, "signature_invalid"),
        Case::deletion("/ref_value", id, json!({ "delete_type": "id" })).refused(404, "unknown"),
    ]
}

fn webhooks(stage: &Stage) -> Vec<Case> {
    let id = &stage.theirs.webhook;
    vec![
        Case::query("/webhook", "ids", id, "?ids="),
        Case::query("/webhook", "cursor", "their-webhook", "?cursor="),
        Case::body(("post", "/webhook"), "name", "their-webhook", json!({ "url": URL }))
            .nothing(untaken("their-webhook"))
            .random(&["/webhook/id", "/webhook/secret"]),
        Case::body(("put", "/webhook"), "id", id, json!({ "description": "ours" })).refused(404, "unknown"),
        Case::body(("put", "/webhook"), "id", id, json!({ "new_secret": true })).refused(404, "unknown"),
        Case::body(("put", "/webhook"), "name", "their-webhook", json!({ "id": stage.ours.webhook }))
            .random(&["/webhook/version"]),
        Case::deletion("/webhook", id, json!({ "delete_type": "id" })).refused(404, "unknown"),
    ]
}
