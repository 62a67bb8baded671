//! `redoubt`: VMs by name.

fn main() {}
