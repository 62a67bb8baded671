//! Any bytes as what comes with evidence, and as a file of a trust bundle: a clear refusal, or a device whose chain is valid.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use verifier::chain::TrustBundle;

/// 15 January 2027.
const NOW: i64 = 1_800_000_000;

static AUTHORITIES: &[u8] = include_bytes!("../corpus/certificate_chain/authorities");
static BUNDLE: LazyLock<TrustBundle> = LazyLock::new(|| {
    TrustBundle::new([("authorities", AUTHORITIES)], []).expect("the seeds are authorities")
});

fuzz_target!(|bytes: &[u8]| {
    match BUNDLE.device(bytes, NOW) {
        Ok(device) => assert!((device.not_before..=device.not_after).contains(&NOW)),
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
    }
    match TrustBundle::new([("file", bytes)], []) {
        Ok(bundle) => drop(bundle.device(bytes, NOW)),
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
    }
});
