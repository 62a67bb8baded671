//! The common configuration structure (virtio 1.2, 4.1.4.3) and the status state machine (2.1, 3.1).

use std::sync::Arc;

use tracing::{debug, warn};
use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
};

use crate::bus::{fill, value, value32};
use crate::log_limit::LogLimit;
use crate::virtio::interrupts::{NO_VECTOR, Signals, low8};
use crate::virtio::queue::QueueLayout;

const ACKNOWLEDGE: u8 = low8(VIRTIO_CONFIG_S_ACKNOWLEDGE);
const DRIVER: u8 = low8(VIRTIO_CONFIG_S_DRIVER);
const FEATURES_OK: u8 = low8(VIRTIO_CONFIG_S_FEATURES_OK);
const DRIVER_OK: u8 = low8(VIRTIO_CONFIG_S_DRIVER_OK);
const NEEDS_RESET: u8 = low8(VIRTIO_CONFIG_S_NEEDS_RESET);

const DEVICE_FEATURE_SELECT: u64 = 0x00;
const DEVICE_FEATURE: u64 = 0x04;
const DRIVER_FEATURE_SELECT: u64 = 0x08;
const DRIVER_FEATURE: u64 = 0x0c;
const CONFIG_VECTOR: u64 = 0x10;
const NUM_QUEUES: u64 = 0x12;
const STATUS: u64 = 0x14;
const CONFIG_GENERATION: u64 = 0x15;
const QUEUE_SELECT: u64 = 0x16;
const QUEUE_SIZE: u64 = 0x18;
const QUEUE_VECTOR: u64 = 0x1a;
const QUEUE_ENABLE: u64 = 0x1c;
const QUEUE_NOTIFY_OFF: u64 = 0x1e;
const QUEUE_DESCRIPTORS: u64 = 0x20;
const QUEUE_DRIVER: u64 = 0x28;
const QUEUE_DEVICE: u64 = 0x30;

/// What a write means for the device behind the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatusChange {
    None,
    /// The driver resets the device.
    Reset,
    /// The driver is live.
    Start,
}

/// Feature bits as the device sees them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Features {
    pub(super) offered: u64,
    /// Without these the driver is refused.
    pub(super) required: u64,
}

/// The registers of one device.
pub(super) struct CommonConfig {
    features: Features,
    accepted: u64,
    device_feature_select: u32,
    driver_feature_select: u32,
    queue_select: u16,
    queues: Vec<QueueRegisters>,
    vectors: u16,
    signals: Arc<Signals>,
    refusals: Arc<LogLimit>,
}

struct QueueRegisters {
    max_size: u16,
    enabled: bool,
    layout: QueueLayout,
}

impl QueueRegisters {
    fn new(max_size: u16) -> Self {
        Self { max_size, enabled: false, layout: QueueLayout { size: max_size, ..QueueLayout::default() } }
    }
}

impl CommonConfig {
    pub(super) fn new(
        features: Features,
        sizes: &[u16],
        vectors: u16,
        signals: Arc<Signals>,
        refusals: Arc<LogLimit>,
    ) -> Self {
        Self {
            features,
            accepted: 0,
            device_feature_select: 0,
            driver_feature_select: 0,
            queue_select: 0,
            queues: sizes.iter().copied().map(QueueRegisters::new).collect(),
            vectors,
            signals,
            refusals,
        }
    }

    /// The features that the driver accepted.
    pub(super) fn features(&self) -> u64 {
        self.accepted
    }

    /// Number of each queue, and its layout if it is enabled.
    pub(super) fn queues(&self) -> impl Iterator<Item = (u16, Option<QueueLayout>)> {
        (0..).zip(&self.queues).map(|(index, queue)| (index, queue.enabled.then_some(queue.layout)))
    }

    /// Back to the state before the driver came. The worker must have ended.
    pub(super) fn reset(&mut self) {
        self.accepted = 0;
        self.device_feature_select = 0;
        self.driver_feature_select = 0;
        self.queue_select = 0;
        for queue in &mut self.queues {
            *queue = QueueRegisters::new(queue.max_size);
        }
        self.signals.reset();
    }

