//! Machines with TPMs, and signers, as files and quotes of theirs.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use evidence::bank::{Bank, BankValue};
use evidence::ima::{ExtendRule, FileDigest, LogWriter, Template};
use evidence::tcg::{EventLog, EventType, Variable};
use evidence::tpm::{EncryptedSecret, IdObject};
use serde_json::{Value, json};
use verifier::testing::{Authority, Tpm};

pub const BOOT: [u32; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

/// A machine with a TPM, a measured boot and an IMA log.
pub struct Machine {
    pub name: String,
    pub tpm: Tpm,
    pub boot: EventLog<'static>,
    pub files: LogWriter,
}

impl Machine {
    pub fn new(name: &str, maker: &Authority) -> Self {
        let mut machine = Self {
            name: name.to_owned(),
            tpm: Tpm::new(maker),
            boot: EventLog::crypto_agile(0, &[Bank::Sha256]),
            files: LogWriter::default(),
        };
        machine.start();
        machine
    }

    /// Boots with Secure Boot on, up to IMA's first entry.
    pub fn start(&mut self) {
        self.boot = EventLog::crypto_agile(0, &[Bank::Sha256]);
        let secure =
            Variable { vendor: Variable::GLOBAL, name: "SecureBoot".to_owned(), value: &[1] }.encode();
        self.boot.measure(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, &secure, secure.clone());
        self.boot.measure(4, EventType::SEPARATOR, &[0; 4], &[0; 4][..]);
        self.boot.measure(9, EventType::IPL, b"the kernel", &b"/vmlinuz\0"[..]);
        for event in &self.boot.events {
            self.tpm.extend(event.register, event.digest(Bank::Sha256).unwrap());
        }
        self.files = LogWriter::default();
        let aggregate =
            Bank::Sha256.hash(BOOT.map(|pcr| self.tpm.register(pcr)).iter().map(BankValue::as_bytes));
        self.measure("boot_aggregate", aggregate.as_bytes());
    }

    /// Linux uses a file.
    pub fn measure(&mut self, path: &str, digest: &[u8]) {
        let digest = FileDigest { verity: false, algorithm: "sha256", value: digest };
        self.log(|list| list.measure(10, Template::ImaNg, digest, path.as_bytes(), &[]));
    }

    /// Linux adds one entry to its list.
    pub fn log(&mut self, write: impl Fn(&mut LogWriter)) {
        let mut one = LogWriter::default();
        write(&mut one);
        write(&mut self.files);
        let bytes = one.finish();
        let list = evidence::ima::Log::new(&bytes).unwrap();
        let entry = list.entries().next().unwrap().unwrap();
        self.tpm.extend(10, entry.extension(Bank::Sha256, ExtendRule::PerBank).as_bytes());
    }

    pub fn enrolment(&self) -> Value {
        json!({
            "node_id": self.name,
            "ek_certificate": STANDARD.encode(&self.tpm.endorsement_certificate),
            "ek_public": STANDARD.encode(self.tpm.endorsement_public().encode()),
            "ak_public": STANDARD.encode(self.tpm.attestation_public().encode()),
        })
    }

    pub fn open(&self, answer: &Value) -> Option<Vec<u8>> {
        let decode = |name: &str| STANDARD.decode(answer[name].as_str().unwrap()).unwrap();
        let object = IdObject::decode(&decode("credential_blob")).unwrap();
        let secret = EncryptedSecret::decode(&decode("encrypted_secret")).unwrap();
        self.tpm.activate(&object, &secret)
    }

    /// Evidence of one type about `registers`, for what the quote is to contain.
    pub fn evidence(&self, kind: &str, registers: &[u32], qualifying: &[u8]) -> Value {
        let quote = self.tpm.quote(registers, qualifying);
        let values: Vec<Value> = quote
            .values
            .iter()
            .map(|(register, value)| json!({ "pcr_index": register, "pcr_value": value.to_string() }))
            .collect();
        let log = match kind {
            "tpm_boot" => {
                json!({ "log_type": "TcgEventLog", "log_data": STANDARD.encode(self.boot.encode()) })
            }
            _ => json!({ "log_type": "ImaLog", "log_data": STANDARD.encode(self.files.clone().finish()) }),
        };
        json!({
            "attester_type": kind,
            "evidence": {
                "quote": {
                    "quote_data": STANDARD.encode(&quote.attest),
                    "signature": STANDARD.encode(&quote.signature),
                },
                "pcrs": { "hash_alg": "sha256", "pcr_values": values },
                "logs": [log],
            },
        })
    }

    pub fn measurement(&self, nonce: &str, evidences: &[Value]) -> Value {
        json!({ "node_id": self.name, "nonce": nonce, "evidences": evidences })
    }

    pub fn for_nonce(&self, nonce: &str, kind: &str) -> Value {
        let registers: &[u32] = match kind {
            "tpm_boot" => &BOOT,
            _ => &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        };
        self.measurement(nonce, &[self.evidence(kind, registers, &qualifying(nonce, None))])
    }
}

/// The formula of the Global Trust Authority, written down a second time.
pub fn qualifying(nonce: &str, attester_data: Option<&str>) -> Vec<u8> {
    let mut bytes = STANDARD.decode(nonce).unwrap();
    if let Some(data) = attester_data {
        bytes.extend(STANDARD.encode(data).bytes());
    }
    Bank::Sha256.hash([&bytes[..]]).as_bytes().to_vec()
}

/// A signer of reference values or policies, and what it signs.
pub struct Signer {
    key: p256::ecdsa::SigningKey,
    pub pem: String,
}

impl Signer {
    pub fn new() -> Self {
        use p256::elliptic_curve::Generate as _;
        use p256::pkcs8::EncodePrivateKey as _;
        let secret = p256::SecretKey::generate_from_rng(&mut rand::rng());
        let pair = rcgen::KeyPair::try_from(secret.to_pkcs8_der().unwrap().as_bytes()).unwrap();
        let certificate = Authority::params("Signer").self_signed(&pair).unwrap();
        Self { key: secret.into(), pem: certificate.pem() }
    }

    pub fn sign(&self, payload: &Value) -> String {
        use p256::ecdsa::signature::Signer as _;
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(json!({ "alg": "ES256" }).to_string()),
            URL_SAFE_NO_PAD.encode(payload.to_string())
        );
        let signature: p256::ecdsa::Signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }
}
