//! Machines whose maker put a certified key into their TPM, which certifies their attestation key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::tpm::{Attested, Attributes, PcrSelection, Public};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384};
use serde_json::{Value, json};
use verifier::testing::{Authority, Tpm};

use crate::support::{Answer, Machine, World, qualifying};

struct Maker {
    world: World,
    authority: Authority,
    /// The machine's TPM as the maker sees it: its attestation key is the initial one.
    initial: Tpm,
    machine: Machine,
}

impl Maker {
    async fn new() -> Self {
        let world = World::new().await;
        let authority = Authority::root(Authority::ca_params("Maker", 2), &PKCS_ECDSA_P384_SHA384);
        let certificate = json!({ "name": "iak", "type": ["tpm_iak"], "content": authority.pem() });
        world.admin.post(&world.instance, "/cert", &certificate).await.ok();
        let initial = Tpm::new(&authority);
        let machine = Machine::new("node-1", &world.maker);
        Self { world, authority, initial, machine }
    }

    fn params() -> CertificateParams {
        let mut params = Authority::params("IAK");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 3])];
        params
    }

    fn certificate(&self, authority: &Authority, params: &CertificateParams) -> Value {
        json!(authority.issue(params, &self.initial.attestation_key_pair()).pem())
    }

    async fn nonce(&self) -> String {
        self.world.agent.nonce(&self.world.instance, Some("node-1")).await
    }

    /// A request that is right in everything.
    async fn request(&self) -> Value {
        let nonce = self.nonce().await;
        self.certifying(&nonce, &self.machine.tpm.attestation_public())
    }

    fn certifying(&self, nonce: &str, key: &Public) -> Value {
        let name = key.name().as_bytes().to_vec();
        let statement = Attested::Certify { name: name.clone(), qualified_name: name };
        let (attest, signature) = self.initial.sign(statement, &qualifying(nonce, None));
        json!({
            "node_id": "node-1",
            "nonce": nonce,
            "iak_certificate": self.certificate(&self.authority, &Self::params()),
            "ak_public": STANDARD.encode(key.encode()),
            "certify_info": STANDARD.encode(attest),
            "signature": STANDARD.encode(signature),
        })
    }

    async fn enrol(&self, request: &Value) -> Answer {
        self.world.agent.post(&self.world.instance, "/enroll/certified", request).await
    }
}

#[tokio::test]
async fn a_machine_whose_initial_key_certifies_its_attestation_key_becomes_a_node() {
    let maker = Maker::new().await;
    let answer = maker.enrol(&maker.request().await).await.ok();
    assert_eq!((&answer["node_id"], &answer["provenance"]["kind"]), (&json!("node-1"), &json!("certified")));
    assert_eq!(answer["provenance"]["root"], "C=CN, CN=Maker");
    let measurement = maker.machine.good(&maker.world, "tpm_boot").await;
    assert_eq!(maker.world.result(maker.world.attest(measurement).await).await.0, "pass");
    assert_eq!(maker.enrol(&maker.request().await).await.problem(), (409, "node_exists"));
}

