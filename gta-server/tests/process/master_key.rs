//! The program with a master key that is elsewhere than in a file.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{BINARY, Server, home, printed};

/// A directory of the program, and how it comes to the key.
pub struct Home {
    directory: TempDir,
    environment: Option<(&'static str, OsString)>,
    /// What is never said.
    secret: String,
}

impl Home {
    pub fn new(environment: Option<(&'static str, OsString)>, secret: &str) -> Self {
        Self { directory: home(), environment, secret: secret.to_owned() }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn run(&self, master: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.current_dir(self.path()).envs(self.environment.clone());
        command.args(["--master-key", master]).args(arguments).output().unwrap()
    }

    #[track_caller]
    pub fn done(&self, master: &str, arguments: &[&str]) {
        let output = self.run(master, arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[track_caller]
    pub fn fails(&self, master: &str, arguments: &[&str]) -> String {
        let output = self.run(master, arguments);
        assert!(!output.status.success(), "{master} was accepted");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains(&self.secret), "{said}");
        said
    }

    /// What the program says about a key that it refuses. It leaves no database behind.
    #[track_caller]
    pub fn refused(&self, master: &str) -> String {
        let said = self.fails(master, &["add-tenant", "acme"]);
        assert!(!self.path().join("gta.db").exists());
        said
    }

    /// A running server whose keys are still to be made: each is sealed when it is first needed.
    pub fn serve(&self, master: &str) -> Running<'_> {
        let caller = printed(&self.run(master, &["add-tenant", "acme"]));
        let log = File::create(self.path().join("log")).unwrap();
        let server = Server::start(self.path(), |command| {
            command.envs(self.environment.clone()).args(["--master-key", master]).stderr(log);
        });
        Running { home: self, server, caller }
    }
}

pub struct Running<'a> {
    home: &'a Home,
    server: Server,
    caller: Value,
}

impl Running<'_> {
    /// Asks for a nonce, of which the first needs a new key; gives the status.
    pub fn nonce(&self) -> u16 {
        let wanted = json!({ "attester_type": ["tpm_boot"] });
        self.server.post(self.home.path(), &self.caller, "/challenge", &wanted).0
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap()
    }
}
