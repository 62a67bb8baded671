//! Reference values as documents, and who may sign them.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use attestation_service::api::{CorimExport, CorimImport, CorimImported, CorimSignerDocument, Endorsed};
use attestation_service::names::Name;
use clap::{Args, Subcommand, ValueEnum};
use evidence::token::SignatureAlgorithm;
use p384::ecdsa::signature::Signer as _;
use p384::ecdsa::{Signature, SigningKey};
use p384::pkcs8::DecodePrivateKey as _;
use verifier::corim::{to_be_signed, with_signature};

use super::plane::Plane;
use super::{List, read_text};

#[derive(Debug, Subcommand)]
pub enum CorimCommand {
    /// Register everything that a document says
    Import {
        /// The document, signed or not
        file: PathBuf,
        /// The name of what is registered; with numbers if there are several of a kind
        #[arg(long)]
        name: Name,
        /// Vouch for a document that nobody has signed
        #[arg(long)]
        unsigned: bool,
        /// Mark keys in it as development keys, which only a policy that names them accepts
        #[arg(long)]
        development: bool,
        /// A note on where it came from
        #[arg(long, value_name = "TEXT", default_value = "")]
        source: String,
    },
    /// Write what is registered as a document
    Export(Export),
}

#[derive(Debug, Args)]
pub struct Export {
    /// What the document is about
    #[arg(value_enum)]
    subject: Subject,
    /// The document's identifier
    #[arg(long, value_name = "TEXT")]
    id: String,
    /// Who makes it
    #[arg(long, value_name = "TEXT")]
    creator: String,
    /// Only what has this name; can be given several times
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<Name>,
    /// The last second of its validity, since the Unix epoch
    #[arg(long, value_name = "SECONDS")]
    not_after: Option<i64>,
    /// Sign it with this private key: P-384, PKCS#8 in PEM
    #[arg(long, value_name = "FILE")]
    sign_key: Option<PathBuf>,
    /// Where to write it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Subject {
    /// Measurements of Realms
    Realms,
    /// Software, configuration and keys of CCA platforms
    Platforms,
}

#[derive(Debug, Subcommand)]
pub enum CorimSignerCommand {
    /// Believe documents that this key signs
    Add {
        /// Its name
        #[arg(long)]
        name: Name,
        /// Public key in PEM
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// What it is believed about; can be given several times
        #[arg(long, value_enum, required = true)]
        endorses: Vec<Endorsed>,
        /// A note on where it came from
        #[arg(long, value_name = "TEXT", default_value = "")]
        source: String,
    },
    /// Show all
    List(List),
    /// Believe its documents no more; what they said stays registered
    Delete {
        /// Its name
        name: Name,
    },
}

pub async fn corim(plane: &Plane, command: CorimCommand) -> anyhow::Result<()> {
    match command {
        CorimCommand::Import { file, name, unsigned, development, source } => {
            let document = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let query = serde_urlencoded::to_string(CorimImport { name, unsigned, development, source })?;
            // What it is, signed or not, the document itself says.
            let imported: CorimImported =
                plane.upload(&format!("/corim?{query}"), "application/rim+cose", document).await?;
            println!("{}", serde_json::to_string_pretty(&imported)?);
            Ok(())
        }
        CorimCommand::Export(export) => export.run(plane).await,
    }
}

impl Export {
    async fn run(self, plane: &Plane) -> anyhow::Result<()> {
        let subject = match self.subject {
            Subject::Realms => "realms",
            Subject::Platforms => "platforms",
        };
        let names = self.names.iter().map(Name::as_str).collect::<Vec<_>>().join(",");
        let query = CorimExport { id: self.id, creator: self.creator, not_after: self.not_after, names };
        let path = format!("/corim/{subject}?{}", serde_urlencoded::to_string(&query)?);
        let mut document = plane.download(&path).await?.to_vec();
        if let Some(file) = &self.sign_key {
            let pem = read_text(file).context("--sign-key")?;
            let Ok(key) = SigningKey::from_pkcs8_pem(&pem) else {
                bail!("--sign-key {}: expected a P-384 private key, PKCS#8 in PEM", file.display());
            };
            let algorithm = SignatureAlgorithm::Es384;
            let signature: Signature = key.sign(&to_be_signed(&document, &query.creator, algorithm)?);
            let signature = signature.to_bytes().to_vec();
            document = with_signature(&document, &query.creator, algorithm, signature)?;
        }
        std::fs::write(&self.out, document).with_context(|| format!("cannot write {}", self.out.display()))
    }
}

pub async fn corim_signer(plane: &Plane, command: CorimSignerCommand) -> anyhow::Result<()> {
    const PATH: &str = "/corim-signers";
    match command {
        CorimSignerCommand::Add { name, key, endorses, source } => {
            let public_key = read_text(&key).context("--key")?;
            plane.add(PATH, &CorimSignerDocument { name, public_key, endorses, source, added_at: 0 }).await
        }
        CorimSignerCommand::List(list) => {
            plane
                .list(PATH, &list, &["NAME", "ENDORSES", "SOURCE"], |signer: &CorimSignerDocument| {
                    let endorses = signer.endorses.iter().map(|kind| kind.as_str());
                    vec![
                        signer.name.to_string(),
                        endorses.collect::<Vec<_>>().join(" "),
                        signer.source.clone(),
                    ]
                })
                .await
        }
        CorimSignerCommand::Delete { name } => plane.delete(&format!("{PATH}/{name}")).await,
    }
}
