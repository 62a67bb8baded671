//! Keys and certificates of one run, made by openssl.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Name in the service's certificate.
pub const SERVICE_NAME: &str = "attestation.redoubt.internal";

/// An end-entity certificate and nothing else: what the guest pins is this one key.
const CERTIFICATE: &str = "\
[req]
distinguished_name = subject
x509_extensions = extensions
prompt = no
[subject]
CN = attestation service of this demo
[extensions]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:attestation.redoubt.internal
";

/// Writes a P-384 private key in PKCS#8 PEM.
pub fn private_key(to: &Path) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out"]).arg(to);
    run(command)
}

/// Writes the public half of a private key in PEM.
pub fn public_key(of: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(["pkey", "-pubout", "-in"]).arg(of).arg("-out").arg(to);
    run(command)
}

/// Writes a self-signed certificate of the service, valid for a day, and its key.
pub fn certificate(directory: &Path, certificate: &Path, key: &Path) -> Result<()> {
    let config = directory.join("certificate.cnf");
    fs::write(&config, CERTIFICATE).with_context(|| format!("cannot write {}", config.display()))?;
    private_key(key)?;
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-new", "-sha384", "-days", "1", "-config"]).arg(&config);
    command.arg("-key").arg(key).arg("-out").arg(certificate);
    run(command)
}

fn run(mut command: Command) -> Result<()> {
    let output = command.output().context("cannot start openssl; install the package openssl")?;
    if !output.status.success() {
        bail!("openssl failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}
