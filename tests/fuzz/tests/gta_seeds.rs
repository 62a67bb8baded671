//! The seeds of `gta_body` still get as far as they are meant to.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use std::fs;
use std::path::Path;

#[test]
fn every_seed_has_the_answer_that_it_is_named_after() {
    let authority = redoubt_fuzz::authority();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/gta_body");
    let mut seeds: Vec<_> = fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    assert!(seeds.len() > 40);
    for seed in seeds {
        let (status, answer) = authority.request(&fs::read(&seed).unwrap()).unwrap().unwrap();
        let expected = seed.extension().unwrap().to_str().unwrap();
        assert_eq!(status.to_string(), expected, "{}: {answer}", seed.display());
    }
}
