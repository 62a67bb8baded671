//! Tokens kept at hand for applications: got before they are asked for, and got anew before they run out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evidence::envelope::Evidence;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::{Agent, Own};
use crate::{Error, Result};

/// Failures after which waiting no longer doubles.
const FAILURES_THAT_COUNT: u32 = 5;
/// First wait after a failure, in seconds; secGear's value.
const FIRST_WAIT: u64 = 10;
/// Spread of the first refresh, so that guests that start together do not ask together.
const START_SPREAD: Duration = Duration::from_secs(5);
/// Longest sleep before the clock is looked at again: a guest can be stopped for hours and its timers do not notice.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// The name of an application that is told by the guest's initial measurement.
const AUTO: &str = "auto";

/// An application, with secGear's members and defaults.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct App {
    /// How programs name it; `auto` stands for the guest's initial measurement in hexadecimal.
    pub uuid: String,
    /// Whether the IMA log goes along.
    #[serde(default)]
    pub ima: bool,
    /// Seconds before the end of a token at which it is got anew, at least.
    #[serde(default = "App::default_interval")]
    pub interval: u64,
    /// `virtcca` or `cca` if the application may be on that only; `invalid` or empty for any.
    #[serde(default)]
    pub platform: String,
    /// secGear's other way to say `"uuid": "auto"`.
    #[serde(default)]
    pub rim_auto_discover: bool,
}

impl App {
    const fn default_interval() -> u64 {
        30
    }

    fn is_auto(&self) -> bool {
        self.rim_auto_discover || self.uuid == AUTO
    }

    fn check_platform(&self, evidence: &Evidence) -> Result<()> {
        let (configured, found) = (&self.platform, evidence.tee().name());
        let any = configured.is_empty() || configured.eq_ignore_ascii_case("invalid");
        let old_name = found == "virtcca" && configured.eq_ignore_ascii_case("vcca");
        if any || old_name || configured.eq_ignore_ascii_case(found) {
            return Ok(());
        }
        Err(Error::PlatformMismatch { configured: configured.clone(), found })
    }
}

#[derive(Default)]
struct State {
    token: Option<Cached>,
    failures: u32,
    /// The initial measurement that the service saw, in hexadecimal.
    rim: Option<String>,
}

#[derive(Clone)]
struct Cached {
    jwt: String,
    issued: i64,
    expires: i64,
}

impl Cached {
    /// Seconds before the end at which the token is got anew: the interval or a tenth of its life, but never so early that
    /// half of its life is not used.
    fn threshold(&self, interval: u64) -> i64 {
        let life = self.expires.saturating_sub(self.issued).max(0);
        i64::try_from(interval).unwrap_or(i64::MAX).max(life / 10).min(life / 2)
    }
}

pub(super) struct Apps(Vec<(App, Mutex<State>)>);

impl Apps {
    pub(super) fn new(apps: Vec<App>) -> Self {
        Self(apps.into_iter().map(|app| (app, Mutex::default())).collect())
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Every change is complete at each point where it could panic.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How it stands with an application's token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AppState {
    app_uuid: String,
    has_token: bool,
    expires_at: Option<i64>,
    ttl_seconds: i64,
    should_refresh: bool,
    refresh_threshold: i64,
    failure_count: u32,
    is_expired: bool,
}

/// A cached token, and a token of the monitor that proves that its guest is alive now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveToken {
    /// The service's token.
    pub jwt: String,
    /// When it ends, seconds since 1970.
    pub expires_at: i64,
    /// Seconds until then.
    pub ttl_seconds: i64,
    /// The monitor's token over the caller's nonce.
    pub monitor_token: Vec<u8>,
    /// The device certificate, on virtCCA.
    pub device_certificate: Option<Vec<u8>>,
    /// Refreshes that failed since the last one that did not.
    pub failure_count: u32,
}

impl Agent {
    /// How it stands with the tokens of all applications.
    #[must_use]
    pub fn current_tokens(&self) -> Vec<AppState> {
        let now = self.environment.now();
        self.apps.0.iter().map(|(app, state)| describe(app, &lock(state), now)).collect()
    }

