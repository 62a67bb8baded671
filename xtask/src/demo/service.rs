//! The attestation service of one run, on this machine's loopback.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// A running service; it ends with this value.
#[derive(Debug)]
pub struct Service {
    child: Child,
    client: PathBuf,
    admin_socket: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
}

#[derive(Deserialize)]
struct Ready {
    listening: SocketAddr,
}

impl Service {
    /// Starts a service with an empty database under `directory`, and waits until it listens.
    pub fn start(
        program: &Path,
        client: &Path,
        directory: &Path,
        certificate: &Path,
        key: &Path,
    ) -> Result<Self> {
        let (database, admin_socket) = (directory.join("service.sqlite"), directory.join("admin.sock"));
        for stale in [&database, &admin_socket] {
            match fs::remove_file(stale) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", stale.display()));
                }
                _ => {}
            }
        }
        let log = directory.join("service.log");
        let log_file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        // setpriv ends the service even if this program is killed.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .arg(program)
            .args(["--listen", "127.0.0.1:0", "--tls-cert"])
            .arg(certificate)
            .arg("--tls-key")
            .arg(key)
            .arg("--database")
            .arg(format!("sqlite:{}", database.display()))
            .arg("--admin-socket")
            .arg(&admin_socket)
            .arg("--master-key")
            .arg(directory.join("master.key"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .spawn()
            .context("cannot start the attestation service")?;
        let mut line = String::new();
        let output = child.stdout.take().context("the service has no standard output")?;
        BufReader::new(output).read_line(&mut line).context("cannot read from the service")?;
        let Ok(Ready { listening }) = serde_json::from_str(&line) else {
            let _ = child.kill();
            let _ = child.wait();
            bail!("the attestation service did not start; see {}", log.display());
        };
        Ok(Self { child, client: client.to_owned(), admin_socket, address: listening })
    }

    /// Runs an administration command.
    pub fn admin(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.client);
        command.arg("--admin-socket").arg(&self.admin_socket).args(arguments);
        let output = command.output().context("cannot start attestation-client")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
