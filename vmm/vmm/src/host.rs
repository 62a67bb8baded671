//! The process as devices know it: it binds their threads and hears of what happens to them.

use std::io;
use std::sync::Arc;

use devices::virtio::{DeviceEvent, DeviceHost, ThreadKind};

use crate::confinement::Confinement;
use crate::monitor::EventMonitor;

/// Binds threads, and tells the event monitor.
#[derive(Debug)]
pub struct ProcessHost {
    /// What binds threads.
    pub confinement: Arc<Confinement>,
    /// Whom to tell.
    pub monitor: EventMonitor,
}

impl DeviceHost for ProcessHost {
    fn thread_starts(&self, kind: ThreadKind) -> io::Result<()> {
        self.confinement.bind_device_thread(kind)
    }

    fn event(&self, id: &str, event: DeviceEvent) {
        const SOURCE: &str = "virtio-device";
        match event {
            DeviceEvent::Activated => self.monitor.event(SOURCE, "activated", &[("id", id)]),
            DeviceEvent::Reset => self.monitor.event(SOURCE, "reset", &[("id", id)]),
            DeviceEvent::Failed(reason) => {
                self.monitor.event(SOURCE, "failed", &[("id", id), ("reason", &reason)]);
            }
        }
    }
}
