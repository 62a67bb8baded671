//! Evidence of this guest: the token of its trusted monitor and the logs that explain its measurements.
//!
//! [`Guest`] looks for the devices in this order, at each request anew, because modules may be loaded late:
//!
//! 1. `/dev/tsi`: a virtCCA guest. The device exists in such guests only.
//! 2. configfs-tsm with the provider `arm_cca_guest`: a Realm of Arm CCA. A monitor there that mints virtCCA's tokens (the
//!    software Realm in its virtCCA flavour) is told by the token; the device certificate then comes from a file.
//!
//! The boot log (CCEL) goes along whenever the firmware left one; the IMA log when it is asked for.

mod error;
mod guest;
mod logs;
pub mod tsm;

use std::sync::Arc;

use evidence::envelope::Evidence;

pub use error::{CollectError, LookedFor};
pub use guest::{Guest, Places};
pub use logs::LogFiles;
pub(crate) use logs::read_file;

/// What evidence is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What the token must carry, in full length.
    pub challenge: [u8; 64],
    /// Whether the log of the Integrity Measurement Architecture must go along.
    pub ima: bool,
}

/// Something that can prove to a verifier what this guest is.
pub trait EvidenceSource: Send + Sync {
    /// Evidence that answers `request` in full.
    ///
    /// # Errors
    /// If this guest has no such source, the source fails, or a log that is wanted cannot be had.
    fn collect(&self, request: &Request) -> Result<Evidence, CollectError>;
}

/// Collects on a thread of its own: firmware may need seconds.
pub(crate) async fn collect(
    source: &Arc<dyn EvidenceSource>,
    request: Request,
) -> Result<Evidence, CollectError> {
    let source = source.clone();
    tokio::task::spawn_blocking(move || source.collect(&request)).await.map_err(CollectError::Interrupted)?
}
