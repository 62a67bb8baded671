//! Any bytes as an evidence envelope: a clear refusal, or evidence that survives a round trip.

#![no_main]

use evidence::cca::CcaToken;
use evidence::envelope::{Dialect, Evidence};
use evidence::virtcca::VirtccaToken;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let evidence = match Evidence::from_json(json) {
        Ok(evidence) => evidence,
        Err(error) => {
            let message = error.to_string();
            assert!(message.len() < 1000 && !message.contains(char::is_control), "{message}");
            return;
        }
    };
    for dialect in [Dialect::Compact, Dialect::SecGear] {
        let again =
            Evidence::from_json(evidence.to_json_as(dialect).as_bytes()).expect("what was encoded decodes");
        assert_eq!(again, evidence);
    }
    match evidence {
        Evidence::Cca(evidence) => drop(CcaToken::decode(&evidence.token)),
        Evidence::Virtcca(evidence) => drop(VirtccaToken::decode(&evidence.token)),
    }
});
