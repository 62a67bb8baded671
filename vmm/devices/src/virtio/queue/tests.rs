use std::sync::Mutex;

use vm_memory::{GuestMemoryMmap, Permissions};

use super::*;
use crate::dma::{DmaFault, DmaPolicy};
use crate::pci::{Msix, Requester};
use crate::testing::{RAM, RecordingMsi};

const SIZE: u16 = 8;
const DRIVER: u64 = RAM + 0x1000;
const DEVICE: u64 = RAM + 0x2000;
/// Of the used ring.
const INDEX: u64 = DEVICE + 2;

/// Where a device writes.
#[derive(Default)]
struct Writes(Mutex<Vec<u64>>);

impl DmaPolicy for Writes {
    fn translate(&self, iova: u64, _len: u64, access: Permissions) -> Result<u64, DmaFault> {
        if access.has_write() {
            self.0.lock().unwrap().push(iova);
        }
        Ok(iova)
    }
}

struct Machine {
    memory: Arc<GuestMemoryMmap>,
    writes: Arc<Writes>,
    msi: Arc<RecordingMsi>,
    queue: DeviceQueue,
}

fn machine(event_idx: bool) -> Machine {
    let memory = Arc::new(GuestMemoryMmap::from_ranges(&[(GuestAddress(RAM), 0x1_0000)]).unwrap());
    let (writes, msi) = (Arc::<Writes>::default(), Arc::<RecordingMsi>::default());
    let msix = Msix::new(2, Requester::of(0x18), msi.clone());
    // Enabled, and the vector of the queue not masked.
    msix.write_table(16 + 12, &[0; 4]);
    msix.set_control(0x8000);
    let signals = Arc::new(Signals::new(msix, 1));
    signals.set_queue_vector(0, 1);
    let view = DmaMemory::new(memory.clone(), writes.clone(), "test".into(), Arc::default());
    let layout = QueueLayout { size: SIZE, descriptors: RAM, driver: DRIVER, device: DEVICE };
    let queue =
        DeviceQueue::new(0, layout, event_idx, Arc::new(view), signals, Arc::<Halt>::default()).unwrap();
    writes.0.lock().unwrap().clear();
    Machine { memory, writes, msi, queue }
}

impl Machine {
    fn put(&self, address: u64, value: u16) {
        self.memory.write_obj(value, GuestAddress(address)).unwrap();
    }

    /// The driver wants an interrupt once the index of the used ring has passed this.
    fn want(&self, index: u16) {
        self.put(DRIVER + 4 + 2 * u64::from(SIZE), index);
    }

    fn element(&self, place: u64) -> (u32, u32) {
        let at = DEVICE + 4 + 8 * place;
        let read = |at| self.memory.read_obj::<u32>(GuestAddress(at)).unwrap();
        (read(at), read(at + 4))
    }

    fn interrupted(&mut self) -> bool {
        self.queue.notify().unwrap();
        !self.msi.take().is_empty()
    }
}

#[test]
fn buffers_that_belong_together_are_seen_at_once() {
    let mut machine = machine(true);
    machine.queue.complete(7, 1).unwrap();
    machine.writes.0.lock().unwrap().clear();
    let buffers: Vec<(u16, u32)> = (0..SIZE).map(|head| (head, 100 + u32::from(head))).collect();
    machine.queue.complete_together(&buffers).unwrap();
    let writes = machine.writes.0.lock().unwrap().clone();
    assert_eq!(writes.iter().filter(|&&at| at == INDEX).count(), 1);
    assert_eq!(writes.last(), Some(&INDEX));
    assert_eq!(machine.memory.read_obj::<u16>(GuestAddress(INDEX)).unwrap(), 1 + SIZE);
    // Behind the one before, around the end of the ring.
    assert_eq!([1, 7, 0].map(|place| machine.element(place)), [(0, 100), (6, 106), (7, 107)]);
    machine.queue.complete_together(&[]).unwrap();
    assert_eq!(machine.memory.read_obj::<u16>(GuestAddress(INDEX)).unwrap(), 1 + SIZE);
}

#[test]
fn buffer_that_the_queue_does_not_have_is_not_returned() {
    for buffers in [[(SIZE, 1), (0, 1)], [(0, 1), (SIZE, 1)]] {
        let mut machine = machine(true);
        let error = machine.queue.complete_together(&buffers).unwrap_err();
        assert!(matches!(error, QueueError::Ring(virtio_queue::Error::InvalidDescriptorIndex)), "{error:?}");
        assert_eq!(machine.memory.read_obj::<u16>(GuestAddress(INDEX)).unwrap(), 0);
    }
}

#[test]
fn driver_is_interrupted_when_the_buffer_that_it_waits_for_is_among_the_returned_ones() {
    let mut machine = machine(true);
    assert!(!machine.interrupted(), "nothing was returned");
    // Three by three: those of places 0 to 2, 3 to 5, and so on.
    for (wanted, interrupted) in [(0, true), (3, true), (8, true), (12, false), (12, true), (5, false)] {
        machine.want(wanted);
        machine.queue.complete_together(&[(0, 1), (1, 1)]).unwrap();
        machine.queue.complete(2, 1).unwrap();
        assert_eq!(machine.interrupted(), interrupted, "{wanted}");
        assert!(!machine.interrupted(), "it has been told");
    }
}

#[test]
fn driver_without_event_index_says_it_by_a_flag() {
    let mut machine = machine(false);
    for flags in [0, 1, 0] {
        machine.put(DRIVER, flags);
        machine.queue.complete(0, 1).unwrap();
        assert_eq!(machine.interrupted(), flags == 0);
    }
    assert!(!machine.interrupted(), "nothing was returned");
}
