//! `gta`: what a tenant registers with a Global Trust Authority, and what comes of attestations.

#![forbid(unsafe_code)]

mod attestations;
mod authority;
mod certificates;
mod collection;
mod files;
mod health;
mod known_files;
mod nodes;
mod policies;
mod references;
mod webhooks;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use service_cli::Extra;

use crate::authority::Authority;

const EXAMPLES: &str = "\
Examples:
  export GTA_SERVER=https://gta.example:8443 GTA_CA=/etc/gta.pem
  export GTA_TENANT=acme GTA_API_KEY_FILE=~/.config/gta.key

  With the token of a Kubernetes service account, or another one of an issuer that the server believes, in place of a key:
    gta --token-file /var/run/secrets/tokens/gta node list

  Believe the makers of TPMs, so that machines can enrol themselves:
    gta cert add --name makers --type tpm_ek --pem makers.pem
  Know the files that machines may run; the list is signed by a registered signer:
    gta cert add --name builder --type refvalue --pem builder.pem
    gta ref make --tree /srv/images/web --exclude '/var/log/*' --key builder.key --out web.jwt
    gta ref add --name web --file web.jwt
  Demand more of the boot than what is demanded of all:
    gta policy add --name secure-boot --type tpm_boot --rego secure-boot.rego --default
  Who is there, and who must be enrolled anew:
    gta node list
    gta node delete web-7
  How machines are, and what happens to them from now on, as JSON for whoever reacts:
    gta status --status failed
    gta event --follow --format json
  Have a pager told of machines that are not accepted any more:
    gta webhook add --name pager --url https://pager.example/hook --events failed,refused,missed
  Who has changed policies:
    gta audit --kind policy
  Look at a token, and at evidence of a machine that cannot reach the authority:
    gta token verify token.jwt
    gta nonce --node web-7            # on the machine: attestation-agent gta evidence --nonce ... > evidence.json
    gta attest evidence.json

Exit codes: 0 done, 1 error, 2 a machine is refused or a token does not hold.";

/// Manages a tenant of a Global Trust Authority.
#[derive(Parser)]
#[command(name = "gta", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    authority: Authority,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Machines that are enrolled or whose key is pinned
    #[command(subcommand)]
    Node(nodes::NodeCommand),
    /// Policies that evidence must match
    #[command(subcommand)]
    Policy(policies::PolicyCommand),
    /// Authorities, signers, and revocation lists
    #[command(subcommand)]
    Cert(certificates::CertCommand),
    /// Files that are known
    #[command(subcommand)]
    Ref(references::RefCommand),
    /// Who is told of changes of how machines are
    #[command(subcommand)]
    Webhook(webhooks::WebhookCommand),
    /// Show how machines are that have reported
    Status(health::StatusArgs),
    /// Show changes of how machines are, the last ones last
    Event(health::EventArgs),
    /// Show who has changed what, the last first
    Audit(health::AuditArgs),
    /// Take a nonce for evidence
    Nonce(attestations::NonceArgs),
    /// Begin to enrol a machine by its keys: gives what its TPM must open
    Enroll(attestations::EnrollArgs),
    /// End an enrolment with what was in the credential
    Activate(attestations::ActivateArgs),
    /// Hand in evidence; prints what the authority says of it
    Attest(attestations::AttestArgs),
    /// Tokens
    #[command(subcommand)]
    Token(attestations::TokenCommand),
    /// The API key
    #[command(subcommand)]
    Key(attestations::KeyCommand),
    #[command(flatten)]
    Extra(Extra),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell if this fails. Clap's own exit code for usage errors means "refused" here.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("gta: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let authority = cli.authority;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let done = match cli.command {
            Command::Attest(args) => return attestations::attest(&authority, args).await,
            Command::Token(command) => return attestations::token(&authority, command).await,
            Command::Node(command) => nodes::node(&authority, command).await,
            Command::Policy(command) => policies::policy(&authority, command).await,
            Command::Cert(command) => certificates::certificate(&authority, command).await,
            Command::Ref(command) => references::reference(&authority, command).await,
            Command::Webhook(command) => webhooks::webhook(&authority, command).await,
            Command::Status(args) => health::status(&authority, args).await,
            Command::Event(args) => health::events(&authority, args).await,
            Command::Audit(args) => health::audit(&authority, args).await,
            Command::Nonce(args) => attestations::nonce(&authority, args).await,
            Command::Enroll(args) => attestations::enrol(&authority, args).await,
            Command::Activate(args) => attestations::activate(&authority, args).await,
            Command::Key(command) => attestations::key(&authority, command).await,
            Command::Extra(extra) => extra.print::<Cli>().context("cannot write to standard output"),
        };
        done.map(|()| ExitCode::SUCCESS)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
