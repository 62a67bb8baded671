//! A client that talks to an attested server only, and makes it attest its key for this very connection.
//!
//! ```console
//! $ ra_tls_client --connect 127.0.0.1:4433 --token-keys jwks.json [--mutual --agent http://127.0.0.1:8081]
//! ```
#![forbid(unsafe_code)]

mod common;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use agent_client::AgentClient;
use ra_tls::{AgentAttester, Clock as _, Flow, Identity, KeyPair, SystemClock, connect};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = common::Options::read(std::env::args().skip(1))?;
    let identity = if options.mutual {
        let attester = AgentAttester::new(AgentClient::new(options.agent.parse()?), Flow::Passport);
        let (key, now) = (KeyPair::generate()?, SystemClock.now());
        Some(Identity::attest(&key, &attester, None, now, Duration::from_secs(300)).await?)
    } else {
        None
    };
    let stream = TcpStream::connect(&options.address).await?;
    let mut attested = connect(stream, &options.policy()?, identity.as_ref(), Arc::new(SystemClock)).await?;
    let mut said = String::new();
    attested.stream.read_to_string(&mut said).await?;
    let tee = attested.peer.and_then(|peer| peer.claims.get("tee").cloned()).unwrap_or_default();
    println!("an attested server ({tee}) says: {}", said.trim_end());
    Ok(())
}
