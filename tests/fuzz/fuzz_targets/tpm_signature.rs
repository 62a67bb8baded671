//! Any bytes as a TPMT_SIGNATURE: a clear refusal, or a signature that is written as it was read.

#![no_main]

use evidence::tpm::Signature;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match Signature::decode(bytes) {
        Ok(signature) => assert_eq!(signature.encode(), bytes),
        Err(error) => redoubt_fuzz::readable(&error),
    }
});
