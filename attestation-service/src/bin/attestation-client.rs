//! `attestation-client`: tells a running service what to trust and what to release, through its admin socket.

#![forbid(unsafe_code)]

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use attestation_service::api::{
    NewResourceDocument, PolicyDocument, ReferenceDocument, ResourceDocument, TrustAnchorDocument,
};
use attestation_service::config::Extra;
use attestation_service::names::{Name, PolicyName, ResourceName};
use attestation_service::problem::ProblemDocument;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Parser, Subcommand, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets};
use evidence::hash::Digest;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use zeroize::Zeroizing;

const EXAMPLES: &str = "\
Examples:
  attestation-client --admin-socket /run/attestation/admin.sock trust-anchor add \\
      --name rack-7 --implementation-id HEX --instance-id HEX --key rack-7.pem
  attestation-client --admin-socket /run/attestation/admin.sock reference add --name my-guest --rim HEX --rem 0=HEX
  attestation-client --admin-socket /run/attestation/admin.sock policy add \\
      --id default_cca.rego --rego my.rego --exceptions my.json
  attestation-client --admin-socket /run/attestation/admin.sock resource add acme/disk-key \\
      --file disk.key --policy oeas/affirming.rego
  attestation-client --admin-socket /run/attestation/admin.sock reference list --format json";

/// Manages what an attestation service trusts and releases.
#[derive(Debug, Parser)]
#[command(name = "attestation-client", version, after_help = EXAMPLES)]
struct Cli {
    /// Admin socket of the service
    #[arg(long, value_name = "PATH", env = "ATTESTATION_ADMIN_SOCKET", global = true)]
    admin_socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Platform keys that are believed
    #[command(subcommand)]
    TrustAnchor(TrustAnchorCommand),
    /// Measurements that are expected
    #[command(subcommand)]
    Reference(ReferenceCommand),
    /// Appraisal policies
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Secrets that are released to attested keys
    #[command(subcommand)]
    Resource(ResourceCommand),
    #[command(flatten)]
    Extra(Extra),
}

