//! A stock Debian kernel as a Realm guest. One boot answers every question, because a boot takes most of the time.

#![cfg(target_arch = "aarch64")]
use std::fs;
use std::io::{BufRead, BufReader, Read};

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

/// Keeps the devices busy that the other test leaves alone.
const BUSY: &str = r#"
exec > /dev/hvc0 2>&1
echo "ready"
ip link set eth0 up
ip addr add 10.77.0.2/24 dev eth0
echo "ping $(ping -c 3 -W 10 10.77.0.1 | grep -c 'seq=')"
echo "queues $(ls -d /sys/class/net/eth0/queues/tx-* | wc -l)"
blkdiscard /dev/vda && echo "discard done"
dd if=/dev/urandom of=/dev/vda bs=64k count=16 conv=fsync 2> /dev/null && echo "write done"
echo "end"
"#;

#[test]
fn stock_linux_keeps_every_device_busy_in_a_vmm_with_all_its_bounds() {
    let mut vm = TestVm::plain("linux");
    let disk = vm.path("disk.img");
    let console = vm.path("console");
    fs::write(&disk, vec![7; 4 << 20]).unwrap();
    let (vsock, serial) = (vm.path("vsock"), vm.path("serial"));
    let limit = json!({"bandwidth": {"size": 1 << 20, "refill_time": 100}});
    let sandbox = json!({"user_namespace": true, "mount_namespace": true, "network_namespace": true});
    vm = vm
        .boot_linux(BUSY)
        .with("/cpus", json!({"boot_vcpus": 2}))
        .with("/disks", json!([{"path": disk}]))
        .with(
            "/net",
            json!([{
                "tap": "redoubt0", "ip": "10.77.0.1", "mask": "255.255.255.0", "num_queues": 4,
                "rate_limiter_config": limit,
            }]),
        )
        .with("/vsock", json!({"cid": 3, "socket": vsock}))
        .with("/console", json!({"mode": "Socket", "socket": console}))
        .with("/serial", json!({"mode": "Socket", "socket": serial}))
        .with("/landlock_enable", json!(true))
        .with("/sandbox", sandbox);
    let mut running = vm.start();
    let mut console = BufReader::new(running.connect("console"));
    let mut answers = String::new();
    while !answers.contains("ready") {
        assert_ne!(console.read_line(&mut answers).unwrap(), 0, "{answers}");
    }
    // Each thread has its starter's filters and one of its own; vCPUs start the threads of devices.
    let filters = running.threads("Seccomp_filters");
    let count = |thread: &str| filters[thread].parse::<u32>().unwrap();
    assert!(count("vcpu0") > count("redoubt-vmm"), "{filters:?}");
    for device in ["_disk0", "_rng", "_net0_qp0", "_net0_qp1", "_net0_ctrl", "_vsock", "_console"] {
        assert!(filters.contains_key(device) && count(device) > count("vcpu0"), "{device}: {filters:?}");
    }
    assert!(count("pl011-input") > count("redoubt-vmm"), "{filters:?}");
    // The guest is heard until the VMM ends.
    console.read_to_string(&mut answers).unwrap();
    let errors = running.wait_until_ended(4);
    for answer in ["ping 3", "queues 2", "discard done", "write done", "end"] {
        let found = answers.lines().any(|line| line.trim_end() == answer);
        assert!(found, "no {answer:?} in:\n{answers}\n{errors}");
    }
    let content = fs::read(&disk).unwrap();
    assert!(content[..1 << 20].iter().any(|&byte| byte != 0), "written");
    assert!(content[1 << 20..].iter().all(|&byte| byte == 0), "discarded");
}
