//! What a VM costs on the Arm host, and beside QEMU there; `cargo xtask bench vmm` runs it there and prints the figures.
//!
//! Figures are medians over the runs of one boot of the host; where there are two sides, they run in alternation. The same
//! program is what the Linux guests run: [`workload`].

#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot measure ends")]

mod console;
mod contest;
mod figures;
mod memory;
mod rivals;
mod startup;
mod workload;

use std::env;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &arguments[..] {
        [workload::ARGUMENT, work @ ..] => workload::run(work),
        parts if cfg!(target_arch = "aarch64") => measure(parts),
        // There is no KVM for arm64 guests here.
        _ => {}
    }
}

/// Measures these parts; all of them when none is named.
fn measure(parts: &[&str]) {
    for (part, measure) in [
        ("memory", memory::measure as fn()),
        ("startup", startup::measure),
        ("console", console::measure),
        ("contest", contest::measure),
    ] {
        if parts.is_empty() || parts.contains(&part) {
            measure();
        }
    }
    // Part of the contest; by itself it is over in a minute.
    if parts.contains(&"network") {
        contest::measure_network();
    }
}
