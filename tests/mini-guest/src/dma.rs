//! Memory that devices read and write, for the virtio driver: private as a careless guest would give it, or shared.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use virtio_drivers::{BufferDirection, Hal, PhysAddr};

use crate::arch::PAGE_SIZE;
use crate::rsi::{self, Page};

const PAGES: usize = 16;

static mut POOL: [Page; PAGES] = [const { Page([0; PAGE_SIZE]) }; PAGES];
static USED: AtomicUsize = AtomicUsize::new(0);
static DEVICES: AtomicU64 = AtomicU64::new(0);
static SHARED_BIT: AtomicU64 = AtomicU64::new(0);

/// Reaches devices at their address with `bit` set.
pub fn reach_devices_with(bit: u64) {
    DEVICES.store(bit, Ordering::Relaxed);
}

/// Gives out shared memory from now on: pages with RIPAS EMPTY, at their address with `bit` set.
pub fn share_with(bit: u64) {
    SHARED_BIT.store(bit, Ordering::Relaxed);
}

/// The virtio driver's view of this machine.
pub struct Memory;

// SAFETY: every page is given out once and never taken back, is zeroed, and addresses are mapped one to one.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let first = USED.fetch_add(pages, Ordering::Relaxed);
        assert!(first + pages <= PAGES, "out of DMA pages");
        let base = (&raw mut POOL as u64) + (first * PAGE_SIZE) as u64;
        let size = pages * PAGE_SIZE;
        let bit = SHARED_BIT.load(Ordering::Relaxed);
        if bit != 0 {
            let status = rsi::set_ripas(base, base + size as u64, rsi::RIPAS_EMPTY);
            assert_eq!(status, rsi::SUCCESS, "cannot share pages");
        }
        let address = base | bit;
        let pointer = address as *mut u8;
        // SAFETY: the pages are mapped at this address and nobody else has them. Their content was lost if they were
        // shared just now.
        unsafe { pointer.write_bytes(0, size) };
        (address, NonNull::new(pointer).expect("not the null page"))
    }

    unsafe fn dma_dealloc(_address: PhysAddr, _pointer: NonNull<u8>, _pages: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _size: usize) -> NonNull<u8> {
        let pointer = (address | DEVICES.load(Ordering::Relaxed)) as *mut u8;
        NonNull::new(pointer).expect("no BAR at 0")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        // Buffers come from `dma_alloc`, so they are where the device is to find them.
        buffer.cast::<u8>().as_ptr() as PhysAddr
    }

    unsafe fn unshare(_address: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}
