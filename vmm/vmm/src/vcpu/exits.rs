//! Counts why a vCPU came back from the guest.

use std::sync::atomic::{AtomicU64, Ordering};

use hypervisor::Exit;

/// Counters of one vCPU.
#[derive(Debug, Default)]
pub struct ExitCounters {
    mmio_read: AtomicU64,
    mmio_write: AtomicU64,
    hypercall: AtomicU64,
    system_event: AtomicU64,
    memory_fault: AtomicU64,
    undecodable: AtomicU64,
    interrupted: AtomicU64,
    failed: AtomicU64,
}

impl ExitCounters {
    /// Counts `exit`.
    pub fn count(&self, exit: &Exit<'_>) {
        let counter = match exit {
            Exit::MmioRead { .. } => &self.mmio_read,
            Exit::MmioWrite { .. } => &self.mmio_write,
            Exit::Hypercall { .. } => &self.hypercall,
            Exit::SystemEvent(_) => &self.system_event,
            Exit::MemoryFault(_) => &self.memory_fault,
            Exit::Undecodable => &self.undecodable,
            Exit::Interrupted => &self.interrupted,
            Exit::Failed { .. } => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters by name.
    pub fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let Self {
            mmio_read,
            mmio_write,
            hypercall,
            system_event,
            memory_fault,
            undecodable,
            interrupted,
            failed,
        } = self;
        [
            ("mmio_read", mmio_read),
            ("mmio_write", mmio_write),
            ("hypercall", hypercall),
            ("system_event", system_event),
            ("memory_fault", memory_fault),
            ("undecodable", undecodable),
            ("interrupted", interrupted),
            ("failed", failed),
        ]
        .into_iter()
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_exit_has_its_counter() {
        let counters = ExitCounters::default();
        counters.count(&Exit::MmioWrite { addr: 0, data: &[0] });
        counters.count(&Exit::MmioWrite { addr: 0, data: &[0] });
        counters.count(&Exit::Undecodable);
        counters.count(&Exit::Interrupted);
        let counted: Vec<_> = counters.read().filter(|&(_, count)| count > 0).collect();
        assert_eq!(counted, [("mmio_write", 2), ("undecodable", 1), ("interrupted", 1)]);
    }
}
