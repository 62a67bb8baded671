//! Files that are registered or handed in.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::tpm::Public;

/// The text of a file; `-` is standard input.
pub fn text(option: &str, path: &Path) -> anyhow::Result<String> {
    let bytes = bytes(option, path)?;
    String::from_utf8(bytes).with_context(|| format!("{option} {}: not UTF-8 text", path.display()))
}

/// The content of a file; `-` is standard input.
pub fn bytes(option: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut content = Vec::new();
        std::io::stdin().read_to_end(&mut content).context("standard input")?;
        return Ok(content);
    }
    std::fs::read(path).with_context(|| format!("{option} {}", path.display()))
}

/// A key as `tpm2_readpublic -f tss` writes it, or as a bare `TPMT_PUBLIC`; as the authority takes it.
pub fn tpm_public(option: &str, path: &Path) -> anyhow::Result<String> {
    let content = bytes(option, path)?;
    let key = Public::decode_sized(&content).or_else(|_| Public::decode(&content)).with_context(|| {
        format!("{option} {}: not a key as tpm2_readpublic -f tss writes it", path.display())
    })?;
    Ok(STANDARD.encode(key.encode()))
}

/// A certificate as the authority takes it: PEM as it is, DER in base64.
pub fn certificate(option: &str, path: &Path) -> anyhow::Result<String> {
    let content = bytes(option, path)?;
    match String::from_utf8(content) {
        Ok(text) if text.contains("-----BEGIN ") => Ok(text),
        Ok(text) => Ok(STANDARD.encode(text)),
        Err(error) => Ok(STANDARD.encode(error.into_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_sent_in_the_form_in_which_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("certificate");
        let sent = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            certificate("--pem", &path).unwrap()
        };
        assert_eq!(sent(b"-----BEGIN CERTIFICATE-----"), "-----BEGIN CERTIFICATE-----");
        assert_eq!(sent(&[0x30, 0x82, 0xff]), "MIL/");
        assert!(tpm_public("--ak-public", &path).unwrap_err().to_string().contains("tpm2_readpublic"));
    }
}
