//! Every call of the Realm Services Interface, with good and with bad arguments.

use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::arch::PAGE_SIZE;
use crate::board::Board;
use crate::console::{self, Hex};
use crate::report::{check, check_bytes, check_that};
use crate::rsi::{
    self, ERROR_INPUT, FEATURES, IPA_STATE_GET, IPA_STATE_SET, MEASUREMENT_EXTEND, MEASUREMENT_READ,
    NOT_SUPPORTED, Page, REALM_CONFIG, RIPAS_DEV, RIPAS_EMPTY, RIPAS_RAM, Realm, SUCCESS, VERSION,
    VERSION_1_0,
};
use crate::{say, smccc};

const PAGE: u64 = PAGE_SIZE as u64;

/// Three pages, so that one can differ from its neighbours.
static mut SCRATCH: [Page; 3] = [const { Page([0; PAGE_SIZE]) }; 3];

pub fn run(board: &Board, realm: &Realm) {
    let scratch = &raw mut SCRATCH as u64;
    version();
    features();
    unknown_functions();
    realm_config(board, realm, scratch);
    measurement_read(realm);
    measurement_extend(realm);
    ripas_arguments(board, realm, scratch);
    ripas_effects(board, scratch);
}

/// A call whose status must be `status` and that must change no register but x0 and those in `results`.
fn call(name: &str, function: u64, arguments: &[u64], status: u64, results: u64) -> smccc::Registers {
    let before = rsi::registers(function, arguments);
    let after = smccc::call(before);
    check(name, after[0], status);
    check(format_args!("{name}-keeps-registers"), rsi::changed(&before, &after) & !(results | 1), 0);
    after
}

fn refuse(name: &str, function: u64, arguments: &[u64]) {
    let got = rsi::call(function, arguments)[0];
    check(name, got, ERROR_INPUT);
}

fn version() {
    let good = call("version", VERSION, &[VERSION_1_0], SUCCESS, 0b110);
    check_that(
        "version-range",
        good[1] <= VERSION_1_0 && good[2] >= VERSION_1_0,
        good[1],
        "1.0 within x1..=x2",
    );
    for (name, wanted) in
        [("version-too-new", 0x7fff_0000), ("version-too-old", 0), ("version-wide", 1 << 31)]
    {
        let refused = call(name, VERSION, &[wanted], ERROR_INPUT, 0b110);
        check(format_args!("{name}-lower-bound"), refused[1], good[1]);
        check(format_args!("{name}-upper-bound"), refused[2], good[2]);
    }
}

fn features() {
    for index in [0, 1, u64::MAX] {
        let result = call("features", FEATURES, &[index], SUCCESS, 0b10);
        check("features-none", result[1], 0);
    }
}

fn unknown_functions() {
    for function in [0xC400_019B, 0xC400_01AD] {
        call("unknown-function", function, &[], NOT_SUPPORTED, 0);
    }
}

fn realm_config(board: &Board, realm: &Realm, page: u64) {
    let alias = page | realm.shared_bit();
    // SAFETY: this is the scratch page, which nobody refers to.
    unsafe { (page as *mut u8).write_bytes(0xee, PAGE_SIZE) };
    call("realm-config", REALM_CONFIG, &[page], SUCCESS, 0);
    // SAFETY: the page is plain memory, written by the call above.
    let Page(config) = unsafe { (page as *const Page).read_volatile() };
    check("realm-config-ipa-width", u64::from_le_bytes(config[..8].try_into().unwrap_or_default()), 40);
    check_that("realm-config-hash", config[8] <= 2, config[8], "0, 1 or 2");
    check_that(
        "realm-config-fills-the-page",
        config[0x240..].iter().all(|&b| b == 0),
        &config[0x240..0x250],
        "0",
    );
    say!("rpv {}", Hex(&config[0x200..0x240]));
    refuse("realm-config-unaligned", REALM_CONFIG, &[page + 8]);
    refuse("realm-config-alias", REALM_CONFIG, &[alias]);
    refuse("realm-config-device", REALM_CONFIG, &[console::base() & !realm.shared_bit()]);
    refuse("realm-config-beyond-ram", REALM_CONFIG, &[board.ram.1]);
    refuse("realm-config-beyond-ipa", REALM_CONFIG, &[!(PAGE - 1)]);
    check("realm-config-empty-set", rsi::set_ripas(page, page + PAGE, RIPAS_EMPTY), SUCCESS);
    refuse("realm-config-empty-page", REALM_CONFIG, &[page]);
    check("realm-config-empty-undo", rsi::set_ripas(page, page + PAGE, RIPAS_RAM), SUCCESS);
}

fn measurement_read(realm: &Realm) {
    for index in 0..=4 {
        let result = call("measurement-read", MEASUREMENT_READ, &[index], SUCCESS, 0b1_1111_1110);
        let value = rsi::measurement(index);
        check(
            "measurement-read-twice",
            result[1],
            u64::from_le_bytes(value[..8].try_into().unwrap_or_default()),
        );
        check_that(
            "measurement-tail-is-zero",
            value[realm.hash_len()..].iter().all(|&b| b == 0),
            index,
            "zeros",
        );
        match index {
            0 => say!("rim {}", Hex(&value[..realm.hash_len()])),
            _ => check_bytes(format_args!("rem{index}-starts-at-zero"), &value, &[0; 64]),
        }
    }
    refuse("measurement-read-5", MEASUREMENT_READ, &[5]);
    refuse("measurement-read-max", MEASUREMENT_READ, &[u64::MAX]);
}

