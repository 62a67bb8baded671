//! A tenant that knows what its machines have: a signer of its reference values, and default policies.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Answer, Machine, Signer, World};

/// A world whose tenant has a signer.
pub struct Tenant {
    pub world: World,
    signer: Signer,
}

impl Tenant {
    pub async fn new() -> Self {
        let world = World::new().await;
        let signer = Signer::new();
        let certificate = json!({ "name": "signer", "type": ["refvalue"], "content": signer.pem });
        world.admin.post(&world.instance, "/cert", &certificate).await.ok();
        Self { world, signer }
    }

    pub async fn register(&self, name: &str, kind: &str, payload: &Value) -> Answer {
        let values = json!({ "name": name, "attester_type": kind, "content": self.signer.sign(payload) });
        self.world.admin.post(&self.world.instance, "/ref_value", &values).await
    }

    /// The shipped policy with rules beside it, as the tenant's default.
    pub async fn demand(&self, name: &str, kind: &str, rules: Value) {
        let rego = match kind {
            "tpm_boot" => include_str!("../../../policies/gta/tpm_boot.rego"),
            _ => include_str!("../../../policies/gta/tpm_ima.rego"),
        };
        let policy = json!({ "name": name, "attester_type": [kind], "content_type": "text", "is_default": true,
            "content": STANDARD.encode(rego), "rules": rules });
        self.world.admin.post(&self.world.instance, "/policy", &policy).await.ok();
    }

    /// The verdict on a machine, and what is said of its log.
    pub async fn judge(&self, machine: &Machine, kind: &str) -> (String, Value) {
        let measurement = machine.good(&self.world, kind).await;
        let (status, token) = self.world.result(self.world.attest(measurement).await).await;
        (status, token[kind]["evidence"]["logs"][0].clone())
    }
}
