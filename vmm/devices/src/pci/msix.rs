//! MSI-X: vector table, pending bits and the capability that switches them on (PCI Local Bus 3.0, section 6.8.2).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::warn;

use super::Requester;
use crate::bus::value32;
use crate::interrupt::{MsiMessage, MsiSink};
use crate::log_limit::LogLimit;

/// Bytes of the capability behind its id and next pointer.
const CAPABILITY_LEN: usize = 10;
/// Bytes of a table entry: address, data, vector control.
const ENTRY_LEN: u64 = 16;

const CONTROL_ENABLE: u16 = 1 << 15;
const CONTROL_FUNCTION_MASK: u16 = 1 << 14;
const VECTOR_MASKED: u32 = 1;

#[derive(Clone, Copy)]
struct Entry {
    address: u64,
    data: u32,
    masked: bool,
    pending: bool,
}

struct State {
    enabled: bool,
    function_masked: bool,
    entries: Vec<Entry>,
}

/// The vectors of one function, signalled from its worker thread and programmed from vCPU threads.
pub(crate) struct Msix {
    state: Mutex<State>,
    sink: Arc<dyn MsiSink>,
    requester: Requester,
    failures: LogLimit,
}

impl Msix {
    /// `vectors` entries, masked as after reset.
    pub(crate) fn new(vectors: u16, requester: Requester, sink: Arc<dyn MsiSink>) -> Self {
        let entry = Entry { address: 0, data: 0, masked: true, pending: false };
        let entries = vec![entry; usize::from(vectors)];
        let state = State { enabled: false, function_masked: false, entries };
        Self { state: Mutex::new(state), sink, requester, failures: LogLimit::default() }
    }

    /// The capability's body and its writable bits, for a table and a pending array in BAR 0.
    pub(crate) fn capability(
        vectors: u16,
        table: u32,
        pending: u32,
    ) -> ([u8; CAPABILITY_LEN], [u8; CAPABILITY_LEN]) {
        let mut body = [0; CAPABILITY_LEN];
        let fields =
            (vectors - 1).to_le_bytes().into_iter().chain(table.to_le_bytes()).chain(pending.to_le_bytes());
        for (byte, field) in body.iter_mut().zip(fields) {
            *byte = field;
        }
        let mut writable = [0; CAPABILITY_LEN];
        let control = (CONTROL_ENABLE | CONTROL_FUNCTION_MASK).to_le_bytes();
        for (byte, mask) in writable.iter_mut().zip(control) {
            *byte = mask;
        }
        (body, writable)
    }

    /// Takes over the message control register and delivers what waited for it.
    pub(crate) fn set_control(&self, control: u16) {
        let mut state = self.lock();
        state.enabled = control & CONTROL_ENABLE != 0;
        state.function_masked = control & CONTROL_FUNCTION_MASK != 0;
        self.deliver_pending(&mut state);
    }

    /// Sends the message of `vector`, or marks it pending while masked. Without MSI-X enabled nothing happens: the
    /// functions have no INTx.
    pub(crate) fn signal(&self, vector: u16) {
        let mut state = self.lock();
        if !state.enabled {
            return;
        }
        let function_masked = state.function_masked;
        let Some(entry) = state.entries.get_mut(usize::from(vector)) else { return };
        if function_masked || entry.masked {
            entry.pending = true;
        } else {
            self.send(*entry);
        }
    }

    /// Reads the vector table at `offset`. Accesses are aligned dwords or qwords; others read as zero.
    pub(crate) fn read_table(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if !aligned(offset, data.len()) {
            return;
        }
        let state = self.lock();
        let Some(entry) = entry_index(offset).and_then(|index| state.entries.get(index)) else { return };
        let bytes = entry
            .address
            .to_le_bytes()
            .into_iter()
            .chain(entry.data.to_le_bytes())
            .chain(u32::from(entry.masked).to_le_bytes());
        let skip = usize::try_from(offset % ENTRY_LEN).unwrap_or(0);
        for (byte, value) in data.iter_mut().zip(bytes.skip(skip)) {
            *byte = value;
        }
    }

    /// Writes the vector table at `offset` and delivers a message that was pending behind its mask.
    pub(crate) fn write_table(&self, offset: u64, data: &[u8]) {
        if !aligned(offset, data.len()) {
            return;
        }
        let mut state = self.lock();
        let Some(entry) = entry_index(offset).and_then(|index| state.entries.get_mut(index)) else { return };
        let first = offset % ENTRY_LEN;
        for (field, dword) in (first..).step_by(4).zip(data.chunks_exact(4)) {
            let dword = value32(dword);
            match field {
                0 => entry.address = entry.address & !0xffff_ffff | u64::from(dword),
                4 => entry.address = entry.address & 0xffff_ffff | u64::from(dword) << 32,
                8 => entry.data = dword,
                _ => entry.masked = dword & VECTOR_MASKED != 0,
            }
        }
        self.deliver_pending(&mut state);
    }

