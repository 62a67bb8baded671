//! Policies.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use service_cli::print_json;

use crate::authority::Authority;
use crate::collection::{Collection, Doomed, ListArgs, ShowArgs, given};
use crate::files;

const POLICIES: Collection = Collection {
    path: "/policy",
    plural: "policies",
    columns: &[("ID", "/id"), ("NAME", "/name"), ("TYPES", "/attester_type"), ("UPDATED AT", "/update_time")],
};

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Add a policy
    Add {
        /// Its name
        #[arg(long)]
        name: String,
        /// What evidence it is for: tpm_boot, tpm_ima, virt_cca; several with commas
        #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', required = true)]
        kinds: Vec<String>,
        #[command(flatten)]
        content: Content,
        /// Apply it to all evidence of its types
        #[arg(long)]
        default: bool,
        /// Typed rules for virtCCA platforms and logs, as JSON: {"virtcca": {..}, "logs": {..}}
        #[arg(long, value_name = "FILE")]
        rules: Option<PathBuf>,
        /// A note
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Show all
    List(ListArgs),
    /// Print one: its text, or all of it
    Show(ShowArgs),
    /// Change a policy; what is not given stays
    Update {
        /// Its id
        id: String,
        /// Its name
        #[arg(long)]
        name: Option<String>,
        /// What evidence it is for; several with commas
        #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
        kinds: Option<Vec<String>>,
        #[command(flatten)]
        content: MaybeContent,
        /// Whether to apply it to all evidence of its types
        #[arg(long)]
        default: Option<bool>,
        /// Typed rules for virtCCA platforms and logs, as JSON
        #[arg(long, value_name = "FILE")]
        rules: Option<PathBuf>,
        /// A note
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Delete policies
    Delete(Doomed),
}

/// The text of a policy.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct Content {
    /// Rego text: package verification, rule result
    #[arg(long, value_name = "FILE")]
    rego: Option<PathBuf>,
    /// The text in a JWT by a registered signer of policies
    #[arg(long, value_name = "FILE")]
    jwt: Option<PathBuf>,
}

/// The text of a policy, if it is to change.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub struct MaybeContent {
    /// Rego text: package verification, rule result
    #[arg(long, value_name = "FILE")]
    rego: Option<PathBuf>,
    /// The text in a JWT by a registered signer of policies
    #[arg(long, value_name = "FILE")]
    jwt: Option<PathBuf>,
}

pub async fn policy(authority: &Authority, command: PolicyCommand) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Add { name, kinds, content, default, rules, description } => {
            let mut policy = members(content.rego, content.jwt)?;
            policy.extend(given([
                ("name", Some(json!(name))),
                ("attester_type", Some(json!(kinds))),
                ("is_default", Some(json!(default))),
                ("rules", rules.as_deref().map(typed_rules).transpose()?),
                ("description", description.map(Value::from)),
            ]));
            print_json(&authority.post(POLICIES.path, &Value::Object(policy)).await?)
        }
        PolicyCommand::List(args) => POLICIES.list(authority, &args).await,
        PolicyCommand::Show(args) => {
            let text = |content: &str| String::from_utf8(STANDARD.decode(content).ok()?).ok();
            POLICIES.show(authority, &args, text).await
        }
        PolicyCommand::Update { id, name, kinds, content, default, rules, description } => {
            let mut changes = members(content.rego, content.jwt)?;
            changes.extend(given([
                ("name", name.map(Value::from)),
                ("attester_type", kinds.map(Value::from)),
                ("is_default", default.map(Value::from)),
                ("rules", rules.as_deref().map(typed_rules).transpose()?),
                ("description", description.map(Value::from)),
            ]));
            POLICIES.update(authority, &id, changes).await
        }
        PolicyCommand::Delete(doomed) => POLICIES.delete(authority, &doomed).await,
    }
}

fn typed_rules(file: &Path) -> anyhow::Result<Value> {
    let text = files::text("--rules", file)?;
    serde_json::from_str(&text).with_context(|| format!("--rules {} is not JSON", file.display()))
}

/// The members that have the text.
fn members(rego: Option<PathBuf>, jwt: Option<PathBuf>) -> anyhow::Result<serde_json::Map<String, Value>> {
    let (kind, content) = match (rego, jwt) {
        (Some(path), _) => ("text", STANDARD.encode(files::text("--rego", &path)?)),
        (None, Some(path)) => ("jwt", files::text("--jwt", &path)?.trim().to_owned()),
        (None, None) => return Ok(serde_json::Map::new()),
    };
    Ok(given([("content_type", Some(json!(kind))), ("content", Some(json!(content)))]))
}
