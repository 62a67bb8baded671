//! Event logs of measured boot: TCG PC Client Platform Firmware Profile, and the CCEL of confidential guests (UEFI 2.10,
//! 38.4, and ACPI 6.5, 5.2.34), which has the same form.
//!
//! Two forms are read: crypto-agile logs, whose first record is the header `Spec ID Event03`, and the older ones with
//! SHA-1 only. A log proves nothing by itself: only that [`EventLog::replay`] yields the attested registers makes its
//! digests true, and only [`Event::covers`] says whether the data beside a digest is what was measured.

mod covers;
mod data;
mod decode;
mod encode;
mod error;
mod event;
mod replay;
#[cfg(test)]
mod tests;

pub use covers::Covers;
pub use data::{EventData, GrubText, Image, Variable};
pub use error::{LogError, ReplayError};
pub use event::{Event, EventDigest, EventType};
pub use replay::Registers;

use std::borrow::Cow;

/// Largest log that is read, in bytes; the agents of the Global Trust Authority send up to 5 MiB. Without a bound, a
/// sender decides how much memory the events take.
pub const MAX_LOG_SIZE: usize = 5 << 20;

/// Largest data of one event, in bytes. Secure Boot's list of revoked images is the largest in practice, at some
/// hundred kilobytes.
pub const MAX_EVENT_SIZE: usize = 1 << 20;

/// Most algorithms in a log. The TCG registry has five that firmware uses; without a bound, a header of 64 KiB would make
/// every look-up of a digest's size a long search.
pub const MAX_ALGORITHMS: usize = 8;

/// Highest register that an event may extend. A TPM has 24, and bank masks have room for 32.
pub const MAX_REGISTER: u32 = 31;

/// The header of a crypto-agile log (`TCG_EfiSpecIDEvent`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The register field of the record, which means nothing: 0 in logs of TPMs, 1 in a CCEL.
    pub register: u32,
    /// 0 for clients, 1 for servers.
    pub platform_class: u32,
    /// Minor and major version and errata of the profile.
    pub version: [u8; 3],
    /// Size of a `UINTN`: 1 for 32 bits, 2 for 64 bits.
    pub uintn_size: u8,
    /// The algorithms (`TPM_ALG_ID`) and the sizes of their digests.
    pub algorithms: Vec<(u16, u16)>,
    /// Whatever the vendor wrote.
    pub vendor_info: Cow<'a, [u8]>,
}

/// A log of measured boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog<'a> {
    /// The header; `None` for a log with SHA-1 only.
    pub header: Option<Header<'a>>,
    /// The events, without the header.
    pub events: Vec<Event<'a>>,
}
