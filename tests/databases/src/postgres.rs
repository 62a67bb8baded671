//! PostgreSQL.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::Error;
use crate::shared::{Kind, Server, new_name, run};

/// The server's only user; whoever reaches its socket may be it.
const USER: &str = "postgres";

struct Postgres {
    programs: PathBuf,
}

/// Makes an empty database of PostgreSQL and gives its URL. `state` is a directory for lock files, which all tests that are
/// to share a server name alike: cargo's `CARGO_TARGET_TMPDIR`.
///
/// # Errors
/// [`Error`] says what is missing or what failed.
pub fn postgres(state: &Path) -> Result<String, Error> {
    static SERVER: OnceLock<Result<Server<Postgres>, String>> = OnceLock::new();
    let start = || {
        let kind = Postgres { programs: programs()? };
        Server::find_or_start(kind, state)
    };
    let server = SERVER.get_or_init(|| start().map_err(|error: Error| error.to_string()));
    let server = server.as_ref().map_err(|output| Error::Program {
        program: "starting PostgreSQL".to_owned(),
        output: output.clone(),
    })?;
    let name = new_name();
    let mut create = Command::new(server.kind.programs.join("createdb"));
    run(create.arg("--host").arg(&server.directory).args(["--username", USER, &name]))?;
    Ok(format!("postgres://{USER}@localhost/{name}?host={}", server.directory.display()))
}

/// The newest version's programs, which Debian does not put on PATH.
fn programs() -> Result<PathBuf, Error> {
    const MISSING: Error =
        Error::Missing { server: "PostgreSQL", place: "/usr/lib/postgresql", package: "postgresql" };
    let versions = fs::read_dir("/usr/lib/postgresql").map_err(|_| MISSING)?;
    let programs = versions.flatten().filter_map(|version| {
        let number: u32 = version.file_name().to_str()?.parse().ok()?;
        let directory = version.path().join("bin");
        directory.join("initdb").is_file().then_some((number, directory))
    });
    programs.max().map(|(_, directory)| directory).ok_or(MISSING)
}

impl Kind for Postgres {
    const NAME: &'static str = "postgres";

    fn start(&self, directory: &Path) -> Result<(), Error> {
        if rustix::process::geteuid().is_root() {
            run(Command::new("chown").args([USER, "--"]).arg(directory))?;
        }
        let data = directory.join("data");
        let mut initdb = as_server(self.programs.join("initdb"));
        initdb.args(["--username", USER, "--auth", "trust", "--encoding", "UTF8", "--no-sync", "--pgdata"]);
        run(initdb.arg(&data))?;
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories='{}' -c fsync=off -c full_page_writes=off -c max_connections=200",
            directory.display()
        );
        let mut pg_ctl = as_server(self.programs.join("pg_ctl"));
        pg_ctl.args(["start", "--silent", "--wait", "--options", &options, "--pgdata"]).arg(&data);
        run(pg_ctl.arg("--log").arg(directory.join("log")))
    }

    fn is_ready(&self, directory: &Path) -> bool {
        let mut ready = Command::new(self.programs.join("pg_isready"));
        run(ready.arg("--quiet").args(["--username", USER]).arg("--host").arg(directory)).is_ok()
    }

    fn stop(&self, directory: &Path) -> Command {
        let mut stop = as_server(self.programs.join("pg_ctl"));
        stop.args(["stop", "--silent", "--mode", "immediate", "--pgdata"]).arg(directory.join("data"));
        stop
    }
}

/// PostgreSQL refuses to run as root.
fn as_server(program: PathBuf) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"]).arg(program).current_dir("/");
    command
}
