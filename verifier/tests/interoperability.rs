//! What others say about our signatures: openssl verifies the raw form of the COSE signatures that we make and check, and
//! the certificate chains.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed test panics")]

use std::path::{Path, PathBuf};
use std::process::Command;

use evidence::cca::CcaToken;
use evidence::virtcca::VirtccaToken;
use p384::pkcs8::{EncodePublicKey as _, LineEnding};
use tempfile::TempDir;
use verifier::testing::{Mint, VirtccaMint};

/// A directory in which openssl finds what it is asked about.
struct Openssl(TempDir);

impl Openssl {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn says(&self, arguments: &[&str], files: &[(&str, &Path)], last: &Path) -> (bool, String) {
        let mut command = Command::new("openssl");
        command.args(arguments);
        for (flag, path) in files {
            command.arg(flag).arg(path);
        }
        let output = command.arg(last).output().expect("openssl is installed by `cargo xtask test`");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Whether `signature` is one of `key` over `signed`.
    fn verifies(&self, options: &[&str], key: &str, signed: &[u8], signature: &[u8]) -> bool {
        let (key, signature) = (self.file("key.pem", key.as_bytes()), self.file("signature", signature));
        let arguments = [&["dgst"], options].concat();
        let files = [("-verify", &*key), ("-signature", &*signature)];
        let (good, said) = self.says(&arguments, &files, &self.file("signed", signed));
        assert!(said.contains(if good { "Verified OK" } else { "Verification failure" }), "{said}");
        good
    }
}

const SHA384: [&str; 1] = ["-sha384"];
const SHA512: [&str; 1] = ["-sha512"];
const PS256: [&str; 5] = ["-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"];

/// COSE's r || s as the DER that openssl takes.
fn der(raw: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let first = bytes.iter().position(|byte| *byte != 0).unwrap();
        let mut content = if bytes[first] >= 0x80 { vec![0] } else { Vec::new() };
        content.extend_from_slice(&bytes[first..]);
        [vec![2, u8::try_from(content.len()).unwrap()], content].concat()
    };
    let (r, s) = raw.split_at(raw.len() / 2);
    let content = [integer(r), integer(s)].concat();
    let length = u8::try_from(content.len()).unwrap();
    let header = if length < 0x80 { vec![0x30, length] } else { vec![0x30, 0x81, length] };
    [header, content].concat()
}

#[test]
fn openssl_verifies_both_signatures_of_a_cca_token() {
    let openssl = Openssl::new();
    let mint = Mint::new([0x5a; 64]);
    let token = CcaToken::decode(&mint.token()).unwrap();
    let realm_key =
        p384::PublicKey::from(*mint.rak.verifying_key()).to_public_key_pem(LineEnding::LF).unwrap();
    let platform_key = mint.public_key_pem();

    let (platform, realm) = (token.platform.to_be_signed(), token.realm.to_be_signed());
    let platform_signature = der(token.platform.signature());
    assert!(openssl.verifies(&SHA384, &platform_key, platform, &platform_signature));
    assert!(openssl.verifies(&SHA384, &realm_key, realm, &der(token.realm.signature())));
    // Each signature is of its own bytes and of its own key.
    assert!(!openssl.verifies(&SHA384, &realm_key, platform, &platform_signature));
    assert!(!openssl.verifies(&SHA384, &platform_key, realm, &platform_signature));
}

#[test]
fn openssl_verifies_both_signatures_of_a_virtcca_token() {
    let openssl = Openssl::new();
    let mint = VirtccaMint::new([0x5a; 64]);
    let token = VirtccaToken::decode(&mint.token()).unwrap();
    let (device, monitor) =
        (mint.device.certified().public_key_pem(), mint.monitor.certified().public_key_pem());
    let platform = token.platform.unwrap();

    let signature = der(platform.signature());
    assert!(openssl.verifies(&SHA512, &device, platform.to_be_signed(), &signature));
    assert!(openssl.verifies(&SHA512, &monitor, token.cvm.to_be_signed(), &der(token.cvm.signature())));
    assert!(!openssl.verifies(&SHA512, &monitor, platform.to_be_signed(), &signature));
}

#[test]
fn openssl_verifies_the_signature_of_a_legacy_virtcca_token() {
    let openssl = Openssl::new();
    let mint = VirtccaMint::legacy([0x5a; 64]);
    let token = VirtccaToken::decode(&mint.token()).unwrap();
    let device = mint.device.certified().public_key_pem();
    assert!(openssl.verifies(&PS256, &device, token.cvm.to_be_signed(), token.cvm.signature()));
    let other = [token.cvm.to_be_signed(), b"x"].concat();
    assert!(!openssl.verifies(&PS256, &device, &other, token.cvm.signature()));
}

#[test]
fn openssl_verifies_the_certificate_chain_of_a_device() {
    let openssl = Openssl::new();
    let (mint, stranger) = (VirtccaMint::new([0; 64]), VirtccaMint::new([0; 64]));
    let device = openssl.file("device.pem", &mint.device_certificate);
    for (authority, trusted) in [(&mint, true), (&stranger, false)] {
        let root = openssl.file("root.pem", authority.root.pem().as_bytes());
        let sub = openssl.file("sub.pem", authority.sub.pem().as_bytes());
        let (good, said) = openssl.says(&["verify"], &[("-CAfile", &root), ("-untrusted", &sub)], &device);
        assert_eq!(good, trusted, "{said}");
    }
}
