//! A PKCS #11 token for tests: Debian's SoftHSM, with keys that OpenSC's pkcs11-tool makes. Neither is ours, so they judge
//! how we use a token.

#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The token's library, where Debian puts it.
pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// The variable that tells the library where its tokens are; give it [`SoftHsm::configuration`].
pub const CONFIGURATION: &str = "SOFTHSM2_CONF";

/// The token's label.
pub const LABEL: &str = "redoubt test";

/// The PIN.
pub const PIN: &str = "271828182";

/// The token cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be used.
    #[error("cannot use a file of the token")]
    File(#[from] io::Error),
    /// A program cannot be started.
    #[error("cannot start {program}: `cargo xtask test` installs Debian's packages softhsm2 and opensc")]
    Start {
        /// The program.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A program fails.
    #[error("{program} failed: {output}")]
    Program {
        /// The program.
        program: &'static str,
        /// What it said.
        output: String,
    },
}

/// A token of its own; it is removed when this is dropped.
pub struct SoftHsm(TempDir);

impl SoftHsm {
    /// Makes a token without keys.
    ///
    /// # Errors
    /// [`Error`] says what is missing or what failed.
    pub fn new() -> Result<Self, Error> {
        let hsm = Self(tempfile::Builder::new().prefix("softhsm-").tempdir()?);
        let tokens = hsm.path("tokens");
        fs::create_dir(&tokens)?;
        fs::write(hsm.configuration(), format!("directories.tokendir = {}\n", tokens.display()))?;
        hsm.write_pin("pin", PIN)?;
        hsm.run(
            "softhsm2-util",
            ["--init-token", "--free", "--label", LABEL, "--pin", PIN, "--so-pin", PIN],
        )?;
        Ok(hsm)
    }

    /// Makes a secret key with the options that pkcs11-tool has, such as `["--key-type", "AES:32", "--sensitive"]`.
    ///
    /// # Errors
    /// [`Error`] if it cannot be made.
    pub fn add_key(&self, label: &str, id: &str, options: &[&str]) -> Result<(), Error> {
        let common = ["--module", MODULE, "--token-label", LABEL, "--login", "--pin", PIN, "--keygen"];
        self.run("pkcs11-tool", common.iter().chain(&["--label", label, "--id", id]).chain(options))
    }

    /// Takes a secret key away.
    ///
    /// # Errors
    /// [`Error`] if it cannot be.
    pub fn remove_key(&self, label: &str) -> Result<(), Error> {
        let common = ["--module", MODULE, "--token-label", LABEL, "--login", "--pin", PIN, "--delete-object"];
        self.run("pkcs11-tool", common.iter().chain(&["--type", "secrkey", "--label", label]))
    }

    /// Writes a PIN to a file that only its owner can read.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_pin(&self, name: &str, pin: &str) -> Result<PathBuf, Error> {
        let path = self.path(name);
        fs::write(&path, format!("{pin}\n"))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(path)
    }

    /// The value of [`CONFIGURATION`].
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.path("softhsm2.conf")
    }

    /// The RFC 7512 URI of the key with this label.
    #[must_use]
    pub fn uri(&self, label: &str) -> String {
        let (token, pin) = (LABEL.replace(' ', "%20"), self.path("pin"));
        format!("pkcs11:token={token};object={label}?module-path={MODULE}&pin-source=file:{}", pin.display())
    }

    /// A file beside the token's.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        Path::join(self.0.path(), name)
    }

    fn run(
        &self,
        program: &'static str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<(), Error> {
        let output = Command::new(program)
            .args(arguments)
            .env(CONFIGURATION, self.configuration())
            .output()
            .map_err(|source| Error::Start { program, source })?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::Program { program, output: String::from_utf8_lossy(&output.stderr).into_owned() })
    }
}
