//! What is released: secrets, and the policies that decide to whom.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use attestation_service::api::{
    BindingDocument, NewResourceDocument, ResourceDocument, ResourcePolicyDocument,
};
use attestation_service::names::{PolicyName, ResourceName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use hyper::Method;
use zeroize::Zeroizing;

use super::plane::Plane;
use super::{List, read_text};

#[derive(Debug, Args)]
pub struct Content {
    /// vendor/path
    name: ResourceName,
    /// File with the content; - reads standard input
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Resource policy to bind; without one the secret is released to nobody. oeas/affirming.rego is built in
    /// and allows every guest whose evidence was accepted
    #[arg(long = "policy", value_name = "VENDOR/ID.rego")]
    policies: Vec<PolicyName>,
}

#[derive(Debug, Args)]
pub struct Binding {
    /// vendor/path
    resource: ResourceName,
    /// vendor/id.rego
    policy: PolicyName,
}

#[derive(Debug, Subcommand)]
pub enum ResourceCommand {
    /// Register a secret
    Add(Content),
    /// Give a secret other content, as its next version
    Replace(Content),
    /// Let a policy decide about a secret, beside those that do already
    Bind(Binding),
    /// Let a policy no longer decide about a secret
    Unbind(Binding),
    /// Show all, without their content
    List(List),
    /// Remove a secret
    Delete {
        /// vendor/path
        name: ResourceName,
    },
}

#[derive(Debug, Subcommand)]
pub enum ResourcePolicyCommand {
    /// Register a policy, or its next version
    Set {
        /// vendor/id.rego
        name: PolicyName,
        /// Rego text: package vendor.id, rule allow
        #[arg(long, value_name = "FILE")]
        rego: PathBuf,
    },
    /// Show all
    List(List),
    /// Remove a policy; what it is bound to is then released to nobody
    Delete {
        /// vendor/id.rego
        name: PolicyName,
    },
}

pub async fn resource(plane: &Plane, command: ResourceCommand) -> anyhow::Result<()> {
    const PATH: &str = "/resources";
    match command {
        ResourceCommand::Add(content) => write(plane, Method::POST, content).await,
        ResourceCommand::Replace(content) => write(plane, Method::PUT, content).await,
        ResourceCommand::Bind(binding) => bind(plane, Method::POST, binding).await,
        ResourceCommand::Unbind(binding) => bind(plane, Method::DELETE, binding).await,
        ResourceCommand::List(list) => {
            plane
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
        ResourceCommand::Delete { name } => plane.delete(&format!("{PATH}/{name}")).await,
    }
}

async fn write(plane: &Plane, method: Method, content: Content) -> anyhow::Result<()> {
    let Content { name, file, policies } = content;
    let secret = read_secret(&file).context("--file")?;
    let document =
        NewResourceDocument { name: name.to_string(), content: STANDARD.encode(&*secret), policies };
    plane.send(method, "/resources", &document).await
}

async fn bind(plane: &Plane, method: Method, binding: Binding) -> anyhow::Result<()> {
    let document = BindingDocument { resource: binding.resource.to_string(), policy: binding.policy };
    plane.send(method, "/bindings", &document).await
}

pub async fn resource_policy(plane: &Plane, command: ResourcePolicyCommand) -> anyhow::Result<()> {
    const PATH: &str = "/resource-policies";
    match command {
        ResourcePolicyCommand::Set { name, rego } => {
            let rego = read_text(&rego).context("--rego")?;
            let document =
                ResourcePolicyDocument { name, rego, version: 0, sha256: String::new(), added_at: 0 };
            plane.add(PATH, &document).await
        }
        ResourcePolicyCommand::List(list) => {
            plane
                .list(PATH, &list, &["NAME", "VERSION", "SHA-256"], |policy: &ResourcePolicyDocument| {
                    let version =
                        if policy.version == 0 { "built in".to_owned() } else { policy.version.to_string() };
                    vec![policy.name.to_string(), version, policy.sha256.clone()]
                })
                .await
        }
        ResourcePolicyCommand::Delete { name } => plane.delete(&format!("{PATH}/{name}")).await,
    }
}

fn read_secret(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    if path == Path::new("-") {
        let mut content = Zeroizing::new(Vec::new());
        std::io::stdin().read_to_end(&mut content).context("cannot read standard input")?;
        return Ok(content);
    }
    std::fs::read(path).map(Zeroizing::new).with_context(|| format!("cannot read {}", path.display()))
}
