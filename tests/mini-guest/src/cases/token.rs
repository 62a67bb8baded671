//! The attestation token, fetched in many small pieces.

use crate::arch::PAGE_SIZE;
use crate::console::Hex;
use crate::report::{check, check_bytes, check_that};
use crate::rsi::{
    self, ERROR_INPUT, ERROR_STATE, INCOMPLETE, Page, Realm, SUCCESS, TOKEN_CONTINUE, TOKEN_INIT,
};
use crate::say;

/// Size of a piece. No divisor of the page, so that the last piece before a page boundary is shorter.
const PIECE: usize = 500;
/// Room for the token; today's are some kilobytes.
const TOKEN_PAGES: usize = 16;

static mut TOKEN: [Page; TOKEN_PAGES] = [const { Page([0; PAGE_SIZE]) }; TOKEN_PAGES];

pub fn run(realm: &Realm) {
    let page = &raw mut TOKEN as u64;
    check("continue-before-init", rsi::call(TOKEN_CONTINUE, &[page, 0, 512])[0], ERROR_STATE);
    check("extend", rsi::extend(1, b"measured by the guest").1[0], SUCCESS);
    check("extend", rsi::extend(4, &[0xab; 32]).1[0], SUCCESS);

    let abandoned = [0x11; 64];
    init("init", &abandoned);
    check("first-piece", rsi::call(TOKEN_CONTINUE, &[page, 0, 64])[0], INCOMPLETE);
    let challenge: [u8; 64] = core::array::from_fn(|i| i as u8 ^ 0xa5);
    let bound = init("init-restarts", &challenge);
    for (name, arguments) in [
        ("unaligned", [page + 8, 0, 512]),
        ("alias", [page | realm.shared_bit(), 0, 512]),
        ("beyond-ipa", [!0xfff, 0, 512]),
        ("offset-4096", [page, 4096, 1]),
        ("over-the-page", [page, 4000, 97]),
        ("size-wraps", [page, 8, u64::MAX]),
        ("offset-wraps", [page, u64::MAX, 2]),
    ] {
        check(format_args!("continue-{name}"), rsi::call(TOKEN_CONTINUE, &arguments)[0], ERROR_INPUT);
    }
    fetch(bound);
    check("continue-after-the-end", rsi::call(TOKEN_CONTINUE, &[page, 0, 512])[0], ERROR_STATE);

    say!("challenge {}", Hex(&challenge));
    say!("rim {}", Hex(&rsi::measurement(0)[..realm.hash_len()]));
    for index in 1..=4 {
        say!("rem{index} {}", Hex(&rsi::measurement(index)[..realm.hash_len()]));
    }
}

/// Starts a token; returns the longest it may be.
fn init(name: &str, challenge: &[u8; 64]) -> u64 {
    let before = rsi::registers(TOKEN_INIT, &rsi::words(challenge));
    let after = crate::smccc::call(before);
    check(name, after[0], SUCCESS);
    check(format_args!("{name}-keeps-registers"), rsi::changed(&before, &after) & !0b11, 0);
    check_that(
        format_args!("{name}-bound"),
        (1..=(TOKEN_PAGES * PAGE_SIZE) as u64).contains(&after[1]),
        after[1],
        "a length",
    );
    after[1]
}

/// Fetches the token piece by piece, one behind the other, and prints it.
fn fetch(bound: u64) {
    let base = &raw mut TOKEN;
    let (mut length, mut calls) = (0, 0);
    let status = loop {
        let offset = length % PAGE_SIZE;
        let size = PIECE.min(PAGE_SIZE - offset);
        let page = base as u64 + (length - offset) as u64;
        if length + size > TOKEN_PAGES * PAGE_SIZE {
            break INCOMPLETE;
        }
        let before = rsi::registers(TOKEN_CONTINUE, &[page, offset as u64, size as u64]);
        let after = crate::smccc::call(before);
        calls += 1;
        let written = after[1] as usize;
        if !matches!(after[0], SUCCESS | INCOMPLETE)
            || written > size
            || rsi::changed(&before, &after) & !0b11 != 0
        {
            say!("FAIL piece {calls}: {:x?} expected up to {size:#x} bytes", &after[..4]);
            break after[0];
        }
        length += written;
        if after[0] == SUCCESS {
            break SUCCESS;
        }
    };
    check("token-is-complete", status, SUCCESS);
    check_that("token-takes-many-calls", calls > 2, calls, "more than 2");
    check_that("token-is-within-the-bound", length as u64 <= bound, length, "at most what init said");
    // SAFETY: the calls that wrote the pages are over, and nothing else refers to them.
    let pages = unsafe { &*base };
    let bytes = || pages.iter().flat_map(|Page(bytes)| bytes);
    let beyond = bytes().skip(length).take(64).all(|&byte| byte == 0);
    check_that("nothing-behind-the-token", beyond, length, "zeros");
    // SAFETY: the pages lie one behind the other without gaps.
    let token = unsafe { core::slice::from_raw_parts(base.cast::<u8>(), length) };
    check_bytes("token-is-tagged", &token[..1.min(length)], &[0xd9]);
    say!("token {}", Hex(token));
}
