//! A tenant with machines in every state.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::bank::Bank;
use evidence::tcg::EventType;
use gta_server::model::Role;
use rcgen::PKCS_ECDSA_P384_SHA384;
use serde_json::{Value, json};
use verifier::testing::{Authority, NOW};

use crate::support::{Client, Database, Home, Machine, Signer, TENANT, World, strict};

/// What people and machines of the fleet have written.
pub struct Words {
    /// In descriptions, paths of files, names of authorities and actors.
    pub markup: &'static str,
    /// The name of a node, which may have less.
    pub name: &'static str,
    /// The name of another one.
    pub backwards: &'static str,
}

impl Words {
    /// Would run if a page made markup of it, and a name that would end with its middle.
    pub const HOSTILE: Self = Self {
        markup: "<img src=x onerror=\"window.hacked=1\">",
        name: "img src=x onerror=(window.hacked=1)",
        backwards: "web\u{202e}30-bd",
    };
    /// As most are.
    pub const PLAIN: Self = Self { markup: "spring release", name: "web-05", backwards: "web-06" };
}

const POLICY: &str = r#"# Machines of the fleet boot with Secure Boot, and with a loader that was released.
package verification

default result := {"policy_matched": false}

log := input.evidence.logs[0]

released := {"LOADER"}

loaders contains event.digest.sha256 if {
	some event in log.log_data
	event.pcr_index == 4
}

known_loader if {
	every loader in loaders {
		loader in released
	}
}

result := {"policy_matched": true, "custom_data": {"loaders": count(loaders)}} if {
	log.log_status == "replay_success"
	log.secure_boot
	known_loader
}
"#;

pub struct Fleet {
    pub world: World,
    pub auditor: Client,
    pub relying_party: Client,
    pub policy: String,
}

impl Fleet {
    pub async fn new(words: &Words) -> Self {
        let home = Home::new(Database::Sqlite);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        home.clock.advance(i64::try_from(now).unwrap() - NOW - 7200);
        let world = World::of(home, strict()).await;
        let client = async |role, actor| {
            let key = world.instance.service.add_key(TENANT, role, actor).await.unwrap();
            Client { tenant: TENANT.to_owned(), key }
        };
        let auditor = client(Role::Auditor, words.markup).await;
        let relying_party = client(Role::RelyingParty, "operator").await;
        let policy = registered(&world, words.markup).await;
        let fleet = Self { world, auditor, relying_party, policy };
        fleet.report(words).await;
        fleet
    }

    /// Two hours of the machines' lives.
    async fn report(&self, words: &Words) {
        let world = &self.world;
        let later = |seconds| world.home.clock.advance(seconds);
        for name in ["web-01", "web-02", "web-03", "web-04", "cache-1", words.backwards, words.name] {
            later(61);
            let mut machine = world.machine(name).await;
            machine.measure("/usr/bin/bash", &[1; 32]);
            self.send(&machine, "tpm_ima", Some(7200)).await;
        }
        let mut database = world.machine("db-1").await;
        self.send(&database, "tpm_ima", Some(3600)).await;
        later(1800);
        let late = world.machine("lab-9").await;
        self.send(&late, "tpm_boot", Some(600)).await;
        later(1200);
        database.measure("/usr/bin/bash", &[1; 32]);
        database.measure("/opt/.cache/miner", &[9; 32]);
        database.measure(&format!("/tmp/{}", words.markup), &[8; 32]);
        self.send(&database, "tpm_ima", Some(3600)).await;
        world.instance.service.note_missed().await.unwrap();
        later(1500);
        let mut edge = world.machine("edge-3").await;
        self.send(&edge, "tpm_boot", None).await;
        later(300);
        edge.boot.measure(4, EventType::IPL, b"a loader that was not run", &b"a loader that was not run"[..]);
        self.send(&edge, "tpm_boot", None).await;
        later(420);
        let mut build = Machine::new("build-7", &world.maker);
        build.boot.measure(4, EventType::IPL, b"a loader", &b"a loader"[..]);
        let event = build.boot.events.last().unwrap();
        let digest = event.digest(Bank::Sha256).unwrap().to_vec();
        build.tpm.extend(4, &digest);
        build.enrol(world).await.ok();
        self.send(&build, "tpm_boot", None).await;
        later(240);
        let forger = world.machine("cache-2").await;
        let mut forged = forger.good(world, "tpm_boot").await;
        forged["evidences"][0]["evidence"]["pcrs"]["pcr_values"][0]["pcr_value"] = json!("22".repeat(32));
        world.attest(forged).await;
        world.machine("spare-1").await;
    }

    pub async fn send(&self, machine: &Machine, kind: &str, interval: Option<u32>) {
        let mut measurement = machine.good(&self.world, kind).await;
        if let Some(interval) = interval {
            measurement["report_interval"] = json!(interval);
        }
        self.world.attest(measurement).await.ok();
    }
}

/// Gives the id of the policy.
async fn registered(world: &World, markup: &str) -> String {
    let signer = Signer::new();
    let post = async |path: &str, body: Value| world.admin.post(&world.instance, path, &body).await.ok();
    let certificate = json!({ "name": "release", "description": "Signs what is released",
        "type": ["refvalue", "policy"], "content": signer.pem });
    post("/cert", certificate).await;
    let stranger = Authority::root(Authority::ca_params(markup, 1), &PKCS_ECDSA_P384_SHA384);
    post("/cert", json!({ "name": "lab", "type": ["tpm_boot"], "content": stranger.pem() })).await;
    let list = stranger.revocation_list(&[7, 8], 2025..2059);
    post("/cert", json!({ "name": "lab-revoked", "type": ["crl"], "crl_content": list })).await;
    let mut files: Vec<Value> = (1..=300)
        .map(|n| json!({ "fileName": format!("/usr/lib/modules/module-{n:03}.ko"), "sha256": format!("{n:02x}").repeat(32)[..64] }))
        .collect();
    files.push(json!({ "fileName": "/usr/bin/bash", "sha256": "01".repeat(32) }));
    files.push(json!({ "fileName": format!("/usr/bin/{markup}"), "sha256": "02".repeat(32) }));
    let content = signer.sign(&json!({ "referenceValues": files }));
    post(
        "/ref_value",
        json!({ "name": "debian-13", "description": markup, "attester_type": "tpm_ima", "content": content }),
    )
    .await;
    let loader = hex::encode(Bank::Sha256.hash([&[0; 4][..]]).as_bytes());
    let policy = json!({
        "name": "secure-boot",
        "description": markup,
        "attester_type": ["tpm_boot"],
        "is_default": true,
        "content_type": "text",
        "content": STANDARD.encode(POLICY.replace("LOADER", &loader)),
    });
    post("/policy", policy).await["policy"]["id"].as_str().unwrap().to_owned()
}
