//! What is trusted: platform keys, authorities, measurements, appraisal policies.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use attestation_service::api::{
    CrlDocument, NamedReferenceDocument, PolicyDocument, ReferenceDocument, TrustAnchorDocument,
    TrustBundleDocument,
};
use attestation_service::names::Name;
use clap::{Args, Subcommand};
use evidence::hash::Digest;
use hyper::Method;
use serde_json::Value;

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
pub enum ReferenceCommand {
    /// Expect a Realm
    Add {
        /// Its name
        #[arg(long)]
        name: Name,
        /// Realm Initial Measurement
        #[arg(long, value_name = "HEX")]
        rim: Digest,
        /// Realm Personalisation Value, 64 bytes; any if not given
        #[arg(long, value_name = "HEX", value_parser = bytes::<64>)]
        rpv: Option<[u8; 64]>,
        /// Realm Extensible Measurement; any if not given
        #[arg(long = "rem", value_name = "0..3=HEX", value_parser = indexed_digest)]
        rems: Vec<(usize, Digest)>,
        /// A note on where it came from
        #[arg(long, value_name = "TEXT", default_value = "")]
        source: String,
    },
    /// Show all
    List(List),
    /// Stop expecting a Realm
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

#[derive(Debug, Subcommand)]
pub enum NamedReferenceCommand {
    /// Expect a value of a claim; a claim may have many
    Add {
        /// Name of the claim, as in a token's tcb_status
        #[arg(long)]
        name: Name,
        /// The value: JSON, or else taken as a text
        #[arg(long, value_name = "JSON|TEXT")]
        value: String,
        /// A note on where it came from
        #[arg(long, value_name = "TEXT", default_value = "")]
        source: String,
    },
    /// Show all
    List(List),
    /// Stop expecting any value of a claim
    Delete {
        /// Name of the claim
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
}

impl PolicyText {
    fn document(self) -> anyhow::Result<PolicyDocument> {
        let exceptions = match self.exceptions {
            None => Vec::new(),
            Some(path) => {
                serde_json::from_str(&read_text(&path).context("--exceptions")?).with_context(|| {
                    format!("--exceptions {}: expected a JSON array of exceptions", path.display())
                })?
            }
        };
        let rego = read_text(&self.rego).context("--rego")?;
        Ok(PolicyDocument {
            id: self.id,
            rego,
            version: 0,
            sha256: String::new(),
            rules: Default::default(),
            exceptions,
            added_at: 0,
        })
    }
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

pub async fn reference(plane: &Plane, command: ReferenceCommand) -> anyhow::Result<()> {
    const PATH: &str = "/references";
    match command {
        ReferenceCommand::Add { name, rim, rpv, rems: given, source } => {
            let mut rems = [None; 4];
            for (index, digest) in given {
                let slot = rems.get_mut(index).context("--rem: the index is 0 to 3")?;
                if slot.replace(digest).is_some() {
                    bail!("--rem {index} is given twice");
                }
            }
            let document =
                ReferenceDocument { name, rim, rpv, rems, logs: None, source, added_at: 0, expires_at: None };
            plane.add(PATH, &document).await
        }
        ReferenceCommand::List(list) => {
            plane
                .list(
                    PATH,
                    &list,
                    &["NAME", "RIM", "RPV", "REMS", "SOURCE"],
                    |reference: &ReferenceDocument| {
                        let rems = reference.rems.iter().enumerate();
                        let rems = rems.filter_map(|(index, rem)| rem.map(|rem| format!("{index}={rem}")));
                        vec![
                            reference.name.to_string(),
                            reference.rim.to_string(),
                            reference.rpv.map_or_else(|| "any".to_owned(), hex::encode),
                            Some(rems.collect::<Vec<_>>().join(" "))
                                .filter(|text| !text.is_empty())
                                .unwrap_or_else(|| "any".to_owned()),
                            reference.source.clone(),
                        ]
                    },
                )
                .await
        }
        ReferenceCommand::Delete { name } => plane.delete(&format!("{PATH}/{name}")).await,
    }
}

pub async fn named_reference(plane: &Plane, command: NamedReferenceCommand) -> anyhow::Result<()> {
    const PATH: &str = "/named-references";
    match command {
        NamedReferenceCommand::Add { name, value, source } => {
            let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
            let document = NamedReferenceDocument { name, value, source, added_at: 0, expires_at: None };
            plane.add(PATH, &document).await
        }
        NamedReferenceCommand::List(list) => {
            plane
                .list(PATH, &list, &["NAME", "VALUE", "SOURCE"], |named: &NamedReferenceDocument| {
                    vec![named.name.to_string(), named.value.to_string(), named.source.clone()]
                })
                .await
        }
        NamedReferenceCommand::Delete { name } => plane.delete(&format!("{PATH}/{name}")).await,
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

fn bytes<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| format!("expected {N} bytes in hexadecimal"))?;
    Ok(bytes)
}

fn indexed_digest(text: &str) -> Result<(usize, Digest), String> {
    let (index, digest) = text.split_once('=').ok_or("expected INDEX=HEX")?;
    let index = index.parse().ok().filter(|index| *index < 4).ok_or("the index is 0 to 3")?;
    Ok((index, digest.parse().map_err(|error: evidence::hash::DigestTextError| error.to_string())?))
}
