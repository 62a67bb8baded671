//! Keys that sign tokens, and the audit log.

use attestation_service::api::{AuditDocument, NewSigningKeyDocument, SigningKeyDocument};
use attestation_service::token::Algorithm;
use clap::{Args, Subcommand};

use super::List;
use super::plane::Plane;

#[derive(Debug, Subcommand)]
pub enum SigningKeyCommand {
    /// Make a key
    Add {
        /// Its algorithm
        #[arg(long, value_enum, default_value_t = Algorithm::Es384)]
        algorithm: Algorithm,
        /// In how many seconds it signs; relying parties that keep the key set for a while need some
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        activates_in: u32,
    },
    /// Show all
    List(List),
    /// Take a key away, with all tokens that it signed
    Delete {
        /// Its name in tokens (kid)
        kid: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Show entries
    List(Page),
}

#[derive(Debug, Args)]
pub struct Page {
    /// After the entry with this number
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: i64,
    /// How many
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    list: List,
}

pub async fn signing_key(plane: &Plane, command: SigningKeyCommand) -> anyhow::Result<()> {
    const PATH: &str = "/signing-keys";
    match command {
        SigningKeyCommand::Add { algorithm, activates_in } => {
            plane.add(PATH, &NewSigningKeyDocument { algorithm, activates_in }).await
        }
        SigningKeyCommand::List(list) => {
            plane
                .list(PATH, &list, &["KID", "ALGORITHM", "SIGNS FROM"], |key: &SigningKeyDocument| {
                    vec![key.kid.clone(), key.algorithm.clone(), key.activates_at.to_string()]
                })
                .await
        }
        SigningKeyCommand::Delete { kid } => plane.delete(&format!("{PATH}/{kid}")).await,
    }
}

pub async fn audit(plane: &Plane, command: AuditCommand) -> anyhow::Result<()> {
    let AuditCommand::List(Page { after, limit, list }) = command;
    plane
        .list(
            &format!("/audit?after={after}&limit={limit}"),
            &list,
            &["SEQ", "AT", "ACTOR", "ACTION", "OBJECT", "RESULT"],
            |entry: &AuditDocument| {
                vec![
                    entry.seq.to_string(),
                    entry.at.to_string(),
                    entry.actor.clone(),
                    entry.action.clone(),
                    entry.object.clone(),
                    entry.result.clone(),
                ]
            },
        )
        .await
}