    /// The token of the application `uuid`, with a fresh token of the monitor over `nonce`.
    ///
    /// Whoever can ask can have tokens of this guest over any nonce, and pass them on: this belongs on local listeners.
    ///
    /// # Errors
    /// If there is no such application, no valid token for it, or no evidence.
    pub async fn active_token(&self, uuid: &str, nonce: [u8; 32]) -> Result<ActiveToken> {
        let is_meant = |app: &App, state: &State| {
            if app.is_auto() {
                state.rim.as_deref().is_some_and(|rim| rim.eq_ignore_ascii_case(uuid))
            } else {
                app.uuid == uuid
            }
        };
        let found = self.apps.0.iter().find_map(|(app, state)| {
            let state = lock(state);
            is_meant(app, &state).then(|| (app, state.token.clone(), state.failures))
        });
        let (app, token, failure_count) =
            found.ok_or_else(|| Error::AppNotFound { uuid: uuid.chars().take(64).collect() })?;
        let mut challenge = [0; 64];
        for (to, from) in challenge.iter_mut().zip(nonce) {
            *to = from;
        }
        let evidence = self.collect(challenge, false).await?;
        app.check_platform(&evidence)?;
        let ttl = |token: &Cached| token.expires.saturating_sub(self.environment.now());
        let token = token.filter(|token| ttl(token) > 0).ok_or(Error::NoTokenYet)?;
        let (monitor_token, device_certificate) = match evidence {
            Evidence::Cca(evidence) => (evidence.token, None),
            Evidence::Virtcca(evidence) => (evidence.token, Some(evidence.device_certificate)),
        };
        Ok(ActiveToken {
            ttl_seconds: ttl(&token),
            jwt: token.jwt,
            expires_at: token.expires,
            monitor_token,
            device_certificate,
            failure_count,
        })
    }

    /// Keeps the tokens of all applications fresh; ends only when it is dropped.
    pub async fn keep_tokens(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        for index in 0..self.apps.0.len() {
            let agent = self.clone();
            tasks.spawn(async move { agent.keep_token(index).await });
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn keep_token(&self, index: usize) {
        let Some((app, state)) = self.apps.0.get(index) else { return };
        tokio::time::sleep(START_SPREAD.mul_f64(self.jitter())).await;
        loop {
            let jitter = self.jitter();
            let due = match self.refresh(app, state).await {
                Ok(token) => refresh_at(&token, app.interval, jitter),
                Err(error) => {
                    let failures = {
                        let mut state = lock(state);
                        state.failures = state.failures.saturating_add(1);
                        state.failures
                    };
                    let wait = back_off(failures, app.interval, jitter);
                    tracing::warn!(
                        app = app.uuid,
                        failures,
                        wait_seconds = wait,
                        error = crate::report::chain(&error),
                        "no new token"
                    );
                    self.environment.now().saturating_add(wait)
                }
            };
            while let Ok(left) = u64::try_from(due.saturating_sub(self.environment.now()))
                && left > 0
            {
                tokio::time::sleep(Duration::from_secs(left).min(LONGEST_SLEEP)).await;
            }
        }
    }

    async fn refresh(&self, app: &App, state: &Mutex<State>) -> Result<Cached> {
        let session = self.new_session(Own::Data(Vec::new())).await?;
        let evidence = self.collect(*session.challenge.bytes(), app.ima).await?;
        app.check_platform(&evidence)?;
        let client = self.service()?;
        let text = evidence.to_json_as(self.dialect);
        let jwt = crate::service::attest(&mut client.connect().await?, &session.challenge, &text, None, None)
            .await?;
        let verified = self.checker.verify(Some(client), &jwt, self.environment.now()).await?;
        if jose::check_verdict(&verified.claims).is_err() {
            return Err(Error::Request(
                "the service issued a token with the verdict false; it is not offered to programs".to_owned(),
            ));
        }
        let token = Cached { jwt, issued: verified.issued, expires: verified.expires };
        let rim = jose::initial_measurement(&verified.claims);
        *lock(state) = State { token: Some(token.clone()), failures: 0, rim: rim.map(str::to_owned) };
        tracing::info!(app = app.uuid, expires = token.expires, "token refreshed");
        Ok(token)
    }

    /// A random number from 0 to 1.
    fn jitter(&self) -> f64 {
        let mut bytes = [0; 4];
        self.environment.random(&mut bytes);
        f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
    }
}

fn describe(app: &App, state: &State, now: i64) -> AppState {
    let name = match (&state.rim, app.is_auto()) {
        (Some(rim), true) => rim,
        _ => &app.uuid,
    };
    let token = state.token.as_ref();
    let ttl = token.map_or(0, |token| token.expires.saturating_sub(now).max(0));
    let interval = i64::try_from(app.interval).unwrap_or(i64::MAX);
    let threshold = token.map_or(interval, |token| token.threshold(app.interval));
    AppState {
        app_uuid: name.clone(),
        has_token: token.is_some(),
        expires_at: token.map(|token| token.expires),
        ttl_seconds: ttl,
        should_refresh: ttl <= threshold,
        refresh_threshold: threshold,
        failure_count: state.failures,
        is_expired: token.is_some() && ttl == 0,
    }
}

/// When a token is got anew, seconds since 1970: at its threshold, or up to a twentieth of its life before.
fn refresh_at(token: &Cached, interval: u64, jitter: f64) -> i64 {
    let life = token.expires.saturating_sub(token.issued).max(0);
    let due = token.expires.saturating_sub(token.threshold(interval)).saturating_sub(part(life / 20, jitter));
    // A token that is over at once must not make a busy loop.
    due.max(token.issued.saturating_add(1))
}

/// Seconds to wait after `failures` in a row: doubling from ten, at most twice the interval, less up to a quarter.
fn back_off(failures: u32, interval: u64, jitter: f64) -> i64 {
    let longest = interval.saturating_mul(2).clamp(FIRST_WAIT, 3600);
    let wait = match failures {
        0..=FAILURES_THAT_COUNT => FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1)).min(longest),
        _ => longest,
    };
    let wait = i64::try_from(wait).unwrap_or(i64::MAX);
    wait.saturating_sub(part(wait / 4, jitter)).max(1)
}

