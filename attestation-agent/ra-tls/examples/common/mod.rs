//! Options of both examples.

use std::error::Error;

use jose::TokenKeys;
use ra_tls::{Passports, Policy};

pub struct Options {
    /// Where to listen, or to connect.
    pub address: String,
    /// Address of the agent in this guest.
    pub agent: String,
    /// Whether the client proves itself, too.
    pub mutual: bool,
    token_keys: String,
}

impl Options {
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            address: "127.0.0.1:4433".to_owned(),
            agent: "http://127.0.0.1:8081".to_owned(),
            mutual: false,
            token_keys: String::new(),
        };
        while let Some(name) = arguments.next() {
            let place = match name.as_str() {
                "--listen" | "--connect" => &mut options.address,
                "--agent" => &mut options.agent,
                "--token-keys" => &mut options.token_keys,
                "--mutual" => {
                    options.mutual = true;
                    continue;
                }
                other => return Err(format!("unknown option {other}").into()),
            };
            *place = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        }
        Ok(options)
    }

    /// Believes tokens of the service whose keys are in the file of `--token-keys` (a JWK set).
    pub fn policy(&self) -> Result<Policy, Box<dyn Error>> {
        let jwks = std::fs::read(&self.token_keys).map_err(|error| format!("--token-keys: {error}"))?;
        let passports = Passports { keys: TokenKeys::from_jwks(&jwks)?, issuer: None, audience: None };
        Ok(Policy::default().with_passports(passports))
    }
}
