//! What the host has of what was asked for.

use std::fs;
use std::path::Path;

const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";
const NODES: &str = "/sys/devices/system/node";

/// Sizes of huge pages in bytes, smallest first.
pub fn huge_page_sizes() -> Vec<u64> {
    let size = |name: &str| -> Option<u64> {
        let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        kib.checked_mul(1024)
    };
    names(HUGE_PAGES, size)
}

/// Huge pages of that size that nobody uses.
pub fn free_huge_pages(page_size: u64) -> u64 {
    let path = Path::new(HUGE_PAGES).join(format!("hugepages-{}kB/free_hugepages", page_size / 1024));
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Size of the huge pages that one gets without saying a size (`Hugepagesize` in proc(5)'s meminfo).
pub fn default_huge_page_size() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Numbers of the NUMA nodes.
pub fn nodes() -> Vec<u64> {
    names(NODES, |name| name.strip_prefix("node")?.parse().ok())
}

/// Numbers as one reads them.
pub fn listed(numbers: &[u64]) -> String {
    let text: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    if text.is_empty() { "none".into() } else { text.join(", ") }
}

fn names(directory: &str, number: impl Fn(&str) -> Option<u64>) -> Vec<u64> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut numbers: Vec<u64> = entries.filter_map(|entry| number(entry.file_name().to_str()?)).collect();
    numbers.sort_unstable();
    numbers
}
