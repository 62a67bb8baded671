//! Ends of vsock connections for shell scripts, whose own tools know TCP only.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::fd::OwnedFd,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail};
use vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockAddr, VsockListener, VsockStream};

/// Carries standard input to the host's `port` and the answer to standard output. The end of the input closes that
/// direction only.
pub fn connect(port: &str) -> Result<()> {
    let mut stream = VsockStream::connect(&VsockAddr::new(VMADDR_CID_HOST, number(port)?))
        .with_context(|| format!("cannot connect to port {port} of the host"))?;
    let mut to_host = stream.try_clone().context("cannot duplicate the connection")?;
    let sent = thread::spawn(move || {
        copy(&mut io::stdin().lock(), &mut to_host)?;
        to_host.shutdown(Shutdown::Write)
    });
    copy(&mut stream, &mut io::stdout().lock()).context("the host broke off")?;
    match sent.join() {
        Ok(sent) => sent.context("the host takes no more"),
        Err(_) => bail!("the sending thread panicked"),
    }
}

/// Runs `program` for each connection to `port`, which is its standard input and output.
pub fn listen(port: &str, program: &[&str]) -> Result<()> {
    let (program, arguments) = program.split_first().context("--vsock-listen needs a program")?;
    let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, number(port)?)
        .with_context(|| format!("cannot listen on port {port}"))?;
    for stream in listener.incoming() {
        let input = OwnedFd::from(stream.context("cannot accept a connection")?);
        let output = input.try_clone().context("cannot duplicate a connection")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(output))
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        thread::spawn(move || child.wait());
    }
    Ok(())
}

fn number(port: &str) -> Result<u32> {
    port.parse().with_context(|| format!("{port:?} is not the number of a port"))
}

/// In pieces as large as a packet, which [`io::copy`] does not use.
fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return to.flush(),
            Ok(count) => to.write_all(buffer.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
