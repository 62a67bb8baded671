//! Challenges that were handed out and may come back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jose::EphemeralKey;
use tokio::time::Instant;

use crate::service::Challenge;

/// How long a challenge can come back; services let them expire in about this time.
const LIFETIME: Duration = Duration::from_secs(60);
/// Most challenges kept. Without the bound, a program that only asks for challenges fills the agent's memory.
const MAX_SESSIONS: usize = 256;

/// A challenge and what belongs to it.
pub(super) struct Session {
    pub(super) challenge: Challenge,
    /// The key whose thumbprint the challenge carries, unless it carries a caller's data.
    pub(super) key: Option<EphemeralKey>,
    /// The token that was got for the challenge, with how it was asked for.
    pub(super) token: tokio::sync::Mutex<Option<(Asked, String)>>,
}

/// How a token is asked for.
#[derive(PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) ima: bool,
    pub(super) policy_id: Option<Vec<String>>,
}

impl Session {
    pub(super) fn new(challenge: Challenge, key: Option<EphemeralKey>) -> Self {
        Self { challenge, key, token: tokio::sync::Mutex::default() }
    }
}

#[derive(Default)]
pub(super) struct Sessions(HashMap<String, (Instant, Arc<Session>)>);

impl Sessions {
    pub(super) fn insert(&mut self, session: Session, now: Instant) {
        self.0.retain(|_, (made, _)| now.duration_since(*made) < LIFETIME);
        if self.0.len() >= MAX_SESSIONS
            && let Some(oldest) =
                self.0.iter().min_by_key(|(_, (made, _))| *made).map(|(text, _)| text.clone())
        {
            self.0.remove(&oldest);
        }
        self.0.insert(session.challenge.text().to_owned(), (now, Arc::new(session)));
    }

    pub(super) fn get(&self, challenge: &str, now: Instant) -> Option<Arc<Session>> {
        self.0
            .get(challenge)
            .filter(|(made, _)| now.duration_since(*made) < LIFETIME)
            .map(|(_, session)| session.clone())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn text(number: usize) -> String {
        URL_SAFE_NO_PAD.encode(format!("{number:032}"))
    }

    fn session(number: usize) -> Session {
        Session::new(Challenge::from_text(&text(number)).unwrap(), None)
    }

    #[test]
    fn forgets_a_challenge_after_its_lifetime() {
        let mut sessions = Sessions::default();
        let start = Instant::now();
        sessions.insert(session(1), start);
        assert!(sessions.get(&text(1), start + LIFETIME - Duration::from_secs(1)).is_some());
        assert!(sessions.get(&text(1), start + LIFETIME).is_none());
        assert!(sessions.get(&text(2), start).is_none());
        sessions.insert(session(2), start + LIFETIME);
        assert_eq!(sessions.0.len(), 1);
    }

    #[test]
    fn drops_the_oldest_when_there_are_too_many() {
        let mut sessions = Sessions::default();
        let start = Instant::now();
        for number in 0..=MAX_SESSIONS {
            sessions.insert(session(number), start + Duration::from_millis(u64::try_from(number).unwrap()));
        }
        assert_eq!(sessions.0.len(), MAX_SESSIONS);
        assert!(sessions.get(&text(0), start).is_none());
        assert!(sessions.get(&text(1), start).is_some());
        assert!(sessions.get(&text(MAX_SESSIONS), start).is_some());
    }
}
