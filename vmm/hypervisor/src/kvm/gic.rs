//! The in-kernel GICv3 and its interrupt translation service.

use kvm_bindings::{
    KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_DEV_ARM_VGIC_GRP_CTRL,
    KVM_DEV_ARM_VGIC_GRP_NR_IRQS, KVM_VGIC_ITS_ADDR_TYPE, KVM_VGIC_V3_ADDR_TYPE_DIST,
    KVM_VGIC_V3_ADDR_TYPE_REDIST, kvm_create_device, kvm_device_attr,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_ITS, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
};
use kvm_ioctls::{DeviceFd, VmFd};

use crate::{Error, GicAddresses, Result};

/// Private interrupts: 16 software-generated and 16 per processor.
const PRIVATE_INTERRUPTS: u32 = 32;

/// The interrupt controller of one VM.
#[derive(Debug)]
pub struct Gic {
    _distributor: DeviceFd,
    _its: DeviceFd,
}

pub(super) fn create(vm: &VmFd, addresses: GicAddresses, spis: u32) -> Result<Gic> {
    let distributor =
        device(vm, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3, "create a GICv3 (the host needs one too)")?;
    let interrupts = PRIVATE_INTERRUPTS + spis;
    set(&distributor, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &interrupts, "set the number of interrupts")?;
    for (kind, address, action) in [
        (KVM_VGIC_V3_ADDR_TYPE_DIST, addresses.distributor, "place the GIC distributor"),
        (KVM_VGIC_V3_ADDR_TYPE_REDIST, addresses.redistributors, "place the GIC redistributors"),
    ] {
        set(&distributor, KVM_DEV_ARM_VGIC_GRP_ADDR, kind, &address, action)?;
    }
    control(&distributor, "initialise the GIC")?;

    let its =
        device(vm, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_ITS, "create an interrupt translation service")?;
    set(&its, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_ITS_ADDR_TYPE, &addresses.its, "place the ITS")?;
    control(&its, "initialise the ITS")?;
    Ok(Gic { _distributor: distributor, _its: its })
}

fn device(vm: &VmFd, kind: u32, action: &'static str) -> Result<DeviceFd> {
    let mut request = kvm_create_device { type_: kind, fd: 0, flags: 0 };
    vm.create_device(&mut request).map_err(|source| Error::Kvm { action, source })
}

/// Sets an attribute whose value the kernel reads through a pointer.
fn set<T>(device: &DeviceFd, group: u32, attr: u32, value: &T, action: &'static str) -> Result<()> {
    let attr =
        kvm_device_attr { group, attr: u64::from(attr), addr: std::ptr::from_ref(value) as u64, flags: 0 };
    device.set_device_attr(&attr).map_err(|source| Error::Kvm { action, source })
}

fn control(device: &DeviceFd, action: &'static str) -> Result<()> {
    let attr = kvm_device_attr {
        group: KVM_DEV_ARM_VGIC_GRP_CTRL,
        attr: u64::from(KVM_DEV_ARM_VGIC_CTRL_INIT),
        addr: 0,
        flags: 0,
    };
    device.set_device_attr(&attr).map_err(|source| Error::Kvm { action, source })
}
