//! Keys that sign files, and their signatures as Linux keeps them in `security.ima`.

use std::fmt;

use aws_lc_rs::digest::{self, Context, Digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1, ECDSA_P384_SHA256_ASN1,
    ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA512_ASN1, ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA384_ASN1,
    ECDSA_P521_SHA512_ASN1, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use evidence::bank::Bank;
use evidence::ima::FileDigest;
use pem_rfc7468::LineEnding;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// `EVM_IMA_XATTR_DIGSIG`, with the version of its `signature_v2_hdr`: a signature of the digest of the file's content.
const DIGSIG: [u8; 2] = [3, 2];
/// `IMA_VERITY_DIGSIG`, with its version: a signature of the file's digest by fs-verity.
const VERITY_DIGSIG: [u8; 2] = [6, 3];
/// Smallest modulus.
const RSA_BITS: usize = 2048;
/// Names of hash functions in `enum hash_algo`, with Linux's names for them in digests. SHA-1 is left out.
const HASHES: [(u8, &str); 3] = [(4, "sha256"), (5, "sha384"), (6, "sha512")];

/// A key whose signature makes a file known: RSA from 2048 bits (PKCS #1 v1.5), or ECDSA on P-256, P-384 or P-521.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub struct FileSigner {
    /// SubjectPublicKeyInfo.
    key: Vec<u8>,
    kind: KeyKind,
    /// What signatures call it.
    id: [u8; 4],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyKind {
    Rsa,
    P256,
    P384,
    P521,
}

impl KeyKind {
    const ALL: [Self; 4] = [Self::Rsa, Self::P256, Self::P384, Self::P521];

    fn algorithm(self, hash: &str) -> Option<&'static dyn VerificationAlgorithm> {
        Some(match (self, hash) {
            (Self::Rsa, "sha256") => &RSA_PKCS1_2048_8192_SHA256,
            (Self::Rsa, "sha384") => &RSA_PKCS1_2048_8192_SHA384,
            (Self::Rsa, "sha512") => &RSA_PKCS1_2048_8192_SHA512,
            (Self::P256, "sha256") => &ECDSA_P256_SHA256_ASN1,
            (Self::P256, "sha384") => &ECDSA_P256_SHA384_ASN1,
            (Self::P256, "sha512") => &ECDSA_P256_SHA512_ASN1,
            (Self::P384, "sha256") => &ECDSA_P384_SHA256_ASN1,
            (Self::P384, "sha384") => &ECDSA_P384_SHA384_ASN1,
            (Self::P384, "sha512") => &ECDSA_P384_SHA512_ASN1,
            (Self::P521, "sha256") => &ECDSA_P521_SHA256_ASN1,
            (Self::P521, "sha384") => &ECDSA_P521_SHA384_ASN1,
            (Self::P521, "sha512") => &ECDSA_P521_SHA512_ASN1,
            _ => return None,
        })
    }
}

impl FileSigner {
    /// Takes a SubjectPublicKeyInfo. Signatures call the key by the end of its certificate's subject key identifier; `None` is
    /// for what that is by default, the end of the key's SHA-1.
    ///
    /// # Errors
    /// Another kind of key, or a smaller one.
    pub fn new(key: &[u8], id: Option<u32>) -> Result<Self, FileSignerError> {
        let (rest, info) = SubjectPublicKeyInfo::from_der(key).map_err(|_| FileSignerError)?;
        // An encoding with something behind it is not the one that is compared.
        if !rest.is_empty() {
            return Err(FileSignerError);
        }
        let fits = |kind: &KeyKind| {
            kind.algorithm("sha256").is_some_and(|algorithm| ParsedPublicKey::new(algorithm, key).is_ok())
        };
        let kind = KeyKind::ALL.into_iter().find(fits).ok_or(FileSignerError)?;
        // The library looks at that only with a signature.
        let small = matches!(info.parsed(), Ok(PublicKey::RSA(key)) if key.key_size() < RSA_BITS);
        if small {
            return Err(FileSignerError);
        }
        let digest = Bank::Sha1.hash([&*info.subject_public_key.data]);
        let derived = digest.as_bytes().last_chunk().copied().unwrap_or_default();
        Ok(Self { key: key.to_vec(), kind, id: id.map_or(derived, u32::to_be_bytes) })
    }

