//! What the service counts, in the text format of Prometheus. No label has a value that a client chooses.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use service_kit::metrics::{Word, seconds, text};

/// A listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Plane {
    /// Guests.
    Public,
    /// Operators.
    Admin,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    plane: Plane,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Listener {
    plane: Plane,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    /// A machine code.
    result: Word,
}

/// The counters.
pub struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    seconds: Family<Listener, Histogram, fn() -> Histogram>,
    appraisals: Family<Outcome, Counter>,
    releases: Family<Outcome, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("attestation");
        let metrics = (
            Family::<Answered, Counter>::default(),
            Family::<Listener, Histogram, fn() -> Histogram>::new_with_constructor(seconds),
            Family::<Outcome, Counter>::default(),
            Family::<Outcome, Counter>::default(),
        );
        let (requests, times, appraisals, releases) = metrics;
        registry.register("requests", "Requests answered, by listener and status", requests.clone());
        registry.register_with_unit("request", "Time to answer", Unit::Seconds, times.clone());
        registry.register(
            "appraisals",
            "Evidence appraised, by machine code of the result",
            appraisals.clone(),
        );
        registry.register("releases", "Resources asked for, by machine code of the result", releases.clone());
        Self { registry, requests, seconds: times, appraisals, releases }
    }
}

impl Metrics {
    /// A request was answered.
    pub fn request(&self, plane: Plane, status: u16, took: Duration) {
        self.requests.get_or_create(&Answered { plane, status }).inc();
        self.seconds.get_or_create(&Listener { plane }).observe(took.as_secs_f64());
    }

    /// Evidence was accepted (`ok`) or refused.
    pub fn appraisal(&self, result: &'static str) {
        self.appraisals.get_or_create(&Outcome { result: Word(result) }).inc();
    }

    /// A resource was released (`ok`) or not.
    pub fn release(&self, result: &'static str) {
        self.releases.get_or_create(&Outcome { result: Word(result) }).inc();
    }

    /// All of it.
    #[must_use]
    pub fn text(&self) -> String {
        text(&self.registry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_listener_status_and_result() {
        let metrics = Metrics::default();
        metrics.request(Plane::Public, 200, Duration::from_millis(3));
        metrics.request(Plane::Public, 200, Duration::from_millis(30));
        metrics.request(Plane::Admin, 403, Duration::from_millis(1));
        metrics.appraisal("ok");
        metrics.release("resource_policy_missing");
        let text = metrics.text();
        for line in [
            r#"attestation_requests_total{plane="Public",status="200"} 2"#,
            r#"attestation_requests_total{plane="Admin",status="403"} 1"#,
            r#"attestation_request_seconds_bucket{le="0.005",plane="Public"} 1"#,
            r#"attestation_appraisals_total{result="ok"} 1"#,
            r#"attestation_releases_total{result="resource_policy_missing"} 1"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