/// W6: a LAK proves nothing unless an IAK has certified it.
#[tokio::test]
async fn a_key_that_no_initial_key_has_certified_is_refused() {
    let maker = Maker::new().await;
    let other = Tpm::new(&maker.world.maker);
    let selection = vec![PcrSelection {
        bank: evidence::bank::Bank::Sha256,
        pcrs: evidence::tpm::PcrSet::new([0]).unwrap(),
    }];
    let quote = Attested::Quote { selection, pcr_digest: vec![0; 32] };
    let with = |mut request: Value, member: &str, value: Value| {
        request[member] = value;
        request
    };
    let nonce = maker.nonce().await;
    let (quoted, quote_signature) = maker.initial.sign(quote, &qualifying(&nonce, None));
    let quoted = with(
        maker.certifying(&nonce, &maker.machine.tpm.attestation_public()),
        "certify_info",
        json!(STANDARD.encode(quoted)),
    );
    let quoted = with(quoted, "signature", json!(STANDARD.encode(quote_signature)));
    let own_name = maker.machine.tpm.attestation_public().name().as_bytes().to_vec();
    let nonce = maker.nonce().await;
    let by_itself = maker.machine.tpm.sign(
        Attested::Certify { name: own_name.clone(), qualified_name: own_name },
        &qualifying(&nonce, None),
    );
    let itself = with(
        maker.certifying(&nonce, &maker.machine.tpm.attestation_public()),
        "certify_info",
        json!(STANDARD.encode(by_itself.0)),
    );
    let itself = with(itself, "signature", json!(STANDARD.encode(by_itself.1)));
    let uncertified = (400, "attestation_key_uncertified");
    for (what, request, problem) in [
        (
            "another key",
            with(
                maker.request().await,
                "ak_public",
                json!(STANDARD.encode(other.attestation_public().encode())),
            ),
            uncertified,
        ),
        ("a quote", quoted, uncertified),
        ("the key itself", itself, uncertified),
        (
            "another signature",
            with(maker.request().await, "signature", maker.request().await["signature"].clone()),
            uncertified,
        ),
        (
            "no structure",
            with(maker.request().await, "certify_info", json!("AAAA")),
            (400, "evidence_malformed"),
        ),
        ("no base64", with(maker.request().await, "certify_info", json!("%")), (400, "base64_malformed")),
        ("no key", with(maker.request().await, "ak_public", json!("AAAA")), (400, "tpm_public_malformed")),
    ] {
        assert_eq!(maker.enrol(&request).await.problem(), problem, "{what}");
    }
    // The initial key vouches for where a key is, not for what it can be used for.
    let mut free = maker.machine.tpm.attestation_public();
    free.attributes.0 &= !Attributes::RESTRICTED.0;
    let request = maker.certifying(&maker.nonce().await, &free);
    assert_eq!(maker.enrol(&request).await.problem(), (400, "tpm_key_unsuitable"));
}

#[tokio::test]
async fn an_initial_key_that_nobody_vouches_for_is_refused() {
    let maker = Maker::new().await;
    let stranger = Authority::root(Authority::ca_params("Maker", 2), &PKCS_ECDSA_P384_SHA384);
    let mut other_use = Maker::params();
    other_use.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut old = Maker::params();
    old.not_after = rcgen::date_time_ymd(2021, 1, 1);
    for (certificate, problem) in [
        (maker.certificate(&stranger, &Maker::params()), (400, "certificate_untrusted")),
        // Makers of endorsement keys are trusted with these alone.
        (maker.certificate(&maker.world.maker, &Maker::params()), (400, "certificate_untrusted")),
        (maker.certificate(&maker.authority, &other_use), (400, "certificate_constraint")),
        (maker.certificate(&maker.authority, &old), (400, "certificate_expired")),
        (json!("%"), (400, "certificate_malformed")),
    ] {
        let mut request = maker.request().await;
        request["iak_certificate"] = certificate;
        assert_eq!(maker.enrol(&request).await.problem(), problem);
    }
}

#[tokio::test]
async fn a_certification_is_fresh_and_for_this_machine() {
    let maker = Maker::new().await;
    let request = maker.request().await;
    let mut other = request.clone();
    other["node_id"] = json!("node-2");
    assert_eq!(maker.enrol(&other).await.problem(), (400, "nonce_used"));
    // Another tenant has not registered the maker.
    let theirs = maker.world.other.post(&maker.world.instance, "/enroll/certified", &request).await;
    assert_eq!(theirs.problem(), (400, "certificate_untrusted"));
    let mut old = maker.request().await;
    old["nonce"] = json!(maker.nonce().await);
    assert_eq!(maker.enrol(&old).await.problem(), (400, "nonce_mismatch"));
    maker.enrol(&request).await.ok();
    let gone = json!({ "delete_type": "id", "ids": ["node-1"] });
    maker.world.admin.delete(&maker.world.instance, "/node", &gone).await.ok();
    assert_eq!(maker.enrol(&request).await.problem(), (400, "nonce_used"));
}
