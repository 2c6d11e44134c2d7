/* loadgen.c: load generator for WebSocket room servers: main. */
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

#include "loadgen_run.h"

#define SPARE_FILES 64

/* As many open files as the hard limit allows; false when the connections do not fit. */
static bool raise_file_limit(uint64_t connections)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return false;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= connections + SPARE_FILES)
        return true;
    fprintf(stderr, "xindao-loadgen: %llu connections do not fit into %llu open files (ulimit -Hn)\n",
            (unsigned long long)connections, (unsigned long long)limit.rlim_max);
    return false;
}

int main(int argc, char **argv)
{
    struct options o;
    switch (options_parse(argc, argv, &o)) {
    case OPTIONS_HELP: return 0;
    case OPTIONS_ERROR: return 2;
    case OPTIONS_RUN: break;
    }
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    if (!raise_file_limit((uint64_t)o.rooms * o.members))
        return 2;
    printf("workload=%s\n", o.workload);
    return (o.mode == MODE_HANDSHAKE ? run_handshakes(&o) : run_rooms(&o)) ? 0 : 1;
}
