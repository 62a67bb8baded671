//! What the service counts and measures, in the text format of Prometheus. No label has a value that a client chooses.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use service_kit::metrics::{Word, seconds, text};

use crate::health::Health;
use crate::store::Purpose;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reported {
    result: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyOf {
    purpose: Word,
}

/// The counters.
pub struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    seconds: Histogram,
    reports: Family<Reported, Counter>,
    webhooks: Family<Reported, Counter>,
    keys: Family<KeyOf, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("gta");
        let (requests, seconds) = (Family::<Answered, Counter>::default(), seconds());
        let reports = Family::<Reported, Counter>::default();
        let webhooks = Family::<Reported, Counter>::default();
        registry.register("requests", "Requests answered, by status", requests.clone());
        registry.register_with_unit("request", "Time to answer", Unit::Seconds, seconds.clone());
        registry.register(
            "reports",
            "Reports of nodes, by what came of them; missed ones did not come",
            reports.clone(),
        );
        registry.register(
            "webhooks",
            "Events sent to webhooks, by whether they were taken",
            webhooks.clone(),
        );
        let keys = Family::<KeyOf, Gauge>::default();
        registry.register_with_unit(
            "key_age",
            "Age of the key that is in use, by purpose, as of a minute ago",
            Unit::Seconds,
            keys.clone(),
        );
        Self { registry, requests, seconds, reports, webhooks, keys }
    }
}

impl Metrics {
    /// A request was answered.
    pub fn request(&self, status: u16, took: Duration) {
        self.requests.get_or_create(&Answered { status }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// A node has reported, or missed to.
    pub fn report(&self, result: Health) {
        self.reports.get_or_create(&Reported { result: Word(result.name()) }).inc();
    }

    /// A webhook was told of an event.
    pub fn webhook(&self, taken: bool) {
        let result = Word(if taken { "taken" } else { "failed" });
        self.webhooks.get_or_create(&Reported { result }).inc();
    }

    /// How old the key is that is in use, in seconds.
    pub fn key_age(&self, purpose: Purpose, age: i64) {
        self.keys.get_or_create(&KeyOf { purpose: Word(purpose.name()) }).set(age);
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
    fn counts_requests_by_status_and_reports_by_result() {
        let metrics = Metrics::default();
        metrics.request(200, Duration::from_millis(3));
        metrics.request(429, Duration::from_millis(30));
        metrics.report(Health::Passed);
        metrics.report(Health::Missed);
        metrics.report(Health::Missed);
        metrics.webhook(true);
        metrics.webhook(false);
        let text = metrics.text();
        for line in [
            r#"gta_requests_total{status="200"} 1"#,
            r#"gta_requests_total{status="429"} 1"#,
            r#"gta_request_seconds_bucket{le="0.005"} 1"#,
            r#"gta_reports_total{result="missed"} 2"#,
            r#"gta_webhooks_total{result="taken"} 1"#,
            r#"gta_webhooks_total{result="failed"} 1"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
