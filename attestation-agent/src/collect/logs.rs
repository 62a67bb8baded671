//! The logs that explain measurements: IMA's through securityfs, the firmware's (CCEL) through ACPI.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::CollectError;

/// Longest CCEL table read, in bytes: the table of the specification has 56 (UEFI 2.10 section 38.4.1).
const MAX_TABLE_LEN: usize = 4096;

/// Where the kernel keeps the logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFiles {
    /// IMA's measurement list in binary form.
    pub ima: PathBuf,
    /// The ACPI table that describes the boot log.
    pub ccel_table: PathBuf,
    /// The boot log itself.
    pub ccel_data: PathBuf,
}

impl Default for LogFiles {
    fn default() -> Self {
        Self {
            ima: "/sys/kernel/security/ima/binary_runtime_measurements".into(),
            ccel_table: "/sys/firmware/acpi/tables/CCEL".into(),
            ccel_data: "/sys/firmware/acpi/tables/data/CCEL".into(),
        }
    }
}

/// The firmware's boot log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ccel {
    pub(super) table: Vec<u8>,
    pub(super) data: Vec<u8>,
}

impl LogFiles {
    /// IMA's log, at most `limit` bytes of it.
    pub(super) fn ima(&self, limit: usize) -> Result<Vec<u8>, CollectError> {
        let advice = "mount securityfs (mount -t securityfs securityfs /sys/kernel/security), and boot a kernel with \
                      CONFIG_IMA and an IMA policy";
        read_file("the IMA log", &self.ima, limit, advice)
    }

    /// The boot log; none if the firmware left none. A table without its log is an error: who took the log away could
    /// have wanted to hide what booted.
    pub(super) fn ccel(&self, limit: usize) -> Result<Option<Ccel>, CollectError> {
        const DATA: &str = "the boot log";
        let Some(table) = read("the CCEL table", &self.ccel_table, MAX_TABLE_LEN)? else {
            return Ok(None);
        };
        let advice = "the firmware announces the log in its CCEL table, but the kernel does not show it: boot a \
                      kernel of 6.3 or newer";
        let data = read_file(DATA, &self.ccel_data, limit, advice)?;
        Ok(Some(Ccel { table, data }))
    }
}

/// The bytes of a file, which may change its length while it is read; `None` if there is no file.
pub(super) fn read(what: &'static str, path: &Path, limit: usize) -> Result<Option<Vec<u8>>, CollectError> {
    let failed = |source: io::Error| file(what, path, "the agent must be allowed to read it", source);
    let opened = match File::open(path) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    opened.take(one_more).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > limit {
        return Err(CollectError::FileTooLong { what, path: path.to_owned(), limit });
    }
    Ok(Some(bytes))
}

/// As [`read`], of a file that must be there; `advice` says what to do if it is not.
pub(crate) fn read_file(
    what: &'static str,
    path: &Path,
    limit: usize,
    advice: &'static str,
) -> Result<Vec<u8>, CollectError> {
    read(what, path, limit)?.ok_or_else(|| file(what, path, advice, io::ErrorKind::NotFound.into()))
}

fn file(what: &'static str, path: &Path, advice: &'static str, source: io::Error) -> CollectError {
    CollectError::File { what, path: path.to_owned(), advice, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(directory: &Path) -> LogFiles {
        LogFiles {
            ima: directory.join("ima"),
            ccel_table: directory.join("table"),
            ccel_data: directory.join("data"),
        }
    }

    #[test]
    fn an_ima_log_that_is_wanted_must_be_there() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        let error = files.ima(10).unwrap_err();
        assert!(error.to_string().contains("securityfs"), "{error}");
        std::fs::write(&files.ima, b"0123456789").unwrap();
        assert_eq!(files.ima(10).unwrap(), b"0123456789");
        assert!(matches!(files.ima(9), Err(CollectError::FileTooLong { limit: 9, .. })));
    }

    #[test]
    fn a_boot_log_is_taken_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        assert_eq!(files.ccel(100).unwrap(), None);
        std::fs::write(&files.ccel_table, b"CCEL").unwrap();
        assert!(matches!(files.ccel(100), Err(CollectError::File { what: "the boot log", .. })));
        std::fs::write(&files.ccel_data, b"log").unwrap();
        assert_eq!(files.ccel(100).unwrap(), Some(Ccel { table: b"CCEL".to_vec(), data: b"log".to_vec() }));
        std::fs::write(&files.ccel_table, vec![0; MAX_TABLE_LEN + 1]).unwrap();
        assert!(matches!(files.ccel(100), Err(CollectError::FileTooLong { .. })));
    }
}
