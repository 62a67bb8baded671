//! A server that proves itself with a token of the agent in its guest, and answers with what the client has proven.
//!
//! ```console
//! $ ra_tls_server --listen 127.0.0.1:4433 --agent http://127.0.0.1:8081 --token-keys jwks.json --mutual
//! ```
#![forbid(unsafe_code)]

mod common;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use agent_client::AgentClient;
use ra_tls::{Acceptor, AgentAttester, Flow, SystemClock};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

/// As long as tokens of an attestation service are valid.
const LIFETIME: Duration = Duration::from_secs(300);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = common::Options::read(std::env::args().skip(1))?;
    let agent = AgentClient::new(options.agent.parse()?);
    let attester = AgentAttester::new(agent, Flow::Passport);
    let mut acceptor = Acceptor::new(Arc::new(attester), LIFETIME, Arc::new(SystemClock))?;
    if options.mutual {
        acceptor = acceptor.with_clients(options.policy()?);
    }
    let listener = TcpListener::bind(&options.address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        match acceptor.accept(stream).await {
            Ok(mut attested) => {
                let proven = if attested.peer.is_some() { "an attested client" } else { "a client" };
                attested.stream.write_all(format!("hello, {proven}\n").as_bytes()).await?;
                attested.stream.shutdown().await?;
                println!("served {proven}");
            }
            Err(error) => println!("refused: {error}"),
        }
    }
}
