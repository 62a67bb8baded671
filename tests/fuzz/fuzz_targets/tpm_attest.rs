//! Any bytes as a TPMS_ATTEST: a clear refusal, or a structure that means the same once it is written and read again.

#![no_main]

use evidence::tpm::Attest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match Attest::decode(bytes) {
        // Bitmaps of registers are written in their usual length.
        Ok(attest) => assert_eq!(Attest::decode(&attest.encode()), Ok(attest)),
        Err(error) => redoubt_fuzz::readable(&error),
    }
});
