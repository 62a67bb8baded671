//! The program `redoubt` against a VMM without a VM.

#![expect(clippy::unwrap_used, reason = "helpers outside of test functions")]

mod attest;
mod lifecycle;
mod support;
mod verbs;
