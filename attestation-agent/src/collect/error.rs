//! Why there is no evidence.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why the kernel gave no evidence, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// No device of any kind of confidential VM that is known.
    #[error(
        "this guest has no device that gives evidence; looked for: {looked_for}. Is this a confidential VM, and are \
         the modules tmm_tsi (virtCCA) or arm-cca-guest (Arm CCA) loaded?"
    )]
    NoDevice {
        /// Every thing that was looked for, in order, and what was found instead.
        looked_for: LookedFor,
    },
    /// `/dev/tsi` failed.
    #[error("cannot get virtCCA evidence from {}", path.display())]
    Tsi {
        /// The device.
        path: PathBuf,
        /// What failed.
        source: tsi::Error,
    },
    /// A log or the device certificate cannot be read.
    #[error("cannot read {what} from {}: {advice}", path.display())]
    File {
        /// What the file holds.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What to do about it.
        advice: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A log or certificate is longer than any verifier takes.
    #[error("{what} in {} is longer than {limit} bytes, the most that evidence carries", path.display())]
    FileTooLong {
        /// What the file holds.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The directory for report entries does not exist.
    #[error(
        "{} does not exist: mount configfs (mount -t configfs configfs /sys/kernel/config) and load the module \
         arm-cca-guest (kernel option CONFIG_ARM_CCA_GUEST), or say with --tsm-root where tsm/report is",
        root.display()
    )]
    NoReports {
        /// The directory that was tried.
        root: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel supports TSM reports but no driver provides them.
    #[error(
        "the kernel has no provider of TSM reports: load the module arm-cca-guest (kernel option \
         CONFIG_ARM_CCA_GUEST); it finds its device only inside a Realm"
    )]
    NoProvider(#[source] io::Error),
    /// The reports come from another technology.
    #[error(
        "the provider of TSM reports is {found:?}; only {expected:?} is supported: is this guest a Realm?"
    )]
    WrongProvider {
        /// What the kernel reports.
        found: String,
        /// What this source reads.
        expected: &'static str,
    },
    /// An attribute of the report entry could not be used.
    #[error("cannot {action} {attribute} of a report entry in {}", root.display())]
    Attribute {
        /// "read", "write", "create" or the like.
        action: &'static str,
        /// The attribute's file name.
        attribute: &'static str,
        /// The directory of report entries.
        root: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The generation counter is not a number.
    #[error("the generation counter of a TSM report reads {found:?}; a number was expected")]
    Generation {
        /// What the kernel reports.
        found: String,
    },
    /// The entry was written by someone else between our write and our read, or our write was dropped.
    #[error(
        "the TSM report entry changed whenever it was read ({tries} times; at last generation {before} became {after}, \
         not {before} + 1): the token may answer another challenge; see who else writes there"
    )]
    Raced {
        /// How often it was tried.
        tries: usize,
        /// The counter before our write.
        before: u64,
        /// The counter after our read.
        after: u64,
    },
    /// The report is longer than any token.
    #[error("the TSM report is longer than {limit} bytes")]
    TooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The report is empty.
    #[error("the TSM report is empty")]
    Empty,
    /// The agent stopped meanwhile.
    #[error("the collection of evidence was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

/// The places where evidence was looked for, with what was found at each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookedFor(pub Vec<(String, String)>);

impl fmt::Display for LookedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (place, found)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{place} ({found})")?;
        }
        Ok(())
    }
}
