//! Files that are known by who signed them. `evmctl` and openssl sign as distributions do.

use std::path::Path;
use std::process::Command;

use evidence::ima::{FileDigest, LogWriter, Template};
use verifier::logs::{FileSigner, LogReferences};
use verifier::{Code, Refusal};

use crate::harness::*;

fn run(program: &str, directory: &Path, arguments: &[&str]) {
    let output = Command::new(program).current_dir(directory).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} (`cargo xtask test` installs it): {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What `evmctl` would put into `security.ima` of a file with this content, and whose it is.
fn sign(kind: &[&str], hash: &str, content: &[u8]) -> (FileSigner, Vec<u8>) {
    let home = tempfile::tempdir().unwrap();
    let make = [&["genpkey", "-out", "key.pem"], kind].concat();
    run("openssl", home.path(), &make);
    run("openssl", home.path(), &["pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
    std::fs::write(home.path().join("file"), content).unwrap();
    let sign = ["ima_sign", "--sigfile", "--hashalgo", hash, "--key", "key.pem", "file"];
    run("evmctl", home.path(), &sign);
    let public = std::fs::read_to_string(home.path().join("public.pem")).unwrap();
    let signer = serde_json::from_value(serde_json::json!(public)).unwrap();
    (signer, std::fs::read(home.path().join("file.sig")).unwrap())
}

/// A file with a signature in the list.
pub struct Signed<'a> {
    pub template: Template,
    pub digest: FileDigest<'a>,
    pub signature: &'a [u8],
}

/// How many files passed by their signature.
pub fn appraise(file: &Signed<'_>, signers: &[FileSigner]) -> Result<usize, Refusal> {
    let mut log = LogWriter::default();
    let more: &[&[u8]] = if file.template == Template::ImaNg { &[] } else { &[file.signature] };
    log.measure(4, file.template, file.digest, b"/opt/anywhere", more);
    let mut guest = Guest::usual();
    guest.set_ima(log);
    let mut references: LogReferences = references_with_ima();
    references.ima.as_mut().unwrap().signers = signers.to_vec();
    guest.appraise(&references, &strict_ima()).map(|report| report.ima.unwrap().signed)
}

const RSA: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const P384: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
const CONTENT: &[u8] = b"#!/bin/sh\n";

#[test]
fn a_file_that_a_known_signer_signed_is_known_at_any_path() {
    for (kind, hash) in [(RSA, "sha256"), (RSA, "sha512"), (P256, "sha256"), (P384, "sha384")] {
        let (signer, signature) = sign(kind, hash, CONTENT);
        let digest = match hash {
            "sha256" => aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, CONTENT),
            "sha384" => aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA384, CONTENT),
            _ => aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, CONTENT),
        };
        for template in [Template::ImaSig, Template::ImaSigV2] {
            let digest = FileDigest { verity: false, algorithm: hash, value: digest.as_ref() };
            let file = Signed { template, digest, signature: &signature };
            assert_eq!(appraise(&file, std::slice::from_ref(&signer)), Ok(1), "{kind:?} {hash} {template:?}");
            assert_eq!(code(appraise(&file, &[])).0, Code::ImaEntryUnknown);
        }
    }
}

#[test]
fn a_signature_that_is_not_exactly_of_this_file_by_a_known_key_makes_nothing_known() {
    let (signer, signature) = sign(P256, "sha256", CONTENT);
    let (stranger, by_stranger) = sign(P256, "sha256", CONTENT);
    let digest = digest(CONTENT);
    let good = FileDigest { verity: false, algorithm: "sha256", value: digest.as_bytes() };
    let refused = |file: &Signed<'_>, signers: &[FileSigner], what: &str| {
        assert_eq!(code(appraise(file, signers)).0, Code::ImaEntryUnknown, "{what}");
    };
    fn carrying<'a>(digest: FileDigest<'a>, signature: &'a [u8]) -> Signed<'a> {
        Signed { template: Template::ImaSig, digest, signature }
    }
    let signers = [signer.clone()];
    assert_eq!(appraise(&carrying(good, &signature), &[stranger.clone(), signer.clone()]), Ok(1));
    refused(&carrying(good, &by_stranger), &signers, "by a stranger");
    refused(&carrying(good, &signature), &[stranger], "known is somebody else");
    for index in 0..signature.len() {
        let mut altered = signature.clone();
        altered[index] ^= 1;
        refused(&carrying(good, &altered), &signers, &format!("byte {index}"));
        refused(&carrying(good, &signature[..index]), &signers, &format!("{index} bytes"));
    }
    refused(&carrying(good, &[&signature[..], &[0]].concat()), &signers, "a byte more");
    let other = [7; 32];
    let forged = [
        ("another file", FileDigest { value: &other, ..good }, Template::ImaSig),
        ("another function", FileDigest { algorithm: "sm3", ..good }, Template::ImaSig),
        ("fs-verity's digest", FileDigest { verity: true, ..good }, Template::ImaSigV2),
        ("no signature", good, Template::ImaNg),
        ("a buffer", good, Template::ImaBuf),
    ];
    for (what, digest, template) in forged {
        refused(&Signed { template, digest, signature: &signature }, &signers, what);
    }
    // The name by which a key is called is no secret, and proves nothing.
    let named = serde_json::to_value(&signer).unwrap();
    let (thief, _) = sign(P256, "sha256", CONTENT);
    let mut theirs = serde_json::to_value(&thief).unwrap();
    theirs["id"] = named["id"].clone();
    refused(
        &carrying(good, &signature),
        &[serde_json::from_value(theirs).unwrap()],
        "a key of the same name",
    );
}

#[test]
fn signatures_by_sha_1_and_small_keys_are_refused() {
    let (signer, signature) = sign(RSA, "sha1", CONTENT);
    let digest = evidence::bank::Bank::Sha1.hash([CONTENT]);
    let digest = FileDigest { verity: false, algorithm: "sha1", value: digest.as_bytes() };
    let file = Signed { template: Template::ImaSig, digest, signature: &signature };
    assert_eq!(code(appraise(&file, &[signer])).0, Code::ImaEntryUnknown);
    let home = tempfile::tempdir().unwrap();
    let small = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", "key.pem"];
    run("openssl", home.path(), &small);
    run("openssl", home.path(), &["pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
    let public = std::fs::read_to_string(home.path().join("public.pem")).unwrap();
    for text in [public.as_str(), "", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        assert!(serde_json::from_value::<FileSigner>(serde_json::json!(text)).is_err(), "{text}");
    }
}

#[test]
fn a_list_full_of_wrong_signatures_is_refused_without_looking_at_all() {
    let (signer, signature) = sign(RSA, "sha256", CONTENT);
    let mut log = LogWriter::default();
    let other = [7; 32];
    let digest = FileDigest { verity: false, algorithm: "sha256", value: &other };
    for _ in 0..150 {
        log.measure(4, Template::ImaSig, digest, b"/opt/a", &[&signature]);
    }
    let content = crate::harness::digest(CONTENT);
    let good = FileDigest { verity: false, algorithm: "sha256", value: content.as_bytes() };
    log.measure(4, Template::ImaSig, good, b"/opt/good", &[&signature]);
    let mut guest = Guest::usual();
    guest.set_ima(log);
    let mut references = references_with_ima();
    references.ima.as_mut().unwrap().signers = vec![signer];
    let (refused, text) = code(guest.appraise(&references, &strict_ima()));
    assert_eq!(refused, Code::ImaEntryUnknown);
    assert!(text.contains("and 146 more"), "the last was looked at: {text}");
}
