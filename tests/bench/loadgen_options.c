/* loadgen_options.c: command line of the load generator. */
#include "loadgen_options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loadgen_conn.h"

struct preset {
    const char *name, *help;
    enum mode mode;
    unsigned rooms, members, rate, window;
};

// clang-format off
static const struct preset presets[] = {
    {"w1",        "1 room x 1000 members, 100 messages/s",                        MODE_RATE,      1,    1000, 100,  0},
    {"w1max",     "the same room, closed loop, as fast as the server goes",       MODE_CLOSED,    1,    1000, 0,    64},
    {"w2",        "1000 rooms x 10 members, 2000 messages/s in total",            MODE_RATE,      1000, 10,   2000, 0},
    {"w3",        "10,000 idle connections: memory per connection",               MODE_IDLE,      1000, 10,   0,    0},
    {"handshake", "connect, TLS 1.3, upgrade, close: CPU per connection",         MODE_HANDSHAKE, 1,    1,    0,    0},
    {"rtt1",      "1 connection alone in its room: round-trip time",              MODE_CLOSED,    1,    1,    0,    1},
    {"rtt100",    "100 connections, each alone in its room and always busy",      MODE_CLOSED,    100,  1,    0,    1},
};
// clang-format on
#define N_PRESETS (sizeof presets / sizeof presets[0])

enum {
    OPT_HELP = 256,
    OPT_WORKLOAD,
    OPT_CONNECT,
    OPT_DIALECT,
    OPT_NO_TLS,
    OPT_PID,
    OPT_HELPER_PID,
    OPT_ROOMS,
    OPT_MEMBERS,
    OPT_RATE,
    OPT_WINDOW,
    OPT_SIZE,
    OPT_CONCURRENCY,
    OPT_HANDSHAKES,
    OPT_WARMUP,
    OPT_DURATION,
    OPT_CIPHERSUITES,
    OPT_TLS_RESUME,
};

static const struct option long_options[] = {
    {"help", no_argument, NULL, OPT_HELP},
    {"workload", required_argument, NULL, OPT_WORKLOAD},
    {"connect", required_argument, NULL, OPT_CONNECT},
    {"dialect", required_argument, NULL, OPT_DIALECT},
    {"no-tls", no_argument, NULL, OPT_NO_TLS},
    {"pid", required_argument, NULL, OPT_PID},
    {"helper-pid", required_argument, NULL, OPT_HELPER_PID},
    {"rooms", required_argument, NULL, OPT_ROOMS},
    {"members", required_argument, NULL, OPT_MEMBERS},
    {"rate", required_argument, NULL, OPT_RATE},
    {"window", required_argument, NULL, OPT_WINDOW},
    {"size", required_argument, NULL, OPT_SIZE},
    {"concurrency", required_argument, NULL, OPT_CONCURRENCY},
    {"handshakes", required_argument, NULL, OPT_HANDSHAKES},
    {"warmup", required_argument, NULL, OPT_WARMUP},
    {"duration", required_argument, NULL, OPT_DURATION},
    {"ciphersuites", required_argument, NULL, OPT_CIPHERSUITES},
    {"tls-resume", no_argument, NULL, OPT_TLS_RESUME},
    {NULL, 0, NULL, 0},
};

