//! Numbers in the text format of Prometheus (version 0.0.4).

use std::fmt::Write;

use api::message::{Counters, VmState};

use crate::control::Metrics;

/// Type of the text.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text of `metrics`.
pub(super) fn text(metrics: &Metrics) -> String {
    let Metrics { state, launches, devices, vcpus } = metrics;
    let mut text = String::new();
    head(&mut text, "redoubt_vmm_info", "gauge", "The VMM, by its version.");
    sample(&mut text, "redoubt_vmm_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    head(&mut text, "redoubt_vm_state", "gauge", "1 for the state that the VM is in.");
    for (name, known) in [
        ("created", VmState::Created),
        ("running", VmState::Running),
        ("paused", VmState::Paused),
        ("shutdown", VmState::Shutdown),
    ] {
        sample(&mut text, "redoubt_vm_state", &[("state", name)], u64::from(*state == Some(known)));
    }
    head(&mut text, "redoubt_vm_launches_total", "counter", "Launches of the VM since the VMM started.");
    sample(&mut text, "redoubt_vm_launches_total", &[], *launches);
    head(&mut text, "redoubt_device_total", "counter", "What a device has done since the VM was launched.");
    samples(&mut text, "redoubt_device_total", ["device", "counter"], devices);
    head(&mut text, "redoubt_vcpu_exits_total", "counter", "Why a vCPU came back from the guest.");
    samples(&mut text, "redoubt_vcpu_exits_total", ["vcpu", "reason"], vcpus);
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn samples(text: &mut String, name: &str, [outer, inner]: [&str; 2], counters: &Counters) {
    for (who, counted) in counters {
        for (what, value) in counted {
            sample(text, name, &[(outer, who), (inner, what)], *value);
        }
    }
}

/// Names of devices have no character that would have to be escaped.
fn sample(text: &mut String, name: &str, labels: &[(&str, &str)], value: u64) {
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    let _ = writeln!(text, "{name}{labels} {value}");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn counters_become_samples_with_labels() {
        let metrics = Metrics {
            state: Some(VmState::Paused),
            launches: 2,
            devices: BTreeMap::from([("_net0".into(), BTreeMap::from([("rx_bytes".into(), 7)]))]),
            vcpus: BTreeMap::from([("vcpu0".into(), BTreeMap::from([("mmio_read".into(), 9)]))]),
        };
        let text = text(&metrics);
        for line in [
            "# TYPE redoubt_vm_state gauge",
            "redoubt_vm_state{state=\"paused\"} 1",
            "redoubt_vm_state{state=\"running\"} 0",
            "redoubt_vm_launches_total 2",
            "redoubt_device_total{device=\"_net0\",counter=\"rx_bytes\"} 7",
            "redoubt_vcpu_exits_total{vcpu=\"vcpu0\",reason=\"mmio_read\"} 9",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in:\n{text}");
        }
    }
}
