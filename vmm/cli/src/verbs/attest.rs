//! A domain proves what it is.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_client::{AgentClient, Endpoint};
use anyhow::{Context as _, bail};
use api::VmConfig;
use clap::Args;
use jose::TokenKeys;
use rand::RngExt as _;
use serde::Serialize;
use time::OffsetDateTime;

use super::measure::expected_rim;
use super::{Context, backend_name};
use crate::attest::{Demand, NONCE_LEN, Proof, challenge_for, prove};
use crate::output::{self, Format};
use crate::state::{DomainState, Observation};

const HELP: &str = "\
The agent in the guest must listen on vsock:
  attestation-agent daemon --service https://as.example:8443 --service-cert as.pem --listen vsock:8081 --allow-remote
Examples:
  curl --cacert as.pem https://as.example:8443/.well-known/jwks.json > as.jwks
  redoubt attest web --jwks as.jwks --issuer redoubt
  redoubt attest web --service-key token-key.pem --policy strict.rego --format json";

/// Has a domain prove that what runs in it is what is defined: its agent fetches a token, which is checked.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub struct Attest {
    /// Name or uuid of the domain.
    domain: String,
    #[command(flatten)]
    keys: Keys,
    /// The issuer that the token must name.
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// A policy of the service that must accept the guest besides the default one; can be given several times.
    #[arg(long, value_name = "ID")]
    policy: Vec<String>,
    /// The vsock port on which the guest's agent listens.
    #[arg(long, default_value_t = 8081)]
    port: u32,
    /// Seconds to wait for each answer of the guest.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Whose tokens are believed.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Keys {
    /// JWK set of the attestation service (its /.well-known/jwks.json), fetched by a way that you trust.
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,
    /// Public key or certificate with which the attestation service signs tokens, in PEM.
    #[arg(long, value_name = "FILE")]
    service_key: Option<PathBuf>,
}

impl Keys {
    fn read(&self) -> anyhow::Result<TokenKeys> {
        let read = |path: &PathBuf| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let (path, keys) = match (&self.jwks, &self.service_key) {
            (Some(path), None) => (path, TokenKeys::from_jwks(&read(path)?)),
            (None, Some(path)) => (path, TokenKeys::from_pem(&read(path)?)),
            _ => bail!("whose tokens are to be believed? Give --jwks FILE or --service-key FILE"),
        };
        keys.with_context(|| format!("{} has no keys of an attestation service", path.display()))
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    domain: &'a str,
    state: DomainState,
    realm: String,
    expected_rim: &'a str,
    attested_rim: &'a str,
    verdict: &'a str,
    policies: &'a [String],
    lifecycle: Option<&'a str>,
    token_expires: i64,
}

impl Attest {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let keys = self.keys.read()?;
        let observation = context.observe(&self.domain)?;
        let Observation { name, state, reason, .. } = &observation;
        if *state != DomainState::Running {
            bail!("domain {name:?} cannot prove anything: it is {state} ({reason})");
        }
        // The definition, not what the VMM says of the VM: what runs is on trial.
        let config = observation.domain.as_ref().map(|domain| &domain.config);
        let config = config.with_context(|| format!("domain {name:?} has no definition: {reason}"))?;
        let Some(realm) = &config.realm else {
            bail!("domain {name:?} is not a Realm, so it cannot prove anything: give it <launchSecurity>");
        };
        let agent = self.agent(name, config)?;
        let rim = expected_rim(context, config)?;
        let proof = self
            .ask(&agent, &keys, &rim)
            .with_context(|| format!("domain {name:?} has not proven that it is what is defined"))?;
        self.print(&Answer {
            domain: name,
            state: *state,
            realm: backend_name(realm.backend),
            expected_rim: &rim,
            attested_rim: &proof.rim,
            verdict: "accepted",
            policies: &proof.policies,
            lifecycle: proof.lifecycle.as_deref(),
            token_expires: proof.expires,
        })
    }

    fn agent(&self, name: &str, config: &VmConfig) -> anyhow::Result<AgentClient> {
        let Some(vsock) = &config.vsock else {
            bail!(
                "domain {name:?} has no vsock device, by which its agent could be asked: add to its devices <vsock \
                 model='virtio'><cid address='3'/><source type='unix' path='/run/{name}.vsock'/></vsock>, and start \
                 it anew"
            );
        };
        let endpoint = Endpoint::Vsock { socket: vsock.socket.clone(), port: self.port };
        Ok(AgentClient::new(endpoint).with_timeout(Duration::from_secs(self.timeout)))
    }

    fn ask(&self, agent: &AgentClient, keys: &TokenKeys, rim: &str) -> anyhow::Result<Proof> {
        let nonce: [u8; NONCE_LEN] = rand::rng().random();
        let policies = (!self.policy.is_empty()).then_some(self.policy.as_slice());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (challenge, token) = runtime.block_on(async {
            let challenge = agent.challenge(&nonce).await.map_err(|error| self.explain(error))?;
            let bytes = challenge_for(&nonce, &challenge)?;
            let token = agent.token(&challenge, policies).await.map_err(|error| self.explain(error))?;
            anyhow::Ok((bytes, token))
        })?;
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        let issuer = self.issuer.as_deref();
        let demand = Demand { keys, issuer, challenge: &challenge, rim, policies: &self.policy, now };
        Ok(prove(&token, &demand)?)
    }

    fn explain(&self, error: agent_client::Error) -> anyhow::Error {
        let listens = matches!(error, agent_client::Error::Connect { .. });
        let error = anyhow::Error::new(error);
        if !listens {
            return error;
        }
        error.context(format!(
            "no agent answers; start one in the guest with `attestation-agent daemon --listen vsock:{} \
             --allow-remote`, or say with --port where it listens",
            self.port
        ))
    }

    fn print(&self, answer: &Answer<'_>) -> anyhow::Result<()> {
        if self.format == Format::Json {
            return output::json(answer);
        }
        let policies = match answer.policies {
            [] => answer.verdict.to_owned(),
            names => format!("{} by {}", answer.verdict, names.join(", ")),
        };
        let expires = OffsetDateTime::from_unix_timestamp(answer.token_expires);
        let expires = expires.map_or_else(
            |_| answer.token_expires.to_string(),
            |at| format!("{} {:02}:{:02}:{:02} UTC", at.date(), at.hour(), at.minute(), at.second()),
        );
        output::properties(
            self.format,
            &[
                ("Domain", answer.domain.to_owned()),
                ("State", answer.state.to_string()),
                ("Realm", answer.realm.clone()),
                ("Expected RIM", answer.expected_rim.to_owned()),
                ("Attested RIM", answer.attested_rim.to_owned()),
                ("Verdict", policies),
                ("Lifecycle", answer.lifecycle.unwrap_or("not told by this evidence").to_owned()),
                ("Token expires", expires),
            ],
        )
    }
}
