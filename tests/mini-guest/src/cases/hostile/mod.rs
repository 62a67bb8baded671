//! A guest that writes garbage to every register of the board and of every PCI function, and to every queue of every
//! virtio device. It spares only itself, so that it can say at the end whether the devices still work.

mod function;
mod pit;
mod queues;

use virtio_drivers::transport::pci::bus::Command;

use crate::board::Board;
use crate::cases::dma_private;
use crate::random::Random;
use crate::registers::{self, WIDTHS};
use crate::report::check_that;
use crate::rsi::Realm;
use crate::{console, dma, say};

use function::Function;
use pit::Pit;

const SEED: u64 = 0x7265_646f_7562_7421;

/// Accesses to the registers of each device of the board, and to the configuration space of each function.
const BOARD_ACCESSES: u64 = 200;
const CONFIG_ACCESSES: u64 = 120;

/// How often each virtio device is set up and upset.
const ROUNDS: u64 = 8;

/// Bytes of a page, and how many of them mostly have registers.
const PAGE: u64 = 4096;
const CROWDED: u64 = 128;

/// Registers of the PL011 that decide whether something can be said, and values with which it can.
const PL011_CONTROL: (u64, u64) = (0x30, 0x301);
const PL011_MASK: (u64, u64) = (0x38, 0);

pub fn run(board: &Board, realm: Option<&Realm>) {
    let shared_bit = realm.map_or(0, Realm::shared_bit);
    let mut random = Random::new(SEED);
    let pit = Pit::dig(board, realm, &mut random);
    let Some(pci) = board.pci else {
        say!("FAIL pci: none expected a host bridge");
        return;
    };

    for (name, base) in [("pl011", board.uart), ("pl031", board.clock), ("pl061", board.gpio)] {
        for _ in 0..BOARD_ACCESSES {
            access(base | shared_bit, PAGE, &pit, &mut random);
        }
        for (register, value) in [PL011_CONTROL, PL011_MASK] {
            // SAFETY: registers of the PL011, mapped as device memory.
            unsafe { registers::write(console::base() + register, 4, value) };
        }
        say!("");
        say!("upset {name}");
    }

    dma::reach_devices_with(shared_bit);
    let mut root = dma_private::host_bridge(pci, shared_bit);
    let mut upset = 0;
    for function in Function::all(pci, shared_bit) {
        dma_private::place_bars(&mut root, function.address, pci);
        for _ in 0..CONFIG_ACCESSES {
            function.access_config(&pit, &mut random);
        }
        dma_private::place_bars(&mut root, function.address, pci);
        for (base, size) in function.windows(&mut root).into_iter().flatten() {
            for _ in 0..CONFIG_ACCESSES {
                access(base | shared_bit, size, &pit, &mut random);
            }
        }
        if let Some(device) = function.virtio(&mut root, shared_bit) {
            let resets = (0..ROUNDS).all(|_| queues::upset(&device, &pit, &mut random));
            check_that(format_args!("resets-{:04x}", function.device), resets, "a status", "0 after a reset");
            upset += 1;
        }
        // The next function is placed where this one was.
        root.set_command(function.address, Command::empty());
        say!("upset {:04x}:{:04x}", function.vendor, function.device);
    }
    say!("virtio {upset}");
    if realm.is_some() {
        dma::share_with(shared_bit);
    }
    dma_private::entropy_source_works(&mut root, pci, realm);
}

/// One access of any width within `size` bytes from `base` on.
fn access(base: u64, size: u64, pit: &Pit, random: &mut Random) {
    let width = random.of(&WIDTHS);
    let anywhere = random.below(size / width) * width;
    // Registers are at the beginning of a page.
    let crowded = (anywhere & !(PAGE - 1)) + random.below(CROWDED / width) * width;
    let address = base + if size >= PAGE && !random.once_in(4) { crowded } else { anywhere };
    let value = match random.below(4) {
        0 => 0,
        1 => u64::MAX,
        _ => pit.harmless(random.next()),
    };
    // SAFETY: device memory, aligned. No value tells a device of memory that is not the pit's.
    unsafe {
        if random.once_in(4) {
            registers::read(address, width);
        } else {
            registers::write(address, width, value);
        }
    }
}
