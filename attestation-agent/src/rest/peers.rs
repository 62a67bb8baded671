//! What one peer can have of the agent, so that others get something, too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::listen::Peer;

/// Most connections of one peer at a time. Without the bound one program can take all that there are.
const MAX_CONNECTIONS: u32 = 32;
/// Requests of one peer in a second, and as many at once. Each can cost a token of the monitor, which takes firmware time
/// from the whole machine.
const REQUESTS_PER_SECOND: u32 = 50;
/// Requests for active tokens of one peer in a second; secGear's value.
const ACTIVE_PER_SECOND: u32 = 10;
/// Most peers remembered. Without the bound, a host that makes up vsock contexts fills the agent's memory.
const MAX_PEERS: usize = 1024;
/// A peer that asked nothing for so long has all its allowance again and can be forgotten.
const FORGET: Duration = Duration::from_secs(2);

/// A bucket of requests that fills up at its rate.
struct Bucket {
    rate: u32,
    left: f64,
    at: Instant,
}

impl Bucket {
    fn new(rate: u32, now: Instant) -> Self {
        Self { rate, left: f64::from(rate), at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let rate = f64::from(self.rate);
        self.left = rate.min(self.left + now.saturating_duration_since(self.at).as_secs_f64() * rate);
        self.at = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

struct Allowance {
    connections: u32,
    requests: Bucket,
    active: Bucket,
}

/// The allowances of all peers.
#[derive(Clone, Default)]
pub(super) struct Peers(Arc<Mutex<HashMap<Peer, Allowance>>>);

/// A connection that counts until it is dropped.
pub(super) struct Slot {
    peers: Peers,
    peer: Peer,
}

impl Peers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Peer, Allowance>> {
        // Every change is complete at each point where it could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection of `peer`, unless it has too many.
    pub(super) fn connect(&self, peer: Peer, now: Instant) -> Option<Slot> {
        let mut peers = self.lock();
        if peers.len() >= MAX_PEERS && !peers.contains_key(&peer) {
            peers.retain(|_, allowance| {
                allowance.connections > 0 || now.saturating_duration_since(allowance.requests.at) < FORGET
            });
            if peers.len() >= MAX_PEERS {
                return None;
            }
        }
        let allowance = peers.entry(peer).or_insert_with(|| Allowance {
            connections: 0,
            requests: Bucket::new(REQUESTS_PER_SECOND, now),
            active: Bucket::new(ACTIVE_PER_SECOND, now),
        });
        if allowance.connections >= MAX_CONNECTIONS {
            return None;
        }
        allowance.connections += 1;
        drop(peers);
        Some(Slot { peers: self.clone(), peer })
    }
}

impl Slot {
    /// Whether the peer may make one more request now.
    pub(super) fn request(&self, active: bool, now: Instant) -> bool {
        self.peers
            .lock()
            .get_mut(&self.peer)
            .is_some_and(|allowance| allowance.requests.take(now) && (!active || allowance.active.take(now)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(allowance) = self.peers.lock().get_mut(&self.peer) {
            allowance.connections = allowance.connections.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Peer = Peer::User(7);

    #[test]
    fn one_peer_cannot_have_all_connections() {
        let (peers, now) = (Peers::default(), Instant::now());
        let slots: Vec<_> = (0..MAX_CONNECTIONS).map(|_| peers.connect(PEER, now).unwrap()).collect();
        assert!(peers.connect(PEER, now).is_none());
        assert!(peers.connect(Peer::User(8), now).is_some());
        drop(slots);
        assert!(peers.connect(PEER, now).is_some());
    }

    #[test]
    fn one_peer_cannot_ask_all_the_time() {
        let (peers, now) = (Peers::default(), Instant::now());
        let slot = peers.connect(PEER, now).unwrap();
        let granted = (0..1000).filter(|_| slot.request(false, now)).count();
        assert_eq!(granted, 50);
        assert!(peers.connect(Peer::User(8), now).unwrap().request(false, now));
        assert!(slot.request(false, now + Duration::from_millis(100)));
    }

    #[test]
    fn active_tokens_are_rarer() {
        let (peers, now) = (Peers::default(), Instant::now());
        let slot = peers.connect(PEER, now).unwrap();
        assert_eq!((0..1000).filter(|_| slot.request(true, now)).count(), 10);
        let later = now + Duration::from_secs(1);
        assert_eq!((0..1000).filter(|_| slot.request(true, later)).count(), 10);
    }

    #[test]
    fn made_up_peers_do_not_fill_the_memory() {
        let (peers, now) = (Peers::default(), Instant::now());
        for context in 0..5000 {
            let _ = peers.connect(Peer::Context(context), now);
        }
        assert!(peers.lock().len() <= MAX_PEERS);
        assert!(peers.connect(PEER, now + FORGET).is_some());
    }
}
