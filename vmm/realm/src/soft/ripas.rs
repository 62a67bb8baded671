//! RIPAS, the Realm's view of each page of its address space (RMM specification, "Realm IPA state").
//!
//! The software Realm knows two of the four states: RAM, private memory of the Realm, and EMPTY, everything else.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Granule of the RMM, in bytes.
pub const GRANULE: u64 = 4096;

/// The same, as the length of an array.
pub const GRANULE_LEN: usize = 4096;

/// State of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Ripas {
    /// No private memory; the host's memory shows at the unprotected alias.
    Empty = 0,
    /// Private memory of the Realm.
    Ram = 1,
}

/// The states of all pages that RAM backs; every other page is EMPTY for ever.
///
/// One bit a page and no lock: device threads ask for every access that they make.
#[derive(Debug)]
pub struct RipasMap {
    regions: Vec<Region>,
}

#[derive(Debug)]
struct Region {
    range: Range<u64>,
    private: Vec<AtomicU64>,
}

impl RipasMap {
    /// All pages of `ram` start EMPTY. The ranges are page aligned, ascending and do not overlap.
    pub fn new(ram: &[Range<u64>]) -> Self {
        let regions = ram
            .iter()
            .map(|range| {
                let words = ((range.end - range.start) / GRANULE).div_ceil(64);
                Region { range: range.clone(), private: (0..words).map(|_| AtomicU64::new(0)).collect() }
            })
            .collect();
        Self { regions }
    }

    /// State of the page at `gpa`.
    pub fn get(&self, gpa: u64) -> Ripas {
        self.region(gpa).map_or(Ripas::Empty, |region| region.get(gpa))
    }

    /// Where the state of the pages from `base` on changes first, at most `end`, and that state.
    pub fn uniform(&self, base: u64, end: u64) -> (u64, Ripas) {
        let state = self.get(base);
        let mut top = base;
        while top < end {
            match self.region(top) {
                Some(region) => {
                    let stop = region.range.end.min(end);
                    top = region.run(top, stop, state);
                    if top < stop {
                        break;
                    }
                }
                None if state == Ripas::Empty => top = self.next_region(top).min(end),
                None => break,
            }
        }
        (top, state)
    }

    /// Whether all of `gpa .. gpa + len` has `state`; false where the range wraps around.
    pub fn is_all(&self, gpa: u64, len: u64, state: Ripas) -> bool {
        let Some(end) = gpa.checked_add(len) else { return false };
        let (top, found) = self.uniform(gpa & !(GRANULE - 1), end);
        found == state && top >= end
    }

    /// Sets the pages of `base .. top`, page aligned, that RAM backs, and calls `changed` for each whose state changes.
    pub fn set(&self, base: u64, top: u64, state: Ripas, mut changed: impl FnMut(u64)) {
        for region in &self.regions {
            let start = base.max(region.range.start);
            let stop = top.min(region.range.end);
            for gpa in (start..stop).step_by(GRANULE_LEN) {
                if region.set(gpa, state) {
                    changed(gpa);
                }
            }
        }
    }

    /// End of the RAM that backs `gpa`, or nothing if none does.
    pub fn backed_until(&self, gpa: u64) -> Option<u64> {
        self.region(gpa).map(|region| region.range.end)
    }

    fn region(&self, gpa: u64) -> Option<&Region> {
        self.regions.iter().find(|region| region.range.contains(&gpa))
    }

    fn next_region(&self, gpa: u64) -> u64 {
        self.regions.iter().map(|region| region.range.start).find(|start| *start > gpa).unwrap_or(u64::MAX)
    }
}

impl Region {
    fn bit(&self, gpa: u64) -> (Option<&AtomicU64>, u64) {
        let page = (gpa - self.range.start) / GRANULE;
        (usize::try_from(page / 64).ok().and_then(|word| self.private.get(word)), 1 << (page % 64))
    }

    fn get(&self, gpa: u64) -> Ripas {
        let (word, mask) = self.bit(gpa);
        match word {
            Some(word) if word.load(Ordering::Acquire) & mask != 0 => Ripas::Ram,
            _ => Ripas::Empty,
        }
    }

