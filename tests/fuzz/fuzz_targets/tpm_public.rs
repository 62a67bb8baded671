//! Any bytes as a TPMT_PUBLIC: a clear refusal, or a key that is written as it was read, for its name depends on that.

#![no_main]

use evidence::tpm::Public;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match Public::decode(bytes) {
        Ok(key) => {
            assert_eq!(key.encode(), bytes);
            assert_eq!(key.name().as_bytes().len(), 2 + key.name_algorithm.len());
            assert!(key.key.sec1_point().is_none_or(|point| point.len() % 2 == 1));
        }
        Err(error) => redoubt_fuzz::readable(&error),
    }
});
