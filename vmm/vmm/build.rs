//! How the program is linked.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |key: &str| env::var(key).unwrap_or_default();
    // The linker of this target is rust-lld (.cargo/config.toml). Functions whose code is the same become one: the program is
    // resident in each VM's memory. Rust does not promise that functions have addresses of their own.
    if target("CARGO_CFG_TARGET_ARCH") == "aarch64" && target("CARGO_CFG_TARGET_ENV") == "musl" {
        println!("cargo:rustc-link-arg-bins=--icf=all");
    }
}
