//! What is trusted: platform keys, authorities, appraisal policies.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use attestation_service::api::{CrlDocument, PolicyDocument, TrustAnchorDocument, TrustBundleDocument};
use attestation_service::names::Name;
use clap::{Args, Subcommand};
use hyper::Method;
use serde::de::DeserializeOwned;

use super::plane::Plane;
use super::{List, read_text};

#[derive(Debug, Subcommand)]
pub enum TrustAnchorCommand {
    /// Believe a platform's key
    Add {
        /// Its name; exceptions in policies refer to it
        #[arg(long)]
        name: Name,
        /// Implementation id of the platform, 32 bytes
        #[arg(long, value_name = "HEX", value_parser = bytes::<32>)]
        implementation_id: [u8; 32],
        /// Instance id of the platform, 33 bytes
        #[arg(long, value_name = "HEX", value_parser = bytes::<33>)]
        instance_id: [u8; 33],
        /// Public key in PEM
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Mark it as a development key, which only a policy that names it accepts
        #[arg(long)]
        development: bool,
        /// A note on where it came from
        #[arg(long, value_name = "TEXT", default_value = "")]
        source: String,
    },
    /// Show all
    List(List),
    /// Stop believing a platform's key
    Delete {
        /// Its name
        name: Name,
    },
}

#[derive(Debug, Subcommand)]
pub enum TrustBundleCommand {
    /// Believe devices that these authorities certify
    Add {
        /// Its name
        #[arg(long)]
        name: Name,
        /// Certificates in PEM
        #[arg(long, value_name = "FILE")]
        pem: PathBuf,
        /// A note on where they came from
        #[arg(long, value_name = "TEXT", default_value = "")]
        source: String,
    },
    /// Show all
    List(List),
    /// Stop believing them
    Delete {
        /// Its name
        name: Name,
    },
}

#[derive(Debug, Subcommand)]
pub enum CrlCommand {
    /// Register a revocation list, or its next issue
    Set {
        /// Its name
        #[arg(long)]
        name: Name,
        /// The list in PEM
        #[arg(long, value_name = "FILE")]
        pem: PathBuf,
        /// A note on where it came from
        #[arg(long, value_name = "TEXT", default_value = "")]
        source: String,
    },
    /// Show all
    List(List),
    /// Remove a revocation list
    Delete {
        /// Its name
        name: Name,
    },
}

#[derive(Debug, Args)]
pub struct PolicyText {
    /// Its name
    #[arg(long)]
    id: Name,
    /// Rego text: package attestation, rule output
    #[arg(long, value_name = "FILE")]
    rego: PathBuf,
    /// What it allows for named trust anchors, as JSON
    #[arg(long, value_name = "FILE")]
    exceptions: Option<PathBuf>,
    /// What it demands of platforms and logs, as JSON
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
}

impl PolicyText {
    fn document(self) -> anyhow::Result<PolicyDocument> {
        Ok(PolicyDocument {
            id: self.id,
            rego: read_text(&self.rego).context("--rego")?,
            version: 0,
            sha256: String::new(),
            rules: read_json("--rules", self.rules.as_deref())?,
            exceptions: read_json("--exceptions", self.exceptions.as_deref())?,
            added_at: 0,
        })
    }
}

/// What the file of an option says; what is meant without one, if there is none.
fn read_json<T: DeserializeOwned + Default>(option: &str, path: Option<&Path>) -> anyhow::Result<T> {
    let Some(path) = path else { return Ok(T::default()) };
    let text = read_text(path).with_context(|| option.to_owned())?;
    serde_json::from_str(&text).with_context(|| format!("{option} {}", path.display()))
}

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Register a policy; default_cca.rego applies to every appraisal
    Add(PolicyText),
    /// Give a policy another text, as its next version
    Replace(PolicyText),
    /// Show all
    List(List),
    /// Remove a policy
    Delete {
        /// Its name
        id: Name,
    },
}