static void options_help(void)
{
    fputs("usage: xindao-loadgen --workload NAME --connect IP:PORT --pid PID [options]\n"
          "\n"
          "Drives one WebSocket server and prints name=value lines. Exit status: 0 measured, 1 the server lost,\n"
          "repeated or reordered a message or a connection failed, 2 usage.\n"
          "\n"
          "  --workload NAME      one of:\n",
          stdout);
    for (size_t i = 0; i < N_PRESETS; i++)
        printf("                         %-10s %s\n", presets[i].name, presets[i].help);
    fputs("  --connect IP:PORT    server; repeatable, connections are spread over all\n"
          "  --pid PID            server process whose CPU time and memory count (with children); repeatable\n"
          "  --helper-pid PID     process reported separately, such as redis-server; repeatable\n"
          "  --dialect NAME       what the server speaks, one of:\n",
          stdout);
    for (size_t i = 0; dialects[i] != NULL; i++)
        printf("                         %-10s %s%s\n", dialects[i]->name, dialects[i]->help,
               i == 0 ? " (default)" : "");
    fputs("  --no-tls             ws instead of wss\n"
          "  --warmup SECONDS     before measuring (default 2)\n"
          "  --duration SECONDS   measuring window (default 10)\n"
          "  --rooms N, --members N, --rate N, --window N\n"
          "                       override the workload: rooms, members of each, messages/s over all rooms (open\n"
          "                       loop), messages under way per room (closed loop)\n"
          "  --size BYTES         payload (default 128)\n"
          "  --concurrency N      connections being opened at a time (default 32)\n"
          "  --handshakes N       connections of the handshake workload (default 5000)\n"
          "  --ciphersuites LIST  TLS 1.3 suites to offer (default TLS_AES_128_GCM_SHA256)\n"
          "  --tls-resume         resume the TLS session of the latest connection that brought a ticket\n",
          stdout);
}

static bool parse_u32(const char *name, const char *text, unsigned min, unsigned *ret)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-' || v < min || v > 1000000000) {
        fprintf(stderr, "xindao-loadgen: --%s %s: not a number of at least %u\n", name, text, min);
        return false;
    }
    *ret = (unsigned)v;
    return true;
}

static bool parse_seconds(const char *name, const char *text, double *ret)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(v) || v < 0 || v > 86400) {
        fprintf(stderr, "xindao-loadgen: --%s %s: not a number of seconds\n", name, text);
        return false;
    }
    *ret = v;
    return true;
}

static bool parse_workload(const char *text, struct options *o)
{
    for (size_t i = 0; i < N_PRESETS; i++)
        if (strcmp(presets[i].name, text) == 0) {
            const struct preset *p = &presets[i];
            o->workload = p->name;
            o->mode = p->mode;
            o->rooms = p->rooms;
            o->members = p->members;
            o->rate = p->rate;
            o->window = p->window;
            return true;
        }
    fprintf(stderr, "xindao-loadgen: --workload %s: unknown; see --help\n", text);
    return false;
}

