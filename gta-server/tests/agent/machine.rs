//! A machine with swtpm, and a world whose tenant knows it.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use attestation_agent::gta::Options;
use evidence::bank::Bank;
use evidence::ima::{ExtendRule, FileDigest, Log, LogWriter, Template};
use evidence::tcg::{EventLog, EventType, Variable};
use gta_server::service::Settings;
use serde_json::{Value, json};
use test_swtpm::Swtpm;
use verifier::testing::NOW;

use crate::support::{Signer, World, strict};

/// What its agent calls it.
pub const NODE: &str = "web-7";

/// A machine with this TPM: what is in its logs is in the registers.
pub struct Machine {
    pub tpm: Swtpm,
    pub files: LogWriter,
}

impl Machine {
    pub fn start() -> Self {
        let mut machine = Self { tpm: Swtpm::start().unwrap(), files: LogWriter::default() };
        machine.boot();
        machine
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.tpm.directory().join(name)
    }

    pub fn extend(&self, pcr: u32, digest: &[u8]) {
        self.tpm.tool("tpm2_pcrextend", [format!("{pcr}:sha256={}", hex::encode(digest))]).unwrap();
    }

    /// Firmware measures, then Linux measures what that adds up to.
    pub fn boot(&mut self) {
        let mut boot = EventLog::crypto_agile(0, &[Bank::Sha256]);
        let secure =
            Variable { vendor: Variable::GLOBAL, name: "SecureBoot".to_owned(), value: &[1] }.encode();
        boot.measure(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, &secure, secure.clone());
        boot.measure(4, EventType::SEPARATOR, &[0; 4], &[0; 4][..]);
        for event in &boot.events {
            self.extend(event.register, event.digest(Bank::Sha256).unwrap());
        }
        self.tpm.write("boot.log", &boot.encode()).unwrap();
        self.tpm.tool("tpm2_pcrread", ["sha256:0,1,2,3,4,5,6,7,8,9", "-o", "registers"]).unwrap();
        let registers = self.tpm.read("registers").unwrap();
        self.files = LogWriter::default();
        let aggregate = Bank::Sha256.hash([&registers[..]]);
        self.measure("boot_aggregate", aggregate.as_bytes());
    }

    /// Linux uses a file.
    pub fn measure(&mut self, path: &str, digest: &[u8]) {
        let digest = FileDigest { verity: false, algorithm: "sha256", value: digest };
        let mut one = LogWriter::default();
        for log in [&mut one, &mut self.files] {
            log.measure(10, Template::ImaNg, digest, path.as_bytes(), &[]);
        }
        let bytes = one.finish();
        let list = Log::new(&bytes).unwrap();
        let entry = list.entries().next().unwrap().unwrap();
        self.extend(10, entry.extension(Bank::Sha256, ExtendRule::PerBank).as_bytes());
        self.tpm.write("ima.log", &self.files.clone().finish()).unwrap();
    }

    /// The options of its agent.
    pub fn options(&self, world: &World, port: u16) -> Options {
        self.tpm.write("key", format!("{}\n", world.agent.key).as_bytes()).unwrap();
        Options {
            service: Some(format!("http://127.0.0.1:{port}")),
            tenant: Some(world.agent.tenant.clone()),
            api_key_file: Some(self.path("key")),
            node_id: Some(NODE.to_owned()),
            tpm: Some(format!("swtpm:path={}", self.tpm.socket().display())),
            boot_log: Some(self.path("boot.log")),
            ima_log: Some(self.path("ima.log")),
            state: Some(self.path("state.json")),
            token_file: Some(self.path("token")),
            ..Options::default()
        }
    }
}

/// A world whose tenant believes the machine's manufacturer and knows these files.
pub async fn world(machine: &Machine, files: &[(&str, u8)]) -> World {
    world_with(strict(), machine, files).await
}

pub async fn world_with(settings: Settings, machine: &Machine, files: &[(&str, u8)]) -> World {
    let world = World::with(settings).await;
    // Its certificates were issued a moment ago, by the machine's clock.
    let now: i64 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap();
    world.home.clock.advance((now - NOW).max(0));
    trust(&world, "swtpm", &machine.tpm).await;
    let signer = Signer::new();
    let certificate = json!({ "name": "signer", "type": ["refvalue"], "content": signer.pem });
    world.admin.post(&world.instance, "/cert", &certificate).await.ok();
    let known: Vec<Value> = files
        .iter()
        .map(|(path, digest)| json!({ "fileName": path, "sha256": hex::encode([*digest; 32]) }))
        .collect();
    let content = signer.sign(&json!({ "referenceValues": known }));
    let values = json!({ "name": "files", "attester_type": "tpm_ima", "content": content });
    world.admin.post(&world.instance, "/ref_value", &values).await.ok();
    world
}

pub async fn trust(world: &World, name: &str, tpm: &Swtpm) {
    let certificates = json!({ "name": name, "type": ["tpm_ek"], "content": tpm.manufacturer().unwrap() });
    world.admin.post(&world.instance, "/cert", &certificates).await.ok();
}
