//! What is expected: measurements of Realms, software of platforms, values of claims.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use attestation_service::api::{NamedReferenceDocument, PlatformReferenceDocument, ReferenceDocument};
use attestation_service::names::Name;
use clap::Subcommand;
use evidence::cca::CcaToken;
use evidence::envelope::Evidence;
use evidence::hash::Digest;
use evidence::virtcca::VirtccaToken;
use serde::de::DeserializeOwned;
use serde_json::Value;
use verifier::Refusal;
use verifier::logs::{self, Explained, LogRules};

use super::plane::Plane;
use super::trust::bytes;
use super::{List, read_text};

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
    /// Expect a Realm as a document says, logs and all
    Import {
        /// JSON as of GET /references, such as golden prints
        file: PathBuf,
    },
    /// Print a document by which a guest passes that boots and runs as this one did
    Golden {
        /// Its name
        #[arg(long)]
        name: Name,
        /// Evidence of a guest that you vouch for, as attestation-agent evidence prints it; its signatures are not verified
        #[arg(long, value_name = "FILE")]
        evidence: PathBuf,
        /// Name of the kernel in reports
        #[arg(long, value_name = "TEXT", default_value = "golden")]
        kernel: String,
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
pub enum PlatformReferenceCommand {
    /// Expect software and configuration of platforms
    Add {
        /// JSON as of GET /platform-references
        file: PathBuf,
    },
    /// Show all
    List(List),
    /// Stop expecting it
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
        ReferenceCommand::Import { file } => {
            let document: ReferenceDocument = document(&file)?;
            plane.add(PATH, &document).await
        }
        ReferenceCommand::Golden { name, evidence, kernel, source } => {
            let document = golden(name, &evidence, &kernel, source)?;
            println!("{}", serde_json::to_string_pretty(&document)?);
            Ok(())
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

pub async fn platform_reference(plane: &Plane, command: PlatformReferenceCommand) -> anyhow::Result<()> {
    const PATH: &str = "/platform-references";
    match command {
        PlatformReferenceCommand::Add { file } => {
            let document: PlatformReferenceDocument = document(&file)?;
            plane.add(PATH, &document).await
        }
        PlatformReferenceCommand::List(list) => {
            plane
                .list(
                    PATH,
                    &list,
                    &["NAME", "IMPLEMENTATION ID", "INSTANCE ID", "COMPONENTS", "SOURCE"],
                    |reference: &PlatformReferenceDocument| {
                        vec![
                            reference.name.to_string(),
                            hex::encode(reference.implementation_id),
                            reference.instance_id.map_or_else(|| "any".to_owned(), hex::encode),
                            reference.components.len().to_string(),
                            reference.source.clone(),
                        ]
                    },
                )
                .await
        }
        PlatformReferenceCommand::Delete { name } => plane.delete(&format!("{PATH}/{name}")).await,
    }
}

fn document<T: DeserializeOwned>(file: &Path) -> anyhow::Result<T> {
    serde_json::from_str(&read_text(file)?).with_context(|| file.display().to_string())
}

/// What a guest's evidence says of its boot, as something to expect. Extensible measurements that its logs explain are
/// expected by the logs, the others as they are.
fn golden(name: Name, file: &Path, kernel: &str, source: String) -> anyhow::Result<ReferenceDocument> {
    let in_file = || file.display().to_string();
    let json = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let evidence = Evidence::from_json(&json).with_context(in_file)?;
    let (hash, rim, attested) = match &evidence {
        Evidence::Cca(evidence) => {
            let claims = CcaToken::decode(&evidence.token).with_context(in_file)?.realm.claims;
            (claims.hash, claims.rim, claims.rems)
        }
        Evidence::Virtcca(evidence) => {
            let claims = VirtccaToken::decode(&evidence.token).with_context(in_file)?.cvm.claims;
            (claims.hash, claims.rim, claims.rems)
        }
    };
    let refused = |refusal: Refusal| anyhow!("{}: {}: {}", file.display(), refusal.code, refusal.detail);
    let boot = evidence.logs().boot.as_ref().map(|log| log.data.as_slice());
    let logs = logs::attest(boot, evidence.logs().ima.as_deref(), hash, &attested).map_err(refused)?;
    let references = logs.references(kernel).map_err(refused)?;
    let rules = LogRules { unexplained_registers: true, ..LogRules::default() };
    let report = logs.judge(Some(&references), [false; 4], &rules).map_err(refused)?;
    let mut rems = [None; 4];
    for ((rem, attested), explained) in rems.iter_mut().zip(attested).zip(report.registers) {
        *rem = matches!(explained, Explained::Zero | Explained::Unexplained).then_some(attested);
    }
    Ok(ReferenceDocument {
        name,
        rim,
        rpv: None,
        rems,
        logs: Some(references),
        source,
        added_at: 0,
        expires_at: None,
    })
}

fn indexed_digest(text: &str) -> Result<(usize, Digest), String> {
    let (index, digest) = text.split_once('=').ok_or("expected INDEX=HEX")?;
    let index = index.parse().ok().filter(|index| *index < 4).ok_or("the index is 0 to 3")?;
    Ok((index, digest.parse().map_err(|error: evidence::hash::DigestTextError| error.to_string())?))
}
