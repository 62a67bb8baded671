//! A kernel that the PC's Secure Boot starts.

use std::path::Path;
use std::process::Command;

use crate::{Error, Packages, Result};

/// Of the key in Debian's package ovmf.
const PASSWORD: &str = "pass:snakeoil";

/// Signs `kernel` and writes it to `signed`; `directory` is for the key.
pub(crate) fn sign(packages: &Packages, kernel: &Path, signed: &Path, directory: &Path) -> Result<()> {
    let ([key, certificate], opened) = (packages.signer()?, directory.join("signer.key"));
    let mut open = Command::new("openssl");
    run("openssl", open.args(["rsa", "-passin", PASSWORD, "-in"]).arg(key).arg("-out").arg(&opened))?;
    let mut sign = Command::new("sbsign");
    sign.arg("--key").arg(opened).arg("--cert").arg(certificate).arg("--output").arg(signed).arg(kernel);
    run("sbsigntool", &mut sign)
}

/// Runs a program of a package to its end.
pub(crate) fn run(package: &'static str, command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().map_err(|source| Error::Start { program: program.clone(), package, source })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Program { program, output: String::from_utf8_lossy(&output.stderr).into_owned() })
}
