//! Reference values as JSON, ours and that of other projects.

use evidence::hash::HashAlgorithm;
use verifier::logs::{BootReferences, ImportError, LogReferences, LogRules, digest_list};

use crate::harness::*;

#[test]
fn references_and_rules_survive_json() {
    let mut references = references_with_ima();
    references.untyped.insert("list".to_owned(), set(b"x"));
    let json = serde_json::to_string(&references).unwrap();
    assert_eq!(serde_json::from_str::<LogReferences>(&json).unwrap(), references);
    assert_eq!(serde_json::to_string(&references.clone()).unwrap(), json, "the same text every time");
    let rules = serde_json::to_string(&strict_ima()).unwrap();
    assert_eq!(serde_json::from_str::<LogRules>(&rules).unwrap(), strict_ima());
    assert_eq!(serde_json::from_str::<LogRules>("{}").unwrap(), LogRules::default());
    assert_eq!(serde_json::from_str::<LogReferences>("{}").unwrap(), LogReferences::default());
}

#[test]
fn a_misspelt_field_is_an_error_and_not_a_demand_less() {
    for json in [r#"{"boot":{"require":true}}"#, r#"{"ima":{"requried":true}}"#, r#"{"boots":{}}"#] {
        assert!(serde_json::from_str::<LogRules>(json).is_err(), "{json}");
    }
    for json in
        [r#"{"boot":{"kernel":[]}}"#, r#"{"boot":{"kernels":[{"initrd":[]}]}}"#, r#"{"ima":{"excludes":[]}}"#]
    {
        assert!(serde_json::from_str::<LogReferences>(json).is_err(), "{json}");
    }
}

#[test]
fn references_that_would_accept_too_much_are_refused() {
    let zeros = format!("sha256:{}", "00".repeat(32));
    for (field, value) in [
        ("exclude", "*"),
        ("exclude", "/*"),
        ("exclude", "relative/*"),
        ("exclude", "/a*b/*"),
        ("exclude", "/usr/b*"),
        ("boot_aggregate", "sha256:00"),
        ("boot_aggregate", "whirlpool:00"),
        ("boot_aggregate", &zeros),
    ] {
        let json = serde_json::json!({ "ima": { field: [value] } }).to_string();
        let error = serde_json::from_str::<LogReferences>(&json).unwrap_err().to_string();
        assert!(error.contains("expected"), "{error}");
    }
}

#[test]
fn reads_secgears_list_of_digests() {
    let (one, two) = (HashAlgorithm::Sha256.digest(b"1"), HashAlgorithm::Sha256.digest(b"2"));
    assert_eq!(digest_list(&format!("{one}\n\n {two} \n{one}\n")).unwrap(), [one, two].into());
    assert!(matches!(digest_list(&format!("{one}\nxyz")), Err(ImportError::Line { line: 2, .. })));
    assert!(matches!(digest_list("\n \n"), Err(ImportError::Empty)));
}

#[test]
fn reads_the_virtcca_sdks_image_reference() {
    let [grub, cfg, kernel, initramfs] =
        [&b"grub"[..], b"cfg", b"kernel", b"initramfs"].map(|content| HashAlgorithm::Sha256.digest(content));
    let image = |alg: &str| {
        serde_json::json!({
            "grub": grub, "grub.cfg": cfg, "hash_alg": alg,
            "kernels": [
                { "version": "6.6.0", "kernel": kernel, "initramfs": initramfs },
                { "version": "5.10", "kernel": kernel, "initramfs": "NOT_FOUND" },
            ],
        })
        .to_string()
    };
    let boot = BootReferences::from_virtcca_sdk(&image("sha-256")).unwrap();
    assert_eq!((boot.grub, boot.grub_cfg), ([grub].into(), [cfg].into()));
    assert_eq!(boot.kernels[0].unpacked, [kernel].into());
    assert_eq!(boot.kernels[0].initramfs, [initramfs].into());
    assert!(boot.kernels[1].initramfs.is_empty() && boot.kernels[1].name == "5.10");
    assert!(matches!(BootReferences::from_virtcca_sdk(&image("md5")), Err(ImportError::Algorithm { .. })));
    assert!(matches!(BootReferences::from_virtcca_sdk("{}"), Err(ImportError::Sdk(_))));
}