    /// Whether this key made `signature`, the content of `security.ima`, over the file with this digest.
    pub(in crate::logs) fn has_signed(&self, digest: &FileDigest<'_>, signature: &[u8]) -> bool {
        let Some(header) = Header::read(signature) else { return false };
        header.signer == self.id
            && header.hash == digest.algorithm
            && header.verity == digest.verity
            && self.verify(digest, header.signature).is_some()
    }

    fn verify(&self, digest: &FileDigest<'_>, signature: &[u8]) -> Option<()> {
        let signed = signed_digest(digest)?;
        let algorithm = self.kind.algorithm(digest.algorithm)?;
        UnparsedPublicKey::new(algorithm, &self.key).verify_digest(&signed, signature).ok()
    }
}

/// What is signed. For fs-verity that is the hash of `ima_file_id` (Linux's `security/integrity/ima/ima.h`), which says of
/// which kind the digest is.
fn signed_digest(digest: &FileDigest<'_>) -> Option<Digest> {
    let hash = match digest.algorithm {
        "sha256" => &digest::SHA256,
        "sha384" => &digest::SHA384,
        "sha512" => &digest::SHA512,
        _ => return None,
    };
    let of_file = Digest::import_less_safe(digest.value, hash).ok()?;
    if !digest.verity {
        return Some(of_file);
    }
    let (number, _) = HASHES.into_iter().find(|(_, name)| *name == digest.algorithm)?;
    let mut file_id = Context::new(hash);
    file_id.update(&[VERITY_DIGSIG[0], number]);
    file_id.update(digest.value);
    Some(file_id.finish())
}

/// `signature_v2_hdr` of Linux's `security/integrity/integrity.h`.
struct Header<'a> {
    verity: bool,
    hash: &'static str,
    signer: [u8; 4],
    signature: &'a [u8],
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first_chunk()?;
        let verity = match *kind {
            DIGSIG => false,
            VERITY_DIGSIG => true,
            _ => return None,
        };
        let (algorithm, rest) = rest.split_first()?;
        let (signer, rest) = rest.split_first_chunk()?;
        let (length, signature) = rest.split_first_chunk()?;
        let (_, hash) = HASHES.into_iter().find(|(number, _)| number == algorithm)?;
        (usize::from(u16::from_be_bytes(*length)) == signature.len()).then_some(Self {
            verity,
            hash,
            signer: *signer,
            signature,
        })
    }
}

/// As it is written: the key in PEM, or that with the number that signatures call it by.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Key(String),
    Named(Named),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    key: String,
    /// Eight hexadecimal digits.
    id: String,
}

impl TryFrom<Text> for FileSigner {
    type Error = FileSignerError;

    fn try_from(text: Text) -> Result<Self, Self::Error> {
        let (pem, id) = match text {
            Text::Key(pem) => (pem, None),
            Text::Named(Named { key, id }) => {
                let mut bytes = [0; 4];
                hex::decode_to_slice(&id, &mut bytes).map_err(|_| FileSignerError)?;
                (key, Some(u32::from_be_bytes(bytes)))
            }
        };
        let key = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| FileSignerError)?;
        Self::new(&key, id)
    }
}

impl From<FileSigner> for Text {
    fn from(signer: FileSigner) -> Self {
        let label = pem_rfc7468::encode_string("PUBLIC KEY", LineEnding::LF, &signer.key);
        // No key that was read is too long for the encoder.
        Self::Named(Named { key: label.unwrap_or_default(), id: hex::encode(signer.id) })
    }
}

impl fmt::Debug for FileSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileSigner({})", hex::encode(self.id))
    }
}

/// A key that cannot sign files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected the public key of a signer of files, PEM \"PUBLIC KEY\": RSA from 2048 bits, or P-256, P-384 or P-521; \
     and its id, if it is given, as 8 hexadecimal digits"
)]
pub struct FileSignerError;