    /// Reads the pending bit array at `offset`; it is read-only to the guest.
    pub(crate) fn read_pending(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let state = self.lock();
        let first = usize::try_from(offset.saturating_mul(8)).unwrap_or(usize::MAX);
        for (bit, entry) in state.entries.iter().skip(first).enumerate() {
            let Some(byte) = data.get_mut(bit / 8) else { break };
            *byte |= u8::from(entry.pending) << (bit % 8);
        }
    }

    /// Forgets pending messages of `vector`; the device was reset.
    pub(crate) fn clear_pending(&self) {
        for entry in &mut self.lock().entries {
            entry.pending = false;
        }
    }

    fn deliver_pending(&self, state: &mut State) {
        if !state.enabled || state.function_masked {
            return;
        }
        for entry in state.entries.iter_mut().filter(|entry| entry.pending && !entry.masked) {
            entry.pending = false;
            self.send(*entry);
        }
    }

    fn send(&self, entry: Entry) {
        let message = MsiMessage { address: entry.address, data: entry.data, device_id: self.requester.id() };
        if let Err(error) = self.sink.signal(message)
            && let Some(count) = self.failures.hit()
        {
            warn!(?message, count, "interrupt controller refused an MSI: {error}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn aligned(offset: u64, len: usize) -> bool {
    matches!(len, 4 | 8) && offset.is_multiple_of(len as u64)
}

fn entry_index(offset: u64) -> Option<usize> {
    usize::try_from(offset / ENTRY_LEN).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::value;
    use crate::testing::RecordingMsi;

    const ENABLED: u16 = 0x8000;

    fn msix() -> (Msix, Arc<RecordingMsi>) {
        let sink = Arc::new(RecordingMsi::default());
        (Msix::new(3, Requester::of(0x18), sink.clone()), sink)
    }

    fn program(msix: &Msix, vector: u64, address: u64, data: u32) {
        msix.write_table(vector * 16, &address.to_le_bytes());
        msix.write_table(vector * 16 + 8, &data.to_le_bytes());
        msix.write_table(vector * 16 + 12, &0_u32.to_le_bytes());
    }

    fn pending(msix: &Msix) -> u64 {
        let mut data = [0; 8];
        msix.read_pending(0, &mut data);
        value(&data)
    }

    #[test]
    fn message_carries_what_the_guest_programmed() {
        let (msix, sink) = msix();
        program(&msix, 1, 0x0808_0040, 7);
        msix.set_control(ENABLED);
        msix.signal(1);
        assert_eq!(sink.take(), [MsiMessage { address: 0x0808_0040, data: 7, device_id: 0x18 }]);
        let mut entry = [0; 8];
        msix.read_table(24, &mut entry);
        assert_eq!(value(&entry), 7);
    }

    #[test]
    fn masked_vector_is_pending_until_unmasked_and_then_sent_once() {
        let (msix, sink) = msix();
        msix.set_control(ENABLED);
        msix.signal(2);
        msix.signal(2);
        assert_eq!((sink.take(), pending(&msix)), (vec![], 0b100));
        program(&msix, 2, 0x1000, 9);
        assert_eq!(sink.take().len(), 1);
        assert_eq!(pending(&msix), 0);
    }

    #[test]
    fn function_mask_holds_every_vector() {
        let (msix, sink) = msix();
        program(&msix, 0, 0x1000, 1);
        program(&msix, 1, 0x1000, 2);
        msix.set_control(ENABLED | 0x4000);
        msix.signal(0);
        msix.signal(1);
        assert_eq!((sink.take(), pending(&msix)), (vec![], 0b11));
        msix.set_control(ENABLED);
        assert_eq!(sink.take().len(), 2);
    }

    #[test]
    fn nothing_is_sent_while_disabled_or_for_a_vector_that_does_not_exist() {
        let (msix, sink) = msix();
        program(&msix, 0, 0x1000, 1);
        msix.signal(0);
        msix.set_control(ENABLED);
        msix.signal(3);
        msix.signal(0xffff);
        assert_eq!((sink.take(), pending(&msix)), (vec![], 0));
    }

    #[test]
    fn odd_accesses_to_the_table_are_ignored() {
        let (msix, _) = msix();
        for (offset, len) in [(0, 1), (1, 4), (4, 8), (0, 16), (48, 4), (u64::MAX - 3, 4), (8, 3)] {
            msix.write_table(offset, &vec![0xff; len]);
            let mut data = vec![0xaa; len];
            msix.read_table(offset, &mut data);
            assert!(data.iter().all(|&byte| byte == 0), "{offset:#x}+{len}");
        }
    }
}
