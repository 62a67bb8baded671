//! Any text as a runtime policy of keylime: refused, or references that are the same when they are written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use verifier::logs::{ImaReferences, RuntimePolicy};

fuzz_target!(|bytes: &[u8]| {
    let Ok(policy) = serde_json::from_slice::<RuntimePolicy>(bytes) else { return };
    let Ok(read) = ImaReferences::try_from(policy) else { return };
    let text = serde_json::to_string(&read).expect("what was read can be written");
    let again: ImaReferences = serde_json::from_str(&text).expect("our own text");
    assert_eq!(again, read);
    let mut twice = read.clone();
    twice.extend(&again);
    assert_eq!(twice.files, read.files);
});
