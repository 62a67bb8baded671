//! The host bridge as it shows itself in slot 0: identity only, no BARs.

use std::sync::{Mutex, PoisonError};

use super::{Bar, ConfigSpace, Header, PciDevice};

pub(super) struct HostBridge {
    config: Mutex<ConfigSpace>,
}

impl HostBridge {
    pub(super) fn new() -> Self {
        // The ids of QEMU's generic PCIe host bridge: no guest binds a driver to it, all know it.
        let header = Header { vendor: 0x1b36, device: 0x0008, revision: 0, class: 0x06_00_00, subsystem: 0 };
        Self { config: Mutex::new(ConfigSpace::new(&header)) }
    }
}

impl PciDevice for HostBridge {
    fn read_config(&self, offset: u16, data: &mut [u8]) {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).read(offset, data);
    }
    fn write_config(&self, offset: u16, data: &[u8]) {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).write(offset, data);
    }
    fn bars(&self) -> Vec<Bar> {
        Vec::new()
    }
    fn bar_moved(&self, _index: u8, _base: Option<u64>) {}
    fn read_bar(&self, _index: u8, _offset: u64, data: &mut [u8]) {
        data.fill(0xff);
    }
    fn write_bar(&self, _index: u8, _offset: u64, _data: &[u8]) {}
}
