//! `attestation-agent gta`: this machine's TPM, attested by a Global Trust Authority.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use attestation_agent::config::Options;
use attestation_agent::environment::System;
use attestation_agent::gta::machine::{Challenge, Machine};
use attestation_agent::gta::measurement::NonceType;
use attestation_agent::gta::respond::Responder;
use attestation_agent::gta::{self, Outcome, schedule};
use attestation_agent::{Error, Refusal, rest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::ReportFormat;

const EXAMPLES: &str = "\
Examples:
  Enrol this machine and attest it once:
    attestation-agent gta attest --service https://gta.example:8443 --service-cert /etc/gta.pem \\
      --tenant acme --api-key-file /etc/attestation-agent/gta.key

  With these options in the section gta of /etc/attestation-agent.json, attest it from now on:
    attestation-agent gta run

  Evidence for a relying party, who gave a nonce of the authority and hands it in at /attest:
    attestation-agent gta evidence --nonce BASE64 > evidence.json

Exit codes: 0 accepted, 1 error, 2 refused by the authority.";

/// Attest this machine's TPM with a Global Trust Authority.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct GtaArgs {
    #[command(subcommand)]
    command: GtaCommand,
}

#[derive(Subcommand)]
enum GtaCommand {
    /// Enrol this machine: prove that its attestation key is in its TPM
    Enroll {
        #[command(flatten)]
        common: Common,
    },
    /// Attest once, and enrol before that if need be; print a report with the token
    Attest {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        data: Data,
        /// Report for programs (one JSON line on standard output, text on standard error) or for people (text only)
        #[arg(long, value_name = "FORMAT", value_enum, default_value = "json")]
        report: ReportFormat,
    },
    /// Print evidence for a nonce, as POST /attest of the authority takes it
    Evidence {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        data: Data,
        /// The nonce in base64, as the authority's /challenge gave it
        #[arg(long, value_name = "BASE64")]
        nonce: String,
        /// Who made the nonce
        #[arg(long, value_enum, default_value = "verifier")]
        nonce_type: NonceType,
    },
    /// Attest again and again until SIGTERM or SIGINT; print a report of each time
    Run {
        #[command(flatten)]
        common: Common,
        /// Allow to listen on an address that others than this machine can reach: whoever does gets its tokens
        #[arg(long)]
        allow_remote: bool,
    },
}

#[derive(Args)]
struct Common {
    /// Configuration file with a section gta; options on the command line go before it [default:
    /// /etc/attestation-agent.json, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: gta::Options,
}

#[derive(Args)]
struct Data {
    /// Any JSON that the quotes are bound to, and that goes into the token
    #[arg(long, value_name = "JSON", value_parser = json_value)]
    attester_data: Option<Value>,
}

fn json_value(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

impl Common {
    fn resolve(self) -> Result<gta::Options> {
        let file = Options::from_file(self.config.as_deref())?;
        Ok(self.options.or(file.gta.unwrap_or_default()))
    }
}

pub async fn run(args: GtaArgs) -> Result<ExitCode> {
    match args.command {
        GtaCommand::Enroll { common } => {
            let attester = common.resolve()?.attester()?;
            let ak_name = attester.enrol().await?;
            println!("{}", json!({ "node_id": attester.machine.node_id, "ak_name": ak_name }));
            Ok(ExitCode::SUCCESS)
        }
        GtaCommand::Attest { common, data, report } => {
            let attester = common.resolve()?.attester()?;
            let attested = attester.enrol_and_attest(data.attester_data.as_ref()).await;
            let Conclusion { line, text, accepted } = Conclusion::of(attested)?;
            match report {
                ReportFormat::Json => {
                    println!("{line}");
                    eprint!("{text}");
                }
                ReportFormat::Text => print!("{text}"),
            }
            Ok(if accepted { ExitCode::SUCCESS } else { ExitCode::from(2) })
        }
        GtaCommand::Evidence { common, data, nonce, nonce_type } => {
            let machine = common.resolve()?.machine()?;
            let nonce = STANDARD.decode(nonce).context("option --nonce: not standard base64")?;
            if nonce.is_empty() {
                bail!("option --nonce: evidence without a nonce may be of any age");
            }
            let challenge = Challenge { nonce_type, nonce, attester_data: data.attester_data };
            println!("{}", serde_json::to_string(&Machine::answer(&machine, &challenge, None)?.request)?);
            Ok(ExitCode::SUCCESS)
        }
        GtaCommand::Run { common, allow_remote } => attest_until_told(common.resolve()?, allow_remote).await,
    }
}

async fn attest_until_told(options: gta::Options, allow_remote: bool) -> Result<ExitCode> {
    let (attester, times) = options.repeated()?;
    let addresses = options.listen.clone().unwrap_or_default();
    let modes = Options { socket_mode: options.socket_mode, ..Options::default() };
    let listeners = crate::listen(addresses, modes.socket_mode()?, allow_remote).await?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    if !listeners.is_empty() {
        let listening: Vec<String> = listeners
            .iter()
            .map(|listener| Ok(listener.address()?.to_string()))
            .collect::<io::Result<_>>()?;
        writeln!(io::stdout(), "{}", json!({ "listening": listening }))?;
    }
    let responder = Arc::new(Responder(attester.clone()));
    let mut report = |result: &attestation_agent::Result<Outcome>| {
        let line = match result {
            Ok(outcome) => serde_json::to_value(outcome).map(|mut line| {
                // Logs keep standard output; a token in them could be taken for this machine.
                if let Some(members) = line.as_object_mut() {
                    members.remove("token");
                }
                line
            }),
            Err(error) => Ok(schedule::failure(error)),
        };
        // Machines are attested whether anybody reads the reports or not.
        let written = line.map_err(io::Error::from).and_then(|line| writeln!(io::stdout(), "{line}"));
        if let Err(error) = written {
            tracing::warn!(%error, "cannot write a report");
        }
    };
    let told = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = schedule::run(&attester, times, &System, &mut report) => {}
        }
    };
    rest::serve(responder, listeners, told).await;
    Ok(ExitCode::SUCCESS)
}

