//! Any request to the public plane of the attestation service: an answer that blames nobody but the client.
//!
//! The input is text in three parts: `METHOD PATH`, newline, bearer token, newline, body. The service knows the guest of
//! the seeds, so that requests get past decoding; the bearer `token` stands for a valid token of that guest.

#![no_main]

use attestation_service::harness::Harness;
use libfuzzer_sys::fuzz_target;
use redoubt_fuzz::guest;

thread_local! {
    static HARNESS: Harness = ready();
}

fn ready() -> Harness {
    let mut harness = Harness::new().expect("a service in memory");
    for (path, document) in guest::registration() {
        assert_eq!(harness.register(path, &document), Some(201), "{path}");
    }
    assert_eq!(harness.keep_token(guest::attestation().as_bytes()), Some(200));
    harness
}

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(3, |byte| *byte == b'\n');
    let (line, bearer, body) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let mut words = line.splitn(2, |byte| *byte == b' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (Ok(path), Ok(bearer)) = (str::from_utf8(path), str::from_utf8(bearer)) else { return };
    let status = HARNESS.with(|harness| harness.request(method, path, bearer, body));
    assert!(status.is_none_or(|status| status < 500), "{status:?}");
});
