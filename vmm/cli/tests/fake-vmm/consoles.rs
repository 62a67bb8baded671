//! Consoles that answer every line with the same in capitals.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use api::config::{ConsoleConfig, ConsoleMode};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// Opens the other end of a console, and notes a terminal's path as the VMM does.
pub fn open(console: &mut ConsoleConfig) {
    match console.mode {
        ConsoleMode::Pty => {
            let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
            grantpt(&master).unwrap();
            unlockpt(&master).unwrap();
            let name = ptsname(&master, Vec::new()).unwrap();
            let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes())).to_owned();
            let slave = File::options().read(true).write(true).open(&path).unwrap();
            let mut attributes = tcgetattr(&slave).unwrap();
            attributes.make_raw();
            tcsetattr(&slave, OptionalActions::Now, &attributes).unwrap();
            console.file = Some(path);
            thread::spawn(move || {
                // The terminal stays open when its client leaves.
                let _slave = slave;
                let master = File::from(master);
                shout(&master, &master);
            });
        }
        ConsoleMode::Socket => {
            let listener = UnixListener::bind(console.socket.as_ref().unwrap()).unwrap();
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let stream = stream.unwrap();
                    shout(&stream, &stream);
                }
            });
        }
        _ => {}
    }
}

fn shout(mut input: impl Read, mut output: impl Write) {
    let mut buffer = [0; 256];
    while let Ok(count @ 1..) = input.read(&mut buffer) {
        if output.write_all(&buffer[..count].to_ascii_uppercase()).is_err() {
            return;
        }
    }
}
