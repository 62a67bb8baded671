/* Gets a report of this guest and has it verified, with both sets of functions. Build:
 *   cc -o report report.c -I../include -lattestation_agent
 * Run, with the agent at http://127.0.0.1:8081 or where ATTESTATION_AGENT says:
 *   ./report
 * It prints the claims, and exits with 0 only if the evidence is accepted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attestation_agent.h"

enum { MAX_REPORT = 1 << 20 };

static Vec_uint8_t view(const char *text)
{
    Vec_uint8_t vec = { (uint8_t *)text, strlen(text), strlen(text) };
    return vec;
}

/* With lengths and words: what new programs should use. */
static int with_lengths(const uint8_t *challenge, size_t challenge_len)
{
    char error[256];
    size_t report_len = MAX_REPORT, claims_len = MAX_REPORT;
    uint8_t *report = malloc(report_len), *claims = malloc(claims_len);
    int32_t status = REDOUBT_STATUS_INTERNAL;

    if (report && claims) {
        status = redoubt_get_report(challenge, challenge_len, false, report, &report_len, (uint8_t *)error,
                                    sizeof error);
        if (status == REDOUBT_STATUS_OK)
            status = redoubt_verify_report(challenge, challenge_len, report, report_len, claims, &claims_len,
                                           (uint8_t *)error, sizeof error);
        if (status == REDOUBT_STATUS_OK)
            printf("claims: %.*s\n", (int)claims_len, claims);
        else
            fprintf(stderr, "failed with %d: %s\n", (int)status, error);
    }
    free(report);
    free(claims);
    return status == REDOUBT_STATUS_OK ? 0 : 1;
}

/* With secGear's functions: what existing programs do. The challenge is base64url text. */
static int with_secgear(const char *challenge_text)
{
    Vec_uint8_t challenge = view(challenge_text), level = view("warn"), uuid = view("example");
    Tuple2_bool_bool_t ima = { true, false };
    int result = 1;

    init_env_logger(&level);
    Vec_uint8_t report = get_report(&challenge, &ima, &uuid);
    if (report.len > 0) {
        Vec_uint8_t claims = verify_report(&challenge, &report);
        if (claims.len > 0) {
            printf("secgear: %.*s\n", (int)claims.len, claims.ptr);
            result = 0;
        }
        free_rust_vec(claims);
    }
    free_rust_vec(report);
    return result;
}

int main(int argc, char **argv)
{
    uint8_t challenge[32];
    /* The same bytes in base64url. A real verifier draws them at random, each time anew. */
    const char *text = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";

    memset(challenge, 7, sizeof challenge);
    if (argc > 1 && strcmp(argv[1], "secgear") == 0)
        return with_secgear(text);
    return with_lengths(challenge, sizeof challenge);
}
