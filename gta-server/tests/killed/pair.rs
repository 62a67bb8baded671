//! Two instances on one database, which are killed and started again while others ask them.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use hyper::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

use crate::process::connection::{Connection, trusting};
use crate::process::{BINARY, Server, home, printed};
use crate::support::Database;

/// The instances.
pub struct Pair {
    directory: TempDir,
    url: String,
    tls: TlsConnector,
    servers: [Mutex<Option<Server>>; 2],
}

impl Pair {
    /// A database in which nothing is yet; no instance runs.
    pub fn new(database: Database) -> Self {
        let directory = home();
        let url = database.create(directory.path());
        let certificate = std::fs::read_to_string(directory.path().join("cert.pem")).unwrap();
        Self { tls: trusting(&certificate), url, directory, servers: Default::default() }
    }

    /// A command of the program on this database.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.current_dir(self.directory.path()).env("GTA_DATABASE", &self.url).args(arguments);
        command
    }

    /// What a command prints, which must not fail.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Value {
        printed(&self.command(arguments).output().unwrap())
    }

    /// Looks at every row, beside the journals' ends that were seen before; gives those of now.
    #[track_caller]
    pub fn fsck(&self, heads: &Value) -> Value {
        std::fs::write(self.directory.path().join("heads"), heads.to_string()).unwrap();
        self.run(&["fsck", "--heads", "heads"])
    }

    pub fn start(&self, number: usize) {
        let server = Server::start(self.directory.path(), |command| {
            // What is given out is good for as long as the test may take.
            command.args(["--rate", "0", "--nonce-ttl", "3600", "--token-ttl", "3600"]);
            command.env("GTA_DATABASE", &self.url);
        });
        *self.server(number) = Some(server);
    }

    /// SIGKILL.
    pub fn kill(&self, number: usize) {
        drop(self.server(number).take());
    }

    fn server(&self, number: usize) -> std::sync::MutexGuard<'_, Option<Server>> {
        self.servers[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self, number: usize) -> Option<SocketAddr> {
        self.server(number).as_ref().map(|server| server.address)
    }
}

/// What became of a request.
pub enum Reply {
    /// Status and body.
    Answered(u16, Value),
    /// It was sent, and the answer did not come.
    Cut,
    /// No instance takes requests.
    Alone,
}

/// Somebody who asks either instance.
pub struct Client {
    key: Value,
    connections: [Option<Connection>; 2],
}

impl Client {
    pub fn new(key: Value) -> Self {
        Self { key, connections: [None, None] }
    }

    /// Asks an instance, or the other one if that does not take connections.
    pub async fn ask(
        &mut self,
        pair: &Pair,
        first: usize,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Reply {
        for number in [first, 1 - first] {
            if self.connections[number].is_none() {
                let Some(address) = pair.address(number) else { continue };
                let Ok(connection) = Connection::open(address, &pair.tls).await else { continue };
                self.connections[number] = Some(connection);
            }
            let Some(connection) = &mut self.connections[number] else { continue };
            return match connection.ask(&self.key, method, path, body).await {
                Ok((status, answer)) => Reply::Answered(status, answer),
                Err(_) => {
                    self.connections[number] = None;
                    Reply::Cut
                }
            };
        }
        Reply::Alone
    }

    /// What this instance answers, which runs.
    pub async fn answer(
        &mut self,
        pair: &Pair,
        number: usize,
        method: Method,
        path: &str,
        body: &Value,
    ) -> (u16, Value) {
        let mut connection = Connection::open(pair.address(number).unwrap(), &pair.tls).await.unwrap();
        connection.ask(&self.key, method, path, body).await.unwrap()
    }

    /// As [`Self::answer`], of a request that is taken.
    pub async fn get(&mut self, pair: &Pair, number: usize, path: &str) -> Value {
        let (status, answer) = self.answer(pair, number, Method::GET, path, &json!(null)).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }
}
