//! Writes the seeds of the target `gta_body`, and what the authority knows beforehand: `cargo run --example gta_seeds`, in this
//! directory. The name of a seed ends with the status of its answer.

#[allow(dead_code, clippy::unwrap_used, reason = "a part of the authority's tests")]
#[path = "../../../gta-server/tests/support/machine.rs"]
mod machine;

use std::path::Path;
use std::{fs, io};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use machine::{BOOT, Machine, Signer, qualifying};
use rcgen::{KeyUsagePurpose, PKCS_ECDSA_P384_SHA384};
use serde_json::{Value, json};
use verifier::testing::{Authority, VirtccaMint};

const POLICY: &str = "package verification\nresult := {\"policy_matched\": input.evidence.logs[0].log_status == \"replay_success\"}";
/// What a relying party gives as its nonce: it is good every time.
const OWN_NONCE: [u8; 32] = [5; 32];

fn main() -> io::Result<()> {
    let seeds = Seeds::new();
    let setup: Vec<Value> = seeds
        .setup()
        .into_iter()
        .map(|(request, names)| json!({ "request": request, "names": names }))
        .collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::create_dir_all(root.join("setup"))?;
    fs::write(root.join("setup/gta_body.json"), serde_json::to_string_pretty(&setup)? + "\n")?;
    let corpus = root.join("corpus/gta_body");
    fs::create_dir_all(&corpus)?;
    let mut all = seeds.questions();
    all.extend(seeds.registrations());
    all.extend(seeds.changes());
    all.extend(seeds.attestations());
    for (name, request) in all {
        fs::write(corpus.join(name), request)?;
    }
    Ok(())
}

fn request(line: &str, who: &str, body: &Value) -> String {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    format!("{line}\n{who}\n{body}")
}

/// Everybody who signs something.
struct Seeds {
    maker: Authority,
    certifier: Authority,
    signer: Signer,
    machine: Machine,
    guest: Machine,
    realm: VirtccaMint,
}

impl Seeds {
    fn new() -> Self {
        let authority = |name| Authority::root(Authority::ca_params(name, 1), &PKCS_ECDSA_P384_SHA384);
        let maker = authority("Maker");
        let mut machine = Machine::new("node-1", &maker);
        machine.measure("/a", &[0x11; 32]);
        let (guest, signer) = (Machine::new("guest", &maker), Signer::new());
        Self {
            certifier: authority("AK CA"),
            realm: VirtccaMint::new([0; 64]),
            maker,
            signer,
            machine,
            guest,
        }
    }

    /// What is there, and what of it has a name.
    fn setup(&self) -> Vec<(String, Value)> {
        let add = |path: &str, body: Value| request(&format!("POST {path}"), "admin", &body);
        let certificate = |name: &str, kind: &str, pem: String| {
            add("/cert", json!({ "name": name, "type": [kind], "content": pem }))
        };
        let list = self.maker.revocation_list(&[1], 2025..2059);
        let node = json!({ "node_id": "node-1", "ak_public": self.machine.enrolment()["ak_public"] });
        let token = request("POST /attest", "agent", &self.boot());
        vec![
            (certificate("maker", "tpm_ek", self.maker.pem()), json!({ "$CERT": "/cert/cert_id" })),
            (certificate("certifier", "tpm_boot", self.certifier.pem()), json!({})),
            (certificate("root", "virt_cca", self.realm.root.pem()), json!({})),
            (certificate("sub", "virt_cca", self.realm.sub.pem()), json!({})),
            (certificate("policies", "policy", self.signer.pem.clone()), json!({})),
            (certificate("values", "refvalue", self.signer.pem.clone()), json!({})),
            (
                add("/cert", json!({ "name": "list", "type": ["crl"], "crl_content": list })),
                json!({ "$CRL": "/crl/crl_id" }),
            ),
            (add("/policy", self.policy("mine")), json!({ "$POLICY": "/policy/id" })),
            (add("/ref_value", self.files("files")), json!({ "$VALUES": "/ref_value/id" })),
            (add("/ref_value", self.realms("realms")), json!({})),
            (add("/node", node), json!({})),
            (token, json!({ "$TOKEN": "/tokens/0/token" })),
            (
                request("POST /enroll", "agent", &self.guest.enrolment()),
                json!({ "$ENROLMENT": "/enrollment_id" }),
            ),
        ]
    }

    fn policy(&self, name: &str) -> Value {
        json!({
            "name": name, "description": "d", "attester_type": ["tpm_boot", "tpm_ima"], "content_type": "text",
            "content": STANDARD.encode(POLICY),
        })
    }

