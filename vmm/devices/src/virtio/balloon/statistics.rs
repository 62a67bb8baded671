//! What the guest tells about its memory (virtio 1.2, 5.5.6.3).

use std::io::Read;
use std::sync::{Mutex, PoisonError};

/// Names of the values, by their tag (5.5.6.4, and `VIRTIO_BALLOON_S_*` of Linux for those that came later).
const NAMES: [&str; 16] = [
    "guest_swap_in_bytes",
    "guest_swap_out_bytes",
    "guest_major_faults",
    "guest_minor_faults",
    "guest_free_bytes",
    "guest_total_bytes",
    "guest_available_bytes",
    "guest_disk_cache_bytes",
    "guest_hugetlb_allocations",
    "guest_hugetlb_failures",
    "guest_oom_kills",
    "guest_allocation_stalls",
    "guest_async_scanned_pages",
    "guest_direct_scanned_pages",
    "guest_async_reclaimed_pages",
    "guest_direct_reclaimed_pages",
];

/// A value on the wire: tag, value.
const ENTRY: usize = 2 + 8;

/// The values that the guest told last.
#[derive(Debug, Default)]
pub(super) struct Statistics(Mutex<[Option<u64>; NAMES.len()]>);

impl Statistics {
    /// Takes what a buffer of the statistics queue holds; tags that have no name are left out.
    pub(super) fn take(&self, buffer: &mut impl Read) {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A buffer with more entries than there are tags says some of them twice.
        let mut bytes = [0; ENTRY * NAMES.len()];
        let mut len = 0;
        while let Some(rest) = bytes.get_mut(len..).filter(|rest| !rest.is_empty()) {
            match buffer.read(rest) {
                Ok(0) | Err(_) => break,
                Ok(count) => len += count,
            }
        }
        let (entries, _) = bytes.get(..len).unwrap_or_default().as_chunks::<ENTRY>();
        for &[low, high, a, b, c, d, e, f, g, h] in entries {
            let tag = usize::from(u16::from_le_bytes([low, high]));
            if let Some(value) = values.get_mut(tag) {
                *value = Some(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
            }
        }
    }

    pub(super) fn read(&self) -> Vec<(&'static str, u64)> {
        let values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        NAMES.iter().zip(values.iter()).filter_map(|(&name, value)| Some((name, (*value)?))).collect()
    }

    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
    }
}
