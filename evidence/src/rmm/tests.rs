use super::*;

const BASE: u64 = 0x8000_0000;
const CREATED: &str = "39ad630fb9d2019f2be445c17430b6372c999e1d205f7ddaa5d00b5d13b83c76";

fn params(s2sz: u8, hash: HashAlgorithm) -> RealmParams {
    RealmParams { flags: 0, s2sz, sve_vl: 0, num_bps: 1, num_wps: 1, pmu_num_ctrs: 0, hash }
}

fn rim(version: RmmVersion, s2sz: u8, hash: HashAlgorithm) -> Rim {
    Rim::new(version, &params(s2sz, hash)).unwrap()
}

/// Bytes 00 to FF, 16 times.
fn page() -> [u8; 4096] {
    std::array::from_fn(|index| index.to_le_bytes()[0])
}

fn boot_rec() -> RecParams {
    RecParams { flags: RecParams::RUNNABLE, pc: BASE, gprs: [0x8fe0_0000, 0, 0, 0, 0, 0, 0, 0] }
}

#[track_caller]
fn assert_rim(rim: &Rim, expected: &str) {
    assert_eq!(rim.value().to_string(), expected);
}

#[test]
fn measures_realm_parameters_as_cca_realm_measurements_does() {
    for version in [RmmVersion::V1_0, RmmVersion::V2_0] {
        assert_rim(
            &rim(version, 48, HashAlgorithm::Sha256),
            "6739dfb22b75ee1268d08dfa8369f501bc0b066243553f069f560d1fa1172973",
        );
        assert_rim(
            &rim(version, 48, HashAlgorithm::Sha512),
            "799e434048fb57eb9d4f0e2a2b98158720377252deab2bdfcd69b5a8f82237f4\
             34bd6bb1c75bf160a2d49382f733b3439a3ff769e4ea5dd9a6f72239d44bbbab",
        );
    }
}

#[test]
fn measures_a_launch_by_rmm_2_0_with_sha_256() {
    let mut rim = rim(RmmVersion::V2_0, 33, HashAlgorithm::Sha256);
    assert_rim(&rim, CREATED);
    rim.init_ripas(BASE, BASE + 0x40_0000).unwrap();
    assert_rim(&rim, CREATED);
    rim.data(BASE, &page()).unwrap();
    assert_rim(&rim, "005bf4f4e1abbe8ef1f47dec39762fded07a88d93751c987817b7e31d6622a29");
    rim.data_unmeasured(BASE + 0x1000).unwrap();
    assert_rim(&rim, "c25dfffe6be1df24f657f2897f04cc773b0c42f34f81cd2527e7de67b0ca5cbe");
    rim.rec(&boot_rec());
    assert_rim(&rim, "bb6aabf64dbda5a77a0c174c43794f139b902bd2c22f7401f33432980b937e8f");
}

#[test]
fn measures_a_launch_by_rmm_1_0_with_sha_256() {
    let mut rim = rim(RmmVersion::V1_0, 33, HashAlgorithm::Sha256);
    assert_rim(&rim, CREATED);
    rim.init_ripas(BASE, BASE + 0x20_0000).unwrap();
    assert_rim(&rim, "2958d5fe119e11b56232cc29a16415a46c98a3f575116487573be88548958cb3");
    rim.init_ripas(BASE + 0x20_0000, BASE + 0x40_0000).unwrap();
    assert_rim(&rim, "7c4fd29b2c6ad9bcf113676802433ddbd4a1ebffade44f43a136c512421a32c8");
    rim.data(BASE, &page()).unwrap();
    assert_rim(&rim, "20534f82f3e40a32e6d9908497600eb3f88965107415c5181eea76c6d4140b4c");
    rim.rec(&boot_rec());
    assert_rim(&rim, "3ad73c1a67e34e773b33e57df0a9f8679dd2604cf93c393cac6f2562a4f884f1");
}

#[test]
fn measures_a_launch_by_rmm_2_0_with_sha_512() {
    let mut rim = rim(RmmVersion::V2_0, 33, HashAlgorithm::Sha512);
    assert_rim(
        &rim,
        "6178d2443ecdf5f6819e6d89a93ea79efc72e22198d4863dac2a020cca102dcf\
         58c53a3d22a76d6e77cb120690974bdde6bd36483d3599ea2e0873044c6fa327",
    );
    rim.data(BASE, &page()).unwrap();
    assert_rim(
        &rim,
        "2302d6a9e5747f11e47a990194ef4b44ad6881fc38ff999534e92f83aa5af8c5\
         f5558672320e47b2c926147e69c275ce722eda2474ed87b88ae2f53ddc8a4416",
    );
    rim.data_unmeasured(BASE + 0x1000).unwrap();
    rim.rec(&boot_rec());
    assert_rim(
        &rim,
        "f7711f31f4d994fca77246e12c62955accf1b689ec2259019e0fc5edc2f83d66\
         e3f13c84ee22473a87d7640e8c42b411727f4d2770b877e2a272dbb3fdbd4231",
    );
}

#[test]
fn vcpus_that_wait_for_psci_are_not_measured() {
    let mut rim = rim(RmmVersion::V2_0, 33, HashAlgorithm::Sha256);
    rim.rec(&RecParams { flags: 0, ..boot_rec() });
    assert_rim(&rim, CREATED);
}

