//! The entries of a list, read one by one without copying anything.

use std::fmt;

use super::template::{Field, MAX_NAME_LEN, Template};
use super::{ImaError, MAX_PATH_LEN};
use crate::bank::{Bank, BankValue};
use crate::hash::write_hex;
use crate::reader::Reader;
use crate::tcg::MAX_REGISTER;

/// Bytes to which the template `ima` pads a name for its hash (`IMA_EVENT_NAME_LEN_MAX` and NUL).
const LEGACY_NAME_LEN: usize = 256;

/// Longest digest of a file, in bytes.
const MAX_DIGEST_LEN: usize = 64;

/// One measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The register that was extended.
    pub pcr: u32,
    /// The template.
    pub template: Template,
    /// Digest of the file or buffer.
    pub digest: FileDigest<'a>,
    /// Path of the file, or name of the buffer; not necessarily UTF-8.
    pub path: &'a [u8],
    template_digest: &'a [u8],
    data: &'a [u8],
}

/// The digest of a file or buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileDigest<'a> {
    /// Whether it is the digest of fs-verity, not of the content.
    pub verity: bool,
    /// The name that Linux has for the algorithm, such as `sha256`.
    pub algorithm: &'a str,
    /// The value.
    pub value: &'a [u8],
}

/// As reference values write it: `sha256:HEX` or `verity:sha256:HEX`.
impl fmt::Display for FileDigest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}:", if self.verity { "verity:" } else { "" }, self.algorithm)?;
        write_hex(self.value, f)
    }
}

impl Entry<'_> {
    /// Whether Linux could not tell what was used: a file was opened for writing while it was measured, or the other way
    /// about. Such an entry extends its registers with ones, so nothing else of it is proven, not even its path.
    pub fn is_violation(&self) -> bool {
        self.template_digest.iter().all(|byte| *byte == 0)
    }

    /// The file's signature (`security.ima`), if the template has one and the file has.
    pub fn signature(&self) -> Option<&[u8]> {
        if !matches!(self.template, Template::ImaSig | Template::ImaSigV2) {
            return None;
        }
        let mut fields = Reader::new(self.data);
        fields.sized()?;
        fields.sized()?;
        fields.sized().filter(|signature| !signature.is_empty())
    }

    /// Hash of the template's data, which registers of `bank` are extended with.
    pub fn template_hash(&self, bank: Bank) -> BankValue {
        if self.template != Template::Ima {
            return bank.hash([self.data]);
        }
        const PADDING: [u8; LEGACY_NAME_LEN] = [0; LEGACY_NAME_LEN];
        let padding = PADDING.get(self.path.len()..).unwrap_or_default();
        bank.hash([self.digest.value, self.path, padding])
    }
}

/// Iterates over the entries; ends after the first error.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    reader: Reader<'a>,
    digest_len: usize,
    next: usize,
}

impl<'a> Entries<'a> {
    /// Entries of which the first is number `next` of the list.
    pub(super) fn new(binary: &'a [u8], digest_len: usize, next: usize) -> Self {
        Self { reader: Reader::new(binary), digest_len, next }
    }

    /// Steps over an entry as far as its lengths tell. `None`, and no step, where an entry ends too early: reading it fails, too.
    pub(super) fn step_over(&mut self) -> Option<()> {
        let mut ahead = self.reader.clone();
        ahead.take(size_of::<u32>())?;
        ahead.take(self.digest_len)?;
        if Template::from_name(ahead.sized()?) == Some(Template::Ima) {
            ahead.take(Bank::Sha1.len())?;
        }
        ahead.sized()?;
        self.reader = ahead;
        self.next += 1;
        Some(())
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.reader.rest()
    }

