//! MariaDB.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;
use crate::shared::{Kind, Server, background, new_name, run};

/// Debian does not put it on the PATH of users.
const SERVER: &str = "/usr/sbin/mariadbd";
/// How long it may take to begin.
const START: Duration = Duration::from_secs(60);

struct Mariadb;

/// Makes an empty database of MariaDB and gives its URL; `state` as for [`crate::postgres`].
///
/// # Errors
/// [`Error`] says what is missing or what failed.
pub fn mariadb(state: &Path) -> Result<String, Error> {
    static RUNNING: OnceLock<Result<Server<Mariadb>, String>> = OnceLock::new();
    let start = || Server::find_or_start(Mariadb, state).map_err(|error| error.to_string());
    let server = RUNNING.get_or_init(start).as_ref().map_err(|output| Error::Program {
        program: "starting MariaDB".to_owned(),
        output: output.clone(),
    })?;
    let name = new_name();
    run(client(&server.directory).args(["--execute", &format!("CREATE DATABASE {name}")]))?;
    Ok(format!("mariadb://root@localhost/{name}?socket={}/socket", server.directory.display()))
}

impl Kind for Mariadb {
    const NAME: &'static str = "mariadb";

    fn start(&self, directory: &Path) -> Result<(), Error> {
        if !Path::new(SERVER).is_file() {
            return Err(Error::Missing { server: "MariaDB", place: SERVER, package: "mariadb-server-core" });
        }
        let log = directory.join("log");
        let mut install = Command::new("mariadb-install-db");
        configure(&mut install, directory);
        run(install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]))?;
        let mut server = Command::new(SERVER);
        configure(&mut server, directory);
        server.arg("--socket").arg(directory.join("socket")).arg("--pid-file").arg(directory.join("pid"));
        server.arg(format!("--log-error={}", log.display()));
        server.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0"]);
        background(server.args(["--skip-networking", "--max-connections=400"]))?;
        let begun = Instant::now();
        while !self.is_ready(directory) {
            if begun.elapsed() > START {
                let output = fs::read_to_string(&log).unwrap_or_default();
                return Err(Error::Program { program: SERVER.to_owned(), output });
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn is_ready(&self, directory: &Path) -> bool {
        run(client(directory).args(["--execute", "SELECT 1"])).is_ok()
    }

    /// Nobody needs its data any more.
    fn stop(&self, directory: &Path) -> Command {
        let mut stop = Command::new("sh");
        stop.args(["-c", r#"kill -s KILL "$(cat "$1")""#, "sh"]).arg(directory.join("pid"));
        stop
    }
}

/// The machine's configuration is that of another server. As root, it must be told that it may be.
fn configure(command: &mut Command, directory: &Path) {
    command.arg("--no-defaults").arg(format!("--datadir={}", directory.join("data").display()));
    command.arg("--innodb-flush-method=nosync");
    if rustix::process::geteuid().is_root() {
        command.arg("--user=root");
    }
}

fn client(directory: &Path) -> Command {
    let mut client = Command::new("mariadb");
    client.args(["--no-defaults", "--user=root"]).arg("--socket").arg(directory.join("socket"));
    client
}