    fn files(&self, name: &str) -> Value {
        let files = json!({ "referenceValues": [{ "fileName": "/a", "sha256": "11".repeat(32) }] });
        json!({ "name": name, "attester_type": "tpm_ima", "content": self.signer.sign(&files) })
    }

    fn realms(&self, name: &str) -> Value {
        let realms = json!({ "realms": [{ "name": "guest", "rim": "11".repeat(32), "rems": [null, null, null, null] }] });
        json!({ "name": name, "attester_type": "virt_cca", "content": self.signer.sign(&realms) })
    }

    /// Requests that change nothing.
    fn questions(&self) -> Vec<(&'static str, String)> {
        let ask = |line: &str, who: &str| request(line, who, &Value::Null);
        let body = |line: &str, who: &str, body: Value| request(line, who, &body);
        vec![
            ("policy_list.200", ask("GET /policy?attester_type=tpm_boot&limit=2&cursor=a", "auditor")),
            ("policy_ids.200", ask("GET /policy?ids=$POLICY,x", "admin")),
            ("cert_ids.200", ask("GET /cert?cert_type=tpm_ek&ids=$CERT", "admin")),
            ("cert_lists.200", ask("GET /cert?cert_type=crl", "admin")),
            ("ref_value_ids.200", ask("GET /ref_value?ids=$VALUES", "admin")),
            ("node_list.200", ask("GET /node?ids=node-1", "auditor")),
            ("status.200", ask("GET /status?status=passed&ids=node-1&limit=1&cursor=a", "relying-party")),
            ("event.200", ask("GET /event?node_id=node-1&after=0&limit=5", "relying-party")),
            ("event_before.200", ask("GET /event?before=9", "auditor")),
            ("event_stream.200", ask("GET /event/stream?after=0", "relying-party")),
            ("audit.200", ask("GET /audit?kind=cert&limit=2", "auditor")),
            ("audit_page.200", ask("GET /audit?cursor=1800000000.policy.2", "auditor")),
            ("keys.200", ask("GET /jwks", "")),
            ("stranger.401", ask("GET /policy", "acme abcdefghijklmnopqrstuvwxyz012345")),
            ("other.200", ask("GET /policy?ids=$POLICY", "other")),
            ("token.200", body("POST /token/verify", "other", json!({ "token": "$TOKEN" }))),
            ("token_none.200", body("POST /token/verify", "agent", json!({ "token": "e30.e30.AAAA" }))),
            (
                "challenge.200",
                body(
                    "POST /challenge",
                    "agent",
                    json!({ "attester_type": ["tpm_boot"], "node_id": "node-1" }),
                ),
            ),
        ]
    }

    /// Requests by which something comes to be.
    fn registrations(&self) -> Vec<(&'static str, String)> {
        let admin = |path: &str, body: Value| request(&format!("POST {path}"), "admin", &body);
        let jwt = self.signer.sign(&json!({ "policy": STANDARD.encode(POLICY) }));
        let signed = json!({ "name": "signed", "attester_type": ["tpm_ima"], "content_type": "jwt", "content": jwt, "is_default": true });
        let rules = json!({
            "name": "rules", "attester_type": ["virt_cca"], "content_type": "text", "content": STANDARD.encode(POLICY),
            "rules": { "virtcca": {}, "logs": {} },
        });
        let list = self.certifier.revocation_list(&[7], 2025..2059);
        let other = Machine::new("node-2", &self.maker);
        let pinned = json!({ "node_id": "node-2", "ak_public": other.enrolment()["ak_public"] });
        let activation = json!({ "enrollment_id": "$ENROLMENT", "credential": STANDARD.encode([1; 32]) });
        vec![
            ("policy_text.200", admin("/policy", self.policy("text"))),
            ("policy_jwt.200", admin("/policy", signed)),
            ("policy_rules.200", admin("/policy", rules)),
            (
                "cert_authority.200",
                admin(
                    "/cert",
                    json!({ "name": "again", "type": ["tpm_ek", "tpm_ima"], "content": self.maker.pem() }),
                ),
            ),
            (
                "cert_signer.200",
                admin(
                    "/cert",
                    json!({ "name": "signer", "type": ["refvalue", "policy"], "content": self.signer.pem }),
                ),
            ),
            (
                "cert_list.200",
                admin("/cert", json!({ "name": "more", "type": ["crl"], "crl_content": list })),
            ),
            ("ref_value_files.200", admin("/ref_value", self.files("more"))),
            ("ref_value_realms.200", admin("/ref_value", self.realms("others"))),
            ("node_pin.200", admin("/node", pinned)),
            ("enrol.200", request("POST /enroll", "agent", &other.enrolment())),
            ("activate.403", request("POST /enroll/activate", "agent", &activation)),
            ("register.200", request("POST /register", "agent", &Value::Null)),
        ]
    }

