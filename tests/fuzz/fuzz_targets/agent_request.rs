//! A request of a program in the guest to the attestation agent, and the agent's configuration file. The shape is: number of
//! the path, query, body, one a line.
#![no_main]

use attestation_agent::config::Options;
use attestation_agent::rest::{Path, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let number = lines.next().and_then(|line| line.first()).map_or(0, |byte| usize::from(byte % 16));
    let query = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let body = lines.next().unwrap_or_default();
    let (_, path) = Path::ALL[number % Path::ALL.len()];
    for (query, body) in [(Some(query.as_str()), &b""[..]), (None, body), (Some(query.as_str()), body)] {
        if let Err(problem) = read(path, query, body) {
            // What is answered is a document, whatever was asked.
            serde_json::from_str::<serde_json::Value>(&problem.to_json()).unwrap();
        }
    }
    let _ = Options::from_json(body);
});