    /// First page from `gpa` on, below `stop`, that is not in `state`; at least `stop` if there is none.
    fn run(&self, mut gpa: u64, stop: u64, state: Ripas) -> u64 {
        const PAGES_A_WORD: u64 = 64;
        let uniform = if state == Ripas::Ram { u64::MAX } else { 0 };
        while gpa < stop {
            let (word, mask) = self.bit(gpa);
            if mask == 1 && word.is_some_and(|word| word.load(Ordering::Acquire) == uniform) {
                gpa += PAGES_A_WORD * GRANULE;
            } else if self.get(gpa) == state {
                gpa += GRANULE;
            } else {
                return gpa;
            }
        }
        stop
    }

    /// Returns whether the state is another than before.
    fn set(&self, gpa: u64, state: Ripas) -> bool {
        let (word, mask) = self.bit(gpa);
        let Some(word) = word else { return false };
        let before = match state {
            Ripas::Ram => word.fetch_or(mask, Ordering::AcqRel),
            Ripas::Empty => word.fetch_and(!mask, Ordering::AcqRel),
        };
        (before & mask != 0) != (state == Ripas::Ram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = GRANULE;

    fn map() -> RipasMap {
        RipasMap::new(&[0x4000_0000..0x4000_0000 + 200 * PAGE, 0x8000_0000..0x8000_0000 + 10 * PAGE])
    }

    fn set(map: &RipasMap, base: u64, top: u64, state: Ripas) -> u64 {
        let mut changed = 0;
        map.set(base, top, state, |_| changed += 1);
        changed
    }

    #[test]
    fn starts_empty_and_reports_only_pages_that_change() {
        let map = map();
        assert_eq!(map.get(0x4000_0000), Ripas::Empty);
        assert_eq!(set(&map, 0x4000_0000, 0x4000_0000 + 100 * PAGE, Ripas::Ram), 100);
        assert_eq!(set(&map, 0x4000_0000, 0x4000_0000 + 110 * PAGE, Ripas::Ram), 10);
        assert_eq!(set(&map, 0x4000_0000 + 50 * PAGE, 0x4000_0000 + 51 * PAGE, Ripas::Empty), 1);
    }

    #[test]
    fn uniform_range_ends_where_the_state_changes() {
        let map = map();
        set(&map, 0x4000_0000, 0x4000_0000 + 100 * PAGE, Ripas::Ram);
        assert_eq!(map.uniform(0x4000_0000, u64::MAX), (0x4000_0000 + 100 * PAGE, Ripas::Ram));
        assert_eq!(map.uniform(0x4000_0000, 0x4000_0000 + PAGE), (0x4000_0000 + PAGE, Ripas::Ram));
        assert_eq!(map.uniform(0x4000_0000 + 99 * PAGE, u64::MAX).0, 0x4000_0000 + 100 * PAGE);
        set(&map, 0x4000_0000 + 100 * PAGE, 0x4000_0000 + 200 * PAGE, Ripas::Ram);
        assert_eq!(map.uniform(0x4000_0000, u64::MAX), (0x4000_0000 + 200 * PAGE, Ripas::Ram));
    }

    #[test]
    fn empty_ranges_span_devices_and_the_gaps_between_ram() {
        let map = map();
        set(&map, 0x8000_0000, 0x8000_0000 + PAGE, Ripas::Ram);
        assert_eq!(map.uniform(0x0900_0000, 1 << 39), (0x8000_0000, Ripas::Empty));
        assert_eq!(map.uniform(0x9000_0000, 1 << 39), (1 << 39, Ripas::Empty));
    }

    #[test]
    fn a_range_is_uniform_only_if_every_page_it_touches_is() {
        let map = map();
        set(&map, 0x4000_0000, 0x4000_0000 + 2 * PAGE, Ripas::Ram);
        assert!(map.is_all(0x4000_0ff0, 0x20, Ripas::Ram));
        assert!(!map.is_all(0x4000_1ff0, 0x20, Ripas::Ram));
        assert!(!map.is_all(0x4000_1ff0, 0x20, Ripas::Empty));
        assert!(!map.is_all(u64::MAX, 2, Ripas::Empty));
    }

    #[test]
    fn only_backed_pages_can_become_private() {
        let map = map();
        assert_eq!(set(&map, 0x0900_0000, 0x0900_1000, Ripas::Ram), 0);
        assert_eq!(map.get(0x0900_0000), Ripas::Empty);
        assert_eq!(map.backed_until(0x4000_0000), Some(0x4000_0000 + 200 * PAGE));
        assert_eq!(map.backed_until(0x0900_0000), None);
    }
}
