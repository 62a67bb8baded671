//! Functions with a length for every pointer and words for every failure.

use agent_client::Error;

use crate::ask::{self, Failure};
use crate::guarded;
use crate::memory::{bytes, fill, fill_text};

/// How a call ended.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedoubtStatus {
    /// Well.
    Ok = 0,
    /// An argument cannot be used.
    InvalidArgument = 1,
    /// The answer does not fit; its length is in `*out_len`.
    BufferTooSmall = 2,
    /// The agent cannot be reached, or broke its interface.
    AgentUnavailable = 3,
    /// The agent, or the attestation service behind it, refused.
    Refused = 4,
    /// The evidence is genuine, but the policy of the attestation service does not accept it.
    NotAccepted = 5,
    /// A defect of this library.
    Internal = 6,
}

/// Where an answer goes, and the words if there is none.
#[derive(Clone, Copy)]
struct Out {
    out: *mut u8,
    len: *mut usize,
    error: *mut u8,
    error_room: usize,
}

impl Out {
    /// # Safety
    /// `len` and the room that it tells at `out` are writable, `error_room` bytes at `error` too, where not null.
    unsafe fn put(self, result: Result<String, (RedoubtStatus, String)>) -> RedoubtStatus {
        let done = result.and_then(|text| {
            if self.len.is_null() || !self.len.is_aligned() {
                return Err((RedoubtStatus::InvalidArgument, "out_len is null".to_owned()));
            }
            // SAFETY: not null, aligned, and valid by the caller's word.
            let room = unsafe { self.len.replace(text.len()) };
            // SAFETY: by the caller's word.
            if unsafe { fill(self.out, room, text.as_bytes()) } {
                return Ok(());
            }
            let problem = format!("the answer has {} bytes, and out has room for {room}", text.len());
            Err((RedoubtStatus::BufferTooSmall, problem))
        });
        let (status, words) = match done {
            Ok(()) => (RedoubtStatus::Ok, String::new()),
            Err(failure) => failure,
        };
        if !self.error.is_null() {
            // SAFETY: by the caller's word.
            unsafe { fill_text(self.error, self.error_room, &words) };
        }
        status
    }
}

fn told(failure: &Failure) -> (RedoubtStatus, String) {
    let status = match failure {
        Failure::Argument(_) => RedoubtStatus::InvalidArgument,
        Failure::Resources(_) => RedoubtStatus::Internal,
        Failure::Agent(Error::Refused { .. }) => RedoubtStatus::Refused,
        Failure::Agent(_) => RedoubtStatus::AgentUnavailable,
    };
    (status, failure.to_string())
}

/// Evidence of this guest, JSON, for `challenge_len` (32 to 64) bytes of challenge.
///
/// `*out_len` is the room at `out` before, and the length of the answer after. `error`, if not null, gets up to `error_len`
/// bytes of text that says what failed, terminated with a zero.
///
/// # Safety
/// Pointers are null or point to as many bytes as the lengths say; `out_len` points to a length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn redoubt_get_report(
    challenge: *const u8,
    challenge_len: usize,
    ima: bool,
    out: *mut u8,
    out_len: *mut usize,
    error: *mut u8,
    error_len: usize,
) -> RedoubtStatus {
    let to = Out { out, len: out_len, error, error_room: error_len };
    // SAFETY: by the caller's word.
    let challenge = unsafe { bytes(challenge, challenge_len) };
    guarded(RedoubtStatus::Internal, || {
        let report = ask::challenge_text(challenge.unwrap_or_default())
            .and_then(|challenge| ask::report(&challenge, "", ima))
            .map_err(|failure| told(&failure));
        // SAFETY: by the caller's word.
        unsafe { to.put(report) }
    })
}

/// The claims, JSON, that a report proves for a challenge. `REDOUBT_STATUS_OK` only if the attestation service accepts the
/// evidence (`evaluation_reports.eval_result`); lengths and `error` as for `redoubt_get_report`.
///
/// # Safety
/// As for `redoubt_get_report`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn redoubt_verify_report(
    challenge: *const u8,
    challenge_len: usize,
    report: *const u8,
    report_len: usize,
    out: *mut u8,
    out_len: *mut usize,
    error: *mut u8,
    error_len: usize,
) -> RedoubtStatus {
    let to = Out { out, len: out_len, error, error_room: error_len };
    // SAFETY: by the caller's word.
    let (challenge, report) = unsafe { (bytes(challenge, challenge_len), bytes(report, report_len)) };
    guarded(RedoubtStatus::Internal, || {
        let claims = ask::challenge_text(challenge.unwrap_or_default())
            .and_then(|challenge| ask::verify(&challenge, ask::text("the report", report)?))
            .map_err(|failure| told(&failure))
            .and_then(accepted);
        // SAFETY: by the caller's word.
        unsafe { to.put(claims) }
    })
}

/// Claims with a good verdict.
fn accepted(claims: String) -> Result<String, (RedoubtStatus, String)> {
    let parsed: serde_json::Value = serde_json::from_str(&claims).unwrap_or_default();
    let verdict = parsed.get("evaluation_reports").and_then(|reports| reports.get("eval_result"));
    match verdict {
        Some(serde_json::Value::Bool(true)) => Ok(claims),
        _ => Err((
            RedoubtStatus::NotAccepted,
            "the evidence is genuine, but not accepted: evaluation_reports.eval_result is not true"
                .to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_without_a_good_verdict_are_not_accepted() {
        for claims in [
            r#"{"evaluation_reports":{"eval_result":false}}"#,
            r#"{"evaluation_reports":{"eval_result":"true"}}"#,
            "{}",
            "",
        ] {
            assert!(matches!(accepted(claims.to_owned()), Err((RedoubtStatus::NotAccepted, _))), "{claims}");
        }
        assert!(accepted(r#"{"evaluation_reports":{"eval_result":true}}"#.to_owned()).is_ok());
    }

    #[test]
    fn wrong_arguments_are_told_in_words() {
        let (mut out, mut len, mut error) = ([0; 8], 8, [0xee; 64]);
        // SAFETY: the lengths are those of the buffers.
        let status = unsafe {
            redoubt_get_report(
                [1; 16].as_ptr(),
                16,
                false,
                out.as_mut_ptr(),
                &mut len,
                error.as_mut_ptr(),
                error.len(),
            )
        };
        assert_eq!(status, RedoubtStatus::InvalidArgument);
        assert!(error.starts_with(b"the challenge has 16 bytes"), "{}", String::from_utf8_lossy(&error));
    }
}
