//! Where evidence comes from.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use evidence::envelope::Evidence;

/// Something that can prove to a verifier what this guest is.
pub trait EvidenceSource: Send + Sync {
    /// Evidence that carries `challenge` in full length.
    ///
    /// # Errors
    /// If this guest has no such source, or the source fails.
    fn token(&self, challenge: &[u8; 64]) -> Result<Evidence, CollectError>;
}

/// Takes a token on a thread of its own: firmware may need seconds for it.
pub(crate) async fn token(
    source: &Arc<dyn EvidenceSource>,
    challenge: [u8; 64],
) -> Result<Evidence, CollectError> {
    let source = source.clone();
    tokio::task::spawn_blocking(move || source.token(&challenge)).await.map_err(CollectError::Interrupted)?
}

/// Why the kernel gave no evidence, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
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
        "the TSM report entry changed while it was read (generation {before} became {after}, not {before} + 1): \
         the token may answer another challenge; try again, and see who else writes there"
    )]
    Raced {
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
