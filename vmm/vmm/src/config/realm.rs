//! Realms: their bounds, and how they are said on the command line.

use api::VmConfig;
use api::config::{
    FaultName, GuestMemfdName, HashName, PlatformConfig, RealmBackendName, RealmConfig, RmmName,
    UserDataName, VirtCcaConfig,
};

use super::ConfigError;
use super::options::Options;
use super::validate::check;

/// Where memory of a virtCCA guest may start: at 1 GiB, or at 3 GiB for older kernels.
const VIRTCCA_RAM_BASES: [u64; 2] = [1 << 30, 3 << 30];

/// Widths that a Realm's address space may have, in bits.
const IPA_BITS: std::ops::RangeInclusive<u8> = 33..=48;

/// Refuses what the back-end of a Realm cannot have, before anything is opened.
pub fn validate(config: &VmConfig) -> Result<(), ConfigError> {
    firmware(config)?;
    let Some(realm) = &config.realm else { return Ok(()) };
    let soft = realm.backend == RealmBackendName::Soft;
    let cca = realm.backend == RealmBackendName::Cca;
    let own = realm.backend == RealmBackendName::VirtCca;
    let name = format!("{:?}", realm.backend);
    let backend = name.as_str();
    check(soft || realm.platform.is_none(), "realm.platform", backend, || {
        "the back-end soft: a real Realm's platform speaks for itself".into()
    })?;
    check(soft || realm.fault.is_none(), "realm.fault", backend, || "the back-end soft".into())?;
    check(own || realm.virtcca.is_none(), "realm.virtcca", backend, || "the back-end virtcca".into())?;
    check(!own || realm.rmm.is_none(), "realm.rmm", backend, || {
        "a back-end with an RMM; virtCCA's monitor is a TMM".into()
    })?;
    check(!own || realm.personalization_value.is_none(), "realm.personalization_value", backend, || {
        "a back-end whose tokens have it; those of virtCCA say nothing of it".into()
    })?;
    if let Some(bits) = realm.ipa_bits {
        check(cca, "realm.ipa_bits", backend, || {
            "the back-end cca; others have a width of their own".into()
        })?;
        check(IPA_BITS.contains(&bits), "realm.ipa_bits", bits, || {
            format!("{} to {}", IPA_BITS.start(), IPA_BITS.end())
        })?;
    }
    check(cca || realm.guest_memfd.is_none(), "realm.guest_memfd", backend, || "the back-end cca".into())?;
    if realm.guest_memfd == Some(GuestMemfdName::InPlace) {
        in_place(config)?;
    }
    if realm.rmm == Some(RmmName::V2_0) && cca {
        let sha256 = realm.measurement_algorithm == HashName::Sha256;
        check(sha256, "realm.measurement_algorithm", "sha512", || {
            "sha256: KVM for RMM 2.0 offers no other".into()
        })?;
        check(realm.personalization_value.is_none(), "realm.personalization_value", "a value", || {
            "none: KVM for RMM 2.0 has no call that sets it".into()
        })?;
    }
    if !soft {
        let huge = config.memory.hugepages || config.memory.zones.iter().any(|zone| zone.hugepages);
        check(!huge, "memory.hugepages", "true", || {
            format!("false: {backend} takes private memory page by page")
        })?;
    }
    if let Some(virtcca) = &realm.virtcca {
        let sve = virtcca.sve_vector_length.unwrap_or(128);
        check(
            (128..=2048).contains(&sve) && sve.is_multiple_of(128),
            "realm.virtcca.sve_vector_length",
            sve,
            || "a multiple of 128 up to 2048, in bits".into(),
        )?;
        let counters = virtcca.pmu_counters.unwrap_or(0);
        check(counters < 32, "realm.virtcca.pmu_counters", counters, || "fewer than 32".into())?;
        check(
            VIRTCCA_RAM_BASES.contains(&virtcca.ram_base),
            "realm.virtcca.ram_base",
            virtcca.ram_base,
            || "1 GiB or 3 GiB, in bytes".into(),
        )?;
        check(virtcca.swiotlb > 0, "realm.virtcca.swiotlb", 0, || "slots of 2 KiB, such as 65536".into())?;
    }
    Ok(())
}

