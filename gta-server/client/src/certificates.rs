//! Authorities and signers, and what they have revoked.

use std::path::PathBuf;

use anyhow::bail;
use clap::Subcommand;
use serde_json::{Value, json};
use service_cli::{List, print_json};

use crate::authority::Authority;
use crate::collection::{Collection, Doomed, ListArgs, ShowArgs, given};
use crate::files;

const CERTIFICATES: Collection = Collection {
    path: "/cert",
    plural: "certs",
    columns: &[("ID", "/cert_id"), ("NAME", "/cert_name"), ("TYPES", "/cert_type"), ("VERSION", "/version")],
};
const REVOCATIONS: Collection =
    Collection { path: "/cert", plural: "crls", columns: &[("ID", "/crl_id"), ("NAME", "/crl_name")] };
const CRL: &str = "crl";

#[derive(Debug, Subcommand)]
pub enum CertCommand {
    /// Add certificates of authorities (tpm_ek, tpm_iak, tpm_boot, tpm_ima, virt_cca) or of a signer (refvalue, policy), or a revocation list
    Add {
        /// Its name
        #[arg(long)]
        name: String,
        /// What it is good for: tpm_ek, tpm_iak, tpm_boot, tpm_ima, virt_cca, refvalue, policy, or crl; several with commas
        #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', required = true)]
        kinds: Vec<String>,
        /// Certificates in PEM, or a revocation list
        #[arg(long, value_name = "FILE")]
        pem: PathBuf,
        /// A note
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Show all certificates, or with --type crl all revocation lists
    List(ListArgs),
    /// Print one in PEM, or all of it
    Show(ShowArgs),
    /// Show all revocation lists
    Crls(List),
    /// Change what is said of a certificate, and what it is good for; what is not given stays
    Update {
        /// Its id
        id: String,
        /// Its name
        #[arg(long)]
        name: Option<String>,
        /// What it is good for; several with commas
        #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
        kinds: Option<Vec<String>>,
        /// A note
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Delete certificates, or with --type crl all revocation lists
    Delete(Doomed),
}

pub async fn certificate(authority: &Authority, command: CertCommand) -> anyhow::Result<()> {
    match command {
        CertCommand::Add { name, kinds, pem, description } => {
            let content = files::text("--pem", &pem)?;
            let member = match kinds.iter().any(|kind| kind == CRL) {
                true if kinds.len() > 1 => bail!("--type: a revocation list is nothing else"),
                true => "crl_content",
                false => "content",
            };
            let certificate = given([
                ("name", Some(json!(name))),
                ("type", Some(json!(kinds))),
                (member, Some(json!(content))),
                ("description", description.map(Value::from)),
            ]);
            print_json(&authority.post(CERTIFICATES.path, &Value::Object(certificate)).await?)
        }
        CertCommand::List(args) if args.kind.as_deref() == Some(CRL) => {
            REVOCATIONS.list(authority, &args).await
        }
        CertCommand::List(args) => CERTIFICATES.list(authority, &args).await,
        CertCommand::Crls(list) => {
            REVOCATIONS.list(authority, &ListArgs { kind: Some(CRL.to_owned()), list }).await
        }
        CertCommand::Show(args) => CERTIFICATES.show(authority, &args, |pem| Some(pem.to_owned())).await,
        CertCommand::Update { id, name, kinds, description } => {
            let changes = given([
                ("name", name.map(Value::from)),
                ("type", kinds.map(Value::from)),
                ("description", description.map(Value::from)),
            ]);
            CERTIFICATES.update(authority, &id, changes).await
        }
        CertCommand::Delete(doomed) => CERTIFICATES.delete(authority, &doomed).await,
    }
}
