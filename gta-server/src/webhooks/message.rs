//! What is posted, signed as the Standard Webhooks specification (1.0.0) has it, so that receivers have libraries for
//! it.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use service_kit::environment::{EntropyError, Environment};
use zeroize::Zeroizing;

use crate::health::Event;
use crate::store::Numbered;

/// What a secret begins with.
const PREFIX: &str = "whsec_";
const SECRET_LEN: usize = 32;
/// What is said of a change of how a node is.
const NODE_STATUS: &str = "node.status";

/// What the receiver knows messages by.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// A new one.
    pub fn generate(environment: &Environment) -> Result<Self, EntropyError> {
        Ok(Self(Zeroizing::new(environment.random::<SECRET_LEN>()?.to_vec())))
    }

    /// One that was kept.
    pub const fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As the receiver has it.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", STANDARD.encode(&self.0)))
    }
}

/// An event on its way.
pub struct Message {
    /// The event's id, which is the same whenever it is sent.
    pub id: String,
    /// When it is sent, seconds since the Unix epoch.
    pub timestamp: i64,
    /// What has happened, as JSON.
    pub body: String,
    /// HMAC-SHA-256 over the three, each followed by a dot but the last.
    pub signature: String,
}

impl Message {
    /// What is told of `event` at `now`.
    pub fn new(tenant: &str, event: &Numbered<Event>, secret: &Secret, now: i64) -> Self {
        let id = event.document.id.clone();
        let data = event.document.body.shown(event.seq);
        let body = json!({ "type": NODE_STATUS, "tenant": tenant, "data": data }).to_string();
        let signature = signature(secret, &id, now, &body);
        Self { id, timestamp: now, body, signature }
    }
}

fn signature(secret: &Secret, id: &str, timestamp: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret.0);
    let tag = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(tag.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the libraries of the specification are tested with.
    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        let text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let bytes = STANDARD.decode(text.strip_prefix(PREFIX).unwrap()).unwrap();
        let secret = Secret::from_bytes(Zeroizing::new(bytes));
        assert_eq!(*secret.text(), text);
        let of = |id: &str, at, body: &str| signature(&secret, id, at, body);
        let (id, at, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(of(id, at, body), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_ne!(of(id, at + 1, body), of(id, at, body));
    }
}