/// `fraction` of `whole` seconds.
fn part(whole: i64, fraction: f64) -> i64 {
    let thousandths = Duration::from_secs(1).mul_f64(fraction.clamp(0.0, 1.0)).as_millis();
    whole.saturating_mul(i64::try_from(thousandths).unwrap_or(0)) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(life: i64) -> Cached {
        Cached { jwt: "a.b.c".to_owned(), issued: 1000, expires: 1000 + life }
    }

    #[test]
    fn a_token_is_got_anew_before_it_ends_and_not_all_at_once() {
        assert_eq!(refresh_at(&token(300), 30, 0.0), 1270);
        assert_eq!(refresh_at(&token(300), 30, 1.0), 1255);
        assert_eq!(refresh_at(&token(3600), 30, 0.0), 1000 + 3240);
        for jitter in [0.0, 0.3, 1.0] {
            assert!(refresh_at(&token(300), 30, jitter) < 1300);
        }
    }

    #[test]
    fn an_interval_longer_than_the_token_makes_no_busy_loop() {
        assert_eq!(refresh_at(&token(300), 10_000, 0.0), 1150);
        assert!(refresh_at(&token(0), 30, 1.0) > 1000);
        assert!(refresh_at(&token(-5), u64::MAX, 1.0) > 1000);
    }

    #[test]
    fn failures_make_it_wait_longer_up_to_twice_the_interval() {
        let waits: Vec<i64> = (1..=7).map(|failures| back_off(failures, 60, 0.0)).collect();
        assert_eq!(waits, [10, 20, 40, 80, 120, 120, 120]);
        assert_eq!(back_off(3, 60, 1.0), 30);
        for (failures, interval) in [(0, 0), (1, 0), (u32::MAX, u64::MAX)] {
            assert!((1..=3600).contains(&back_off(failures, interval, 1.0)), "{failures} {interval}");
        }
    }

    #[test]
    fn tells_how_it_stands_with_a_token() {
        let app: App = serde_json::from_str(r#"{"uuid":"db"}"#).unwrap();
        let state = State { token: Some(token(300)), failures: 2, rim: None };
        let fresh = describe(&app, &state, 1010);
        assert_eq!((fresh.ttl_seconds, fresh.refresh_threshold, fresh.should_refresh), (290, 30, false));
        assert!(describe(&app, &state, 1275).should_refresh);
        let over = describe(&app, &state, 1300);
        assert!(over.is_expired && over.has_token && over.ttl_seconds == 0);
        assert!(!describe(&app, &State::default(), 0).is_expired);
    }
}
