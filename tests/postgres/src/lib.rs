//! A real PostgreSQL for tests: Debian's package, started by the first test that needs it, shared by all that run at the
//! same time, in this process or another, and stopped soon after the last of them.
//!
//! The server listens on a Unix socket only. It does not wait for disks: it is not the one whose death is tested.

#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::fs::{FlockOperation, flock};

/// The server's only user; whoever reaches its socket may be it.
const USER: &str = "postgres";

/// Ends the server, with the command that is given, once no test has used it for a while. While it does, it holds the lock
/// that tests share.
const WATCH: &str = r#"users=$1; directory=$2; shift 2
while sleep 10; do
    flock --nonblock --conflict-exit-code 99 "$users" "$@"
    [ $? = 99 ] || { rm -rf "$directory"; exit; }
done"#;

/// PostgreSQL cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not installed.
    #[error(
        "there is no PostgreSQL in /usr/lib/postgresql; `cargo xtask test` installs Debian's package postgresql"
    )]
    Missing,
    /// A file cannot be used.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// One of its programs fails.
    #[error("{program} failed: {output}")]
    Program {
        /// The program.
        program: String,
        /// What it said.
        output: String,
    },
}

/// A running server, which stays while this process does.
struct Server {
    programs: PathBuf,
    directory: PathBuf,
    _in_use: File,
}

/// Makes an empty database and gives its URL. `state` is a directory for lock files, which all tests that are to share a
/// server name alike: cargo's `CARGO_TARGET_TMPDIR`.
///
/// # Errors
/// [`Error`] says what is missing or what failed.
pub fn database(state: &Path) -> Result<String, Error> {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    let server = SERVER.get_or_init(|| Server::find_or_start(state).map_err(|error| error.to_string()));
    let server = server.as_ref().map_err(|output| Error::Program {
        program: "starting PostgreSQL".to_owned(),
        output: output.clone(),
    })?;
    let name = format!("test_{}", uuid::Uuid::new_v4().simple());
    let mut create = Command::new(server.programs.join("createdb"));
    run(create.arg("--host").arg(&server.directory).args(["--username", USER, &name]))?;
    Ok(format!("postgres://{USER}@localhost/{name}?host={}", server.directory.display()))
}

impl Server {
    fn find_or_start(state: &Path) -> Result<Self, Error> {
        let programs = programs()?;
        let users = state.join("postgres.users");
        let in_use = locked(&users, FlockOperation::LockShared)?;
        // One starts it, the others wait.
        let _starting = locked(&state.join("postgres.starting"), FlockOperation::LockExclusive)?;
        let note = state.join("postgres.directory");
        if let Ok(directory) = fs::read_to_string(&note).map(PathBuf::from)
            && is_ready(&programs, &directory)
        {
            return Ok(Self { programs, directory, _in_use: in_use });
        }
        let directory = start(&programs)?;
        fs::write(&note, directory.as_os_str().as_encoded_bytes()).map_err(file(&note))?;
        watch(&programs, &directory, &users)?;
        Ok(Self { programs, directory, _in_use: in_use })
    }
}

/// The newest version's programs, which Debian does not put on PATH.
fn programs() -> Result<PathBuf, Error> {
    let versions = fs::read_dir("/usr/lib/postgresql").map_err(|_| Error::Missing)?;
    let programs = versions.flatten().filter_map(|version| {
        let number: u32 = version.file_name().to_str()?.parse().ok()?;
        let directory = version.path().join("bin");
        directory.join("initdb").is_file().then_some((number, directory))
    });
    programs.max().map(|(_, directory)| directory).ok_or(Error::Missing)
}

fn start(programs: &Path) -> Result<PathBuf, Error> {
    // A socket's path may have 107 bytes, so this is not below cargo's directory.
    let directory = tempfile::Builder::new()
        .prefix("postgres-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir()
        .map_err(file(&std::env::temp_dir()))?
        .keep();
    if rustix::process::geteuid().is_root() {
        run(Command::new("chown").args([USER, "--"]).arg(&directory))?;
    }
    let data = directory.join("data");
    let mut initdb = as_server(programs.join("initdb"));
    initdb.args(["--username", USER, "--auth", "trust", "--encoding", "UTF8", "--no-sync", "--pgdata"]);
    run(initdb.arg(&data))?;
    let options = format!(
        "-c listen_addresses='' -c unix_socket_directories='{}' -c fsync=off -c full_page_writes=off -c max_connections=200",
        directory.display()
    );
    let mut pg_ctl = as_server(programs.join("pg_ctl"));
    pg_ctl.args(["start", "--silent", "--wait", "--options", &options, "--pgdata"]).arg(&data);
    run(pg_ctl.arg("--log").arg(directory.join("log")))?;
    Ok(directory)
}

fn is_ready(programs: &Path, directory: &Path) -> bool {
    let mut ready = Command::new(programs.join("pg_isready"));
    run(ready.arg("--quiet").args(["--username", USER]).arg("--host").arg(directory)).is_ok()
}

/// The watcher outlives this process, in a group of its own, so that what ends a test does not end it.
fn watch(programs: &Path, directory: &Path, users: &Path) -> Result<(), Error> {
    let mut stop = as_server(programs.join("pg_ctl"));
    stop.args(["stop", "--silent", "--mode", "immediate", "--pgdata"]).arg(directory.join("data"));
    let mut watcher = Command::new("sh");
    watcher.args(["-c", WATCH, "sh"]).arg(users).arg(directory);
    watcher.arg(stop.get_program()).args(stop.get_args()).current_dir("/");
    watcher.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    watcher.spawn().map(drop).map_err(file(Path::new("sh")))
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

fn run(command: &mut Command) -> Result<(), Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    // Its log goes to files: a server that held our pipes would keep us waiting for their end.
    let output = tempfile::tempfile().map_err(file(&std::env::temp_dir()))?;
    let copy = |file_: &File| file_.try_clone().map_err(file(&std::env::temp_dir()));
    command.stdin(Stdio::null()).stdout(copy(&output)?).stderr(copy(&output)?);
    let status = command.status().map_err(file(Path::new(&program)))?;
    if status.success() {
        return Ok(());
    }
    let mut output = output;
    let mut text = String::new();
    let _ = io::Seek::rewind(&mut output).and_then(|()| io::Read::read_to_string(&mut output, &mut text));
    Err(Error::Program { program: format!("{command:?}"), output: text })
}

fn locked(path: &Path, operation: FlockOperation) -> Result<File, Error> {
    let opened =
        OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(file(path))?;
    flock(&opened, operation).map_err(|errno| file(path)(errno.into()))?;
    Ok(opened)
}

fn file(path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::File { path: path.to_owned(), source }
}
