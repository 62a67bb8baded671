//! Where changes of how machines are are told.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};
use service_cli::{List, print_json};

use crate::authority::Authority;
use crate::collection::{Collection, Doomed, given};
use crate::files;

const WEBHOOKS: Collection = Collection {
    path: "/webhook",
    plural: "webhooks",
    columns: &[
        ("ID", "/id"),
        ("NAME", "/name"),
        ("EVENTS", "/events"),
        ("FAILURES", "/delivery/failures"),
        ("PROBLEM", "/delivery/problem"),
        ("URL", "/url"),
    ],
};

#[derive(Debug, Subcommand)]
pub enum WebhookCommand {
    /// Add one; prints its secret, which is not shown again
    Add {
        /// Its name
        #[arg(long)]
        name: String,
        /// Where to: https://HOST:PORT/PATH
        #[arg(long)]
        url: String,
        /// Of which changes, by how the machine is then: passed, failed, refused, missed; several with commas
        /// [default: all]
        #[arg(long, value_name = "STATUS", value_delimiter = ',')]
        events: Option<Vec<String>>,
        /// Authorities that certify the receiver, in PEM [default: those that browsers know]
        #[arg(long, value_name = "FILE")]
        receiver_ca: Option<PathBuf>,
        /// A note
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Show all, and how far each is
    List(List),
    /// Print one as JSON
    Show {
        /// Its id
        id: String,
    },
    /// Change one; what is not given stays, and what could not be told is tried again at once
    Update {
        /// Its id
        id: String,
        /// Its name
        #[arg(long)]
        name: Option<String>,
        /// Where to: https://HOST:PORT/PATH
        #[arg(long)]
        url: Option<String>,
        /// Of which changes; several with commas
        #[arg(long, value_name = "STATUS", value_delimiter = ',')]
        events: Option<Vec<String>>,
        /// Authorities that certify the receiver, in PEM; an empty file for those that browsers know
        #[arg(long, value_name = "FILE")]
        receiver_ca: Option<PathBuf>,
        /// Make a new secret and print it
        #[arg(long)]
        new_secret: bool,
        /// A note
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Delete webhooks
    Delete(Doomed),
}

pub async fn webhook(authority: &Authority, command: WebhookCommand) -> anyhow::Result<()> {
    let certificates = |file: Option<PathBuf>| -> anyhow::Result<Option<Value>> {
        file.map(|file| files::text("--receiver-ca", &file).map(Value::from)).transpose()
    };
    match command {
        WebhookCommand::Add { name, url, events, receiver_ca, description } => {
            let webhook = given([
                ("name", Some(json!(name))),
                ("url", Some(json!(url))),
                ("events", events.map(Value::from)),
                ("ca", certificates(receiver_ca)?),
                ("description", description.map(Value::from)),
            ]);
            print_json(&authority.post(WEBHOOKS.path, &Value::Object(webhook)).await?)
        }
        WebhookCommand::List(list) => WEBHOOKS.print(&WEBHOOKS.all(authority, None).await?, list.format),
        WebhookCommand::Show { id } => print_json(&WEBHOOKS.one(authority, &id).await?),
        WebhookCommand::Update { id, name, url, events, receiver_ca, new_secret, description } => {
            let changes = given([
                ("name", name.map(Value::from)),
                ("url", url.map(Value::from)),
                ("events", events.map(Value::from)),
                ("ca", certificates(receiver_ca)?),
                ("new_secret", new_secret.then_some(Value::from(true))),
                ("description", description.map(Value::from)),
            ]);
            WEBHOOKS.update(authority, &id, changes).await
        }
        WebhookCommand::Delete(doomed) => WEBHOOKS.delete(authority, &doomed).await,
    }
}