/// A VM boots a kernel or firmware, and firmware where somebody has made it for this board.
fn firmware(config: &VmConfig) -> Result<(), ConfigError> {
    let payload = &config.payload;
    check(payload.kernel.is_some() || payload.firmware.is_some(), "payload.kernel", "nothing", || {
        "a kernel, or firmware".into()
    })?;
    let Some(firmware) = payload.firmware.as_deref() else { return Ok(()) };
    let found = firmware.display().to_string();
    let found = found.as_str();
    let legacy = |realm: &RealmConfig| {
        realm.virtcca.as_ref().is_some_and(|virtcca| virtcca.user_data == UserDataName::Legacy)
    };
    let fits = config
        .realm
        .as_ref()
        .is_some_and(|realm| realm.backend == RealmBackendName::VirtCca && !legacy(realm));
    check(fits, "payload.firmware", found, || {
        "a kernel (payload.kernel): only virtcca boots firmware, with the user data of kernels that know it (uefi)".into()
    })?;
    check(payload.kernel.is_none() && payload.initramfs.is_none(), "payload.firmware", found, || {
        "no kernel and no initramfs besides: firmware finds them on the disks".into()
    })
}

/// Memory that is private and shared by turns is the kernel's own: nothing else can be said of it.
fn in_place(config: &VmConfig) -> Result<(), ConfigError> {
    let memory = &config.memory;
    let zones = || memory.zones.iter();
    for (field, said) in [
        ("memory.zones.file", zones().any(|zone| zone.file.is_some())),
        ("memory.zones.host_numa_node", zones().any(|zone| zone.host_numa_node.is_some())),
        ("memory.prefault", memory.prefault || zones().any(|zone| zone.prefault)),
        ("memory.mergeable", memory.mergeable || zones().any(|zone| zone.mergeable)),
        ("memory.shared", memory.shared || zones().any(|zone| zone.shared)),
    ] {
        check(!said, field, "a value", || {
            "nothing with realm.guest_memfd in_place: the kernel decides; separate leaves the choice".into()
        })?;
    }
    Ok(())
}

/// `--realm`.
pub fn realm(text: &str) -> Result<RealmConfig, ConfigError> {
    const FLAG: &str = "--realm";
    let (backend, rest) = text.split_once(',').unwrap_or((text, ""));
    let (backend, known): (_, &[&str]) = match backend {
        "soft" => (RealmBackendName::Soft, &["key", "instance_id", "hash", "rpv", "rmm", "fault"]),
        "cca" => (RealmBackendName::Cca, &["hash", "rpv", "rmm", "ipa_bits", "guest_memfd"]),
        "virtcca" => (
            RealmBackendName::VirtCca,
            &["hash", "sve_vector_length", "pmu_counters", "swiotlb", "ram_base", "user_data"],
        ),
        _ => return Err(ConfigError::RealmBackend { found: backend.into() }),
    };
    let options = Options::parse(FLAG, rest, known)?;
    let hash = options.convert("hash", "sha256 or sha512", |value| match value {
        "sha256" => Some(HashName::Sha256),
        "sha512" => Some(HashName::Sha512),
        _ => None,
    })?;
    let rmm = options.convert("rmm", "1.0 or 2.0", |value| match value {
        "1.0" => Some(RmmName::V1_0),
        "2.0" => Some(RmmName::V2_0),
        _ => None,
    })?;
    let guest_memfd = options.convert("guest_memfd", "separate or in_place", |value| match value {
        "separate" => Some(GuestMemfdName::Separate),
        "in_place" => Some(GuestMemfdName::InPlace),
        _ => None,
    })?;
    let fault =
        options.convert("fault", "challenge, signature or no_platform_token", |value| match value {
            "challenge" => Some(FaultName::Challenge),
            "signature" => Some(FaultName::Signature),
            "no_platform_token" => Some(FaultName::NoPlatformToken),
            _ => None,
        })?;
    let instance_id = options.get("instance_id").map(Into::into);
    let platform = match &instance_id {
        Some(_) => Some(options.require("key")?),
        None => options.get("key"),
    };
    let platform = platform.map(|key| PlatformConfig {
        key: key.into(),
        instance_id,
        config: String::new(),
        components: Vec::new(),
    });
    let virtcca = (backend == RealmBackendName::VirtCca).then(|| virtcca(&options)).transpose()?;
    Ok(RealmConfig {
        backend,
        measurement_algorithm: hash.unwrap_or_default(),
        personalization_value: options.get("rpv").map(Into::into),
        rmm,
        ipa_bits: options.convert("ipa_bits", "a number of bits", |value| value.parse().ok())?,
        guest_memfd,
        platform,
        fault,
        virtcca,
    })
}