    /// Reads a register. A driver uses the width of the field; two halves of a 64-bit field may come as one.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        let queue = self.queues.get(usize::from(self.queue_select));
        let layout = queue.map(|queue| queue.layout);
        let address = |field: fn(&QueueLayout) -> u64| layout.as_ref().map_or(0, field);
        let value = match offset {
            DEVICE_FEATURE_SELECT => u64::from(self.device_feature_select),
            DEVICE_FEATURE => half(self.features.offered, self.device_feature_select),
            DRIVER_FEATURE_SELECT => u64::from(self.driver_feature_select),
            DRIVER_FEATURE => half(self.accepted, self.driver_feature_select),
            CONFIG_VECTOR => u64::from(self.signals.config_vector()),
            NUM_QUEUES => self.queues.len() as u64,
            STATUS => u64::from(self.signals.status()),
            CONFIG_GENERATION => u64::from(self.signals.generation()),
            QUEUE_SELECT => u64::from(self.queue_select),
            QUEUE_SIZE => layout.map_or(0, |layout| u64::from(layout.size)),
            QUEUE_VECTOR => u64::from(self.signals.queue_vector(self.queue_select)),
            QUEUE_ENABLE => u64::from(queue.is_some_and(|queue| queue.enabled)),
            QUEUE_NOTIFY_OFF => u64::from(self.queue_select),
            QUEUE_DESCRIPTORS => address(|layout| layout.descriptors),
            QUEUE_DRIVER => address(|layout| layout.driver),
            QUEUE_DEVICE => address(|layout| layout.device),
            _ if offset == QUEUE_DESCRIPTORS + 4 => address(|layout| layout.descriptors >> 32),
            _ if offset == QUEUE_DRIVER + 4 => address(|layout| layout.driver >> 32),
            _ if offset == QUEUE_DEVICE + 4 => address(|layout| layout.device >> 32),
            _ => 0,
        };
        fill(data, value);
    }

    /// Writes a register; writes that the protocol does not allow at this moment are dropped.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> StatusChange {
        let [low, high, ..] = value(data).to_le_bytes();
        let half_word = u16::from_le_bytes([low, high]);
        match offset {
            DEVICE_FEATURE_SELECT => self.device_feature_select = value32(data),
            DRIVER_FEATURE_SELECT => self.driver_feature_select = value32(data),
            DRIVER_FEATURE => self.accept(value32(data)),
            CONFIG_VECTOR => self.signals.set_config_vector(self.checked_vector(half_word)),
            STATUS => return self.write_status(low),
            QUEUE_SELECT => self.queue_select = half_word,
            QUEUE_VECTOR => self.signals.set_queue_vector(self.queue_select, self.checked_vector(half_word)),
            _ => self.write_queue(offset, data, half_word),
        }
        StatusChange::None
    }

    fn accept(&mut self, bits: u32) {
        if self.signals.status() & FEATURES_OK != 0 {
            return debug!("driver changes features after FEATURES_OK");
        }
        match self.driver_feature_select {
            0 => self.accepted = self.accepted & !0xffff_ffff | u64::from(bits),
            1 => self.accepted = self.accepted & 0xffff_ffff | u64::from(bits) << 32,
            _ => {}
        }
    }

    /// A vector that does not exist reads back as "no vector", so that the driver sees the failure.
    fn checked_vector(&self, vector: u16) -> u16 {
        if vector < self.vectors { vector } else { NO_VECTOR }
    }

    fn write_queue(&mut self, offset: u64, data: &[u8], half_word: u16) {
        let Some(queue) = self.queues.get_mut(usize::from(self.queue_select)) else { return };
        if queue.enabled {
            return debug!("driver changes an enabled queue");
        }
        let layout = &mut queue.layout;
        match offset {
            QUEUE_SIZE if half_word.is_power_of_two() && half_word <= queue.max_size => {
                layout.size = half_word;
            }
            QUEUE_ENABLE if half_word == 1 => queue.enabled = true,
            QUEUE_DESCRIPTORS..QUEUE_DRIVER => {
                set_part(&mut layout.descriptors, offset - QUEUE_DESCRIPTORS, data);
            }
            QUEUE_DRIVER..QUEUE_DEVICE => set_part(&mut layout.driver, offset - QUEUE_DRIVER, data),
            QUEUE_DEVICE.. => set_part(&mut layout.device, offset - QUEUE_DEVICE, data),
            _ => debug!(offset, "driver writes a value that the register does not take"),
        }
    }

    fn write_status(&mut self, new: u8) -> StatusChange {
        if new == 0 {
            return StatusChange::Reset;
        }
        let old = self.signals.status();
        // Bits are only added: without a reset the driver cannot take one back.
        let mut set = new & !old & !NEEDS_RESET;
        let after = |set: u8| old | set;
        if set & FEATURES_OK != 0 && !(has(after(set), ACKNOWLEDGE | DRIVER) && self.features_acceptable()) {
            // The driver reads the status back and finds the bit missing (3.1.1, step 6).
            set &= !FEATURES_OK;
        }
        if set & DRIVER_OK != 0 && !has(after(set), FEATURES_OK) {
            debug!(old, new, "driver starts the device without FEATURES_OK");
            set &= !DRIVER_OK;
        }
        self.signals.add_status(set);
        // A device that is already broken stays so until it is reset.
        if set & DRIVER_OK != 0 && old & NEEDS_RESET == 0 { StatusChange::Start } else { StatusChange::None }
    }

    fn features_acceptable(&self) -> bool {
        let unknown = self.accepted & !self.features.offered;
        let missing = self.features.required & !self.accepted;
        if unknown == 0 && missing == 0 {
            return true;
        }
        if let Some(count) = self.refusals.hit() {
            warn!(
                count,
                "virtio driver refused: features {unknown:#x} were not offered, {missing:#x} are required"
            );
        }
        false
    }
}

fn has(status: u8, bits: u8) -> bool {
    status & bits == bits
}

fn half(features: u64, select: u32) -> u64 {
    match select {
        0 => features & 0xffff_ffff,
        1 => features >> 32,
        _ => 0,
    }
}

/// Replaces the low half, the high half or all of an address register.
fn set_part(register: &mut u64, offset: u64, data: &[u8]) {
    match (offset, data.len()) {
        (0, 8) => *register = value(data),
        (0, 4) => *register = *register & !0xffff_ffff | value(data),
        (4, 4) => *register = *register & 0xffff_ffff | value(data) << 32,
        _ => debug!(offset, len = data.len(), "driver writes a queue address with an odd width"),
    }
}
