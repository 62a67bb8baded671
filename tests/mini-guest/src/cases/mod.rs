//! The cases, one per file; each prints its checks and then `done <case>`.

mod dma_private;
mod host_call;
mod hostile;
mod power;
mod rsi_calls;
pub mod smp;
mod token;
mod undecodable;

use crate::board::Board;
use crate::rsi::Realm;
use crate::say;

/// Runs the case that the command line names.
pub fn run(board: &Board, realm: Option<&Realm>) {
    match (board.case, realm) {
        ("smp", _) => smp::run(board),
        ("poweroff", _) => power::power_off(),
        ("reboot", _) => power::reboot(),
        ("hang", _) => power::stay("hang"),
        ("dma-private", _) => dma_private::run(board, realm),
        ("hostile", _) => {
            hostile::run(board, realm);
            power::stay("hostile")
        }
        ("undecodable", _) => {
            undecodable::run(board, realm);
            power::stay("undecodable")
        }
        ("rsi-calls", Some(realm)) => rsi_calls::run(board, realm),
        ("token", Some(realm)) => token::run(realm),
        ("host-call", Some(realm)) => host_call::run(realm),
        ("rsi-calls" | "token" | "host-call", None) => say!("FAIL realm: no expected yes"),
        (unknown, _) => say!("FAIL case: {unknown} expected one that this guest knows"),
    }
    say!("done {}", board.case);
}
