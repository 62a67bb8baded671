//! Files that are known by who signed their digest by fs-verity. The signatures are those of `evmctl sign_hash --veritysig`
//! of ima-evm-utils 1.5, which Debian 12 does not have.

use evidence::ima::{FileDigest, Template};
use verifier::Code;
use verifier::logs::FileSigner;

use crate::harness::code;
use crate::signed::{Signed, appraise};

/// Key and signature of one digest.
struct Vector {
    algorithm: &'static str,
    key: &'static str,
    signature: &'static str,
}

const VECTORS: [Vector; 2] = [
    Vector {
        algorithm: "sha256",
        key: "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEgt1oNO5Un74nkt/pKrbh4FEjWQCm
4HiAYjsiGbYv/rGkqEalZmBYQmX+jBrqVi6NdB/3JtwdoHFacjQdOujeeA==
-----END PUBLIC KEY-----
",
        signature: "06030490c562e100483046022100e632789861b0ef63eac3947dc44d290ca7988027dbc6e44dc0bb4a77d6ceb90a022100925621ff1add437dd581d63678c381d091aa23996b19ba8931ac6a999c75e486",
    },
    Vector {
        algorithm: "sha512",
        key: "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAmeknYsbMQv30/bcHtI/T
YsrzeZ0IhpbOfPa3BaKirPlBilM0h5YocCqSgCea9qlNn3Xqt/7m9AJcRaaZDX8v
jw54AsB4n8nHf6VNZqBxUhz8+wyKy46O5+irPxrVtnUnR9Z02QxZQkDhbyf839dM
rUfGiK8z8Po8tAZv5obyVdBysDYG3nWAluHju/NIG5YzwCbB6UUKUghuqk7HiuGf
tm7C3WiMP3BU2JCc8Ph/LlAVwnGRpsot+DJZTzrFsl/HaJxdIUriLYYG6EEAMoSZ
5dmyHSNt/H/G0cQoXjo89gR3TEWCOIxgQbhii1Ep3cq8F1ZffxY5kT5DEIls/LzS
1wIDAQAB
-----END PUBLIC KEY-----
",
        signature: "0603066ad4e8bd010014c55c906b4d3141ca4957c0270d4c18f17f28db0357dd1ddce08f855515ef29ea5b05e62b58079be62526a16c78456025e96ca8f0591e2a3b03b2206fc86242e25dacc47cd8f4863b44ff389e98970dfc94eed2071239b860dd29feec7bebecd5c8d1d184c1a80c684599f64ac7e9b8a393612d552f2967148098bf6dd3824780a15959747465569bc0f0ec267b5a1acf5b9a5975d69730d201092b69ad9f2965f255ae76048415d5a9dfe42a5f241a5d9807d01a972ca8fbd9eb931c9e53d6a683f992809e8cf60573d51f7970e3ba9f6001b965ae7ff2d60b9834e4c07a60fad05126c1a19b0e4fe66c1164f956e7ae47b9bc36512ba76bbad23ed8be32b9",
    },
];

impl Vector {
    fn signer(&self) -> FileSigner {
        serde_json::from_value(serde_json::json!(self.key)).unwrap()
    }

    /// What was signed: the hash of these letters.
    fn digest(&self) -> Vec<u8> {
        let hash =
            if self.algorithm == "sha256" { &aws_lc_rs::digest::SHA256 } else { &aws_lc_rs::digest::SHA512 };
        aws_lc_rs::digest::digest(hash, b"fs-verity").as_ref().to_vec()
    }
}

#[test]
fn a_file_whose_digest_by_fs_verity_a_known_signer_signed_is_known() {
    for vector in &VECTORS {
        let (value, signature) = (vector.digest(), hex::decode(vector.signature).unwrap());
        let digest = FileDigest { verity: true, algorithm: vector.algorithm, value: &value };
        let file = Signed { template: Template::ImaSigV2, digest, signature: &signature };
        assert_eq!(appraise(&file, &[vector.signer()]), Ok(1), "{}", vector.algorithm);
        assert_eq!(code(appraise(&file, &[])).0, Code::ImaEntryUnknown);
    }
}

#[test]
fn a_signature_of_fs_verity_makes_nothing_else_known() {
    let [vector, other] = &VECTORS;
    let (value, signature) = (vector.digest(), hex::decode(vector.signature).unwrap());
    let good = FileDigest { verity: true, algorithm: "sha256", value: &value };
    let refused = |digest: FileDigest<'_>, signature: &[u8], what: &str| {
        let file = Signed { template: Template::ImaSigV2, digest, signature };
        let signers = [vector.signer(), other.signer()];
        assert_eq!(code(appraise(&file, &signers)).0, Code::ImaEntryUnknown, "{what}");
    };
    refused(FileDigest { verity: false, ..good }, &signature, "a digest of the content");
    // What was signed, taken for a digest of the content.
    let signed = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &[&[6, 4], &value[..]].concat());
    let content = FileDigest { verity: false, algorithm: "sha256", value: signed.as_ref() };
    refused(content, &signature, "the hash that was signed");
    refused(good, &hex::decode(other.signature).unwrap(), "by another signer, of another digest");
    for index in 0..signature.len() {
        let mut altered = signature.clone();
        altered[index] ^= 1;
        refused(good, &altered, &format!("byte {index}"));
        refused(good, &signature[..index], &format!("{index} bytes"));
    }
    for kind in [[6, 2], [3, 3], [5, 3]] {
        refused(good, &[&kind, &signature[2..]].concat(), "another kind or version");
    }
}
