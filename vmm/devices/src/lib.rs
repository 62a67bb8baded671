//! Emulated devices: PL011, PL031, PCI and virtio.
//!
//! Devices know guest memory, an interrupt, an event registrar and a DMA policy, each through a trait; nothing here
//! knows the hypervisor.
//!
//! | The VMM implements | for |
//! |---|---|
//! | [`interrupt::InterruptLine`] | the wired interrupt of PL011 |
//! | [`interrupt::MsiSink`] | interrupts of PCI devices, through the ITS |
//! | [`doorbell::IoEvents`] | queue doorbells as ioeventfds (or [`doorbell::NoIoEvents`]) |
//! | [`dma::DmaPolicy`] | what devices may touch: the RIPAS of a Realm (or [`dma::IdentityDma`] in a plain VM) |
//!
//! Assembly, with what the VMM has in `vm`:
//!
//! ```no_run
//! use std::sync::Arc;
//! use devices::bus::Bus;
//! use devices::pci::PciBus;
//! use devices::virtio::{NoDeviceHost, VirtioDevice, VirtioPci, VirtioPciConfig, blk, vsock};
//! # use devices::{dma::DmaPolicy, doorbell::IoEvents, interrupt::{InterruptLine, MsiSink}, pl011::Pl011, pl031::Pl031};
//! # struct Vm {
//! #     memory: Arc<vm_memory::GuestMemoryMmap>, dma: Arc<dyn DmaPolicy>, msi: Arc<dyn MsiSink>,
//! #     io_events: Arc<dyn IoEvents>, uart_line: Arc<dyn InterruptLine>, is_realm: bool,
//! # }
//! # fn unix_time() -> u32 { 0 }
//! # fn assemble(vm: Vm) -> Result<Bus, Box<dyn std::error::Error>> {
//! let mut bus = Bus::new();
//! let uart = Pl011::new(vm.uart_line.clone(), Box::new(std::io::stdout()))?;
//! bus.insert(0x0900_0000..0x0900_1000, uart.clone())?;
//! bus.insert(0x0901_0000..0x0901_1000, Arc::new(Pl031::new(unix_time)))?;
//!
//! let pci = PciBus::new(vec![0x1000_0000..0x3eff_0000, 0x80_0000_0000..0x100_0000_0000]);
//! bus.insert(0x3f00_0000..0x4000_0000, pci.ecam())?;
//! for (range, window) in pci.windows() {
//!     bus.insert(range, window)?;
//! }
//!
//! let disk = blk::RawFile::open("disk.raw".as_ref(), false)?;
//! let devices: [(&str, Arc<dyn VirtioDevice>); 2] = [
//!     ("_disk0", Arc::new(blk::Block::new(Box::new(disk), "root"))),
//!     ("_vsock", Arc::new(vsock::Vsock::new(3, "/run/vm/vsock".as_ref())?)),
//! ];
//! for (id, device) in devices {
//!     let address = pci.free_address()?;
//!     let device = VirtioPci::new(VirtioPciConfig {
//!         id: id.into(),
//!         device,
//!         requester: address.requester(),
//!         memory: vm.memory.clone(),
//!         dma: vm.dma.clone(),
//!         msi: vm.msi.clone(),
//!         io_events: vm.io_events.clone(),
//!         access_platform: vm.is_realm,
//!         host: Arc::new(NoDeviceHost),
//!     })?;
//!     pci.insert(address, device)?;
//! }
//! // KVM_EXIT_MMIO, with the address masked to its Realm-independent form:
//! let (address, mut data) = (0x0900_0018, [0; 4]);
//! bus.read(address, &mut data);
//! # Ok(bus)
//! # }
//! ```
//!
//! Dropping the bus and the [`pci::PciBus`] stops and joins every device thread.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod bus;
pub mod dma;
pub mod doorbell;
pub mod interrupt;
mod log_limit;
pub mod pci;
pub mod pl011;
pub mod pl031;
pub mod pl061;
mod poller;
pub mod rate_limit;
#[cfg(test)]
mod testing;
pub mod threads;
pub mod virtio;
pub mod watchdog;
