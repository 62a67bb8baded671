//! A stock Debian kernel as a Realm guest. One boot answers every question, because a boot takes most of the time.

#![cfg(target_arch = "aarch64")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use evidence::cca::CcaToken;
use serde_json::json;
use system_tests::{TestVm, linux};

/// Runs in the guest; every line of its answer goes to the virtio console.
const SCRIPT: &str = r#"
exec > /dev/hvc0 2>&1
echo "rsi $(dmesg | grep -c 'RME: Using RSI version 1.0')"
echo "cpus $(nproc)"
echo "disk $(head -c 16 /dev/vda)"
echo "written by the guest" | dd of=/dev/vda bs=512 seek=8 conv=fsync 2> /dev/null
echo "serial $(cat /sys/block/vda/serial)"
echo "readonly $(cat /sys/block/vdb/ro)"
echo "entropy $(head -c 24 /dev/hwrng | base64)"
report=/sys/kernel/config/tsm/report/test
mkdir $report
printf %064d 7 > $report/inblob
echo "token $(base64 -w 0 < $report/outblob)"
echo "provider $(cat $report/provider)"
echo "clock $(date +%s)"
echo "end"
"#;

#[test]
fn stock_linux_finds_its_realm_its_devices_and_its_token() {
    let mut vm = TestVm::realm("linux");
    let (disk, readonly, console) = (vm.path("disk.img"), vm.path("readonly.img"), vm.path("console.log"));
    let mut content = vec![0; 1 << 20];
    content[..16].copy_from_slice(b"sixteen bytes.\n\n");
    fs::write(&disk, &content).unwrap();
    fs::write(&readonly, &content).unwrap();
    let component = json!({
        "component_type": "TEST", "version": "1",
        "measurement": "11".repeat(32), "signer_id": "22".repeat(32),
    });
    vm = vm
        .boot_linux(SCRIPT)
        .with("/cpus", json!({"boot_vcpus": 2}))
        .with(
            "/disks",
            json!([
                {"path": disk, "serial": "redoubt-0"},
                {"path": readonly, "readonly": true},
            ]),
        )
        .with("/console", json!({"mode": "File", "file": console}))
        .with("/realm/platform/components", json!(vec![component; 50]));
    let rim = vm.measure()["rim"].as_str().unwrap().to_owned();
    let mut running = vm.start();
    let errors = running.wait_until_ended(4);
    let answers = fs::read_to_string(&console).unwrap();
    let answer = |name: &str| {
        linux::answer(&answers, name).unwrap_or_else(|| panic!("no {name} in:\n{answers}\n{errors}"))
    };

    assert_eq!(answer("rsi"), "1");
    assert_eq!(answer("cpus"), "2");
    assert_eq!(answer("disk"), "sixteen bytes.");
    assert_eq!(answer("serial"), "redoubt-0");
    assert_eq!(answer("readonly"), "1");
    assert_eq!(STANDARD.decode(answer("entropy")).unwrap().len(), 24);
    assert_eq!(answer("provider"), "arm_cca_guest");
    assert!(answer("clock").parse::<u64>().unwrap() > 1_700_000_000, "the clock was set from the host");
    assert_eq!(&fs::read(&disk).unwrap()[8 * 512..][..20], b"written by the guest");
    assert_eq!(fs::read(&readonly).unwrap(), content);

    let token = STANDARD.decode(answer("token")).unwrap();
    assert!(token.len() > 4096, "more than one granule: {}", token.len());
    let token = CcaToken::decode(&token).unwrap();
    assert_eq!(token.realm.claims.challenge, *format!("{:064}", 7).as_bytes());
    assert_eq!(token.realm.claims.rim.to_string(), rim);
    assert!(!errors.contains("DMA refused"), "Linux bounces all of its I/O: {errors}");
}
