//! Measurement lists made entry by entry, in the binary form.

use super::{FileDigest, Template};
use crate::bank::Bank;

/// Writes a list as Linux does.
#[derive(Clone, Debug, Default)]
pub struct LogWriter {
    bytes: Vec<u8>,
}

impl LogWriter {
    /// Adds a measurement. `more` are the fields that the template has after digest and path: a signature, a buffer.
    pub fn measure(
        &mut self,
        pcr: u32,
        template: Template,
        digest: FileDigest<'_>,
        path: &[u8],
        more: &[&[u8]],
    ) {
        let (data, hashed) = template_data(template, digest, path, more);
        self.entry(pcr, Bank::Sha1.hash([&hashed[..]]).as_bytes(), template, &data);
    }

    /// Adds a violation.
    pub fn violate(&mut self, pcr: u32, path: &[u8]) {
        let digest = FileDigest { verity: false, algorithm: "sha1", value: &[0; 20] };
        let (data, _) = template_data(Template::ImaNg, digest, path, &[]);
        self.entry(pcr, &[0; 20], Template::ImaNg, &data);
    }

    /// The list.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn entry(&mut self, pcr: u32, template_digest: &[u8], template: Template, data: &[u8]) {
        self.bytes.extend_from_slice(&pcr.to_le_bytes());
        self.bytes.extend_from_slice(template_digest);
        self.bytes.extend(sized(template.name().as_bytes()));
        match template {
            Template::Ima => self.bytes.extend_from_slice(data),
            _ => self.bytes.extend(sized(data)),
        }
    }
}

/// The data as it is written, and as it is hashed.
fn template_data(
    template: Template,
    digest: FileDigest<'_>,
    path: &[u8],
    more: &[&[u8]],
) -> (Vec<u8>, Vec<u8>) {
    if template == Template::Ima {
        let mut padded = path.to_vec();
        padded.resize(256, 0);
        return ([digest.value, &sized(path)].concat(), [digest.value, &padded].concat());
    }
    let kind = match (template, digest.verity) {
        (Template::ImaNgV2 | Template::ImaSigV2, true) => "verity:",
        (Template::ImaNgV2 | Template::ImaSigV2, false) => "ima:",
        _ => "",
    };
    let digest = [kind.as_bytes(), digest.algorithm.as_bytes(), b":\0", digest.value].concat();
    let mut data = [sized(&digest), sized(&[path, b"\0"].concat())].concat();
    more.iter().for_each(|field| data.extend(sized(field)));
    (data.clone(), data)
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()[..], bytes].concat()
}