    /// Requests that change what is there.
    fn changes(&self) -> Vec<(&'static str, String)> {
        let admin = |line: &str, body: Value| request(line, "admin", &body);
        let mut policy = self.policy("changed");
        policy["id"] = json!("$POLICY");
        let mut values = self.files("changed");
        values["id"] = json!("$VALUES");
        vec![
            ("policy_put.200", admin("PUT /policy", policy)),
            (
                "cert_put.200",
                admin(
                    "PUT /cert",
                    json!({ "id": "$CERT", "name": "new", "description": "d", "type": ["tpm_ek"] }),
                ),
            ),
            ("ref_value_put.200", admin("PUT /ref_value", values)),
            (
                "policy_delete.200",
                admin("DELETE /policy", json!({ "delete_type": "id", "ids": ["$POLICY"] })),
            ),
            ("cert_delete.200", admin("DELETE /cert", json!({ "delete_type": "type", "type": "refvalue" }))),
            (
                "cert_list_delete.200",
                admin("DELETE /cert", json!({ "delete_type": "id", "type": "crl", "ids": ["$CRL"] })),
            ),
            ("ref_value_delete.200", admin("DELETE /ref_value", json!({ "delete_type": "all" }))),
            ("node_delete.200", admin("DELETE /node", json!({ "delete_type": "id", "ids": ["node-1"] }))),
            ("status_forget.200", admin("DELETE /status", json!({ "ids": ["node-1"] }))),
        ]
    }

    fn own_nonce() -> String {
        STANDARD.encode(OWN_NONCE)
    }

    fn measured(machine: &Machine, evidences: &[Value]) -> Value {
        let mut measurement = machine.measurement(&Self::own_nonce(), evidences);
        measurement["nonce_type"] = json!("user");
        json!({ "measurements": [measurement] })
    }

    fn boot(&self) -> Value {
        let bound = qualifying(&Self::own_nonce(), None);
        Self::measured(&self.machine, &[self.machine.evidence("tpm_boot", &BOOT, &bound)])
    }

    fn attestations(&self) -> Vec<(&'static str, String)> {
        let attest = |body: &Value| request("POST /attest", "agent", body);
        let bound = qualifying(&Self::own_nonce(), None);
        let with_ima: Vec<u32> = (0..11).collect();
        let ima = self.machine.evidence("tpm_ima", &with_ima, &bound);
        let both = Self::measured(
            &self.machine,
            &[self.machine.evidence("tpm_boot", &with_ima, &bound), ima.clone()],
        );
        let mut with_policy = self.boot();
        with_policy["measurements"][0]["evidences"][0]["policy_ids"] = json!(["$POLICY"]);
        with_policy["measurements"][0]["token_fmt"] = json!("ear");
        with_policy["measurements"][0]["report_interval"] = json!(60);
        let mut issued = self.boot();
        issued["measurements"][0]["nonce_type"] = json!("verifier");
        issued["measurements"][0]["nonce"] = json!("$NONCE");
        vec![
            ("attest_boot.200", attest(&self.boot())),
            ("attest_ima.200", attest(&Self::measured(&self.machine, &[ima]))),
            ("attest_both.200", attest(&both)),
            ("attest_policy.200", attest(&with_policy)),
            ("attest_nonce.400", attest(&issued)),
            ("attest_certified.200", attest(&self.certified(&bound))),
            ("attest_realm.200", attest(&self.realm(&bound))),
        ]
    }

    /// A machine that nobody has enrolled, and data that is bound to its quote.
    fn certified(&self, bound: &[u8]) -> Value {
        let mut params = Authority::params("AK");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = self.certifier.issue(&params, &self.guest.tpm.attestation_key_pair()).pem();
        let mut evidence = self.guest.evidence("tpm_boot", &BOOT, bound);
        evidence["evidence"]["ak_certs"] = json!([{ "cert_type": "aik", "cert_data": certificate }]);
        Self::measured(&self.guest, &[evidence])
    }

    fn realm(&self, bound: &[u8]) -> Value {
        let mut mint = self.realm.clone();
        let mut challenge = [0; 64];
        challenge.iter_mut().zip(bound).for_each(|(byte, bound)| *byte = *bound);
        mint.cvm.challenge = challenge;
        let evidence = json!({
            "vcca_token": STANDARD.encode(mint.token()),
            "dev_cert": STANDARD.encode(&mint.device_certificate),
            "logs": [],
        });
        let item = json!({ "attester_type": "virt_cca", "evidence": evidence });
        json!({ "measurements": [{
            "node_id": "cvm", "nonce_type": "user", "nonce": Self::own_nonce(), "evidences": [item],
        }] })
    }
}