static bool parse_target(const char *text, struct options *o)
{
    char host[INET_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    unsigned port;
    struct sockaddr_in *to = &o->targets[o->n_targets];
    if (o->n_targets == MAX_TARGETS) {
        fprintf(stderr, "xindao-loadgen: --connect: more than %d servers\n", MAX_TARGETS);
        return false;
    }
    if (colon == NULL || (size_t)(colon - text) >= sizeof host) {
        fprintf(stderr, "xindao-loadgen: --connect %s: not IP:PORT\n", text);
        return false;
    }
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    if (!parse_u32("connect", colon + 1, 1, &port))
        return false;
    *to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (port > 65535 || inet_pton(AF_INET, host, &to->sin_addr) != 1) {
        fprintf(stderr, "xindao-loadgen: --connect %s: not IP:PORT (IPv4, no names)\n", text);
        return false;
    }
    o->n_targets++;
    return true;
}

static bool parse_dialect(const char *text, const struct dialect **ret)
{
    const struct dialect *d = dialect_find(text);
    if (d == NULL) {
        fprintf(stderr, "xindao-loadgen: --dialect %s: unknown; see --help\n", text);
        return false;
    }
    *ret = d;
    return true;
}

static bool parse_pid(const char *name, const char *text, struct proc_set *set)
{
    unsigned pid;
    if (!parse_u32(name, text, 1, &pid))
        return false;
    if (!proc_set_add(set, (pid_t)pid)) {
        fprintf(stderr, "xindao-loadgen: --%s %s: no such process, or too many children\n", name, text);
        return false;
    }
    return true;
}

/* Numbers that override the preset are applied after it, wherever --workload stands on the command line. */
struct overrides {
    const char *rooms, *members, *rate, *window;
};

static bool option_apply(int opt, struct options *o, struct overrides *over)
{
    switch (opt) {
    case OPT_WORKLOAD: return parse_workload(optarg, o);
    case OPT_CONNECT: return parse_target(optarg, o);
    case OPT_DIALECT: return parse_dialect(optarg, &o->dialect);
    case OPT_NO_TLS: o->tls = false; return true;
    case OPT_PID: return parse_pid("pid", optarg, &o->servers);
    case OPT_HELPER_PID: return parse_pid("helper-pid", optarg, &o->helpers);
    case OPT_ROOMS: over->rooms = optarg; return true;
    case OPT_MEMBERS: over->members = optarg; return true;
    case OPT_RATE: over->rate = optarg; return true;
    case OPT_WINDOW: over->window = optarg; return true;
    case OPT_SIZE: return parse_u32("size", optarg, STAMP_SIZE, &o->size);
    case OPT_CONCURRENCY: return parse_u32("concurrency", optarg, 1, &o->concurrency);
    case OPT_HANDSHAKES: return parse_u32("handshakes", optarg, 1, &o->handshakes);
    case OPT_WARMUP: return parse_seconds("warmup", optarg, &o->warmup);
    case OPT_DURATION: return parse_seconds("duration", optarg, &o->duration);
    case OPT_CIPHERSUITES: o->ciphersuites = optarg; return true;
    case OPT_TLS_RESUME: o->tls_resume = true; return true;
    default: return false; /* getopt has said what is wrong */
    }
}

static bool overrides_apply(const struct overrides *over, struct options *o)
{
    return (over->rooms == NULL || parse_u32("rooms", over->rooms, 1, &o->rooms)) &&
           (over->members == NULL || parse_u32("members", over->members, 1, &o->members)) &&
           (over->rate == NULL || parse_u32("rate", over->rate, 1, &o->rate)) &&
           (over->window == NULL || parse_u32("window", over->window, 1, &o->window));
}

static bool options_check(int argc, char **argv, const struct options *o)
{
    const char *wrong = NULL;
    if (optind < argc) {
        fprintf(stderr, "xindao-loadgen: unexpected argument %s\n", argv[optind]);
        return false;
    }
    if (o->workload == NULL)
        wrong = "--workload is missing";
    else if (o->n_targets == 0)
        wrong = "--connect is missing";
    else if (o->servers.n == 0)
        wrong = "--pid is missing";
    else if (o->duration <= 0)
        wrong = "--duration must be more than 0";
    else if (o->size > MAX_PAYLOAD)
        wrong = "--size is over 16384";
    else if ((uint64_t)o->rooms * o->members > 1000000)
        wrong = "more than a million connections";
    if (wrong != NULL)
        fprintf(stderr, "xindao-loadgen: %s; see --help\n", wrong);
    return wrong == NULL;
}

enum options_result options_parse(int argc, char **argv, struct options *ret)
{
    struct overrides over = {0};
    struct options o = {
        .dialect = dialects[0],
        .tls = true,
        .size = 128,
        .concurrency = 32,
        .handshakes = 5000,
        .warmup = 2,
        .duration = 10,
        .ciphersuites = "TLS_AES_128_GCM_SHA256",
    };
    int opt;
    /* One thread, so getopt's static state is safe. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (opt == OPT_HELP) {
            options_help();
            return OPTIONS_HELP;
        }
        if (!option_apply(opt, &o, &over))
            return OPTIONS_ERROR;
    }
    if (!overrides_apply(&over, &o) || !options_check(argc, argv, &o))
        return OPTIONS_ERROR;
    *ret = o;
    return OPTIONS_RUN;
}
