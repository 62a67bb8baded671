//! Keys and certificates of one run, made by openssl.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Name in the service's certificate.
pub const SERVICE_NAME: &str = "attestation.redoubt.internal";

/// A curve of NIST, and the hash that is as strong.
#[derive(Clone, Copy)]
pub enum Curve {
    P384,
    P521,
}

/// A certificate to be made. Its validity is a day: that of a run.
pub struct Certificate<'a> {
    /// Common name of its subject.
    pub subject: &'a str,
    /// Lines of an `[extensions]` section.
    pub extensions: &'a str,
    /// Private key of its subject.
    pub key: &'a Path,
    /// Who signs it: certificate and key; itself if nobody.
    pub issuer: Option<(&'a Path, &'a Path)>,
    /// Decides on the hash of the signature.
    pub curve: Curve,
}

/// What a server's certificate says: an end entity and nothing else, for what is pinned is this one key.
pub const OF_A_SERVER: &str = "\
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:attestation.redoubt.internal
";

/// What the certificate of an authority says that certifies devices, or another such authority.
pub const OF_AN_AUTHORITY: &str = "\
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
";

/// What a device's certificate says.
pub const OF_A_DEVICE: &str = "\
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
";

/// Writes a private key in PKCS#8 PEM.
pub fn private_key(curve: Curve, to: &Path) -> Result<()> {
    let curve = match curve {
        Curve::P384 => "ec_paramgen_curve:P-384",
        Curve::P521 => "ec_paramgen_curve:P-521",
    };
    let mut command = Command::new("openssl");
    command.args(["genpkey", "-algorithm", "EC", "-pkeyopt", curve, "-out"]).arg(to);
    run(command)
}

/// Writes the public half of a private key in PEM.
pub fn public_key(of: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(["pkey", "-pubout", "-in"]).arg(of).arg("-out").arg(to);
    run(command)
}

impl Certificate<'_> {
    /// Writes the certificate in PEM, and beside it the configuration it was made by.
    pub fn write(&self, to: &Path) -> Result<()> {
        let config = to.with_extension("cnf");
        let text = format!(
            "[req]\ndistinguished_name = subject\nx509_extensions = extensions\nprompt = no\n[subject]\nCN = {}\n\
             [extensions]\n{}",
            self.subject, self.extensions
        );
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let hash = match self.curve {
            Curve::P384 => "-sha384",
            Curve::P521 => "-sha512",
        };
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-new", hash, "-days", "1", "-config"]).arg(&config);
        command.arg("-key").arg(self.key).arg("-out").arg(to);
        if let Some((certificate, key)) = self.issuer {
            command.arg("-CA").arg(certificate).arg("-CAkey").arg(key);
        }
        run(command)
    }
}

fn run(mut command: Command) -> Result<()> {
    let output = command.output().context("cannot start openssl; install the package openssl")?;
    if !output.status.success() {
        bail!("openssl failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}
