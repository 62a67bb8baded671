//! The software Realm, as a guest without an operating system meets it.

#![cfg(target_arch = "aarch64")]

use evidence::cca::CcaToken;
use evidence::hash::{Digest, HashAlgorithm};
use serde_json::json;
use system_tests::{EndedVm, TestVm};

fn passes(case: &str) -> EndedVm {
    TestVm::realm(case).run().expect_code(0).expect_passed(case)
}

#[test]
fn answers_every_rsi_call_as_specified() {
    let vm = passes("rsi-calls");
    let checks = vm.serial.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(checks > 100, "the guest made {checks} checks only");
}

#[test]
fn guest_extends_and_reads_its_measurements() {
    let vm = passes("rsi-calls");
    for register in ["rem1", "rem2", "rem3", "rem4"] {
        assert_ne!(vm.value(register), [0; 32], "{register} was extended");
    }
}

#[test]
fn token_larger_than_a_granule_arrives_in_pieces() {
    let component = json!({
        "component_type": "TEST", "version": "1",
        "measurement": "11".repeat(32), "signer_id": "22".repeat(32),
    });
    let vm = TestVm::realm("token")
        .with("/realm/platform/components", json!(vec![component; 50]))
        .run()
        .expect_code(0)
        .expect_passed("token");
    let token = vm.value("token");
    assert!(token.len() > 4096, "{} bytes", token.len());
    let token = CcaToken::decode(&token).unwrap();
    assert_eq!(token.realm.claims.challenge[..], vm.value("challenge"));
    assert_eq!(token.platform.claims.components.len(), 50);
    assert!(!token.platform.claims.lifecycle.is_secured());
    for (rem, name) in token.realm.claims.rems.iter().zip(["rem1", "rem2", "rem3", "rem4"]) {
        assert_eq!(rem.as_bytes(), vm.value(name), "{name}");
    }
}

#[test]
fn offline_measurement_equals_the_attested_one_whatever_the_shape() {
    let shapes = [
        TestVm::realm("token").with("/payload/cmdline", json!("case=token shape=one")),
        TestVm::realm("token")
            .with("/payload/cmdline", json!("case=token another=shape"))
            .with("/memory/size", json!(256 << 20))
            .with("/cpus", json!({"boot_vcpus": 3})),
        TestVm::realm("token")
            .with("/realm/rmm", json!("2.0"))
            .with("/realm/measurement_algorithm", json!("sha512")),
    ];
    let mut seen: Vec<Digest> = Vec::new();
    for vm in shapes {
        let expected = vm.measure()["rim"].as_str().unwrap().to_owned();
        let ended = vm.run().expect_code(0);
        let token = CcaToken::decode(&ended.value("token")).unwrap();
        assert_eq!(token.realm.claims.rim.to_string(), expected);
        assert!(!seen.contains(&token.realm.claims.rim), "another shape, another measurement");
        seen.push(token.realm.claims.rim);
    }
    assert_eq!(seen[2].as_bytes().len(), HashAlgorithm::Sha512.len());
}

#[test]
fn a_realm_told_to_lie_answers_another_challenge() {
    let vm = TestVm::realm("token").with("/realm/fault", json!("challenge")).run().expect_code(0);
    let token = CcaToken::decode(&vm.value("token")).unwrap();
    assert_ne!(token.realm.claims.challenge[..], vm.value("challenge"));
}

#[test]
fn brings_up_every_vcpu() {
    let vm = TestVm::realm("smp")
        .with("/cpus", json!({"boot_vcpus": 4}))
        .run()
        .expect_code(0)
        .expect_passed("smp");
    for cpu in 1..4 {
        assert!(vm.serial.contains(&format!("cpu {cpu} affinity {cpu:#x}")), "{}", vm.serial);
    }
}

#[test]
fn device_that_reaches_for_private_memory_is_refused_and_recovers() {
    let vm = passes("dma-private");
    assert!(vm.errors().contains("private to the Realm"), "{}", vm.errors());
    assert_ne!(
        vm.value("entropy"),
        vec![0; vm.value("entropy").len()],
        "the device works with shared memory"
    );
}

#[test]
fn host_calls_are_answered_as_unsupported() {
    let vm = passes("host-call");
    assert!(vm.serial.contains("host-call x0 0xffffffffffffffff"), "{}", vm.serial);
}
