/* loadgen_options.h: what to run against which server. */
#ifndef XD_BENCH_OPTIONS_H
#define XD_BENCH_OPTIONS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

#include "loadgen_dialect.h"
#include "loadgen_proc.h"

/* RATE: open loop on a fixed schedule. CLOSED: a fixed number of messages under way per room. */
enum mode { MODE_RATE, MODE_CLOSED, MODE_IDLE, MODE_HANDSHAKE };

#define MAX_TARGETS 8

struct options {
    const char *workload; /* name of the preset */
    enum mode mode;
    const struct dialect *dialect;
    bool tls;
    bool tls_resume;                         /* with the session ticket of an earlier connection */
    struct sockaddr_in targets[MAX_TARGETS]; /* connections are spread over them in turn */
    unsigned n_targets;
    unsigned rooms, members;  /* connections = rooms × members */
    unsigned rate;            /* messages per second over all rooms (RATE) */
    unsigned window;          /* messages under way per room (CLOSED) */
    unsigned size;            /* bytes of payload */
    unsigned concurrency;     /* connections being opened at a time */
    unsigned handshakes;      /* to measure (HANDSHAKE) */
    double warmup, duration;  /* seconds */
    const char *ciphersuites; /* TLS 1.3 */
    struct proc_set servers, helpers;
};

enum options_result { OPTIONS_RUN, OPTIONS_HELP, OPTIONS_ERROR };
/* Errors go to stderr, help to stdout. Strings are borrowed from argv. */
enum options_result options_parse(int argc, char **argv, struct options *ret);

#endif
