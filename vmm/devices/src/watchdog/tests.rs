use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::*;
use crate::virtio::NoDeviceHost;

struct Bench {
    watchdog: Arc<Watchdog>,
    fired: Fired,
    expirations: Receiver<()>,
}

impl Bench {
    fn new() -> Self {
        let (sender, expirations) = channel();
        let fired = Fired::default();
        let expired = move || sender.send(()).unwrap();
        let watchdog = Watchdog::new(Arc::new(NoDeviceHost), Arc::clone(&fired), expired).unwrap();
        Self { watchdog, fired, expirations }
    }

    fn write(&self, register: u64, value: u32) {
        self.watchdog.write_bar(0, register, &value.to_le_bytes());
    }

    fn unlocked(&self, register: u64, value: u32) {
        self.watchdog.write_bar(0, RELOAD, &0x80_u16.to_le_bytes());
        self.watchdog.write_bar(0, RELOAD, &0x86_u16.to_le_bytes());
        self.write(register, value);
    }

    /// As Linux's driver does, for two stages of about so many milliseconds each.
    fn start(&self, milliseconds: u32) {
        self.watchdog.write_config(CONFIG, &0x0003_u16.to_le_bytes());
        self.watchdog.write_config(LOCK, &[0]);
        self.unlocked(PRELOAD_1, milliseconds);
        self.unlocked(PRELOAD_2, milliseconds);
        self.unlocked(RELOAD, RELOAD_NOW);
        self.watchdog.write_config(LOCK, &[LOCK_ENABLE]);
    }

    fn expires_within(&self, milliseconds: u64) -> bool {
        match self.expirations.recv_timeout(Duration::from_millis(milliseconds)) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => panic!("the countdown ended"),
        }
    }

    fn config(&self, register: u16) -> u16 {
        let mut data = [0; 2];
        self.watchdog.read_config(register, &mut data);
        u16::from_le_bytes(data)
    }
}

#[test]
fn guest_that_falls_silent_is_reset_after_both_stages() {
    let bench = Bench::new();
    let start = Instant::now();
    bench.start(100);
    assert!(bench.expires_within(20_000));
    assert!(start.elapsed() >= Duration::from_millis(190), "{:?}", start.elapsed());
    let mut reload = [0; 4];
    bench.watchdog.read_bar(0, RELOAD, &mut reload);
    assert_eq!(u32::from_le_bytes(reload), RELOAD_TIMED_OUT);
    bench.unlocked(RELOAD, RELOAD_TIMED_OUT);
    assert!(!bench.fired.load(Ordering::Relaxed));
}

#[test]
fn guest_that_feeds_it_or_stops_it_is_left_alone() {
    let bench = Bench::new();
    bench.start(300);
    for _ in 0..10 {
        assert!(!bench.expires_within(80));
        bench.unlocked(RELOAD, RELOAD_NOW);
    }
    bench.watchdog.write_config(LOCK, &[0]);
    assert_eq!(bench.config(LOCK) & 0xff, 0);
    assert!(!bench.expires_within(800));
}

#[test]
fn locked_watchdog_cannot_be_stopped() {
    let bench = Bench::new();
    bench.start(50);
    bench.watchdog.write_config(LOCK, &[LOCK_ENABLE | LOCK_LOCKED]);
    bench.watchdog.write_config(LOCK, &[0]);
    assert_eq!(bench.config(LOCK) & 0xff, u16::from(LOCK_ENABLE | LOCK_LOCKED));
    assert!(bench.expires_within(20_000));
}

#[test]
fn what_is_written_without_unlocking_changes_nothing() {
    let bench = Bench::new();
    bench.write(PRELOAD_1, 1);
    bench.write(PRELOAD_2, 1);
    bench.write(RELOAD, 0x80);
    bench.write(PRELOAD_1, 1);
    bench.write(RELOAD, 0x86);
    bench.write(PRELOAD_2, 1);
    assert_eq!(bench.watchdog.registers().preload, [PRELOAD_MASK; 2]);
}

#[test]
fn countdown_stands_still_with_the_vm() {
    let bench = Bench::new();
    bench.start(100);
    bench.watchdog.pause();
    assert!(!bench.expires_within(500));
    bench.unlocked(RELOAD, RELOAD_NOW);
    assert!(!bench.expires_within(500), "started over, it stands still, too");
    bench.watchdog.resume();
    assert!(bench.expires_within(20_000));
}

#[test]
fn reset_can_be_turned_off_and_the_countdown_run_on() {
    let bench = Bench::new();
    bench.start(10);
    bench.watchdog.write_config(CONFIG, &CONFIG_NO_RESET.to_le_bytes());
    bench.watchdog.write_config(LOCK, &[LOCK_ENABLE | LOCK_FREE_RUN]);
    assert!(!bench.expires_within(200));
    bench.watchdog.write_config(CONFIG, &0_u16.to_le_bytes());
    assert!(bench.expires_within(20_000), "it runs freely");
}

#[test]
fn identifies_itself_and_survives_any_access() {
    let bench = Bench::new();
    assert_eq!((bench.config(0), bench.config(2)), (0x8086, 0x25ab));
    for offset in 0..4096_u16 {
        for len in [1, 2, 4, 8] {
            bench.watchdog.write_config(offset, &vec![0xff; len]);
            bench.watchdog.read_config(offset, &mut vec![0; len]);
            bench.watchdog.write_bar(0, u64::from(offset), &vec![0xff; len]);
            bench.watchdog.read_bar(0, u64::from(offset), &mut vec![0; len]);
        }
    }
}
