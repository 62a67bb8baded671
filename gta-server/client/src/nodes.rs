//! Machines.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;
use service_cli::{List, print_json};

use crate::authority::Authority;
use crate::collection::Collection;
use crate::files::tpm_public;

const NODES: Collection = Collection {
    path: "/node",
    plural: "nodes",
    columns: &[
        ("NODE", "/node_id"),
        ("PROVENANCE", "/provenance/kind"),
        ("ROOT", "/provenance/root"),
        ("ENROLLED AT", "/enrolled_at"),
    ],
};

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Show all
    List(List),
    /// Show one with its keys, as JSON
    Show {
        /// Its name
        node: String,
    },
    /// Believe an attestation key because you say so: an administrator has looked at the machine
    Pin {
        /// Its name
        node: String,
        /// The key, as tpm2_readpublic -f tss -o FILE writes it
        #[arg(long, value_name = "FILE")]
        ak_public: PathBuf,
    },
    /// Forget machines, so that others can take their names
    Delete(Names),
    /// Forget how machines are and when they were to report again, until they report
    Forget(Names),
}

#[derive(Args, Debug)]
pub struct Names {
    /// Their names
    #[arg(value_name = "NODE", required = true)]
    nodes: Vec<String>,
}

pub async fn node(authority: &Authority, command: NodeCommand) -> anyhow::Result<()> {
    match command {
        NodeCommand::List(list) => NODES.print(&NODES.all(authority, None).await?, list.format),
        NodeCommand::Show { node } => print_json(&NODES.one(authority, &node).await?),
        NodeCommand::Pin { node, ak_public } => {
            let key = tpm_public("--ak-public", &ak_public)?;
            print_json(&authority.post(NODES.path, &json!({ "node_id": node, "ak_public": key })).await?)
        }
        NodeCommand::Forget(names) => {
            let ids = json!({ "ids": names.nodes });
            authority.send(Method::DELETE, "/status", &ids).await.map(drop)
        }
        NodeCommand::Delete(names) => NODES.delete_ids(authority, &names.nodes).await,
    }
}
