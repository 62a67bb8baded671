//! What a machine has used that somebody vouches for.

use anyhow::bail;
use evidence::ima::{BOOT_AGGREGATE, Log};

use super::digests::Digests;

/// Adds every entry. Files that were changed while they were measured are nobody's to vouch for.
pub fn add(log: &[u8], known: &mut Digests) -> anyhow::Result<()> {
    let log = Log::new(log)?;
    for (number, entry) in log.entries().enumerate() {
        let entry = entry?;
        if entry.path == BOOT_AGGREGATE || entry.is_violation() {
            continue;
        }
        let Ok(path) = str::from_utf8(entry.path) else {
            bail!("entry {number}: its path is not UTF-8, so it cannot be known");
        };
        known.add(path, entry.digest.to_string());
    }
    Ok(())
}
