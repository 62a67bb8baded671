/* Generated from attestation-agent/c/src by cbindgen; do not edit. See docs/attestation-agent.md. */

#ifndef ATTESTATION_AGENT_H
#define ATTESTATION_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 How a call ended.
 */
enum RedoubtStatus
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /*
   Well.
   */
  REDOUBT_STATUS_OK = 0,
  /*
   An argument cannot be used.
   */
  REDOUBT_STATUS_INVALID_ARGUMENT = 1,
  /*
   The answer does not fit; its length is in `*out_len`.
   */
  REDOUBT_STATUS_BUFFER_TOO_SMALL = 2,
  /*
   The agent cannot be reached, or broke its interface.
   */
  REDOUBT_STATUS_AGENT_UNAVAILABLE = 3,
  /*
   The agent, or the attestation service behind it, refused.
   */
  REDOUBT_STATUS_REFUSED = 4,
  /*
   The evidence is genuine, but the policy of the attestation service does not accept it.
   */
  REDOUBT_STATUS_NOT_ACCEPTED = 5,
  /*
   A defect of this library.
   */
  REDOUBT_STATUS_INTERNAL = 6,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum RedoubtStatus RedoubtStatus;
#else
typedef int32_t RedoubtStatus;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 Bytes or text (not terminated). What a function returns belongs to the caller, who gives it back with `free_rust_vec`.
 */
typedef struct Vec_uint8_t {
  /*
   The first byte; may be null if `len` is 0.
   */
  uint8_t *ptr;
  /*
   How many bytes there are.
   */
  size_t len;
  /*
   How many bytes there is room for.
   */
  size_t cap;
} Vec_uint8_t;

/*
 A truth value that may be absent.
 */
typedef struct Tuple2_bool_bool_t {
  /*
   Whether there is one.
   */
  bool _0;
  /*
   The value, if there is one.
   */
  bool _1;
} Tuple2_bool_bool_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Has what fails logged to standard error: `error`, `warn`, `info` (if `level` is null), `debug` or `trace`. Calls after
 the first do nothing.

 # Safety
 `level` is null or points to a valid vector.
 */
void init_env_logger(const struct Vec_uint8_t *level);

/*
 Evidence of this guest, JSON, for a challenge in base64url; empty if there is none. `ima` may be null, and `uuid` too.

 # Safety
 Each pointer is null or points to a valid value.
 */
struct Vec_uint8_t get_report(const struct Vec_uint8_t *challenge,
                              const struct Tuple2_bool_bool_t *ima,
                              const struct Vec_uint8_t *uuid);

/*
 The claims, JSON, that a report proves for a challenge in base64url; empty if it proves nothing. Whether they suffice
 is in `evaluation_reports.eval_result`, which callers must look at.

 # Safety
 Each pointer is null or points to a valid value.
 */
struct Vec_uint8_t verify_report(const struct Vec_uint8_t *challenge,
                                 const struct Vec_uint8_t *report);

/*
 Gives back what a function of this library returned.

 # Safety
 `vec` comes from this library, is unchanged, and is not used again.
 */
void free_rust_vec(struct Vec_uint8_t vec);

/*
 Evidence of this guest, JSON, for `challenge_len` (32 to 64) bytes of challenge.

 `*out_len` is the room at `out` before, and the length of the answer after. `error`, if not null, gets up to `error_len`
 bytes of text that says what failed, terminated with a zero.

 # Safety
 Pointers are null or point to as many bytes as the lengths say; `out_len` points to a length.
 */
RedoubtStatus redoubt_get_report(const uint8_t *challenge,
                                 size_t challenge_len,
                                 bool ima,
                                 uint8_t *out,
                                 size_t *out_len,
                                 uint8_t *error,
                                 size_t error_len);

/*
 The claims, JSON, that a report proves for a challenge. `REDOUBT_STATUS_OK` only if the attestation service accepts the
 evidence (`evaluation_reports.eval_result`); lengths and `error` as for `redoubt_get_report`.

 # Safety
 As for `redoubt_get_report`.
 */
RedoubtStatus redoubt_verify_report(const uint8_t *challenge,
                                    size_t challenge_len,
                                    const uint8_t *report,
                                    size_t report_len,
                                    uint8_t *out,
                                    size_t *out_len,
                                    uint8_t *error,
                                    size_t error_len);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ATTESTATION_AGENT_H */
