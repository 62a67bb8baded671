//! What the guest says about each thing it checked: `ok <check>` or `FAIL <check>: <got> expected <want>`.

use core::fmt;

use crate::console::Hex;
use crate::say;

/// Whether two numbers are the same.
pub fn check(name: impl fmt::Display, got: u64, want: u64) {
    if got == want {
        say!("ok {name}");
    } else {
        say!("FAIL {name}: {got:#x} expected {want:#x}");
    }
}

/// Whether two byte strings are the same.
pub fn check_bytes(name: impl fmt::Display, got: &[u8], want: &[u8]) {
    if got == want {
        say!("ok {name}");
    } else {
        say!("FAIL {name}: {} expected {}", Hex(got), Hex(want));
    }
}

/// Whether a statement holds; `got` and `want` describe it when it does not.
pub fn check_that(name: impl fmt::Display, holds: bool, got: impl fmt::Debug, want: &str) {
    if holds {
        say!("ok {name}");
    } else {
        say!("FAIL {name}: {got:x?} expected {want}");
    }
}
