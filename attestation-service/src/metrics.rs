//! What the service counts, in the text format of Prometheus. No label has a value that a client chooses.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// The media type of [`Metrics::text`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Plane {
    /// Guests.
    Public,
    /// Operators.
    Admin,
}

/// A machine code: it is a literal of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Code(&'static str);

impl EncodeLabelValue for Code {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.encode(encoder)
    }
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
    result: Code,
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
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let metrics = (
            Family::<Answered, Counter>::default(),
            Family::<Listener, Histogram, _>::new_with_constructor(histogram),
            Family::<Outcome, Counter>::default(),
            Family::<Outcome, Counter>::default(),
        );
        let (requests, seconds, appraisals, releases) = metrics;
        registry.register("requests", "Requests answered, by listener and status", requests.clone());
        registry.register_with_unit("request", "Time to answer", Unit::Seconds, seconds.clone());
        registry.register(
            "appraisals",
            "Evidence appraised, by machine code of the result",
            appraisals.clone(),
        );
        registry.register("releases", "Resources asked for, by machine code of the result", releases.clone());
        Self { registry, requests, seconds, appraisals, releases }
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
        self.appraisals.get_or_create(&Outcome { result: Code(result) }).inc();
    }

    /// A resource was released (`ok`) or not.
    pub fn release(&self, result: &'static str) {
        self.releases.get_or_create(&Outcome { result: Code(result) }).inc();
    }

    /// All of it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
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