/// What came of one attestation.
struct Conclusion {
    /// For programs.
    line: Value,
    /// For people.
    text: String,
    accepted: bool,
}

impl Conclusion {
    /// What is no decision about the machine stays an error.
    fn of(attested: attestation_agent::Result<Outcome>) -> Result<Self> {
        match attested {
            Ok(outcome) => {
                let (line, text) = (serde_json::to_value(&outcome)?, text(&outcome));
                Ok(Self { line, text, accepted: outcome.accepted })
            }
            // Evidence that may be untrue gets no token: the authority names the step that refused it.
            Err(error @ Error::Refused(Refusal { step: Some(_), .. })) => {
                let (line, text) = (schedule::failure(&error), format!("{error}\n"));
                Ok(Self { line, text, accepted: false })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The report for people.
fn text(outcome: &Outcome) -> String {
    let verdict = if outcome.accepted { "accepted" } else { "refused" };
    let mut text = format!("{}: {verdict}\n", outcome.node_id);
    for reason in &outcome.reasons {
        text += &format!("  {} {}: {}\n", reason.attester_type, reason.code, reason.detail);
    }
    if let (Some(first), Some(next)) = (outcome.ima_first_entry, outcome.ima_next_entry) {
        text += &format!("  the IMA log was sent from entry {first}; entries before {next} are accepted\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use attestation_agent::gta::verdict::Reason;

    use super::*;

    #[test]
    fn only_a_decision_of_the_authority_is_a_refusal() {
        let refusal = |step: Option<&str>| Refusal {
            status: 400,
            code: "quote_signature_invalid".to_owned(),
            step: step.map(str::to_owned),
            detail: String::new(),
        };
        let of = |error| Conclusion::of(Err(error));
        let refused = of(Error::Refused(refusal(Some("quote")))).unwrap();
        assert!(!refused.accepted && refused.text.contains("quote_signature_invalid at step quote"));
        assert_eq!(
            (&refused.line["accepted"], &refused.line["code"]),
            (&json!(false), &json!("quote_signature_invalid"))
        );
        assert!(of(Error::Refused(refusal(None))).is_err());
        assert!(of(Error::Unavailable(refusal(Some("quote")))).is_err());
    }

    #[test]
    fn a_refusal_says_why() {
        let reason = Reason {
            attester_type: "tpm_ima",
            code: "file_unknown".to_owned(),
            detail: "/usr/bin/evil".to_owned(),
        };
        let outcome = Outcome {
            node_id: "web-7".to_owned(),
            accepted: false,
            reasons: vec![reason],
            ima_first_entry: Some(3),
            ima_next_entry: Some(5),
            token: "secret".to_owned(),
        };
        let text = text(&outcome);
        assert!(text.starts_with("web-7: refused\n  tpm_ima file_unknown: /usr/bin/evil\n"), "{text}");
        assert!(!text.contains("secret"));
    }
}