fn measurement_extend(realm: &Realm) {
    let data: [u8; 64] = core::array::from_fn(|i| i as u8 ^ 0x5a);
    let rim = rsi::measurement(0);
    refuse("extend-rim", MEASUREMENT_EXTEND, &[0, 32]);
    refuse("extend-5", MEASUREMENT_EXTEND, &[5, 32]);
    refuse("extend-max", MEASUREMENT_EXTEND, &[u64::MAX, 32]);
    refuse("extend-65-bytes", MEASUREMENT_EXTEND, &[1, 65]);
    refuse("extend-max-bytes", MEASUREMENT_EXTEND, &[1, u64::MAX]);
    check_bytes("refused-extend-changes-nothing", &rsi::measurement(1), &[0; 64]);
    for (index, sizes) in [(1, [64, 32]), (2, [20, 1]), (3, [33, 0]), (4, [48, 64])] {
        for size in sizes {
            let expected = extended(realm, &rsi::measurement(index), &data[..size]);
            let (before, after) = rsi::extend(index, &data[..size]);
            check(format_args!("extend-{index}-{size}"), after[0], SUCCESS);
            check("extend-keeps-registers", rsi::changed(&before, &after) & !1, 0);
            check_bytes(format_args!("extended-{index}-{size}"), &rsi::measurement(index), &expected);
        }
        say!("rem{index} {}", Hex(&rsi::measurement(index)[..realm.hash_len()]));
    }
    check_bytes("rim-is-unchanged", &rsi::measurement(0), &rim);
}

/// What the register must hold after it was extended: H(old value, data).
fn extended(realm: &Realm, old: &[u8; 64], data: &[u8]) -> [u8; 64] {
    fn hash<H: Digest>(old: &[u8], data: &[u8]) -> [u8; 64] {
        let digest = H::new().chain_update(old).chain_update(data).finalize();
        let mut value = [0; 64];
        value[..digest.len()].copy_from_slice(&digest);
        value
    }
    let old = &old[..realm.hash_len()];
    match realm.hash {
        0 => hash::<Sha256>(old, data),
        2 => hash::<Sha384>(old, data),
        _ => hash::<Sha512>(old, data),
    }
}

fn ripas_arguments(board: &Board, realm: &Realm, page: u64) {
    let shared = realm.shared_bit();
    for (name, base, top) in [
        ("base-unaligned", page + 1, page + PAGE),
        ("top-unaligned", page, page + PAGE + 8),
        ("empty-range", page, page),
        ("reversed-range", page + PAGE, page),
        ("alias", page | shared, (page | shared) + PAGE),
        ("beyond-protected-half", shared, shared + PAGE),
        ("across-the-halves", shared - PAGE, shared + PAGE),
        ("wraps", page, 0),
    ] {
        let before = rsi::registers(IPA_STATE_GET, &[base, top]);
        check(format_args!("ripas-get-{name}"), smccc::call(before)[0], ERROR_INPUT);
        let before = rsi::registers(IPA_STATE_SET, &[base, top, RIPAS_RAM, 0]);
        check(format_args!("ripas-set-{name}"), smccc::call(before)[0], ERROR_INPUT);
    }
    for (name, ripas) in [("destroyed", 2), ("dev", 3), ("max", u64::MAX)] {
        let got = rsi::call(IPA_STATE_SET, &[page, page + PAGE, ripas, 0])[0];
        check(format_args!("ripas-set-to-{name}"), got, ERROR_INPUT);
    }
    let (_, state) = ripas(page, page + PAGE);
    check("refused-set-changes-nothing", state, RIPAS_RAM);
    let (_, device) = ripas(console::base() & !shared, (console::base() & !shared) + PAGE);
    check_that("device-is-not-ram", device == RIPAS_EMPTY || device == RIPAS_DEV, device, "EMPTY or DEV");
    check_that("scratch-is-in-ram", board.ram.0 < page && page < board.ram.1, page, "an address in RAM");
}

fn ripas_effects(board: &Board, page: u64) {
    let [first, second, third, end] = [page, page + PAGE, page + 2 * PAGE, page + 3 * PAGE];
    check_ripas("all-of-ram", board.ram, (board.ram.1, RIPAS_RAM));
    let set = call("ripas-set", IPA_STATE_SET, &[second, third, RIPAS_EMPTY, 0], SUCCESS, 0b110);
    check("ripas-set-top", set[1], third);
    check("ripas-set-accepted", set[2], 0);
    call("ripas-get", IPA_STATE_GET, &[first, end], SUCCESS, 0b110);
    check_ripas("below-the-hole", (first, end), (second, RIPAS_RAM));
    check_ripas("the-hole", (second, end), (third, RIPAS_EMPTY));
    check_ripas("above-the-hole", (third, end), (end, RIPAS_RAM));
    check_ripas("ram-up-to-the-hole", (board.ram.0, board.ram.1), (second, RIPAS_RAM));
    check("close-the-hole", rsi::set_ripas(first, end, RIPAS_RAM), SUCCESS);
    check_ripas("all-of-ram-again", board.ram, (board.ram.1, RIPAS_RAM));
}

/// Top of the uniform range from `base`, and its RIPAS.
fn ripas(base: u64, top: u64) -> (u64, u64) {
    let result = rsi::call(IPA_STATE_GET, &[base, top]);
    if result[0] == SUCCESS { (result[1], result[2]) } else { (0, u64::MAX) }
}

fn check_ripas(name: &str, (base, top): (u64, u64), expected: (u64, u64)) {
    // An answer may end early, but never past the first change; asked again it must get there.
    let (mut reached, mut state) = ripas(base, top);
    while state == expected.1 && reached < expected.0 {
        let next = ripas(reached, top);
        if next.0 <= reached {
            break;
        }
        (reached, state) = next;
    }
    check(format_args!("ripas-top-{name}"), reached, expected.0);
    check(format_args!("ripas-of-{name}"), state, expected.1);
}
