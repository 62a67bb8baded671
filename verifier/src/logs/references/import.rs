//! Reference values in forms of other projects.

use std::collections::BTreeSet;

use evidence::hash::Digest;
use serde::Deserialize;

use super::{BootReferences, KernelReference};

/// Most digests in one list; secGear takes 10,000. Each takes memory for as long as the reference is registered.
const MAX_DIGESTS: usize = 1_000_000;

/// A file that cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A line of a list of digests.
    #[error("line {line} of the list is not a hash value in hexadecimal")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        source: evidence::hash::DigestTextError,
    },
    /// Nothing in the list: it would refuse everything.
    #[error("the list has no digest")]
    Empty,
    /// More than is kept.
    #[error("the list has more than {MAX_DIGESTS} digests")]
    TooLong,
    /// Not the SDK's file.
    #[error("not an image_reference_measurement.json of the virtCCA SDK")]
    Sdk(#[source] serde_json::Error),
    /// A hash algorithm that Realms do not have.
    #[error("hash_alg is {found:?}; expected sha-256, sha-384 or sha-512")]
    Algorithm {
        /// What was found.
        found: String,
    },
}

/// Reads secGear's `digest_list_file`: one hash value a line. The list has no roles: register it under a name in
/// [`super::LogReferences::untyped`].
///
/// # Errors
/// A line that is not a hash value, and a list without any.
pub fn digest_list(text: &str) -> Result<BTreeSet<Digest>, ImportError> {
    let mut digests = BTreeSet::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        digests.insert(line.parse().map_err(|source| ImportError::Line { line: index + 1, source })?);
        if digests.len() > MAX_DIGESTS {
            return Err(ImportError::TooLong);
        }
    }
    if digests.is_empty() { Err(ImportError::Empty) } else { Ok(digests) }
}

#[derive(Deserialize)]
struct SdkImage {
    grub: Digest,
    #[serde(rename = "grub.cfg")]
    grub_cfg: Digest,
    kernels: Vec<SdkKernel>,
    hash_alg: String,
}

#[derive(Deserialize)]
struct SdkKernel {
    version: String,
    kernel: Digest,
    initramfs: String,
}

impl BootReferences {
    /// Reads the virtCCA SDK's `image_reference_measurement.json`. It knows GRUB, its configuration, kernels after
    /// decompression and their initial RAM disks; everything else that is measured must be added.
    ///
    /// # Errors
    /// Anything else than such a file.
    pub fn from_virtcca_sdk(json: &str) -> Result<Self, ImportError> {
        let image: SdkImage = serde_json::from_str(json).map_err(ImportError::Sdk)?;
        if evidence::hash::HashAlgorithm::from_name(&image.hash_alg).is_none() {
            return Err(ImportError::Algorithm { found: image.hash_alg.chars().take(64).collect() });
        }
        let mut kernels = Vec::with_capacity(image.kernels.len());
        for (index, kernel) in image.kernels.into_iter().enumerate() {
            let initramfs = match &*kernel.initramfs {
                "NOT_FOUND" => BTreeSet::new(),
                text => {
                    [text.parse().map_err(|source| ImportError::Line { line: index + 1, source })?].into()
                }
            };
            kernels.push(KernelReference {
                name: kernel.version,
                unpacked: [kernel.kernel].into(),
                initramfs,
                ..KernelReference::default()
            });
        }
        Ok(Self { grub: [image.grub].into(), grub_cfg: [image.grub_cfg].into(), kernels, ..Self::default() })
    }
}
