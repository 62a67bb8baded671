//! Templates: which fields an entry has.

/// Longest name of a template.
pub(super) const MAX_NAME_LEN: usize = 16;

/// The template of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Template {
    /// `ima`: a SHA-1 or MD5 digest and a name.
    Ima,
    /// `ima-ng`: digest and path.
    ImaNg,
    /// `ima-sig`: and the file's signature.
    ImaSig,
    /// `ima-ngv2`: the digest says whether it is fs-verity's.
    ImaNgV2,
    /// `ima-sigv2`: and the file's signature.
    ImaSigV2,
    /// `ima-buf`: digest, name and content of a buffer, such as a key or the command line of a kexec.
    ImaBuf,
    /// `ima-modsig`: the signature appended to a module.
    ImaModsig,
    /// `evm-sig`: the file's extended attributes.
    EvmSig,
}

/// How a field is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// `d`: 20 bytes without a length.
    LegacyDigest,
    /// `n`: a name without NUL.
    LegacyName,
    /// `d-ng`: algorithm, colon, NUL, digest.
    Digest,
    /// `d-ngv2`: type, colon, algorithm, colon, NUL, digest.
    TypedDigest,
    /// `n-ng`: a path and NUL.
    Path,
    /// Any bytes.
    Bytes,
    /// `d-modsig`: as `d-ng`, or nothing.
    OptionalDigest,
    /// What the ASCII form writes in ways of its own.
    Attribute,
}

impl Template {
    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ima => "ima",
            Self::ImaNg => "ima-ng",
            Self::ImaSig => "ima-sig",
            Self::ImaNgV2 => "ima-ngv2",
            Self::ImaSigV2 => "ima-sigv2",
            Self::ImaBuf => "ima-buf",
            Self::ImaModsig => "ima-modsig",
            Self::EvmSig => "evm-sig",
        }
    }

    pub(super) fn from_name(name: &[u8]) -> Option<Self> {
        // Once for each entry: a comparison by length first, not with one name after the other.
        Some(match name {
            b"ima" => Self::Ima,
            b"ima-ng" => Self::ImaNg,
            b"ima-sig" => Self::ImaSig,
            b"ima-ngv2" => Self::ImaNgV2,
            b"ima-sigv2" => Self::ImaSigV2,
            b"ima-buf" => Self::ImaBuf,
            b"ima-modsig" => Self::ImaModsig,
            b"evm-sig" => Self::EvmSig,
            _ => return None,
        })
    }

    /// The fields, digest and path first.
    pub(super) const fn fields(self) -> &'static [Field] {
        use Field::{Attribute, Bytes, Digest, LegacyDigest, LegacyName, OptionalDigest, Path, TypedDigest};
        match self {
            Self::Ima => &[LegacyDigest, LegacyName],
            Self::ImaNg => &[Digest, Path],
            Self::ImaSig | Self::ImaBuf => &[Digest, Path, Bytes],
            Self::ImaNgV2 => &[TypedDigest, Path],
            Self::ImaSigV2 => &[TypedDigest, Path, Bytes],
            Self::ImaModsig => &[Digest, Path, Bytes, OptionalDigest, Bytes],
            Self::EvmSig => {
                &[Digest, Path, Bytes, Attribute, Attribute, Attribute, Attribute, Attribute, Attribute]
            }
        }
    }
}
