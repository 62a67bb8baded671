//! The files of packages.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::digests::{Digests, sha256};

/// Fields behind the path in a line of `rpm --dump`: size, time, digest, mode, owner, group, whether it is configuration and
/// documentation, device, link.
const AFTER_PATH: usize = 10;
/// Bits of the mode that tell what kind of file it is, and those of a regular one.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

/// Adds the files of a package of Debian.
pub fn add_deb(package: &Path, known: &mut Digests) -> anyhow::Result<()> {
    let mut unpack = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("dpkg-deb cannot be started: it is in the package dpkg")?;
    let output = unpack.stdout.take().context("dpkg-deb has no output")?;
    let read = add_archive(output, known);
    if !unpack.wait()?.success() {
        bail!("dpkg-deb cannot unpack it");
    }
    read
}

fn add_archive(archive: impl std::io::Read, known: &mut Digests) -> anyhow::Result<()> {
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_str().context("the name of a file is not UTF-8")?.to_owned();
        let path = format!("/{}", path.trim_start_matches("./"));
        let kind = entry.header().entry_type();
        if kind.is_hard_link() {
            // A second name of a file that came before.
            bail!("{path} is a hard link: unpack the package, and use --tree");
        }
        if kind.is_file() {
            known.add_packaged(&path, sha256(&mut entry)?);
        }
    }
    Ok(())
}

/// Adds the files of a list by rpm.
pub fn add_rpm_dump(text: &str, known: &mut Digests) -> anyhow::Result<()> {
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        add_rpm_line(line, known).with_context(|| format!("line {number}"))?;
    }
    Ok(())
}

fn add_rpm_line(line: &str, known: &mut Digests) -> anyhow::Result<()> {
    // The path may have blanks, and so may the target of a link: of those only regular files matter, which have none.
    let mut fields: Vec<&str> = line.rsplitn(AFTER_PATH + 1, ' ').collect();
    fields.reverse();
    let [path, _, _, digest, mode, ..] = fields[..] else {
        bail!("expected a path and {AFTER_PATH} fields, as `rpm --dump` prints them");
    };
    let Some(mode) = u32::from_str_radix(mode, 8).ok().filter(|_| path.starts_with('/')) else {
        // A link whose target has blanks shifts the fields.
        if line.starts_with('/') && line.contains(" 0120777 ") {
            return Ok(());
        }
        bail!("expected a path and {AFTER_PATH} fields, as `rpm --dump` prints them");
    };
    // Ghosts have no digest: the package does not say what is in them.
    if mode & KIND != REGULAR || digest.bytes().all(|byte| byte == b'0') {
        return Ok(());
    }
    if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        bail!("the digest of {path} is {digest}: expected SHA-256, 64 hexadecimal digits");
    }
    known.add_packaged(path, format!("sha256:{}", digest.to_ascii_lowercase()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8aa";

    #[test]
    fn regular_files_of_a_dump_are_known_by_their_digests() {
        let zeros = "0".repeat(64);
        let text = format!(
            "/usr/bin/a 12 1700000000 {DIGEST} 0100755 root root 0 0 0 X\n\
             /usr/share/a b 12 1700000000 {DIGEST} 0100644 root root 0 1 0 X\n\
             /bin/c 12 1700000000 {DIGEST} 0100755 root root 0 0 0 X\n\
             /usr/lib/d.so 7 1700000000 {zeros} 0120777 root root 0 0 0 d.so.1\n\
             /usr/lib/e 7 1700000000 {zeros} 0120777 root root 0 0 0 a link with blanks\n\
             /var/lib/f 0 1700000000 {zeros} 040755 root root 0 0 0 X\n\
             /var/log/g 5 1700000000 {zeros} 0100600 root root 1 0 0 X\n\n"
        );
        let mut known = Digests::default();
        add_rpm_dump(&text, &mut known).unwrap();
        let digest = json!([format!("sha256:{DIGEST}")]);
        let expected = json!({
            "/usr/bin/a": digest, "/usr/share/a b": digest, "/bin/c": digest, "/usr/bin/c": digest,
        });
        assert_eq!(known.to_json(), expected);
    }

    #[test]
    fn what_is_no_dump_is_told_by_its_line() {
        let md5 = format!("/a 12 1700000000 {} 0100755 root root 0 0 0 X", "a".repeat(32));
        for (text, complaint) in [
            ("coreutils-9.1-1.x86_64", "line 1: expected a path"),
            (md5.as_str(), "line 1: the digest of /a"),
            ("\nb 12 1700000000 x 0100755 root root 0 0 0 X", "line 2: expected a path"),
        ] {
            let refused = add_rpm_dump(text, &mut Digests::default()).unwrap_err();
            assert!(format!("{refused:#}").starts_with(complaint), "{refused:#}");
        }
    }

    #[test]
    fn a_hard_link_is_not_left_out_in_silence() {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Link);
        header.set_size(0);
        archive.append_link(&mut header, "usr/bin/b", "usr/bin/a").unwrap();
        let bytes = archive.into_inner().unwrap();
        let refused = add_archive(&bytes[..], &mut Digests::default()).unwrap_err();
        assert!(refused.to_string().contains("/usr/bin/b is a hard link"), "{refused}");
    }
}