    fn read(&mut self) -> Result<Entry<'a>, ImaError> {
        let entry = self.next;
        self.next += 1;
        let truncated = |part| ImaError::Truncated { entry, part };
        let bad = |reason| ImaError::Entry { entry, reason };
        let reader = &mut self.reader;
        let pcr = reader.u32().ok_or_else(|| truncated("register"))?;
        if pcr > MAX_REGISTER {
            return Err(bad("its register is above 31"));
        }
        let template_digest = reader.take(self.digest_len).ok_or_else(|| truncated("template digest"))?;
        let name = reader.sized().ok_or_else(|| truncated("template name"))?;
        let template = Template::from_name(name).ok_or_else(|| {
            let name = name.get(..MAX_NAME_LEN).unwrap_or(name);
            ImaError::Template { entry, found: crate::quote(&String::from_utf8_lossy(name)) }
        })?;
        let data = if template == Template::Ima {
            let mut legacy = reader.clone();
            reader.take(Bank::Sha1.len()).ok_or_else(|| truncated("digest"))?;
            reader.sized().ok_or_else(|| truncated("name"))?;
            legacy.take(reader.offset() - legacy.offset()).unwrap_or_default()
        } else {
            reader.sized().ok_or_else(|| truncated("template data"))?
        };
        let mut fields = Reader::new(data);
        let short = || bad("a field reaches past the end of the template data");
        let (digest, path) = if template == Template::Ima {
            let value = fields.take(Bank::Sha1.len()).ok_or_else(short)?;
            let digest = FileDigest { verity: false, algorithm: "sha1", value };
            (digest, fields.sized().ok_or_else(short)?)
        } else {
            let typed = template.fields().contains(&Field::TypedDigest);
            let digest = read_digest(fields.sized().ok_or_else(short)?, typed)
                .ok_or_else(|| bad("its digest is not an algorithm, a colon, NUL and a value"))?;
            let path = fields.sized().ok_or_else(short)?.strip_suffix(b"\0");
            (digest, path.ok_or_else(|| bad("its path does not end with NUL"))?)
        };
        for field in template.fields().iter().skip(2) {
            let value = fields.sized().ok_or_else(short)?;
            let plausible =
                *field != Field::OptionalDigest || value.is_empty() || read_digest(value, false).is_some();
            if !plausible {
                return Err(bad("its second digest is not an algorithm, a colon, NUL and a value"));
            }
        }
        if !fields.is_empty() {
            return Err(bad("something follows the last field of the template"));
        }
        let longest = if template == Template::Ima { LEGACY_NAME_LEN - 1 } else { MAX_PATH_LEN };
        if path.len() > longest {
            return Err(ImaError::Path { entry, found: path.len() });
        }
        // Otherwise two paths could look alike to whoever takes a path for text.
        if path.is_empty() || has_nul(path) {
            return Err(bad("its path is empty or contains NUL"));
        }
        Ok(Entry { pcr, template, digest, path, template_digest, data })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, ImaError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let entry = self.read();
        if entry.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(entry)
    }
}

/// Without a branch for each byte.
fn has_nul(path: &[u8]) -> bool {
    path.iter().fold(false, |found, byte| found | (*byte == 0))
}

fn read_digest(field: &[u8], typed: bool) -> Option<FileDigest<'_>> {
    // What nearly every entry has.
    let usual = if typed { field.strip_prefix(b"ima:sha256:\0") } else { field.strip_prefix(b"sha256:\0") };
    if let Some(value) = usual.filter(|value| value.len() <= MAX_DIGEST_LEN) {
        return Some(FileDigest { verity: false, algorithm: "sha256", value });
    }
    let nul = field.iter().position(|byte| *byte == 0)?;
    let (prefix, value) = (field.get(..nul)?, field.get(nul + 1..)?);
    let prefix = std::str::from_utf8(prefix).ok()?.strip_suffix(':')?;
    let (verity, algorithm) = match prefix.split_once(':') {
        Some(("ima", algorithm)) if typed => (false, algorithm),
        Some(("verity", algorithm)) if typed => (true, algorithm),
        None if !typed => (false, prefix),
        _ => return None,
    };
    let plausible = !algorithm.is_empty()
        && algorithm.len() <= 32
        && algorithm.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
    // Empty for a violation of kernels that knew no algorithm yet.
    (plausible && value.len() <= MAX_DIGEST_LEN).then_some(FileDigest { verity, algorithm, value })
}