/// One descriptor each, largest aligned block first: the entries of the translation tables.
#[test]
fn ripas_is_measured_once_per_largest_aligned_block() {
    const KIB4: u64 = 4 << 10;
    const MIB2: u64 = 2 << 20;
    const GIB: u64 = 1 << 30;
    const GIB512: u64 = 512 << 30;
    for (s2sz, base, blocks) in [
        (34, GIB, &[MIB2; 512][..]),
        (34, MIB2 - KIB4, &[KIB4, MIB2, KIB4]),
        (35, GIB, &[GIB]),
        (35, GIB - KIB4, &[KIB4, GIB, KIB4]),
        (35, GIB - MIB2 - KIB4, &[KIB4, MIB2, GIB, MIB2, KIB4]),
        (43, GIB512, &[GIB; 512]),
        (44, GIB512, &[GIB512]),
        (52, GIB512 - GIB, &[GIB, GIB512, MIB2, KIB4]),
    ] {
        let mut at_once = rim(RmmVersion::V1_0, s2sz, HashAlgorithm::Sha256);
        let mut expected = at_once.value();
        at_once.init_ripas(base, base + blocks.iter().sum::<u64>()).unwrap();
        let mut start = base;
        for size in blocks {
            let mut descriptor = vec![2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            descriptor.extend(expected.padded());
            descriptor.extend(start.to_le_bytes());
            start += size;
            descriptor.extend(start.to_le_bytes());
            descriptor.resize(256, 0);
            expected = HashAlgorithm::Sha256.digest(&descriptor);
        }
        assert_eq!(at_once.value(), expected, "s2sz {s2sz}, base {base:#x}");
    }
}

#[test]
fn every_measured_parameter_changes_the_measurement() {
    let create = |params: RealmParams| Rim::new(RmmVersion::V2_0, &params).unwrap().value();
    let base = params(40, HashAlgorithm::Sha256);
    let mut values = vec![
        create(base),
        create(RealmParams { flags: 1, ..base }),
        create(RealmParams { s2sz: 41, ..base }),
        create(RealmParams { sve_vl: 1, ..base }),
        create(RealmParams { num_bps: 2, ..base }),
        create(RealmParams { num_wps: 2, ..base }),
        create(RealmParams { pmu_num_ctrs: 1, ..base }),
        create(RealmParams { hash: HashAlgorithm::Sha384, ..base }),
    ];
    let count = values.len();
    values.sort();
    values.dedup();
    assert_eq!(values.len(), count);
}

#[test]
fn refuses_parameters_that_the_monitor_refuses() {
    let new = |version, params| Rim::new(version, &params).map(|rim| rim.value()).unwrap_err();
    let good = params(40, HashAlgorithm::Sha256);
    assert!(matches!(
        new(RmmVersion::V1_0, params(40, HashAlgorithm::Sha384)),
        Error::HashAlgorithm { algorithm: HashAlgorithm::Sha384, .. }
    ));
    for s2sz in [0, 31, 53, 255] {
        assert_eq!(new(RmmVersion::V2_0, RealmParams { s2sz, ..good }), Error::IpaWidth { found: s2sz });
    }
    assert!(matches!(
        new(RmmVersion::V2_0, RealmParams { num_bps: 0, ..good }),
        Error::DebugRegisters { .. }
    ));
    assert!(matches!(
        new(RmmVersion::V2_0, RealmParams { num_wps: 0, ..good }),
        Error::DebugRegisters { .. }
    ));
}

#[test]
fn refuses_memory_that_a_realm_cannot_have() {
    for version in [RmmVersion::V1_0, RmmVersion::V2_0] {
        let mut rim = rim(version, 33, HashAlgorithm::Sha256);
        let before = rim.value();
        let limit = 1 << 32;
        assert!(matches!(rim.init_ripas(BASE, BASE), Err(Error::Range { .. })));
        assert!(matches!(rim.init_ripas(BASE + 0x1000, BASE), Err(Error::Range { .. })));
        assert!(matches!(rim.init_ripas(0, limit + 0x1000), Err(Error::Range { .. })));
        assert_eq!(rim.init_ripas(BASE + 1, BASE + 0x1000), Err(Error::Unaligned { address: BASE + 1 }));
        assert_eq!(rim.init_ripas(BASE, BASE + 0x800), Err(Error::Unaligned { address: BASE + 0x800 }));
        assert!(matches!(rim.data(limit, &page()), Err(Error::Range { .. })));
        assert!(matches!(rim.data(!0xfff, &page()), Err(Error::Range { .. })));
        assert_eq!(rim.data(BASE + 8, &page()), Err(Error::Unaligned { address: BASE + 8 }));
        assert!(matches!(rim.data_unmeasured(limit), Err(Error::Range { .. })));
        assert_eq!(rim.value(), before);
        rim.data(limit - 0x1000, &page()).unwrap();
    }
}

#[test]
fn extends_a_register_by_data_verbatim() {
    let zero = Digest::zero(HashAlgorithm::Sha256);
    let abc = HashAlgorithm::Sha256.digest(b"abc");
    let extended = extend(HashAlgorithm::Sha256, &zero, abc.as_bytes()).unwrap();
    assert_eq!(extended.to_string(), "589f9ffed4c477966bfb8d41f37895b08c69047df8f911d6f3b57fbe08faee8d");
    // Neither the register nor short data is padded.
    assert_eq!(
        extend(HashAlgorithm::Sha256, &zero, b"a"),
        Ok(HashAlgorithm::Sha256.digest(&[&[0; 32][..], b"a"].concat()))
    );
    for algorithm in [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512] {
        assert!(extend(algorithm, &Digest::zero(algorithm), &[1; 64]).is_ok());
        assert_eq!(
            extend(algorithm, &Digest::zero(algorithm), &[1; 65]),
            Err(Error::ExtensionLength { found: 65 })
        );
    }
    assert!(matches!(extend(HashAlgorithm::Sha512, &zero, b"a"), Err(Error::ValueLength { found: 32, .. })));
}
