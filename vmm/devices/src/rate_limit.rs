//! Token buckets: how much a device may do in how much time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::read;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// A bucket that holds `size` tokens, `burst` more once, and fills up in `refill`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketConfig {
    /// Tokens that it holds.
    pub size: u64,
    /// Tokens that it holds besides, once.
    pub burst: u64,
    /// Time in which it fills up.
    pub refill: Duration,
}

/// Limits on bytes and on operations; without one there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitConfig {
    /// Bytes.
    pub bandwidth: Option<BucketConfig>,
    /// Operations.
    pub ops: Option<BucketConfig>,
}

/// Buckets from which several threads may take.
#[derive(Clone, Debug)]
pub struct Limits(Arc<Mutex<Buckets>>);

#[derive(Debug)]
struct Buckets {
    bandwidth: Option<Bucket>,
    ops: Option<Bucket>,
}

impl Limits {
    /// Full buckets.
    pub fn new(config: &LimitConfig) -> Self {
        let now = Instant::now();
        let bucket = |config: Option<BucketConfig>| config.map(|config| Bucket::new(config, now));
        Self(Arc::new(Mutex::new(Buckets { bandwidth: bucket(config.bandwidth), ops: bucket(config.ops) })))
    }

    /// Takes one operation of `bytes`, or says how long to wait for it.
    fn take(&self, bytes: u64, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { bandwidth, ops } = &mut *buckets;
        let mut wanted = [(bandwidth, bytes), (ops, 1)];
        let wait = wanted.iter_mut().filter_map(|(bucket, tokens)| bucket.as_mut()?.wait(*tokens, now)).max();
        if let Some(wait) = wait {
            return Err(wait);
        }
        for (bucket, tokens) in wanted {
            if let Some(bucket) = bucket {
                bucket.level -= i128::from(tokens);
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Bucket {
    config: BucketConfig,
    /// Below zero after a request that is larger than the bucket: the debt is paid by waiting.
    level: i128,
    /// What of the burst has not been used.
    burst: i128,
    filled: Instant,
}

impl Bucket {
    fn new(config: BucketConfig, now: Instant) -> Self {
        let (size, burst) = (i128::from(config.size), i128::from(config.burst));
        Self { config, level: size + burst, burst, filled: now }
    }

    /// How long until `tokens` are there, unless they are now.
    fn wait(&mut self, tokens: u64, now: Instant) -> Option<Duration> {
        self.fill(now);
        // A request larger than the bucket goes when the bucket is full.
        let needed = i128::from(tokens.min(self.config.size));
        let missing = u128::try_from(needed - self.level).ok().filter(|&missing| missing > 0)?;
        let nanos = (self.config.refill.as_nanos() * missing).div_ceil(u128::from(self.config.size.max(1)));
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    fn fill(&mut self, now: Instant) {
        let size = i128::from(self.config.size);
        let refill = self.config.refill.as_nanos().max(1);
        let elapsed = now.saturating_duration_since(self.filled).as_nanos();
        let tokens = elapsed.saturating_mul(u128::from(self.config.size)) / refill;
        if tokens == 0 {
            return;
        }
        self.filled = now;
        // What is left of the burst stays; it does not come back.
        self.burst = self.burst.min((self.level - size).max(0));
        let full = size + self.burst;
        self.level = self.level.saturating_add(i128::try_from(tokens).unwrap_or(i128::MAX)).min(full);
    }
}

/// One thread's way to its limits: admits work, or tells when to ask again.
pub struct RateLimiter {
    limits: Limits,
    timer: OwnedFd,
    waiting: bool,
}

impl RateLimiter {
    /// A way to `limits`.
    ///
    /// # Errors
    /// The host gave no timer.
    pub fn new(limits: Limits) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { limits, timer, waiting: false })
    }

    /// Whether one operation of `bytes` may go now. If not, the timer is set, and [`RateLimiter::timer`] becomes
    /// readable when it is worth asking again.
    ///
    /// # Errors
    /// The timer cannot be set.
    pub fn admit(&mut self, bytes: u64) -> io::Result<bool> {
        let Err(wait) = self.limits.take(bytes, Instant::now()) else {
            return Ok(true);
        };
        // A timer of zero is one that is off.
        let wait = wait.max(Duration::from_micros(1));
        let value = Timespec::try_from(wait).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        self.waiting = true;
        Ok(false)
    }

    /// What to wait for, if something was not admitted.
    pub fn timer(&self) -> Option<BorrowedFd<'_>> {
        self.waiting.then(|| self.timer.as_fd())
    }

    /// The timer became readable.
    pub fn expired(&mut self) {
        let mut count = [0; 8];
        // Nothing to read means that it was set anew in between.
        self.waiting = read(&self.timer, &mut count).is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(size: u64, burst: u64) -> (Limits, Instant) {
        let config = BucketConfig { size, burst, refill: SECOND };
        (Limits::new(&LimitConfig { bandwidth: Some(config), ops: None }), Instant::now())
    }

    #[test]
    fn bucket_gives_what_it_holds_and_then_what_time_brings() {
        let (limits, start) = limits(1000, 0);
        assert_eq!(limits.take(600, start), Ok(()));
        let wait = limits.take(600, start).unwrap_err();
        assert!((0.19..0.21).contains(&wait.as_secs_f64()), "{wait:?}");
        assert_eq!(limits.take(600, start + wait + Duration::from_millis(1)), Ok(()));
    }

    #[test]
    fn burst_comes_once() {
        let (limits, start) = limits(1000, 500);
        assert_eq!(limits.take(900, start), Ok(()));
        assert_eq!(limits.take(600, start), Ok(()));
        assert!(limits.take(1, start).is_err());
        // However long one waits, only the size is there again.
        let later = start + 100 * SECOND;
        assert_eq!(limits.take(1000, later), Ok(()));
        assert!(limits.take(100, later).is_err());
    }

    #[test]
    fn request_larger_than_the_bucket_goes_and_is_paid_for_afterwards() {
        let (limits, start) = limits(1000, 0);
        assert_eq!(limits.take(5000, start), Ok(()));
        let wait = limits.take(1, start).unwrap_err();
        assert!((3.99..4.01).contains(&wait.as_secs_f64()), "{wait:?}");
    }

    #[test]
    fn nothing_is_taken_unless_every_bucket_has_enough() {
        let bucket = |size| Some(BucketConfig { size, burst: 0, refill: SECOND });
        let limits = Limits::new(&LimitConfig { bandwidth: bucket(100), ops: bucket(1) });
        let now = Instant::now();
        assert_eq!(limits.take(10, now), Ok(()));
        assert!(limits.take(10, now).is_err(), "no operation is left");
        assert_eq!(limits.take(90, now + SECOND), Ok(()), "and no byte was taken by the refusal");
    }

    #[test]
    fn timer_tells_when_to_ask_again() {
        let config = BucketConfig { size: 100, burst: 0, refill: Duration::from_millis(20) };
        let limits = Limits::new(&LimitConfig { bandwidth: Some(config), ops: None });
        let mut limiter = RateLimiter::new(limits).unwrap();
        assert!(limiter.admit(100).unwrap());
        assert!(limiter.timer().is_none());
        assert!(!limiter.admit(100).unwrap());
        let fd = limiter.timer().unwrap();
        let mut poll = [rustix::event::PollFd::from_borrowed_fd(fd, rustix::event::PollFlags::IN)];
        assert_eq!(rustix::event::poll(&mut poll, None).unwrap(), 1);
        limiter.expired();
        assert!(limiter.timer().is_none());
        assert!(limiter.admit(90).unwrap());
    }
}
