//! `struct kvm_user_data`, which tells openEuler's kernel where the parts of an image lie.
//!
//! It has two layouts of the same length; nothing in it says which one it is, so the operator does.

use machine::layout::Region;

use crate::Error;

/// Bytes of the structure.
pub(crate) const SIZE: usize = 5 * 8 + 8 + MAX_NODES * NODE_SIZE;
/// Most NUMA nodes.
pub(crate) const MAX_NODES: usize = 8;
/// Number, start, size, host nodes, vCPUs.
const NODE_SIZE: usize = (3 + 2 + 4) * 8;
/// Largest device tree that firmware takes.
const UEFI_DTB_SIZE: u64 = 0x20_0000;
/// In `dtb_info`: the kernel is booted directly.
const DIRECT: u64 = 1;

/// Which kernel it is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserDataLayout {
    /// Kernels that know direct boot only.
    Legacy,
    /// Kernels that know UEFI, too.
    #[default]
    Uefi,
}

/// How the guest boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// A kernel without firmware.
    Direct {
        /// Where stub and kernel end.
        image_end: u64,
        /// Where RAM disk, or device tree, begin.
        initrd: u64,
        /// The device tree.
        dtb: Region,
        /// Where all of it ends.
        end: u64,
    },
    /// Firmware, which is told where devices are.
    Uefi {
        /// The addresses of devices, below RAM.
        mmio: Region,
    },
}

/// A NUMA node of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumaNode {
    /// Its number.
    pub id: u64,
    /// Its memory.
    pub memory: Region,
    /// A bit for each node of the host that backs it.
    pub host_nodes: [u64; 2],
    /// A bit for each vCPU.
    pub vcpus: [u64; 4],
}

/// The structure before it is written down.
#[derive(Clone, Copy, Debug)]
pub struct UserData<'a> {
    /// How the guest boots.
    pub flavour: Flavour,
    /// Its memory.
    pub ram: Region,
    /// Its NUMA nodes; none means one with all of the memory.
    pub nodes: &'a [NumaNode],
}

impl UserData<'_> {
    /// The structure as the kernel reads it.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for what the layout cannot say.
    pub fn encode(&self, layout: UserDataLayout) -> Result<Vec<u8>, Error> {
        let refuse = |field, reason| Err(Error::Refused { backend: "virtcca", field, reason });
        if self.nodes.len() > MAX_NODES {
            return refuse("numa", "the kernel takes at most 8 nodes");
        }
        let total = self.nodes.iter().try_fold(0_u64, |sum, node| sum.checked_add(node.memory.size));
        if !self.nodes.is_empty() && total != Some(self.ram.size) {
            return refuse("numa", "the nodes' memory must add up to all of the memory");
        }
        let (base, size) = (self.ram.base, self.ram.size);
        let head = match (layout, self.flavour) {
            (UserDataLayout::Legacy, Flavour::Direct { image_end, initrd, end, .. }) => {
                [base, image_end, initrd, end, size]
            }
            (UserDataLayout::Uefi, Flavour::Direct { dtb, .. }) => [base, DIRECT, dtb.base, dtb.size, size],
            (UserDataLayout::Uefi, Flavour::Uefi { mmio }) if mmio.end() <= base => {
                [base, UEFI_DTB_SIZE, mmio.base, mmio.size, size]
            }
            (UserDataLayout::Uefi, Flavour::Uefi { .. }) => {
                return refuse("payload.firmware", "devices must lie below the memory");
            }
            (UserDataLayout::Legacy, Flavour::Uefi { .. }) => {
                return refuse(
                    "payload.firmware",
                    "a kernel with the legacy user data boots kernels directly only",
                );
            }
        };
        let mut bytes: Vec<u8> = head.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend((self.nodes.len() as u64).to_le_bytes());
        for node in self.nodes {
            let words = [node.id, node.memory.base, node.memory.size].into_iter();
            let words = words.chain(node.host_nodes).chain(node.vcpus);
            bytes.extend(words.flat_map(u64::to_le_bytes));
        }
        bytes.resize(SIZE, 0);
        Ok(bytes)
    }
}
