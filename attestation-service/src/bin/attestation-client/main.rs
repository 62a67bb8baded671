//! `attestation-client`: tells a running service what to trust and what to release, through its admin plane.

#![forbid(unsafe_code)]

mod corim;
mod keys;
mod plane;
mod references;
mod release;
mod trust;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use service_cli::{Extra, List};

use self::plane::Plane;

const EXAMPLES: &str = "\
Examples:
  export ATTESTATION_ADMIN_SOCKET=/run/attestation/admin.sock
  attestation-client trust-anchor add --name rack-7 --implementation-id HEX --instance-id HEX --key rack-7.pem
  attestation-client reference add --name my-guest --rim HEX --rem 0=HEX
  attestation-client reference golden --name my-guest --evidence evidence.json > my-guest.json
  attestation-client reference import my-guest.json
  attestation-client corim-signer add --name builder --key builder.pem --endorses realms
  attestation-client corim import guest.corim --name guest
  attestation-client corim export realms --id example.com/guests/7 --creator Example --out guests.corim
  attestation-client policy add --id default_cca.rego --rego my.rego --exceptions my.json
  attestation-client resource-policy set acme/own.rego --rego own.rego
  attestation-client resource add acme/disk-key --file disk.key --policy acme/own.rego
  attestation-client audit list --format json

  From another machine, as an operator with a certificate:
  attestation-client --admin-url https://attestation.example:8444 --ca ca.pem --cert me.pem --cert-key me.key \\
      reference list";

/// Manages what an attestation service trusts and releases.
#[derive(Debug, Parser)]
#[command(name = "attestation-client", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    plane: Plane,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Platform keys that are believed
    #[command(subcommand)]
    TrustAnchor(trust::TrustAnchorCommand),
    /// Authorities that certify devices
    #[command(subcommand)]
    TrustBundle(trust::TrustBundleCommand),
    /// Certificates that their authorities have revoked
    #[command(subcommand)]
    Crl(trust::CrlCommand),
    /// Measurements that are expected
    #[command(subcommand)]
    Reference(references::ReferenceCommand),
    /// Software and configuration that are expected of CCA platforms
    #[command(subcommand)]
    PlatformReference(references::PlatformReferenceCommand),
    /// Reference values and keys as documents of vendors and build systems (CoRIM)
    #[command(subcommand)]
    Corim(corim::CorimCommand),
    /// Keys whose signature on CoRIM documents is believed
    #[command(subcommand)]
    CorimSigner(corim::CorimSignerCommand),
    /// Values of claims that are expected, by the claim's name
    #[command(subcommand)]
    NamedReference(references::NamedReferenceCommand),
    /// Appraisal policies
    #[command(subcommand)]
    Policy(trust::PolicyCommand),
    /// Policies by which secrets are released
    #[command(subcommand)]
    ResourcePolicy(release::ResourcePolicyCommand),
    /// Secrets that are released to attested keys
    #[command(subcommand)]
    Resource(release::ResourceCommand),
    /// Keys that sign tokens
    #[command(subcommand)]
    SigningKey(keys::SigningKeyCommand),
    /// What was changed and released, by whom
    #[command(subcommand)]
    Audit(keys::AuditCommand),
    #[command(flatten)]
    Extra(Extra),
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
    let plane = cli.plane;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.command {
            Command::TrustAnchor(command) => trust::trust_anchor(&plane, command).await,
            Command::TrustBundle(command) => trust::trust_bundle(&plane, command).await,
            Command::Crl(command) => trust::crl(&plane, command).await,
            Command::Reference(command) => references::reference(&plane, command).await,
            Command::PlatformReference(command) => references::platform_reference(&plane, command).await,
            Command::Corim(command) => corim::corim(&plane, command).await,
            Command::CorimSigner(command) => corim::corim_signer(&plane, command).await,
            Command::NamedReference(command) => references::named_reference(&plane, command).await,
            Command::Policy(command) => trust::policy(&plane, command).await,
            Command::ResourcePolicy(command) => release::resource_policy(&plane, command).await,
            Command::Resource(command) => release::resource(&plane, command).await,
            Command::SigningKey(command) => keys::signing_key(&plane, command).await,
            Command::Audit(command) => keys::audit(&plane, command).await,
            Command::Extra(extra) => extra.print::<Cli>().context("cannot write to standard output"),
        }
    })
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
