/* gateway/doctor/doctor.h: xindao-gateway --doctor: looks at a running cluster from outside, as mini-programs and browsers do, and says what they would refuse.
 *
 * A command, not a part of the server: it blocks, up to DOCTOR_STEP_MS in each step, and shares nothing with the event loop. */
#ifndef XD_DOCTOR_H
#define XD_DOCTOR_H

#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

#define DOCTOR_STEP_MS 5000

/* Borrowed for the call. */
struct doctor_options {
    const char
        *url; /* https://HOST[:PORT][/PATH] or wss://…; the path is that of the WebSocket, /ws when there is none */
    const char *ca_file;          /* certificates to trust besides the system's; NULL: none */
    const char *const *addresses; /* to connect to instead of what DNS says */
    size_t address_count;         /* 0: ask DNS */
    uint32_t idle_s;              /* how long to keep a silent connection; 0: do not */
};

/* Prints a line per check and a summary. *ret_failed tells whether one of them failed. Errors are of the options alone, nothing is printed
 * then. Ignores SIGPIPE from now on. */
enum err doctor_run(const struct doctor_options *o, FILE *out, bool *ret_failed, struct error *reterr);

#endif
