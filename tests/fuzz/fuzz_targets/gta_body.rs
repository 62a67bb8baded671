//! Any request to the Global Trust Authority, with any role's key: an answer that blames nobody but the client.
//!
//! The input is text as `gta_server::harness` reads it. The authority knows the machines of the seeds, so that requests get
//! past decoding.

#![no_main]

use gta_server::harness::Harness;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static HARNESS: Harness = redoubt_fuzz::authority();
}

fuzz_target!(|bytes: &[u8]| {
    let answer = HARNESS.with(|harness| harness.request(bytes)).expect("a service in memory");
    assert!(answer.as_ref().is_none_or(|(status, _)| *status < 500), "{answer:?}");
});
