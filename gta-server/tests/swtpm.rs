//! A TPM that is not ours, driven by tpm2-tools: it is enrolled by its manufacturer's certificate, activated, quoted and
//! attested; tpm2_checkquote agrees on the same quote.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::bank::Bank;
use evidence::tcg::{EventLog, EventType, Variable};
use evidence::tpm::Public;
use serde_json::{Value, json};
use support::{Answer, World, qualifying};
use test_swtpm::Swtpm;
use verifier::testing::NOW;

const DATABASE: support::Database = support::Database::Sqlite;
const REGISTERS: &str = "sha256:0,1,2,3,4,5,6,7,8,9";

/// A machine with this TPM.
struct Machine {
    tpm: Swtpm,
    boot: EventLog<'static>,
}

impl Machine {
    /// Boots: what is in the log is in the registers.
    fn start() -> Self {
        let tpm = Swtpm::start().unwrap();
        let mut boot = EventLog::crypto_agile(0, &[Bank::Sha256]);
        let secure =
            Variable { vendor: Variable::GLOBAL, name: "SecureBoot".to_owned(), value: &[1] }.encode();
        boot.measure(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, &secure, secure.clone());
        boot.measure(4, EventType::SEPARATOR, &[0; 4], &[0; 4][..]);
        for event in &boot.events {
            let digest = hex::encode(event.digest(Bank::Sha256).unwrap());
            tpm.tool("tpm2_pcrextend", [format!("{}:sha256={digest}", event.register)]).unwrap();
        }
        Self { tpm, boot }
    }

    fn create_keys(&self) {
        self.tpm.tool("tpm2_createek", ["-c", "ek.ctx", "-u", "ek.pub", "-G", "rsa", "-Q"]).unwrap();
        let arguments = ["-C", "ek.ctx", "-c", "ak.ctx", "-u", "ak.pub", "-f", "tss", "-Q"];
        let algorithms = ["-G", "ecc", "-s", "ecdsa", "-g", "sha256"];
        self.tpm.tool("tpm2_createak", arguments.iter().chain(&algorithms)).unwrap();
        self.tpm.tool("tpm2_nvread", ["0x01c00002", "-o", "ek.der"]).unwrap();
    }

    fn enrolment(&self) -> Value {
        let public = |name| {
            let key = Public::decode_sized(&self.tpm.read(name).unwrap()).unwrap();
            STANDARD.encode(key.encode())
        };
        json!({
            "node_id": "real",
            "ek_certificate": STANDARD.encode(self.tpm.read("ek.der").unwrap()),
            "ek_public": public("ek.pub"),
            "ak_public": public("ak.pub"),
        })
    }

    /// `TPM2_ActivateCredential`, with the file of tpm2-tools: a magic number, a version, and the two structures.
    fn open(&self, begun: &Value) -> Vec<u8> {
        let part = |name: &str| STANDARD.decode(begun[name].as_str().unwrap()).unwrap();
        let header = [0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1];
        let file = [&header[..], &part("credential_blob"), &part("encrypted_secret")].concat();
        self.tpm.write("credential", &file).unwrap();
        self.tpm.tool("tpm2_startauthsession", ["--policy-session", "-S", "session.ctx"]).unwrap();
        self.tpm.tool("tpm2_policysecret", ["-S", "session.ctx", "-c", "e", "-Q"]).unwrap();
        let arguments =
            ["-c", "ak.ctx", "-C", "ek.ctx", "-i", "credential", "-o", "opened", "-P", "session:session.ctx"];
        self.tpm.tool("tpm2_activatecredential", arguments).unwrap();
        self.tpm.tool("tpm2_flushcontext", ["session.ctx"]).unwrap();
        self.tpm.read("opened").unwrap()
    }

