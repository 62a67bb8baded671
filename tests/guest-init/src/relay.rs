//! Carries connections from a Unix socket to a TCP address.

use std::{
    fs, io,
    net::{Shutdown, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    thread,
};

use anyhow::{Context, Result};
use guest_init::config::Relay;

/// Starts every relay.
pub fn start_all(relays: &[Relay]) -> Result<()> {
    relays.iter().try_for_each(start)
}

/// Creates the socket and serves it until the process ends.
fn start(relay: &Relay) -> Result<()> {
    let path = &relay.listen;
    match fs::remove_file(path) {
        // Left by an earlier run on the same machine.
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
        _ => {}
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    let connect = relay.connect.clone();
    thread::spawn(move || {
        for inbound in listener.incoming() {
            let connect = connect.clone();
            thread::spawn(move || {
                if let Err(error) = inbound.and_then(|stream| carry(stream, &connect)) {
                    eprintln!("guest-init: relay to {connect}: {error}");
                }
            });
        }
    });
    Ok(())
}

fn carry(inbound: UnixStream, connect: &str) -> io::Result<()> {
    let outbound = TcpStream::connect(connect)?;
    outbound.set_nodelay(true)?;
    let (mut from, mut to) = (inbound.try_clone()?, outbound.try_clone()?);
    let upstream = thread::spawn(move || {
        let result = io::copy(&mut from, &mut to);
        // Half-close: the peer may still answer.
        let _ = to.shutdown(Shutdown::Write);
        result
    });
    let (mut from, mut to) = (outbound, inbound);
    let downstream = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    downstream?;
    upstream.join().map_err(|_| io::Error::other("the upstream half panicked"))??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn carries_both_directions_and_half_close() {
        let directory = tempfile::tempdir().unwrap();
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay {
            listen: directory.path().join("sub/vsock_8443"),
            connect: server.local_addr().unwrap().to_string(),
        };
        start(&relay).unwrap();
        let answer = thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut question = String::new();
            stream.read_to_string(&mut question).unwrap();
            stream.write_all(question.to_uppercase().as_bytes()).unwrap();
        });
        let mut client = UnixStream::connect(&relay.listen).unwrap();
        client.write_all(b"hello").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "HELLO");
        answer.join().unwrap();
    }

    #[test]
    fn replaces_the_socket_of_an_earlier_run() {
        let directory = tempfile::tempdir().unwrap();
        let relay = Relay { listen: directory.path().join("vsock_8443"), connect: "127.0.0.1:1".into() };
        drop(UnixListener::bind(&relay.listen).unwrap());
        start_all(std::slice::from_ref(&relay)).unwrap();
        assert!(UnixStream::connect(&relay.listen).is_ok());
    }
}
