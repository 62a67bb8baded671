//! Files and virtCCA machines that are known.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};
use service_cli::print_json;

use crate::authority::Authority;
use crate::collection::{Collection, Doomed, ListArgs, ShowArgs, given};
use crate::files;
use crate::known_files::{self, MakeArgs};

const REFERENCES: Collection = Collection {
    path: "/ref_value",
    plural: "ref_values",
    columns: &[("ID", "/id"), ("NAME", "/name"), ("TYPE", "/attester_type"), ("VERSION", "/version")],
};

#[derive(Debug, Subcommand)]
pub enum RefCommand {
    /// Add a list of files, a boot, or a list of virtCCA machines
    Add {
        /// Its name
        #[arg(long)]
        name: String,
        /// What evidence it is for: tpm_ima, tpm_boot, virt_cca
        #[arg(long = "type", value_name = "TYPE", default_value = "tpm_ima")]
        kind: String,
        /// A JWT by a registered signer of reference values, as `make` writes it; of virt_cca with the payload
        /// {"realms": [{"name", "rim"}]}
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// A note
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Make a list of files, of trees, packages, logs or policies of keylime, or a boot of its log, and sign it
    Make(MakeArgs),
    /// Show all
    List(ListArgs),
    /// Print one as it was signed, or all of it
    Show(ShowArgs),
    /// Change a list; what is not given stays
    Update {
        /// Its id
        id: String,
        /// Its name
        #[arg(long)]
        name: Option<String>,
        /// A JWT by a registered signer of reference values
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// A note
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Delete lists
    Delete(Doomed),
}

pub async fn reference(authority: &Authority, command: RefCommand) -> anyhow::Result<()> {
    match command {
        RefCommand::Add { name, kind, file, description } => {
            let values = given([
                ("name", Some(json!(name))),
                ("attester_type", Some(json!(kind))),
                ("content", Some(jwt(&file)?)),
                ("description", description.map(Value::from)),
            ]);
            print_json(&authority.post(REFERENCES.path, &Value::Object(values)).await?)
        }
        RefCommand::Make(args) => known_files::make(&args),
        RefCommand::List(args) => REFERENCES.list(authority, &args).await,
        RefCommand::Show(args) => REFERENCES.show(authority, &args, |jwt| Some(jwt.to_owned())).await,
        RefCommand::Update { id, name, file, description } => {
            let changes = given([
                ("name", name.map(Value::from)),
                ("content", file.as_deref().map(jwt).transpose()?),
                ("description", description.map(Value::from)),
            ]);
            REFERENCES.update(authority, &id, changes).await
        }
        RefCommand::Delete(doomed) => REFERENCES.delete(authority, &doomed).await,
    }
}

fn jwt(file: &Path) -> anyhow::Result<Value> {
    Ok(Value::from(files::text("--file", file)?.trim()))
}
