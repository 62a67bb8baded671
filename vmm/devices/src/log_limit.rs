//! Keeps the guest from filling the host's log.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts events that the guest can cause at will and lets the 1st, 2nd, 4th, 8th, ... be logged.
#[derive(Debug, Default)]
pub(crate) struct LogLimit(AtomicU64);

impl LogLimit {
    /// Counts one event; the count so far when it is one to log.
    pub(crate) fn hit(&self) -> Option<u64> {
        let count = self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        count.is_power_of_two().then_some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_ever_more_rarely() {
        let limit = LogLimit::default();
        let logged: Vec<u64> = (0..100).filter_map(|_| limit.hit()).collect();
        assert_eq!(logged, [1, 2, 4, 8, 16, 32, 64]);
    }
}
