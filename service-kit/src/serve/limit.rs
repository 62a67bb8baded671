//! How often a peer may ask: a token bucket for each address, in a table that peers cannot make grow without bound.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Router};

use crate::http::Observer;
use crate::problem::Problem;

/// Without it addresses that are made up could fill the memory.
const MAX_PEERS: usize = 65_536;

/// The address of a peer. A network of IPv6 counts as one: its owner has 2^64 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer(IpAddr);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => Self(IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64))),
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

/// How often every peer may ask.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Requests per second in the long run.
    pub per_second: u32,
    /// Requests at once.
    pub burst: u32,
}

/// The buckets. Each is the time at which it will be full again (the generic cell rate algorithm): no timer fills them.
pub struct Limiter {
    interval: Duration,
    tolerance: Duration,
    max_peers: usize,
    buckets: Mutex<Buckets>,
}

#[derive(Default)]
struct Buckets {
    full_at: HashMap<Peer, Duration>,
    /// What all share for whom there is no room in the table.
    others_full_at: Duration,
}

impl Limiter {
    /// A limiter for `rate`; none if the rate is 0.
    #[must_use]
    pub fn new(rate: Rate) -> Option<Self> {
        Self::with_room(rate, MAX_PEERS)
    }

    fn with_room(rate: Rate, max_peers: usize) -> Option<Self> {
        let interval = Duration::from_secs(1).checked_div(rate.per_second)?;
        let tolerance = interval.saturating_mul(rate.burst.max(1).saturating_sub(1));
        Some(Self { interval, tolerance, max_peers, buckets: Mutex::default() })
    }

    /// Takes one request of `peer` at `now` (since any fixed moment) from its bucket.
    ///
    /// # Errors
    /// The time after which there is room again.
    pub fn take(&self, peer: Peer, now: Duration) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { full_at, others_full_at } = &mut *buckets;
        if full_at.len() >= self.max_peers && !full_at.contains_key(&peer) {
            // A full bucket is as good as none.
            full_at.retain(|_, full_at| *full_at > now);
        }
        let full_at = if full_at.len() < self.max_peers || full_at.contains_key(&peer) {
            full_at.entry(peer).or_insert(now)
        } else {
            others_full_at
        };
        let begin = (*full_at).max(now);
        let wait = begin.saturating_sub(now).saturating_sub(self.tolerance);
        if !wait.is_zero() {
            return Err(wait);
        }
        *full_at = begin.saturating_add(self.interval);
        Ok(())
    }
}

struct Limited<F> {
    limiter: Limiter,
    since: Instant,
    observer: F,
}

/// Puts `limiter` in front of `router`. A listener puts the [`Peer`] into each request; what is refused here, `observer` is
/// told.
pub fn limited<F: Observer>(router: Router, limiter: Option<Limiter>, observer: F) -> Router {
    let Some(limiter) = limiter else { return router };
    let state = Arc::new(Limited { limiter, since: Instant::now(), observer });
    router.layer(middleware::from_fn_with_state(state, limit::<F>))
}

async fn limit<F: Observer>(
    State(limited): State<Arc<Limited<F>>>,
    peer: Option<Extension<Peer>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(Extension(peer)) = peer else {
        return Problem::unavailable("peer_unknown", "the address of the peer is not known").into_response();
    };
    match limited.limiter.take(peer, limited.since.elapsed()) {
        Ok(()) => next.run(request).await,
        Err(wait) => {
            (limited.observer)(429, Duration::ZERO);
            let problem = Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                "too many requests from this address; slow down",
            );
            let mut response = problem.into_response();
            let seconds = wait.as_secs().saturating_add(1);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> Peer {
        IpAddr::from([192, 0, 2, last]).into()
    }

    const RATE: Rate = Rate { per_second: 10, burst: 3 };

    #[test]
    fn a_peer_may_burst_and_then_ask_at_the_rate() {
        let limiter = Limiter::new(RATE).unwrap();
        let now = Duration::from_secs(7);
        for _ in 0..3 {
            limiter.take(peer(1), now).unwrap();
        }
        assert_eq!(limiter.take(peer(1), now), Err(Duration::from_millis(100)));
        limiter.take(peer(2), now).unwrap();
        limiter.take(peer(1), now + Duration::from_millis(100)).unwrap();
        limiter.take(peer(1), now + Duration::from_millis(150)).unwrap_err();
    }

    #[test]
    fn made_up_addresses_do_not_fill_the_memory_and_do_not_lock_out_known_ones() {
        let limiter = Limiter::with_room(RATE, 2).unwrap();
        let now = Duration::from_secs(7);
        limiter.take(peer(1), now).unwrap();
        limiter.take(peer(2), now).unwrap();
        for other in 3..6 {
            limiter.take(peer(other), now).unwrap();
        }
        limiter.take(peer(6), now).unwrap_err();
        limiter.take(peer(1), now).unwrap();
        assert_eq!(limiter.buckets.lock().unwrap().full_at.len(), 2);
        limiter.take(peer(6), now + Duration::from_secs(1)).unwrap();
        assert!(limiter.buckets.lock().unwrap().full_at.contains_key(&peer(6)), "full buckets made room");
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer_and_mapped_ipv4_is_ipv4() {
        let network = |text: &str| Peer::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff::2"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
        assert_eq!(network("::ffff:192.0.2.1"), peer(1));
    }

    #[test]
    fn a_rate_of_nothing_is_no_limit() {
        assert!(Limiter::new(Rate { per_second: 0, burst: 3 }).is_none());
    }
}
