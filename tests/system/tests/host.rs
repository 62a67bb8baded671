//! What every other system test takes for granted of the Arm host.

#![cfg(target_arch = "aarch64")]

use std::{env, fs, io::Read};

use kvm_ioctls::{Cap, Kvm};

#[test]
fn offers_kvm_with_the_stable_api() {
    let kvm = Kvm::new().expect("/dev/kvm");
    assert_eq!(kvm.get_api_version(), 12);
    assert!(kvm.check_extension(Cap::ArmPsci02));
}

#[test]
fn hands_out_the_programs_and_guests() {
    for variable in [
        "REDOUBT_VMM",
        "REDOUBT_GUEST_KERNEL",
        "REDOUBT_GUEST_IMAGE",
        "REDOUBT_GUEST_INITRD",
        "REDOUBT_MINI_GUEST",
    ] {
        let path = env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set"));
        let length = fs::metadata(&path).unwrap_or_else(|error| panic!("{variable}={path}: {error}")).len();
        assert!(length > 0, "{variable}={path} is empty");
    }
    let mut header = [0; 0x40];
    fs::File::open(env::var("REDOUBT_GUEST_IMAGE").unwrap()).unwrap().read_exact(&mut header).unwrap();
    assert_eq!(&header[0x38..0x3c], b"ARM\x64");
}