    fn quote(&self, nonce: &str) -> Value {
        let qualifying = hex::encode(qualifying(nonce, None));
        let files = ["-m", "quote.msg", "-s", "quote.sig", "-o", "quote.pcrs", "-Q"];
        let arguments = ["-c", "ak.ctx", "-l", REGISTERS, "-q", &qualifying, "-g", "sha256"];
        self.tpm.tool("tpm2_quote", files.iter().chain(&arguments)).unwrap();
        let files = ["-u", "ak.pub", "-m", "quote.msg", "-s", "quote.sig", "-f", "quote.pcrs"];
        self.tpm.tool("tpm2_checkquote", files.iter().chain(&["-g", "sha256", "-q", &qualifying])).unwrap();
        self.measurement(nonce)
    }

    /// The last quote with the present values of the registers.
    fn measurement(&self, nonce: &str) -> Value {
        self.tpm.tool("tpm2_pcrread", [REGISTERS, "-o", "registers"]).unwrap();
        let registers = self.tpm.read("registers").unwrap();
        let values: Vec<Value> = (0..10)
            .zip(registers.chunks(32))
            .map(|(index, value): (u32, _)| json!({ "pcr_index": index, "pcr_value": hex::encode(value) }))
            .collect();
        let file = |name| STANDARD.encode(self.tpm.read(name).unwrap());
        json!({ "node_id": "real", "nonce": nonce, "evidences": [{
            "attester_type": "tpm_boot",
            "evidence": {
                "quote": { "quote_data": file("quote.msg"), "signature": file("quote.sig") },
                "pcrs": { "hash_alg": "sha256", "pcr_values": values },
                "logs": [{ "log_type": "TcgEventLog", "log_data": STANDARD.encode(self.boot.encode()) }],
            },
        }]})
    }
}

async fn enrol(world: &World, machine: &Machine) -> Answer {
    let begun = world.agent.post(&world.instance, "/enroll", &machine.enrolment()).await.ok();
    let credential = STANDARD.encode(machine.open(&begun));
    let activation = json!({ "enrollment_id": begun["enrollment_id"], "credential": credential });
    world.agent.post(&world.instance, "/enroll/activate", &activation).await
}

#[tokio::test]
async fn a_machine_with_swtpm_is_enrolled_attested_and_refused() {
    let world = World::new().await;
    // Its certificates were issued a moment ago, by the machine's clock.
    let now: i64 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap();
    world.home.clock.advance((now - NOW).max(0));
    let machine = Machine::start();
    machine.create_keys();
    let answer = world.agent.post(&world.instance, "/enroll", &machine.enrolment()).await;
    assert_eq!(answer.problem(), (400, "certificate_untrusted"));
    let certificates =
        json!({ "name": "swtpm", "type": ["tpm_ek"], "content": machine.tpm.manufacturer().unwrap() });
    world.admin.post(&world.instance, "/cert", &certificates).await.ok();
    assert_eq!(enrol(&world, &machine).await.ok()["provenance"]["root"], "CN=swtpm-localca-rootca");

    let nonce = world.agent.nonce(&world.instance, Some("real")).await;
    let (status, token) = world.result(world.attest(machine.quote(&nonce)).await).await;
    assert_eq!(status, "pass", "{token}");
    assert_eq!(token["tpm_boot"]["policy_info"][0]["custom_data"]["secure_boot"], true);

    // The quote of before with the registers of now, a log that is not complete any more, and an old quote.
    let nonce = world.agent.nonce(&world.instance, Some("real")).await;
    machine.quote(&nonce);
    machine.tpm.tool("tpm2_pcrextend", [format!("4:sha256={}", "11".repeat(32))]).unwrap();
    assert_eq!(world.attest(machine.measurement(&nonce)).await.problem(), (400, "pcr_digest_mismatch"));
    let nonce = world.agent.nonce(&world.instance, Some("real")).await;
    let (status, token) = world.result(world.attest(machine.quote(&nonce)).await).await;
    assert_eq!(status, "fail");
    assert_eq!(token["tpm_boot"]["evidence"]["logs"][0]["reason"]["code"], "log_mismatch");
    let nonce = world.agent.nonce(&world.instance, Some("real")).await;
    assert_eq!(world.attest(machine.measurement(&nonce)).await.problem(), (400, "nonce_mismatch"));
}
