//! Any request to the REST interface: a refusal that says why, or something that can be carried out. A configuration that
//! is accepted survives the way to JSON and back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmm::config::validate;
use vmm::control::Action;
use vmm::rest::{BASE, Request, decode};

const CALLS: [(&str, &str); 8] = [
    ("PUT", "vm.create"),
    ("PUT", "vm.add-disk"),
    ("PUT", "vm.add-net"),
    ("PUT", "vm.add-fs"),
    ("PUT", "vm.add-vsock"),
    ("PUT", "vm.resize"),
    ("PUT", "vm.remove-device"),
    ("GET", "vm.info"),
];

fuzz_target!(|data: &[u8]| {
    let Some((first, body)) = data.split_first() else { return };
    let (method, name) = CALLS[usize::from(*first) % CALLS.len()];
    let request = Request { body, descriptors: Vec::new() };
    match decode(method, &format!("{BASE}{name}"), request) {
        Ok(Action::Create(config)) => {
            if validate(&config).is_ok() {
                let json = serde_json::to_vec(&config).expect("a configuration is JSON");
                let again: api::VmConfig = serde_json::from_slice(&json).expect("our own JSON");
                assert_eq!(again, *config);
            }
        }
        Ok(_) => {}
        Err(refusal) => {
            assert!(!refusal.reasons.is_empty() && (400..500).contains(&refusal.status));
        }
    }
});
