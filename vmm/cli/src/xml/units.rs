//! Sizes and sets of processors as libvirt writes them.

use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};

/// Most processors in a set. Without the bound a range could make the program run out of memory.
const MAX_SET: u32 = 4096;

/// Bytes of a unit.
pub fn unit(name: &str) -> Option<u64> {
    Some(match name {
        "b" | "bytes" => 1,
        "KB" => 1000,
        "k" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    })
}

/// A size with its unit: KiB where that says it.
pub fn size(bytes: u64) -> (u64, &'static str) {
    if bytes.is_multiple_of(1024) { (bytes / 1024, "KiB") } else { (bytes, "b") }
}

/// A set of numbers such as `0-3,^2,8`, in the order in which it is written.
pub fn parse_set<T: TryFrom<u32>>(text: &str) -> Option<Vec<T>> {
    let (mut set, mut seen, mut out) = (Vec::new(), BTreeSet::new(), BTreeSet::<u32>::new());
    if text.trim().is_empty() {
        return Some(Vec::new());
    }
    let mut budget = MAX_SET;
    for part in text.split(',').map(str::trim) {
        if let Some(number) = part.strip_prefix('^') {
            budget = budget.checked_sub(1)?;
            out.insert(number.parse::<u32>().ok()?);
            continue;
        }
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        budget = budget.checked_sub(last.checked_sub(first)?.checked_add(1)?)?;
        set.extend((first..=last).filter(|number| seen.insert(*number)));
    }
    set.into_iter().filter(|number| !out.contains(number)).map(|number| T::try_from(number).ok()).collect()
}

/// Writes a set so that [`parse_set`] reads it in the same order.
pub fn print_set<T: Copy + Into<u32> + Display>(set: &[T]) -> String {
    let mut out = String::new();
    let mut rest = set.iter().copied().map(Into::into).peekable();
    while let Some(first) = rest.next() {
        let mut last: u32 = first;
        while last.checked_add(1).is_some() && rest.peek().copied() == last.checked_add(1) {
            last = rest.next().unwrap_or(last);
        }
        let separator = if out.is_empty() { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = if first == last {
            write!(out, "{separator}{first}")
        } else {
            write!(out, "{separator}{first}-{last}")
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_ranges_with_exceptions_in_their_order() {
        assert_eq!(parse_set::<u16>("0-3,^2,8").unwrap(), [0, 1, 3, 8]);
        assert_eq!(parse_set::<u16>("5,1-2").unwrap(), [5, 1, 2]);
        assert_eq!(print_set(&[0_u16, 1, 3, 8, 9, 10]), "0-1,3,8-10");
        assert_eq!(print_set(&[u32::MAX - 1, u32::MAX]), "4294967294-4294967295");
        for wrong in ["0-4294967295", "3-1", "a", "1,,2", "-1", "70000"] {
            assert!(parse_set::<u16>(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!((unit("KiB"), unit("MB"), unit("lightyear")), (Some(1024), Some(1_000_000), None));
        assert_eq!((size(4096), size(4097)), ((4, "KiB"), (4097, "b")));
    }
}
