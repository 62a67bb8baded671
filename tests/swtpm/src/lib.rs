//! A TPM 2.0 for tests: Debian's swtpm, with endorsement key certificates by a manufacturer of its own (swtpm_localca), and
//! tpm2-tools to work with it. What they say is not ours, so they judge what is.

#![forbid(unsafe_code)]

mod chip;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

pub use chip::Chip;

/// The programs' packages, for whoever lacks them.
const INSTALL: &str = "`cargo xtask test` installs Debian's packages swtpm, swtpm-tools and tpm2-tools";
/// How long the TPM may take to listen.
const START_TRIES: u32 = 100;
const START_PAUSE: Duration = Duration::from_millis(50);

/// The TPM cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be used.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program cannot be started.
    #[error("cannot start {program}: {INSTALL}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program fails.
    #[error("{program} failed: {output}")]
    Program {
        /// The program and its arguments.
        program: String,
        /// What it said.
        output: String,
    },
    /// It never listened.
    #[error("swtpm does not listen on its socket")]
    Silent,
}

/// A running TPM; it ends when this is dropped.
pub struct Swtpm {
    directory: TempDir,
    process: Child,
}

impl Swtpm {
    /// Makes a TPM with certificates for its endorsement keys and starts it.
    ///
    /// # Errors
    /// [`Error`] says what is missing or what failed.
    pub fn start() -> Result<Self, Error> {
        let directory = manufacture()?;
        let process = run_tpm(directory.path())?;
        let tpm = Self { directory, process };
        for _ in 0..START_TRIES {
            if tpm.socket().exists() && tpm.tool("tpm2_getcap", ["properties-fixed"]).is_ok() {
                return Ok(tpm);
            }
            std::thread::sleep(START_PAUSE);
        }
        Err(Error::Silent)
    }

    /// The socket for commands, as a client of `swtpm socket --server type=unixio` uses it.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Where the files of [`Self::tool`] are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The certificates of the manufacturer: root and sub CA, in PEM.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn manufacturer(&self) -> Result<String, Error> {
        manufacturer(self.directory.path())
    }

    /// Runs a program of tpm2-tools on this TPM, in [`Self::directory`], and gives what it printed.
    ///
    /// # Errors
    /// [`Error::Program`] if it fails.
    pub fn tool<I: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = I>,
    ) -> Result<String, Error> {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.directory.path());
        command.env("TPM2TOOLS_TCTI", format!("swtpm:path={}", self.socket().display()));
        // A TPM has room for three keys; without a resource manager nobody takes them out.
        let output = run(&mut command);
        let mut flush = Command::new("tpm2_flushcontext");
        flush
            .arg("--transient-object")
            .env("TPM2TOOLS_TCTI", format!("swtpm:path={}", self.socket().display()));
        run(&mut flush)?;
        output
    }

    /// Resets the TPM, as a machine does when it is started anew.
    ///
    /// # Errors
    /// [`Error::Program`].
    pub fn reset(&self) -> Result<(), Error> {
        self.tool("tpm2_shutdown", ["--clear"])?;
        let mut init = Command::new("swtpm_ioctl");
        run(init.arg("--unix").arg(self.directory.path().join("socket.ctrl")).arg("-i"))?;
        self.tool("tpm2_startup", ["--clear"]).map(drop)
    }

    /// Reads a file that a tool wrote.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let path = self.directory.path().join(name);
        fs::read(&path).map_err(file(&path))
    }

    /// Writes a file for a tool.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let path = self.directory.path().join(name);
        fs::write(&path, content).map_err(file(&path))
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Makes a TPM that does not run yet, in a directory of its own.
fn manufacture() -> Result<TempDir, Error> {
    let owned = tempfile::Builder::new().prefix("swtpm-").tempdir().map_err(file(&std::env::temp_dir()))?;
    let directory = owned.path();
    let (ca, state) = (directory.join("ca"), directory.join("state"));
    for path in [&ca, &state] {
        fs::create_dir(path).map_err(file(path))?;
    }
    let at = directory.display();
    for (name, content) in [
        (
            "localca.conf",
            format!(
                "statedir = {at}/ca\nsigningkey = {at}/ca/signkey.pem\nissuercert = {at}/ca/issuercert.pem\n\
                 certserial = {at}/ca/certserial\n"
            ),
        ),
        (
            "localca.options",
            "--platform-manufacturer Redoubt\n--platform-version 1\n--platform-model test\n".to_owned(),
        ),
        (
            "setup.conf",
            format!(
                "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {at}/localca.conf\n\
                 create_certs_tool_options = {at}/localca.options\n"
            ),
        ),
    ] {
        let path = directory.join(name);
        fs::write(&path, content).map_err(file(&path))?;
    }
    let mut setup = Command::new("swtpm_setup");
    setup.args([
        "--tpm2",
        "--create-ek-cert",
        "--overwrite",
        "--pcr-banks",
        "sha1,sha256,sha384",
        "--tpmstate",
    ]);
    run(setup.arg(&state).arg("--config").arg(directory.join("setup.conf")))?;
    Ok(owned)
}

fn manufacturer(directory: &Path) -> Result<String, Error> {
    let mut pem = String::new();
    for name in ["swtpm-localca-rootca-cert.pem", "issuercert.pem"] {
        let path = directory.join("ca").join(name);
        pem += &fs::read_to_string(&path).map_err(file(&path))?;
    }
    Ok(pem)
}

fn run_tpm(directory: &Path) -> Result<Child, Error> {
    // Clients look for the control channel beside the other, under this name.
    let (control, commands) = (channel(directory, "socket.ctrl"), channel(directory, "socket"));
    start(directory, &["--flags", "startup-clear", "--ctrl", &control, "--server", &commands])
}

fn channel(directory: &Path, name: &str) -> String {
    format!("type=unixio,path={}", directory.join(name).display())
}

fn start(directory: &Path, arguments: &[&str]) -> Result<Child, Error> {
    let mut swtpm = Command::new("swtpm");
    swtpm.args(["socket", "--tpm2", "--tpmstate"]);
    swtpm.arg(format!("dir={}", directory.join("state").display())).args(arguments);
    swtpm.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    swtpm.spawn().map_err(|source| Error::Start { program: "swtpm".to_owned(), source })
}

fn run(command: &mut Command) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|source| Error::Start { program, source })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let output = text + &String::from_utf8_lossy(&output.stderr);
    Err(Error::Program { program: format!("{command:?}"), output })
}

fn file(path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::File { path: path.to_owned(), source }
}