pub async fn trust_anchor(plane: &Plane, command: TrustAnchorCommand) -> anyhow::Result<()> {
    const PATH: &str = "/trust-anchors";
    match command {
        TrustAnchorCommand::Add { name, implementation_id, instance_id, key, development, source } => {
            let public_key = read_text(&key).context("--key")?;
            let document = TrustAnchorDocument {
                name,
                implementation_id,
                instance_id,
                public_key,
                development,
                source,
                added_at: 0,
                expires_at: None,
            };
            plane.add(PATH, &document).await
        }
        TrustAnchorCommand::List(list) => {
            plane
                .list(
                    PATH,
                    &list,
                    &["NAME", "DEVELOPMENT", "IMPLEMENTATION ID", "INSTANCE ID", "SOURCE"],
                    |anchor: &TrustAnchorDocument| {
                        vec![
                            anchor.name.to_string(),
                            yes_or_no(anchor.development),
                            hex::encode(anchor.implementation_id),
                            hex::encode(anchor.instance_id),
                            anchor.source.clone(),
                        ]
                    },
                )
                .await
        }
        TrustAnchorCommand::Delete { name } => plane.delete(&format!("{PATH}/{name}")).await,
    }
}

pub async fn trust_bundle(plane: &Plane, command: TrustBundleCommand) -> anyhow::Result<()> {
    const PATH: &str = "/trust-bundles";
    match command {
        TrustBundleCommand::Add { name, pem, source } => {
            let pem = read_text(&pem).context("--pem")?;
            plane.add(PATH, &TrustBundleDocument { name, pem, source, added_at: 0 }).await
        }
        TrustBundleCommand::List(list) => {
            plane
                .list(PATH, &list, &["NAME", "CERTIFICATES", "SOURCE"], |bundle: &TrustBundleDocument| {
                    vec![
                        bundle.name.to_string(),
                        bundle.pem.matches("BEGIN CERTIFICATE").count().to_string(),
                        bundle.source.clone(),
                    ]
                })
                .await
        }
        TrustBundleCommand::Delete { name } => plane.delete(&format!("{PATH}/{name}")).await,
    }
}

pub async fn crl(plane: &Plane, command: CrlCommand) -> anyhow::Result<()> {
    const PATH: &str = "/crls";
    match command {
        CrlCommand::Set { name, pem, source } => {
            let pem = Some(read_text(&pem).context("--pem")?);
            plane.add(PATH, &CrlDocument { name, pem, sha256: None, source, added_at: 0 }).await
        }
        CrlCommand::List(list) => {
            plane
                .list(PATH, &list, &["NAME", "SHA-256", "SOURCE"], |crl: &CrlDocument| {
                    vec![crl.name.to_string(), crl.sha256.clone().unwrap_or_default(), crl.source.clone()]
                })
                .await
        }
        CrlCommand::Delete { name } => plane.delete(&format!("{PATH}/{name}")).await,
    }
}

pub async fn policy(plane: &Plane, command: PolicyCommand) -> anyhow::Result<()> {
    const PATH: &str = "/policies";
    match command {
        PolicyCommand::Add(text) => plane.send(Method::POST, PATH, &text.document()?).await,
        PolicyCommand::Replace(text) => plane.send(Method::PUT, PATH, &text.document()?).await,
        PolicyCommand::List(list) => {
            plane
                .list(PATH, &list, &["ID", "ORIGIN", "EXCEPTIONS FOR"], |policy: &PolicyDocument| {
                    let exceptions =
                        policy.exceptions.iter().map(|exception| exception.trust_anchor.as_str());
                    vec![
                        policy.id.to_string(),
                        if policy.added_at == 0 { "built in" } else { "registered" }.to_owned(),
                        exceptions.collect::<Vec<_>>().join(" "),
                    ]
                })
                .await
        }
        PolicyCommand::Delete { id } => plane.delete(&format!("{PATH}/{id}")).await,
    }
}

fn yes_or_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

pub fn bytes<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| format!("expected {N} bytes in hexadecimal"))?;
    Ok(bytes)
}
