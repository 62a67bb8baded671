//! Nonces, enrolment and evidence by files, tokens, and the API key.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};
use service_cli::print_json;
use zeroize::Zeroizing;

use crate::authority::Authority;
use crate::files;

/// What the files of tpm2-tools with credentials begin with: a magic number, and the version 1.
const CREDENTIAL_HEADER: [u8; 8] = [0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1];

#[derive(Args, Debug)]
pub struct NonceArgs {
    /// The only machine that may answer
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// What evidence is wanted; several with commas
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', default_value = "tpm_boot,tpm_ima")]
    kinds: Vec<String>,
}

#[derive(Args, Debug)]
pub struct EnrollArgs {
    /// The name of the machine
    #[arg(long, value_name = "NAME")]
    node: String,
    /// The endorsement key's certificate, in DER or PEM
    #[arg(long, value_name = "FILE")]
    ek_certificate: PathBuf,
    /// The endorsement key, as tpm2_readpublic -f tss -o FILE writes it
    #[arg(long, value_name = "FILE")]
    ek_public: PathBuf,
    /// The attestation key, the same
    #[arg(long, value_name = "FILE")]
    ak_public: PathBuf,
    /// Where to put the credential, for tpm2_activatecredential -i FILE
    #[arg(long, value_name = "FILE")]
    credential: PathBuf,
}

#[derive(Args, Debug)]
pub struct ActivateArgs {
    /// The enrolment, as enroll printed it
    #[arg(long, value_name = "ID")]
    enrollment: String,
    /// What was in the credential, as tpm2_activatecredential -o FILE wrote it
    #[arg(long, value_name = "FILE")]
    opened: PathBuf,
}

#[derive(Args, Debug)]
pub struct AttestArgs {
    /// Evidence, as attestation-agent gta evidence prints it; - is standard input
    #[arg(value_name = "FILE")]
    evidence: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Have a token verified; prints what is in it
    Verify {
        /// The token; - is standard input
        #[arg(value_name = "FILE")]
        token: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Replace the API key by a new one, in its file; the old one is of no use from then on
    Renew,
}

pub async fn nonce(authority: &Authority, args: NonceArgs) -> anyhow::Result<()> {
    let mut body = json!({ "attester_type": args.kinds });
    if let (Some(node), Some(members)) = (args.node, body.as_object_mut()) {
        members.insert("node_id".to_owned(), Value::from(node));
    }
    let answer = authority.post("/challenge", &body).await?;
    println!("{}", member(&answer, "nonce")?);
    Ok(())
}

pub async fn enrol(authority: &Authority, args: EnrollArgs) -> anyhow::Result<()> {
    let body = json!({
        "node_id": args.node,
        "ek_certificate": files::certificate("--ek-certificate", &args.ek_certificate)?,
        "ek_public": files::tpm_public("--ek-public", &args.ek_public)?,
        "ak_public": files::tpm_public("--ak-public", &args.ak_public)?,
    });
    let begun = authority.post("/enroll", &body).await?;
    let part =
        |name| STANDARD.decode(member(&begun, name)?).context("the server's credential is not in base64");
    let file = [&CREDENTIAL_HEADER[..], &part("credential_blob")?, &part("encrypted_secret")?].concat();
    fs::write(&args.credential, file)
        .with_context(|| format!("--credential {}", args.credential.display()))?;
    print_json(&json!({ "enrollment_id": member(&begun, "enrollment_id")? }))
}

pub async fn activate(authority: &Authority, args: ActivateArgs) -> anyhow::Result<()> {
    let opened = STANDARD.encode(files::bytes("--opened", &args.opened)?);
    let body = json!({ "enrollment_id": args.enrollment, "credential": opened });
    print_json(&authority.post("/enroll/activate", &body).await?)
}

pub async fn attest(authority: &Authority, args: AttestArgs) -> anyhow::Result<ExitCode> {
    let answer = authority.upload("/attest", files::bytes("FILE", &args.evidence)?).await?;
    print_json(&answer)?;
    let tokens =
        answer.get("tokens").and_then(Value::as_array).context("the server's answer has no tokens")?;
    let passed = !tokens.is_empty() && tokens.iter().all(|token| token["attestation_status"] == "pass");
    Ok(verdict(passed))
}

pub async fn token(authority: &Authority, command: TokenCommand) -> anyhow::Result<ExitCode> {
    let TokenCommand::Verify { token } = command;
    let text = files::text("FILE", &token)?;
    let answer = authority.post("/token/verify", &json!({ "token": text.trim() })).await?;
    print_json(&answer)?;
    Ok(verdict(answer["verification_pass"] == true))
}

fn verdict(passed: bool) -> ExitCode {
    if passed { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

pub async fn key(authority: &Authority, command: KeyCommand) -> anyhow::Result<()> {
    let KeyCommand::Renew = command;
    let path = authority.key_file()?;
    // The old key ends with the answer: the new one must have a place before that.
    let mut place = NewFile::beside(path)?;
    let lost = || {
        format!(
            "the server may have changed the key, and the new one is lost: if the key in {} is refused from now on \
             (api_key_unknown), have the operator of the server make another one (gta-server add-key TENANT ROLE) and put \
             it there",
            path.display()
        )
    };
    let answer = authority.answer(Method::POST, "/register", b"{}".to_vec()).await.with_context(lost)?;
    // Who refuses has changed nothing; who fails may have.
    let refused = answer.status.is_client_error();
    let key = match answer.success() {
        Err(error) if refused => return Err(error),
        answer => answer.and_then(|answer| {
            let answer = serde_json::from_slice(&answer).context("the server's answer is not JSON")?;
            member(&answer, "API-Key").map(|key| Zeroizing::new(key.to_owned()))
        }),
    };
    place.replace(path, &key.with_context(lost)?)
}

/// A file for its owner only, that takes the place of another.
struct NewFile {
    path: PathBuf,
    file: fs::File,
}

impl NewFile {
    fn beside(path: &Path) -> anyhow::Result<Self> {
        let Some(name) = path.file_name() else { bail!("--api-key-file {}: is no file", path.display()) };
        let mut new = name.to_owned();
        new.push(".new");
        let new = path.with_file_name(new);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).with_context(|| {
            format!("cannot make {}: if it is there, a renewal broke off and the key in it may be the one that is valid", new.display())
        })?;
        Ok(Self { path: new, file })
    }

    fn replace(&mut self, path: &Path, key: &str) -> anyhow::Result<()> {
        let written = writeln!(self.file, "{key}").and_then(|()| self.file.sync_all());
        written.with_context(|| format!("cannot write {}", self.path.display()))?;
        fs::rename(&self.path, path).with_context(|| {
            format!(
                "the new key is in {}, and cannot be put in the place of {}",
                self.path.display(),
                path.display()
            )
        })?;
        // Without this a power failure could bring the old key back, which is good for nothing any more.
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        fs::File::open(directory).and_then(|directory| directory.sync_all()).with_context(|| {
            format!("the new key is in {}, which may not outlive a power failure", path.display())
        })
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Nothing was written, so there is no new key in it.
        if self.file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn member<'a>(answer: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    answer.get(name).and_then(Value::as_str).with_context(|| format!("the server's answer has no {name}"))
}