#[derive(Debug, Args)]
struct List {
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
enum TrustAnchorCommand {
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
enum ReferenceCommand {
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
enum PolicyCommand {
    /// Register a policy; default_cca.rego applies to every appraisal
    Add {
        /// Its name
        #[arg(long)]
        id: Name,
        /// Rego text: package attestation, rule output
        #[arg(long, value_name = "FILE")]
        rego: PathBuf,
        /// What it allows for named trust anchors, as JSON
        #[arg(long, value_name = "FILE")]
        exceptions: Option<PathBuf>,
    },
    /// Show all
    List(List),
    /// Remove a policy
    Delete {
        /// Its name
        id: Name,
    },
}

#[derive(Debug, Subcommand)]
enum ResourceCommand {
    /// Register a secret
    Add {
        /// vendor/path
        name: ResourceName,
        /// File with the content; - reads standard input
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// Resource policy to bind; without one the secret is released to nobody. oeas/affirming.rego is built in
        /// and allows every guest whose evidence was accepted
        #[arg(long = "policy", value_name = "VENDOR/ID.rego")]
        policies: Vec<PolicyName>,
    },
    /// Show all, without their content
    List(List),
    /// Remove a secret
    Delete {
        /// vendor/path
        name: ResourceName,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("attestation-client: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    if let Command::Extra(extra) = &cli.command {
        return extra.print::<Cli>().context("cannot write to standard output");
    }
    let socket = cli.admin_socket.context("--admin-socket PATH is required (or ATTESTATION_ADMIN_SOCKET)")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let admin = Admin { socket };
    runtime.block_on(async {
        match cli.command {
            Command::TrustAnchor(command) => trust_anchor(&admin, command).await,
            Command::Reference(command) => reference(&admin, command).await,
            Command::Policy(command) => policy(&admin, command).await,
            Command::Resource(command) => resource(&admin, command).await,
            Command::Extra(_) => Ok(()),
        }
    })
}

async fn trust_anchor(admin: &Admin, command: TrustAnchorCommand) -> anyhow::Result<()> {
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
            admin.add(PATH, &document).await
        }
        TrustAnchorCommand::List(list) => {
            admin
                .list(
                    PATH,
                    &list,
                    &["NAME", "DEVELOPMENT", "IMPLEMENTATION ID", "INSTANCE ID", "SOURCE"],
                    |anchor: &TrustAnchorDocument| {
                        vec![
                            anchor.name.to_string(),
                            if anchor.development { "yes" } else { "no" }.to_owned(),
                            hex::encode(anchor.implementation_id),
                            hex::encode(anchor.instance_id),
                            anchor.source.clone(),
                        ]
                    },
                )
                .await
        }
        TrustAnchorCommand::Delete { name } => admin.delete(&format!("{PATH}/{name}")).await,
    }
}

async fn reference(admin: &Admin, command: ReferenceCommand) -> anyhow::Result<()> {
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
            admin.add(PATH, &document).await
        }
        ReferenceCommand::List(list) => {
            admin
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
        ReferenceCommand::Delete { name } => admin.delete(&format!("{PATH}/{name}")).await,
    }
}

async fn policy(admin: &Admin, command: PolicyCommand) -> anyhow::Result<()> {
    const PATH: &str = "/policies";
    match command {
        PolicyCommand::Add { id, rego, exceptions } => {
            let exceptions = match exceptions {
                None => Vec::new(),
                Some(path) => {
                    serde_json::from_str(&read_text(&path).context("--exceptions")?).with_context(|| {
                        format!("--exceptions {}: expected a JSON array of exceptions", path.display())
                    })?
                }
            };
            let rego = read_text(&rego).context("--rego")?;
            let document = PolicyDocument {
                id,
                rego,
                version: 0,
                sha256: String::new(),
                rules: Default::default(),
                exceptions,
                added_at: 0,
            };
            admin.add(PATH, &document).await
        }
        PolicyCommand::List(list) => {
            admin
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
        PolicyCommand::Delete { id } => admin.delete(&format!("{PATH}/{id}")).await,
    }
}

async fn resource(admin: &Admin, command: ResourceCommand) -> anyhow::Result<()> {
    const PATH: &str = "/resources";
    match command {
        ResourceCommand::Add { name, file, policies } => {
            let content = read_secret(&file).context("--file")?;
            let content = STANDARD.encode(&*content);
            let document = NewResourceDocument { name: name.to_string(), content, policies };
            admin.add(PATH, &document).await
        }
        ResourceCommand::List(list) => {
            admin
                .list(
                    PATH,
                    &list,
                    &["NAME", "VERSION", "BYTES", "POLICIES"],
                    |resource: &ResourceDocument| {
                        let policies: Vec<_> = resource.policies.iter().map(ToString::to_string).collect();
                        vec![
                            resource.name.clone(),
                            resource.version.to_string(),
                            resource.size.to_string(),
                            policies.join(" "),
                        ]
                    },
                )
                .await
        }
        ResourceCommand::Delete { name } => admin.delete(&format!("{PATH}/{name}")).await,
    }
}

/// The admin plane of a running service.
struct Admin {
    socket: PathBuf,
}

impl Admin {
    async fn add<T: Serialize>(&self, path: &str, document: &T) -> anyhow::Result<()> {
        let body = serde_json::to_vec(document)?;
        self.request(Method::POST, path, body).await.map(|_| ())
    }

    async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.request(Method::DELETE, path, Vec::new()).await.map(|_| ())
    }

    async fn list<T: Serialize + DeserializeOwned>(
        &self,
        path: &str,
        list: &List,
        header: &[&str],
        row: impl Fn(&T) -> Vec<String>,
    ) -> anyhow::Result<()> {
        let body = self.request(Method::GET, path, Vec::new()).await?;
        let items: Vec<T> =
            serde_json::from_slice(&body).context("the service's answer is not understood")?;
        match list.format {
            Format::Json => println!("{}", serde_json::to_string_pretty(&items)?),
            Format::Table => {
                let mut table = Table::new();
                table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
                table.set_header(header);
                for item in &items {
                    table.add_row(row(item));
                }
                println!("{table}");
            }
        }
        Ok(())
    }

    async fn request(&self, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<Bytes> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .with_context(|| format!("--admin-socket {}: is the service running?", self.socket.display()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "admin")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let response = sender.send_request(request).await.context("the service did not answer")?;
        let status = response.status();
        let body = response.into_body().collect().await.context("the service's answer broke off")?.to_bytes();
        drop(sender);
        connection.await?.ok();
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice::<ProblemDocument>(&body) {
            Ok(problem) => bail!("{}: {}", problem.code, problem.detail),
            Err(_) => bail!("the service answered {status}"),
        }
    }
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_secret(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    if path == Path::new("-") {
        let mut content = Zeroizing::new(Vec::new());
        std::io::stdin().read_to_end(&mut content).context("cannot read standard input")?;
        return Ok(content);
    }
    std::fs::read(path).map(Zeroizing::new).with_context(|| format!("cannot read {}", path.display()))
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
