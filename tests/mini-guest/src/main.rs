//! A guest without an operating system. It reads `case=` from its kernel command line, exercises that one thing,
//! prints what it saw line by line, and switches the machine off. The system tests read the lines.

#![no_std]
#![no_main]

mod arch;
mod board;
mod cases;
mod console;
mod dma;
mod random;
mod registers;
mod report;
mod rsi;
mod smccc;

use core::panic::PanicInfo;

use board::Board;
use rsi::Realm;
use smccc::psci;

#[unsafe(no_mangle)]
extern "C" fn boot_main(device_tree: u64) -> ! {
    // SAFETY: the boot protocol puts the device tree's address into x0, and nothing here writes to it.
    let board = match unsafe { Board::read(device_tree) } {
        Ok(board) => board,
        Err(missing) => panic!("device tree at {device_tree:#x}: {missing}"),
    };
    console::set_base(board.uart);
    smccc::use_smc(board.smc);
    let realm = Realm::detect();
    if let Some(realm) = &realm {
        arch::map_shared_half(realm.shared_bit());
        // From here on devices are reached in the shared half, as Linux does after it has found the interface.
        console::set_base(board.uart | realm.shared_bit());
        // As Linux does: all RAM is claimed before any of it is given out.
        report::check("claim-ram", rsi::set_ripas(board.ram.0, board.ram.1, rsi::RIPAS_RAM), rsi::SUCCESS);
    }
    say!("realm {}", if realm.is_some() { "yes" } else { "no" });
    cases::run(&board, realm.as_ref());
    psci::system_off()
}

#[unsafe(no_mangle)]
extern "C" fn secondary_main(number: u64) -> ! {
    cases::smp::secondary(number)
}

#[unsafe(no_mangle)]
extern "C" fn exception_main(esr: u64, elr: u64, far: u64) -> ! {
    console::print_line_unlocked(format_args!(
        "FAIL exception: esr {esr:#x} elr {elr:#x} far {far:#x} expected none"
    ));
    psci::system_off()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    console::print_line_unlocked(format_args!("FAIL panic: {} expected none", info.message()));
    psci::system_off()
}
