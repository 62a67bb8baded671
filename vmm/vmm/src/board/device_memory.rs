//! Memory of devices in the guest's address space, besides RAM.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hypervisor::Vm;
use machine::layout::{BLOCK_SIZE, Region};
use thiserror::Error;
use vm_memory::GuestRegionMmap;

/// Where it can be placed, and what has been.
#[derive(Clone)]
pub struct DeviceMemory {
    window: Region,
    vm: Arc<Vm>,
    taken: Taken,
}

type Taken = Arc<Mutex<Vec<Region>>>;

/// There is no room for memory of a device.
#[derive(Debug, Error)]
#[error(
    "{size:#x} bytes have no room in the guest's address space: {left:#x} bytes from {base:#x} on are for devices"
)]
pub struct NoRoom {
    size: u64,
    base: u64,
    left: u64,
}

/// Memory that the guest sees as long as this lives.
pub struct Slot {
    vm: Arc<Vm>,
    taken: Taken,
    region: Region,
}

impl DeviceMemory {
    /// Nothing is placed yet in `window`.
    pub fn new(window: Region, vm: Arc<Vm>) -> Self {
        Self { window, vm, taken: Taken::default() }
    }

    /// Shows the guest what `map` makes for the address that it is given, `size` bytes. Gives the address, too.
    ///
    /// # Errors
    ///
    /// [`NoRoom`], or what `map` or KVM says.
    pub fn show(
        &self,
        size: u64,
        map: impl FnOnce(u64) -> Result<GuestRegionMmap, guest_memory::Error>,
    ) -> Result<(u64, Slot), Box<dyn std::error::Error + Send + Sync>> {
        let mut taken = lock(&self.taken);
        let Region { base, size: left } = self.window;
        let region = place(self.window, &taken, size).ok_or(NoRoom { size, base, left })?;
        let memory = Arc::new(map(region.base)?);
        self.vm.map_memory(region.base, &memory)?;
        taken.push(region);
        drop(taken);
        Ok((region.base, Slot { vm: Arc::clone(&self.vm), taken: Arc::clone(&self.taken), region }))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        match self.vm.unmap_memory(self.region.base) {
            Ok(()) => lock(&self.taken).retain(|region| *region != self.region),
            // Its place stays taken.
            Err(error) => tracing::error!(gpa = self.region.base, %error, "memory of a device stays"),
        }
    }
}

fn lock(taken: &Taken) -> MutexGuard<'_, Vec<Region>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lowest free place for `size` bytes.
fn place(window: Region, taken: &[Region], size: u64) -> Option<Region> {
    let ends = taken.iter().map(Region::end).chain([window.base]);
    let bases = ends.map(|end| end.next_multiple_of(BLOCK_SIZE));
    let mut places: Vec<Region> = bases.map(|base| Region::new(base, size)).collect();
    places.sort();
    places
        .into_iter()
        .find(|place| window.contains(place) && !taken.iter().any(|region| region.overlaps(place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn memory_is_placed_where_it_fits_and_nowhere_else() {
        let window = Region::new(1 << 30, 16 * MIB);
        let mut taken = Vec::new();
        for (size, offset) in [(4, 0), (3, 4), (2, 8)] {
            let found = place(window, &taken, size * MIB).unwrap();
            assert_eq!(found, Region::new(window.base + offset * MIB, size * MIB));
            taken.push(found);
        }
        assert_eq!(place(window, &taken, 8 * MIB), None);
        taken.remove(0);
        assert_eq!(
            place(window, &taken, 4 * MIB).unwrap().base,
            window.base,
            "what is given back is used again"
        );
        assert_eq!(place(window, &taken, 6 * MIB).unwrap().base, window.base + 10 * MIB);
        assert_eq!(place(window, &taken, u64::MAX), None);
        assert_eq!(place(Region::new(1 << 30, 0), &[], 2 * MIB), None);
    }
}
