//! Any document as domain XML, strictly and leniently: a refusal, or a domain whose own XML means the same.

#![no_main]

use cli::xml;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = xml::parse_device(text);
    let strict = xml::parse(text);
    let lenient = xml::parse_lenient(text);
    if let Ok(domain) = &strict {
        let lenient = lenient.as_ref().expect("what is read strictly is read leniently");
        // A uuid that the document does not give is another one each time.
        assert_eq!(lenient.value.config, domain.config);
        assert!(lenient.ignored.is_empty());
    }
    let Ok(found) = lenient else { return };
    let written = xml::print(&found.value).expect("an XML form");
    let again = xml::parse(&written).expect("our own XML");
    assert_eq!(again, found.value);
    assert_eq!(xml::print(&again).expect("the same"), written);
});
