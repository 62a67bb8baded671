//! Numbers of the ioctl requests that the tables name (Linux `asm-generic/ioctl.h`, the same on aarch64 and x86_64).

const fn request(direction: u32, kind: u8, number: u8, size: u32) -> u32 {
    direction << 30 | size << 16 | (kind as u32) << 8 | number as u32
}

const fn io(kind: u8, number: u8) -> u32 {
    request(0, kind, number, 0)
}

const fn iow(kind: u8, number: u8, size: u32) -> u32 {
    request(1, kind, number, size)
}

const fn iowr(kind: u8, number: u8, size: u32) -> u32 {
    request(3, kind, number, size)
}

const fn ior(kind: u8, number: u8, size: u32) -> u32 {
    request(2, kind, number, size)
}

/// Letter of KVM's requests (`linux/kvm.h`).
const KVM: u8 = 0xae;

/// Bits of a request that hold its letter, and KVM's: all of KVM's requests and no others.
pub(super) const LETTER: u32 = 0xff00;
pub(super) const KVM_LETTER: u32 = (KVM as u32) << 8;

pub(super) const KVM_RUN: u32 = io(KVM, 0x80);
pub(super) const KVM_GET_ONE_REG: u32 = iow(KVM, 0xab, 16);
pub(super) const KVM_SET_ONE_REG: u32 = iow(KVM, 0xac, 16);
pub(super) const KVM_ARM_VCPU_INIT: u32 = iow(KVM, 0xae, 32);
pub(super) const KVM_IRQ_LINE: u32 = iow(KVM, 0x61, 8);
pub(super) const KVM_IRQFD: u32 = iow(KVM, 0x76, 32);
pub(super) const KVM_IOEVENTFD: u32 = iow(KVM, 0x79, 64);
pub(super) const KVM_SET_VCPU_EVENTS: u32 = iow(KVM, 0xa0, 64);
pub(super) const KVM_SIGNAL_MSI: u32 = iow(KVM, 0xa5, 32);
pub(super) const KVM_SET_MEMORY_ATTRIBUTES: u32 = iow(KVM, 0xd2, 32);
/// The same on a guest_memfd, with room for where it failed.
pub(super) const KVM_SET_MEMORY_ATTRIBUTES2: u32 = iowr(KVM, 0xd2, 128);

/// Terminal attributes. rustix and newer C libraries use the requests of `struct termios2`, older ones the first two.
pub(super) const TCGETS: u32 = 0x5401;
pub(super) const TCSETS: u32 = 0x5402;
pub(super) const TCGETS2: u32 = ior(b'T', 0x2a, 44);
pub(super) const TCSETS2: u32 = iow(b'T', 0x2b, 44);
/// Number, lock and other end of a pseudo-terminal.
pub(super) const TIOCGPTN: u32 = ior(b'T', 0x30, 4);
pub(super) const TIOCSPTLCK: u32 = iow(b'T', 0x31, 4);
/// Makes reads return at once when there is nothing.
pub(super) const FIONBIO: u32 = 0x5421;

/// What a descriptor of a tap device is, and how long the header before each frame (`linux/if_tun.h`).
pub(super) const TUNGETIFF: u32 = ior(b'T', 210, 4);
pub(super) const TUNSETVNETHDRSZ: u32 = iow(b'T', 216, 4);
/// What the guest of a tap device can take, and how many of its queues it uses.
pub(super) const TUNSETOFFLOAD: u32 = iow(b'T', 208, 4);
pub(super) const TUNSETQUEUE: u32 = iow(b'T', 217, 4);

/// Size and sector size of a block device (`linux/fs.h`).
pub(super) const BLKGETSIZE64: u32 = ior(0x12, 114, 8);
pub(super) const BLKSSZGET: u32 = io(0x12, 104);
pub(super) const BLKPBSZGET: u32 = io(0x12, 123);
/// Gives sectors of a block device back, or zeroes them.
pub(super) const BLKDISCARD: u32 = io(0x12, 119);
pub(super) const BLKZEROOUT: u32 = io(0x12, 127);

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_bindings::{
        kvm_ioeventfd, kvm_irq_level, kvm_irqfd, kvm_memory_attributes, kvm_msi, kvm_one_reg, kvm_vcpu_events,
    };

    /// A request that carries the wrong size is another request, which no kernel knows.
    #[test]
    fn sizes_are_those_of_kvms_structures() {
        fn size<T>() -> u32 {
            u32::try_from(size_of::<T>()).unwrap()
        }
        for (request, size) in [
            (KVM_GET_ONE_REG, size::<kvm_one_reg>()),
            (KVM_SET_ONE_REG, size::<kvm_one_reg>()),
            (KVM_IRQ_LINE, size::<kvm_irq_level>()),
            (KVM_IRQFD, size::<kvm_irqfd>()),
            (KVM_IOEVENTFD, size::<kvm_ioeventfd>()),
            (KVM_SET_VCPU_EVENTS, size::<kvm_vcpu_events>()),
            (KVM_SIGNAL_MSI, size::<kvm_msi>()),
            (KVM_SET_MEMORY_ATTRIBUTES, size::<kvm_memory_attributes>()),
        ] {
            assert_eq!(request >> 16 & 0x3fff, size, "{request:#x}");
        }
    }

    #[test]
    fn numbers_are_those_that_libc_knows() {
        for (ours, theirs) in [
            (TCGETS, libc::TCGETS),
            (TCSETS, libc::TCSETS),
            (TCGETS2, libc::TCGETS2),
            (TCSETS2, libc::TCSETS2),
            (TIOCGPTN, libc::TIOCGPTN),
            (TIOCSPTLCK, libc::TIOCSPTLCK),
            (FIONBIO, libc::FIONBIO),
            (BLKSSZGET, libc::BLKSSZGET),
            (BLKPBSZGET, libc::BLKPBSZGET),
        ] {
            // The type of a request differs between C libraries; its low 32 bits do not.
            assert_eq!(i128::from(ours), i128::from(theirs) & 0xffff_ffff);
        }
    }
}
