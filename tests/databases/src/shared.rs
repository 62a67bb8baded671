//! A server that tests of several processes share.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};

use crate::{Error, file};

/// Ends the server, with the command that is given, once no test has used it for a while. While it does, it holds the lock
/// that tests share.
const WATCH: &str = r#"users=$1; directory=$2; shift 2
while sleep 10; do
    flock --nonblock --conflict-exit-code 99 "$users" "$@"
    [ $? = 99 ] || { rm -rf "$directory"; exit; }
done"#;

/// A kind of server.
pub(crate) trait Kind {
    /// Its name, in paths.
    const NAME: &'static str;

    /// Makes a server in an empty directory that others cannot enter, and waits until it answers.
    fn start(&self, directory: &Path) -> Result<(), Error>;

    /// Whether one answers there.
    fn is_ready(&self, directory: &Path) -> bool;

    /// What ends it.
    fn stop(&self, directory: &Path) -> Command;
}

/// A running server, which stays while this process does.
pub(crate) struct Server<K> {
    pub kind: K,
    pub directory: PathBuf,
    _in_use: File,
}

impl<K: Kind> Server<K> {
    /// `state` is a directory for lock files.
    pub fn find_or_start(kind: K, state: &Path) -> Result<Self, Error> {
        let of = |what| state.join(format!("{}.{what}", K::NAME));
        let users = of("users");
        let in_use = locked(&users, FlockOperation::LockShared)?;
        // One starts it, the others wait.
        let _starting = locked(&of("starting"), FlockOperation::LockExclusive)?;
        let note = of("directory");
        if let Ok(directory) = fs::read_to_string(&note).map(PathBuf::from)
            && kind.is_ready(&directory)
        {
            return Ok(Self { kind, directory, _in_use: in_use });
        }
        // A socket's path may have 107 bytes, so this is not below cargo's directory.
        let directory = tempfile::Builder::new()
            .prefix(&format!("{}-", K::NAME))
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .map_err(file(&std::env::temp_dir()))?
            .keep();
        kind.start(&directory)?;
        fs::write(&note, directory.as_os_str().as_encoded_bytes()).map_err(file(&note))?;
        watch(&kind.stop(&directory), &directory, &users)?;
        Ok(Self { kind, directory, _in_use: in_use })
    }
}

/// A name for a database that no other has.
pub(crate) fn new_name() -> String {
    format!("test_{}", uuid::Uuid::new_v4().simple())
}

/// The watcher outlives this process, in a group of its own, so that what ends a test does not end it.
fn watch(stop: &Command, directory: &Path, users: &Path) -> Result<(), Error> {
    let mut watcher = Command::new("sh");
    watcher.args(["-c", WATCH, "sh"]).arg(users).arg(directory);
    watcher.arg(stop.get_program()).args(stop.get_args());
    background(&mut watcher)
}

/// Starts what outlives this process.
pub(crate) fn background(command: &mut Command) -> Result<(), Error> {
    let program = PathBuf::from(command.get_program());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.current_dir("/").process_group(0).spawn().map(drop).map_err(file(&program))
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Result<(), Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    // What it says goes to files: a server that held our pipes would keep us waiting for their end.
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
