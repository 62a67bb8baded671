//! The countdown, on a thread of its own.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::error;

use super::{CONFIG_FAST, CONFIG_NO_RESET, Fired, LOCK_FREE_RUN, PRELOAD_MASK, config_space};
use crate::pci::ConfigSpace;
use crate::virtio::{DeviceHost, ThreadKind};

/// The countdown counts ticks of the PCI clock, of which this is the length in nanoseconds (33 MHz), after so many are
/// taken together: 2^15 by default (about 1 kHz), 2^5 in the fast mode (about 1 MHz).
const PCI_CLOCK_NS: u64 = 30;
const SLOW_SHIFT: u32 = 15;
const FAST_SHIFT: u32 = 5;

/// The watchdog, a PCI function.
pub struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    registers: Mutex<Registers>,
    changed: Condvar,
    fired: Fired,
}

pub(super) struct Registers {
    pub(super) config: ConfigSpace,
    /// Configuration register.
    pub(super) setup: u16,
    /// Lock register.
    pub(super) lock: u8,
    /// Lengths of the two stages in ticks.
    pub(super) preload: [u32; 2],
    /// How much of the unlocking sequence has been written.
    pub(super) unlocked: u8,
    running: Option<Running>,
    paused: bool,
    ended: bool,
}

#[derive(Clone, Copy)]
struct Running {
    second: bool,
    /// When the stage ends; while the VM stands still, how long it has left from then on.
    ends: Ends,
}

#[derive(Clone, Copy)]
enum Ends {
    At(Instant),
    After(Duration),
}

impl Registers {
    /// Starts the first stage over.
    pub(super) fn start(&mut self) {
        self.stage(false);
    }

    pub(super) fn stop(&mut self) {
        self.running = None;
    }

    fn stage(&mut self, second: bool) {
        let [first, last] = self.preload;
        let preload = if second { last } else { first };
        let shift = if self.setup & CONFIG_FAST == 0 { SLOW_SHIFT } else { FAST_SHIFT };
        let left = Duration::from_nanos((u64::from(preload) << shift) * PCI_CLOCK_NS);
        let ends = if self.paused { Ends::After(left) } else { Ends::At(Instant::now() + left) };
        self.running = Some(Running { second, ends });
    }

    /// How long to wait for the end of a stage.
    fn left(&self) -> Option<Duration> {
        match self.running?.ends {
            Ends::At(end) => Some(end.saturating_duration_since(Instant::now())),
            Ends::After(_) => None,
        }
    }
}

impl Watchdog {
    /// A watchdog that calls `expired` when the guest has not started it over in time. `fired` says whether it has done
    /// so before, which the guest can read.
    ///
    /// # Errors
    /// The host has no thread left.
    pub fn new(
        host: Arc<dyn DeviceHost>,
        fired: Fired,
        expired: impl Fn() + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let registers = Registers {
            config: config_space(),
            setup: 0,
            lock: 0,
            preload: [PRELOAD_MASK; 2],
            unlocked: 0,
            running: None,
            paused: false,
            ended: false,
        };
        let shared = Arc::new(Shared { registers: registers.into(), changed: Condvar::new(), fired });
        let counting = Arc::clone(&shared);
        let count = move || match host.thread_starts(ThreadKind::Watchdog) {
            Ok(()) => counting.count_down(&expired),
            Err(error) => error!("the watchdog's thread cannot be bound, so it does not count: {error}"),
        };
        let thread = crate::threads::spawn("watchdog", count)?;
        Ok(Arc::new(Self { shared, thread: Some(thread) }))
    }

    /// The VM stands still: the countdown, too.
    pub fn pause(&self) {
        let mut registers = self.registers();
        registers.paused = true;
        if let (Some(left), Some(running)) = (registers.left(), &mut registers.running) {
            running.ends = Ends::After(left);
        }
        self.changed();
    }

    /// The VM goes on.
    pub fn resume(&self) {
        let mut registers = self.registers();
        registers.paused = false;
        if let Some(Running { ends, .. }) = &mut registers.running
            && let Ends::After(left) = *ends
        {
            *ends = Ends::At(Instant::now() + left);
        }
        self.changed();
    }

    pub(super) fn registers(&self) -> MutexGuard<'_, Registers> {
        self.shared.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fired(&self) -> &Fired {
        &self.shared.fired
    }

    pub(super) fn changed(&self) {
        self.shared.changed.notify_all();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.registers().ended = true;
        self.changed();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the watchdog's thread panicked");
        }
    }
}

impl Shared {
    fn count_down(&self, expired: &dyn Fn()) {
        let mut registers = self.registers.lock().unwrap_or_else(PoisonError::into_inner);
        while !registers.ended {
            match registers.left() {
                None => registers = self.changed.wait(registers).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => self.stage_ends(&mut registers, expired),
                Some(left) => {
                    let waited = self.changed.wait_timeout(registers, left);
                    (registers, _) = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn stage_ends(&self, registers: &mut Registers, expired: &dyn Fn()) {
        if registers.running.is_some_and(|running| !running.second) {
            // The interrupt that the first stage can raise is wired to nothing, and drivers turn it off.
            registers.stage(true);
            return;
        }
        registers.stop();
        if registers.lock & LOCK_FREE_RUN != 0 {
            registers.start();
        }
        if registers.setup & CONFIG_NO_RESET == 0 {
            self.fired.store(true, Ordering::Relaxed);
            expired();
        }
    }
}