fn virtcca(options: &Options) -> Result<VirtCcaConfig, ConfigError> {
    let default = VirtCcaConfig::default();
    let number = |key| options.convert(key, "a number", |value| value.parse().ok());
    let user_data = options.convert("user_data", "legacy or uefi", |value| match value {
        "legacy" => Some(UserDataName::Legacy),
        "uefi" => Some(UserDataName::Uefi),
        _ => None,
    })?;
    Ok(VirtCcaConfig {
        sve_vector_length: options.convert("sve_vector_length", "bits", |value| value.parse().ok())?,
        pmu_counters: options.convert("pmu_counters", "a number", |value| value.parse().ok())?,
        swiotlb: number("swiotlb")?.unwrap_or(default.swiotlb),
        ram_base: options.convert("ram_base", "1G or 3G", super::options::size)?.unwrap_or(default.ram_base),
        user_data: user_data.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn checked(realm: &Value) -> Result<(), String> {
        let config = json!({"payload": {"kernel": "/k"}, "realm": realm});
        validate(&serde_json::from_value(config).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_back_end_has_its_own_fields_and_no_others() {
        for good in [
            json!({"backend": "soft", "platform": {"key": "/k"}, "fault": "challenge", "rmm": "2.0"}),
            json!({"backend": "cca", "measurement_algorithm": "sha512", "personalization_value": "YQ==", "rmm": "1.0"}),
            json!({"backend": "cca", "rmm": "2.0", "ipa_bits": 36, "guest_memfd": "in_place"}),
            json!({"backend": "virtcca", "virtcca": {"sve_vector_length": 256, "pmu_counters": 4}}),
            json!({"backend": "virtcca", "virtcca": {"ram_base": 3_221_225_472_u64, "user_data": "legacy"}}),
        ] {
            checked(&good).unwrap();
        }
        for (wrong, field) in [
            (json!({"backend": "cca", "platform": {"key": "/k"}}), "realm.platform"),
            (json!({"backend": "virtcca", "fault": "challenge"}), "realm.fault"),
            (json!({"backend": "cca", "virtcca": {}}), "realm.virtcca"),
            (json!({"backend": "virtcca", "rmm": "1.0"}), "realm.rmm"),
            (json!({"backend": "virtcca", "personalization_value": "YQ=="}), "realm.personalization_value"),
            (json!({"backend": "soft", "ipa_bits": 40}), "realm.ipa_bits"),
            (json!({"backend": "cca", "ipa_bits": 32}), "realm.ipa_bits"),
            (json!({"backend": "cca", "ipa_bits": 49}), "realm.ipa_bits"),
            (json!({"backend": "soft", "guest_memfd": "separate"}), "realm.guest_memfd"),
            (
                json!({"backend": "cca", "rmm": "2.0", "measurement_algorithm": "sha512"}),
                "realm.measurement_algorithm",
            ),
            (
                json!({"backend": "cca", "rmm": "2.0", "personalization_value": "YQ=="}),
                "realm.personalization_value",
            ),
            (
                json!({"backend": "virtcca", "virtcca": {"sve_vector_length": 200}}),
                "realm.virtcca.sve_vector_length",
            ),
            (
                json!({"backend": "virtcca", "virtcca": {"sve_vector_length": 0}}),
                "realm.virtcca.sve_vector_length",
            ),
            (
                json!({"backend": "virtcca", "virtcca": {"sve_vector_length": 4096}}),
                "realm.virtcca.sve_vector_length",
            ),
            (json!({"backend": "virtcca", "virtcca": {"pmu_counters": 32}}), "realm.virtcca.pmu_counters"),
            (json!({"backend": "virtcca", "virtcca": {"ram_base": 4096}}), "realm.virtcca.ram_base"),
            (json!({"backend": "virtcca", "virtcca": {"swiotlb": 0}}), "realm.virtcca.swiotlb"),
        ] {
            let error = checked(&wrong).unwrap_err();
            assert!(error.starts_with(&format!("{field}: ")), "{wrong}: {error}");
        }
    }

    #[test]
    fn memory_that_is_converted_in_place_is_the_kernels_own() {
        for (pointer, value) in [
            ("prefault", json!(true)),
            ("mergeable", json!(true)),
            ("shared", json!(true)),
            ("zones", json!([{"id": "a", "size": 2 << 20, "file": "/f"}])),
            ("zones", json!([{"id": "a", "size": 2 << 20, "host_numa_node": 0}])),
            ("zones", json!([{"id": "a", "size": 2 << 20, "prefault": true}])),
            ("zones", json!([{"id": "a", "size": 2 << 20, "mergeable": true}])),
            ("zones", json!([{"id": "a", "size": 2 << 20, "shared": true}])),
        ] {
            let mut config = json!({"payload": {"kernel": "/k"}, "memory": {"size": 2 << 20},
                                    "realm": {"backend": "cca", "guest_memfd": "in_place"}});
            config["memory"][pointer] = value;
            let validated = validate(&serde_json::from_value(config.clone()).unwrap());
            assert!(validated.unwrap_err().to_string().starts_with("memory."), "{pointer}");
            config["realm"]["guest_memfd"] = json!("separate");
            validate(&serde_json::from_value(config).unwrap()).unwrap();
        }
    }

    #[test]
    fn firmware_boots_where_it_is_made_for_the_board() {
        let refused = |payload: Value, realm: Value| {
            let config = json!({"payload": payload, "realm": realm});
            validate(&serde_json::from_value(config).unwrap()).err().map(|error| error.to_string())
        };
        let uefi = || json!({"backend": "virtcca", "virtcca": {"user_data": "uefi"}});
        let legacy = json!({"backend": "virtcca", "virtcca": {"user_data": "legacy"}});
        assert_eq!(refused(json!({"firmware": "/f"}), uefi()), None);
        for (payload, realm, field) in [
            (json!({}), Value::Null, "payload.kernel"),
            (json!({"firmware": "/f"}), Value::Null, "payload.firmware"),
            (json!({"firmware": "/f"}), json!({"backend": "cca"}), "payload.firmware"),
            (json!({"firmware": "/f"}), json!({"backend": "soft"}), "payload.firmware"),
            (json!({"firmware": "/f"}), legacy, "payload.firmware"),
            (json!({"firmware": "/f", "kernel": "/k"}), uefi(), "payload.firmware"),
            (json!({"firmware": "/f", "initramfs": "/i"}), uefi(), "payload.firmware"),
        ] {
            let error = refused(payload.clone(), realm.clone());
            let names = error.as_ref().is_some_and(|error| error.starts_with(&format!("{field}: ")));
            assert!(names, "{payload} {realm}: {error:?}");
        }
    }

    #[test]
    fn private_memory_of_real_realms_has_no_huge_pages() {
        for memory in [
            json!({"size": 2 << 20, "hugepages": true}),
            json!({"size": 0, "zones": [{"id": "a", "size": 2 << 20, "hugepages": true}]}),
        ] {
            for (backend, fits) in [("cca", false), ("virtcca", false), ("soft", true)] {
                let config =
                    json!({"payload": {"kernel": "/k"}, "memory": memory, "realm": {"backend": backend}});
                let refused = validate(&serde_json::from_value(config).unwrap()).err();
                let field = refused.map(|error| error.to_string().starts_with("memory.hugepages: "));
                assert_eq!(field, if fits { None } else { Some(true) }, "{memory} {backend}");
            }
        }
    }

    #[test]
    fn command_line_names_every_back_end() {
        let cca = realm("cca,rmm=2.0,ipa_bits=36,guest_memfd=in_place").unwrap();
        assert_eq!(cca.guest_memfd, Some(GuestMemfdName::InPlace));
        assert_eq!(
            (cca.backend, cca.rmm, cca.ipa_bits),
            (RealmBackendName::Cca, Some(RmmName::V2_0), Some(36))
        );
        let own = realm("virtcca,pmu_counters=1,swiotlb=1024,ram_base=3G,user_data=legacy").unwrap();
        let own = own.virtcca.unwrap();
        assert_eq!((own.pmu_counters, own.swiotlb, own.ram_base), (Some(1), 1024, 3 << 30));
        assert!(realm("cca,key=/pem").unwrap_err().to_string().contains("unknown key"));
        assert!(realm("tdx").unwrap_err().to_string().contains("cca"));
    }
}
