//! Virtio over PCI, modern devices only (virtio 1.2, 4.1).

mod common;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{debug, warn};
use virtio_bindings::virtio_config::{VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use self::common::{CommonConfig, Features, StatusChange};
use super::interrupts::Signals;
use super::queue::{DeviceQueue, Halt};
use super::worker::{Worker, WorkerContext};
use super::{ActivateError, Activation, Chained, ConfigNotifier, DeviceEvent, DeviceHost, VirtioDevice};
use crate::dma::{DmaMemory, DmaPolicy};
use crate::doorbell::IoEvents;
use crate::interrupt::MsiSink;
use crate::log_limit::LogLimit;
use crate::pci::{Bar, ConfigSpace, Header, Msix, PciDevice, Requester};

const VENDOR: u16 = 0x1af4;
/// Device ids of modern devices start here.
const DEVICE_BASE: u16 = 0x1040;

const CAPABILITY_VENDOR: u8 = 0x09;
const CAPABILITY_MSIX: u8 = 0x11;

/// One BAR holds every structure, each in a page of its own.
const BAR: u8 = 0;
const BAR_SIZE: u64 = 0x8000;
const COMMON: Range<u64> = 0x0000..0x0038;
const ISR: Range<u64> = 0x1000..0x1001;
const DEVICE: Range<u64> = 0x2000..0x3000;
const NOTIFY: Range<u64> = 0x3000..0x4000;
const MSIX_TABLE: Range<u64> = 0x4000..0x5000;
const MSIX_PENDING: Range<u64> = 0x5000..0x6000;
/// Doorbells are this many bytes apart.
const NOTIFY_STEP: u8 = 4;
/// Offset of the data window in the PCI configuration access capability.
const PCI_CONFIG_DATA: u16 = 16;
/// Each queue needs a vector and a doorbell in its page; one vector is for configuration changes.
const MAX_QUEUES: usize = 255;

/// `cfg_type` of the capabilities (virtio 1.2, 4.1.4).
#[derive(Clone, Copy)]
enum Structure {
    Common = 1,
    Notify = 2,
    Isr = 3,
    Device = 4,
    PciConfig = 5,
}

/// Why a virtio device could not be put behind PCI.
#[derive(Debug, thiserror::Error)]
pub enum VirtioPciError {
    /// The device has no or too many queues, or one of an impossible size.
    #[error("{name}: queue sizes {sizes:?} are not usable; give 1 to {MAX_QUEUES} powers of two up to 32768")]
    Queues {
        /// Name of the device.
        name: String,
        /// What it asked for.
        sizes: Vec<u16>,
    },
    /// No descriptor for a doorbell.
    #[error("cannot create the doorbells of a virtio device; raise the limit of open files")]
    Doorbell(#[source] std::io::Error),
}

/// Everything a virtio device on PCI stands on.
pub struct VirtioPciConfig {
    /// Name of the device, of which its threads' names are made.
    pub id: String,
    /// The device.
    pub device: Arc<dyn VirtioDevice>,
    /// With what its interrupts reach the ITS: that of its place on the bus, or of its port.
    pub requester: Requester,
    /// Guest RAM.
    pub memory: Arc<GuestMemoryMmap>,
    /// What the device may touch of it.
    pub dma: Arc<dyn DmaPolicy>,
    /// Takes its interrupts.
    pub msi: Arc<dyn MsiSink>,
    /// Takes its doorbells.
    pub io_events: Arc<dyn IoEvents>,
    /// True for a Realm: VIRTIO_F_ACCESS_PLATFORM is offered, and a driver that does not accept it is refused, because
    /// it would hand out private addresses.
    pub access_platform: bool,
    /// The process that the device is part of.
    pub host: Arc<dyn DeviceHost>,
}

/// A virtio device on PCI.
pub struct VirtioPci {
    id: String,
    device: Arc<dyn VirtioDevice>,
    memory: Arc<GuestMemoryMmap>,
    dma: Arc<dyn DmaPolicy>,
    refusals: Arc<LogLimit>,
    io_events: Arc<dyn IoEvents>,
    doorbells: Vec<Arc<EventFd>>,
    signals: Arc<Signals>,
    host: Arc<dyn DeviceHost>,
    pci_config_capability: u16,
    msix_capability: u8,
    config: Mutex<ConfigSpace>,
    driver: Mutex<DriverState>,
    placed: Mutex<Option<u64>>,
}

/// What the driver has set up, and the workers that run since DRIVER_OK.
struct DriverState {
    common: CommonConfig,
    workers: Vec<Worker>,
    halt: Arc<Halt>,
}

impl VirtioPci {
    /// Builds the PCI function around a device. Put it on the bus with [`PciBus::insert`](crate::pci::PciBus::insert).
    ///
    /// # Errors
    /// [`VirtioPciError`].
    pub fn new(config: VirtioPciConfig) -> Result<Arc<Self>, VirtioPciError> {
        let VirtioPciConfig { id, device, requester, memory, dma, msi, io_events, access_platform, host } =
            config;
        let sizes = device.queue_sizes().to_vec();
        let usable = |size: &u16| size.is_power_of_two();
        if sizes.is_empty() || sizes.len() > MAX_QUEUES || !sizes.iter().all(usable) {
            return Err(VirtioPciError::Queues { name: id, sizes });
        }
        let vectors = u16::try_from(sizes.len()).unwrap_or(u16::MAX).saturating_add(1);
        let msix = Msix::new(vectors, requester, msi);
        let signals = Arc::new(Signals::new(msix, sizes.len()));
        let doorbells = sizes
            .iter()
            .map(|_| EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map(Arc::new))
            .collect::<Result<_, _>>()
            .map_err(VirtioPciError::Doorbell)?;

        let transport = 1 << VIRTIO_F_VERSION_1 | device.ring_features();
        let access = if access_platform { 1 << VIRTIO_F_ACCESS_PLATFORM } else { 0 };
        let features = Features {
            offered: device.features() | transport | access,
            required: 1 << VIRTIO_F_VERSION_1 | access,
        };
        let refusals = Arc::<LogLimit>::default();
        let common = CommonConfig::new(features, &sizes, vectors, signals.clone(), refusals.clone());

        let layout = config_space(device.as_ref(), vectors);
        device.connected(ConfigNotifier(signals.clone()));
        Ok(Arc::new(Self {
            id,
            device,
            memory,
            dma,
            refusals,
            io_events,
            doorbells,
            signals,
            host,
            pci_config_capability: u16::from(layout.pci_config_capability),
            msix_capability: layout.msix_capability,
            config: Mutex::new(layout.config),
            driver: Mutex::new(DriverState { common, workers: Vec::new(), halt: Arc::default() }),
            placed: Mutex::default(),
        }))
    }

    fn read_structure(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        match offset {
            _ if COMMON.contains(&offset) => self.driver().common.read(offset, data),
            _ if ISR.contains(&offset) => crate::bus::fill(data, u64::from(self.signals.take_isr())),
            _ if DEVICE.contains(&offset) => {
                self.device.read_config(offset - DEVICE.start, data);
            }
            _ if MSIX_TABLE.contains(&offset) => {
                self.signals.msix.read_table(offset - MSIX_TABLE.start, data);
            }
            _ if MSIX_PENDING.contains(&offset) => {
                self.signals.msix.read_pending(offset - MSIX_PENDING.start, data);
            }
            _ => {}
        }
    }

    fn write_structure(&self, offset: u64, data: &[u8]) {
        match offset {
            _ if NOTIFY.contains(&offset) => self.ring((offset - NOTIFY.start) / u64::from(NOTIFY_STEP)),
            _ if COMMON.contains(&offset) => {
                let mut driver = self.driver();
                match driver.common.write(offset, data) {
                    StatusChange::None => {}
                    StatusChange::Reset => self.reset(&mut driver),
                    StatusChange::Start => self.start(&mut driver),
                }
            }
            _ if DEVICE.contains(&offset) => self.device.write_config(offset - DEVICE.start, data),
            _ if MSIX_TABLE.contains(&offset) => {
                self.signals.msix.write_table(offset - MSIX_TABLE.start, data);
            }
            _ => {}
        }
    }

    /// The guest can place BARs on top of each other as often as it likes.
    fn doorbell_trouble(&self, what: &str, error: &std::io::Error) {
        if let Some(count) = self.refusals.hit() {
            warn!(device = self.id, count, "a doorbell {what}: {error}");
        }
    }

    fn ring(&self, queue: u64) {
        let doorbell = usize::try_from(queue).ok().and_then(|queue| self.doorbells.get(queue));
        // A full counter (EAGAIN) is a doorbell that has rung already.
        if let Some(Err(error)) = doorbell.map(|doorbell| doorbell.write(1)) {
            debug!(device = self.id, queue, "doorbell: {error}");
        }
    }

    fn start(&self, driver: &mut DriverState) {
        driver.halt = Arc::default();
        match self.activate(&driver.common, &driver.halt) {
            Ok(workers) => {
                let features = format_args!("{:#x}", driver.common.features());
                debug!(device = self.id, features, "started");
                driver.workers = workers;
                self.host.event(&self.id, DeviceEvent::Activated);
            }
            Err(error) => {
                let reason = Chained(&error).to_string();
                if let Some(count) = self.refusals.hit() {
                    warn!(device = self.id, count, "did not start: {reason}");
                }
                self.signals.needs_reset();
                self.host.event(&self.id, DeviceEvent::Failed(reason));
            }
        }
    }

    fn activate(&self, common: &CommonConfig, halt: &Arc<Halt>) -> Result<Vec<Worker>, ActivateError> {
        let memory = Arc::new(DmaMemory::new(
            self.memory.clone(),
            self.dma.clone(),
            self.id.clone(),
            self.refusals.clone(),
        ));
        let features = common.features();
        let event_idx = features & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
        let queues = common
            .queues()
            .map(|(index, layout)| {
                let queue = layout.map(|layout| {
                    let (memory, signals) = (Arc::clone(&memory), Arc::clone(&self.signals));
                    DeviceQueue::new(index, layout, event_idx, memory, signals, Arc::clone(halt))
                });
                queue.transpose().map_err(|source| ActivateError::Queue { index, source })
            })
            .collect::<Result<_, _>>()?;
        let doorbells = self.doorbells.clone();
        let workers = self.device.activate(Activation { features, queues, doorbells })?;
        let context = Arc::new(WorkerContext {
            id: self.id.clone(),
            kind: self.device.thread_kind(),
            doorbells: self.doorbells.clone(),
            signals: self.signals.clone(),
            failures: self.refusals.clone(),
            host: self.host.clone(),
        });
        Ok(workers.into_iter().map(|spec| Worker::spawn(&context, spec)).collect::<Result<_, _>>()?)
    }

    /// Makes the device stand still: when this returns, it touches guest memory no more until [`VirtioPci::resume`].
    /// The vCPUs must stand still already.
    pub fn pause(&self) {
        let driver = self.driver();
        driver.halt.set(true);
        driver.workers.iter().for_each(Worker::pause);
    }

    /// Lets the device go on where [`VirtioPci::pause`] stopped it.
    pub fn resume(&self) {
        let driver = self.driver();
        driver.halt.set(false);
        driver.workers.iter().for_each(Worker::resume);
        // What was offered before the pause may not have been taken.
        (0..self.doorbells.len() as u64).for_each(|queue| self.ring(queue));
    }

    /// The device behind the transport.
    pub fn device(&self) -> &Arc<dyn VirtioDevice> {
        &self.device
    }

    /// Name of the device.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Stops the workers first, then forgets what the driver set up.
    fn reset(&self, driver: &mut DriverState) {
        let was_active = !driver.workers.is_empty();
        driver.halt.set(true);
        driver.workers.clear();
        driver.common.reset();
        self.device.reset();
        debug!(device = self.id, "reset");
        if was_active {
            self.host.event(&self.id, DeviceEvent::Reset);
        }
    }

    fn driver(&self) -> MutexGuard<'_, DriverState> {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn config(&self) -> MutexGuard<'_, ConfigSpace> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The access that the PCI configuration access capability describes (virtio 1.2, 4.1.4.9): offset and length, if
    /// the guest set it to a legal one.
    fn pci_config_access(&self) -> Option<(u64, usize)> {
        let config = self.config();
        let at = u8::try_from(self.pci_config_capability).ok()?;
        let bar = config.get16(at + 4) & 0xff;
        let offset = u64::from(config.get32(at + 8));
        let length = config.get32(at + 12);
        let legal =
            bar == u16::from(BAR) && matches!(length, 1 | 2 | 4) && offset.is_multiple_of(u64::from(length));
        (legal && offset < BAR_SIZE).then_some((offset, length as usize))
    }
}

impl PciDevice for VirtioPci {
    fn read_config(&self, offset: u16, data: &mut [u8]) {
        let window = self.pci_config_capability + PCI_CONFIG_DATA;
        // The window is read at its start, as drivers do: a structure is never read for an access that only overlaps.
        match self.pci_config_access().filter(|_| offset == window) {
            Some((at, len)) => {
                data.fill(0);
                let len = len.min(data.len());
                self.read_structure(at, data.get_mut(..len).unwrap_or_default());
            }
            None => self.config().read(offset, data),
        }
    }

    fn write_config(&self, offset: u16, data: &[u8]) {
        if offset == self.pci_config_capability + PCI_CONFIG_DATA {
            if let Some((at, len)) = self.pci_config_access() {
                self.write_structure(at, data.get(..len).unwrap_or(data));
            }
            return;
        }
        let mut config = self.config();
        config.write(offset, data);
        let control = config.get16(self.msix_capability + 2);
        drop(config);
        self.signals.msix.set_control(control);
    }

    fn bars(&self) -> Vec<Bar> {
        self.config().bars()
    }

    fn bar_moved(&self, _index: u8, base: Option<u64>) {
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        let doorbells = || (NOTIFY.start..).step_by(usize::from(NOTIFY_STEP)).zip(&self.doorbells);
        if let Some(old) = placed.take() {
            for (offset, doorbell) in doorbells() {
                if let Err(error) = self.io_events.unregister(old + offset, doorbell) {
                    self.doorbell_trouble("cannot be unregistered", &error);
                }
            }
        }
        if let Some(new) = base {
            for (offset, doorbell) in doorbells() {
                if let Err(error) = self.io_events.register(new + offset, doorbell) {
                    self.doorbell_trouble("falls back to MMIO exits", &error);
                }
            }
        }
        *placed = base;
    }

    fn read_bar(&self, _index: u8, offset: u64, data: &mut [u8]) {
        self.read_structure(offset, data);
    }

    fn write_bar(&self, _index: u8, offset: u64, data: &[u8]) {
        self.write_structure(offset, data);
    }
}

impl Drop for VirtioPci {
    fn drop(&mut self) {
        self.bar_moved(BAR, None);
        self.driver().halt.set(true);
    }
}

struct Layout {
    config: ConfigSpace,
    msix_capability: u8,
    pci_config_capability: u8,
}

fn config_space(device: &dyn VirtioDevice, vectors: u16) -> Layout {
    let id = DEVICE_BASE + device.device_id();
    let mut config = ConfigSpace::new(&Header {
        vendor: VENDOR,
        device: id,
        revision: 1,
        class: device.class(),
        subsystem: u32::from(id) << 16 | u32::from(VENDOR),
    });
    config.add_bar64(BAR, BAR_SIZE);
    let (body, writable) = Msix::capability(vectors, low32(MSIX_TABLE.start), low32(MSIX_PENDING.start));
    let msix_capability = config.add_capability(CAPABILITY_MSIX, &body, &writable);
    add_structure(&mut config, Structure::Common, &COMMON, &[], &[]);
    add_structure(&mut config, Structure::Notify, &NOTIFY, &u32::from(NOTIFY_STEP).to_le_bytes(), &[]);
    add_structure(&mut config, Structure::Isr, &ISR, &[], &[]);
    add_structure(&mut config, Structure::Device, &DEVICE, &[], &[]);
    // The guest chooses BAR, offset and length, then moves data through the four bytes at the end.
    let writable = [0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let pci_config_capability = add_structure(&mut config, Structure::PciConfig, &(0..0), &[0; 4], &writable);
    Layout { config, msix_capability, pci_config_capability }
}

/// Adds a `struct virtio_pci_cap` (virtio 1.2, 4.1.4) with `extra` behind it.
fn add_structure(
    config: &mut ConfigSpace,
    structure: Structure,
    place: &Range<u64>,
    extra: &[u8],
    writable: &[u8],
) -> u8 {
    const LEN: u8 = 16;
    let len = LEN.saturating_add(u8::try_from(extra.len()).unwrap_or(u8::MAX));
    let mut body = vec![len, structure as u8, BAR, 0, 0, 0];
    body.extend_from_slice(&low32(place.start).to_le_bytes());
    body.extend_from_slice(&low32(place.end - place.start).to_le_bytes());
    body.extend_from_slice(extra);
    config.add_capability(CAPABILITY_VENDOR, &body, writable)
}

/// An offset inside the BAR as a register holds it.
const fn low32(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod worker_tests;
