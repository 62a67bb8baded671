//! Measurements that measure nothing.

use std::collections::HashSet;
use std::sync::LazyLock;

use evidence::hash::{Digest, HashAlgorithm};

/// How many zeros firmware has been seen to hash, or could be expected to: an absent image, a blank measurement of any
/// algorithm, a blank sector or page.
const LENGTHS: [usize; 12] = [0, 1, 16, 20, 32, 48, 64, 128, 256, 512, 1024, 4096];

static HASHES_OF_ZEROS: LazyLock<HashSet<Digest>> = LazyLock::new(|| {
    let hashes = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];
    LENGTHS.iter().flat_map(|len| hashes.map(|hash| hash.digest(&vec![0; *len]))).collect()
});

/// Whether `measurement` is all zero, or the hash of nothing or of zeros.
pub fn is(measurement: &Digest) -> bool {
    measurement.as_bytes().iter().all(|byte| *byte == 0) || HASHES_OF_ZEROS.contains(measurement)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_and_hashes_of_zeros_are_degenerate_and_nothing_else() {
        for hash in [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512] {
            assert!(is(&Digest::zero(hash)));
            for len in LENGTHS {
                assert!(is(&hash.digest(&vec![0; len])), "{hash} of {len}");
            }
            assert!(!is(&hash.digest(b"firmware")));
        }
        // As published for the component "tee" of a real platform.
        assert!(is(&"f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b".parse().unwrap()));
    }
}
