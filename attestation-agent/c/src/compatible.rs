//! secGear's functions. Challenges are base64url text, and failures are empty answers; what failed is logged.

use crate::ask::{self, Failure};
use crate::guarded;
use crate::memory::{OptionalBool, VecU8, vector};

/// Has what fails logged to standard error: `error`, `warn`, `info` (if `level` is null), `debug` or `trace`. Calls after
/// the first do nothing.
///
/// # Safety
/// `level` is null or points to a valid vector.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn init_env_logger(level: *const VecU8) {
    // SAFETY: by the caller's word.
    let level = unsafe { vector(level) };
    guarded((), || {
        let level = level.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        let level = level.unwrap_or(tracing::Level::INFO);
        let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
        // What cannot be logged is lost: to say so on standard error would panic where nobody reads that. An error here is
        // that there is a log already.
        let _ = log.with_ansi(false).log_internal_errors(false).try_init();
    });
}

/// Evidence of this guest, JSON, for a challenge in base64url; empty if there is none. `ima` may be null, and `uuid` too.
///
/// # Safety
/// Each pointer is null or points to a valid value.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn get_report(
    challenge: *const VecU8,
    ima: *const OptionalBool,
    uuid: *const VecU8,
) -> VecU8 {
    // SAFETY: by the caller's word.
    let (challenge, uuid) = unsafe { (vector(challenge), vector(uuid)) };
    // SAFETY: by the caller's word; the structure has no alignment above one.
    let ima = unsafe { ima.as_ref() }.copied();
    guarded(VecU8::EMPTY, || {
        let ima = ima.is_some_and(|ima| ima._0 && ima._1);
        let report = ask::text("the challenge", challenge).and_then(|challenge| {
            ask::report(challenge, ask::text("the uuid", uuid).unwrap_or_default(), ima)
        });
        answer("get_report", report)
    })
}

/// The claims, JSON, that a report proves for a challenge in base64url; empty if it proves nothing. Whether they suffice
/// is in `evaluation_reports.eval_result`, which callers must look at.
///
/// # Safety
/// Each pointer is null or points to a valid value.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn verify_report(challenge: *const VecU8, report: *const VecU8) -> VecU8 {
    // SAFETY: by the caller's word.
    let (challenge, report) = unsafe { (vector(challenge), vector(report)) };
    guarded(VecU8::EMPTY, || {
        let claims = ask::text("the challenge", challenge)
            .and_then(|challenge| ask::verify(challenge, ask::text("the report", report)?));
        answer("verify_report", claims)
    })
}

/// Gives back what a function of this library returned.
///
/// # Safety
/// `vec` comes from this library, is unchanged, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_rust_vec(vec: VecU8) {
    // SAFETY: by the caller's word.
    guarded((), || unsafe { vec.take_back() });
}

fn answer(function: &str, result: Result<String, Failure>) -> VecU8 {
    match result {
        Ok(text) => VecU8::give(text.into_bytes()),
        Err(failure) => {
            tracing::error!(function, %failure);
            VecU8::EMPTY
        }
    }
}
