/* tests/support/redis_fixture.c: starting, hurting and stopping a real redis-server. */
#include "tests/support/redis_fixture.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/loop_fake.h"

static struct redis_fixture *running;

static void die(const char *what)
{
    perror(what);
    exit(2);
}

/* Below those that the system gives to outgoing connections: one of these could be in the way of a server that is to come back to its port. */
int redis_fixture_free_port(void)
{
    for (int left = 1000; left > 0; left--) {
        uint16_t random;
        if (getrandom(&random, sizeof random, 0) != sizeof random)
            break;
        uint16_t port = (uint16_t)(11000 + random % 21000);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in a = {
            .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        bool free = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
        (void)close(fd);
        if (free)
            return port;
    }
    die("free port");
    return 0;
}

static void nap(void)
{
    struct timespec ts = {.tv_nsec = 5 * 1000 * 1000};
    (void)nanosleep(&ts, NULL);
}

static void run_server(const struct redis_fixture *f)
{
    char conf[96];
    (void)snprintf(conf, sizeof conf, "%s/conf", f->dir);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    const char *server = getenv("XINDAO_TEST_REDIS");
    if (server == NULL)
        server = "redis-server";
    (void)execlp(server, server, conf, (char *)NULL);
    die(server);
}

/* The user of docs/operations.md, so that what it may do is enough for everything that is tested. */
static void write_user(FILE *conf)
{
    char line[4096];
    bool found = false;
    FILE *doc = fopen(XINDAO_SOURCE_DIR "/docs/operations.md", "r");
    while (doc != NULL && !found && fgets(line, sizeof line, doc) != NULL)
        found = strncmp(line, "user xindao on >SECRET ", 23) == 0;
    if (!found)
        die("the line \"user xindao\" of docs/operations.md");
    (void)fclose(doc);
    fputs(line, conf);
}

static FILE *write_conf(const struct redis_fixture *f)
{
    char path[96];
    (void)snprintf(path, sizeof path, "%s/conf", f->dir);
    FILE *conf = fopen(path, "w");
    if (conf == NULL)
        die(path);
    fprintf(conf, "port %d\nbind 127.0.0.1 -::1\ndir %s\nlogfile %s/log\n", f->port, f->dir, f->dir);
    fprintf(conf, "appendonly yes\nappendfsync always\nsave \"\"\n");
    write_user(conf);
    return conf;
}

static bool answers(struct redis_fixture *f)
{
    struct timeval patience = {.tv_sec = 1};
    redisContext *c = redisConnectWithTimeout("127.0.0.1", f->port, patience);
    bool ok = false;
    if (c != NULL && c->err == 0) {
        (void)redisSetTimeout(c, patience);
        redisReply *r = redisCommand(c, "PING");
        ok = r != NULL && r->type == REDIS_REPLY_STATUS && strcmp(r->str, "PONG") == 0;
        if (r != NULL)
            freeReplyObject(r);
    }
    redisFree(c);
    return ok;
}

static void disconnect(struct redis_fixture *f)
{
    if (f->ctx != NULL)
        redisFree(f->ctx);
    f->ctx = NULL;
}

static bool connect_to(struct redis_fixture *f)
{
    struct timeval patience = {.tv_sec = 20};
    if (f->ctx == NULL)
        f->ctx = redisConnectWithTimeout("127.0.0.1", f->port, patience);
    return f->ctx != NULL && f->ctx->err == 0 && redisSetTimeout(f->ctx, patience) == REDIS_OK;
}

/* Redis answers everything that it found waiting before it waits again: after the second answer nothing older is unanswered. */
static void wait_for_servers(void)
{
    for (struct redis_fixture *f = running; f != NULL; f = f->next) {
        for (int i = 0; i < 2 && !f->paused; i++) {
            redisReply *r = connect_to(f) ? redisCommand(f->ctx, "PING") : NULL;
            if (r == NULL)
                disconnect(f);
            else
                freeReplyObject(r);
        }
    }
}

static void forget(const struct redis_fixture *f)
{
    struct redis_fixture **at = &running;
    while (*at != NULL && *at != f)
        at = &(*at)->next;
    if (*at != NULL)
        *at = f->next;
}

/* False: it ended, with its port taken by somebody else for instance. */
static bool launch(struct redis_fixture *f)
{
    loop_fake_others = wait_for_servers;
    f->next = running;
    f->paused = false;
    running = f;
    f->pid = fork();
    if (f->pid < 0)
        die("fork");
    if (f->pid == 0)
        run_server(f);
    for (int i = 0; i < 4000; i++) {
        if (waitpid(f->pid, NULL, WNOHANG) != 0) {
            f->pid = 0;
            return false;
        }
        if (answers(f))
            return true;
        nap();
    }
    die("redis-server does not answer");
    return false;
}

void redis_fixture_restart(struct redis_fixture *f)
{
    if (!launch(f))
        die("redis-server ended");
}

/* For one with new ports, which are free until somebody else has them: tries again with others. */
static bool launched(struct redis_fixture *f, int tries)
{
    bool up = launch(f);
    if (!up)
        redis_fixture_stop(f);
    if (!up && tries == 3)
        die("redis-server ended");
    return up;
}

static FILE *prepare(struct redis_fixture *f)
{
    *f = (struct redis_fixture){.port = redis_fixture_free_port()};
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/xindao-redis-XXXXXX");
    if (mkdtemp(f->dir) == NULL)
        die("mkdtemp");
    (void)snprintf(f->url, sizeof f->url, "redis://xindao:SECRET@127.0.0.1:%d", f->port);
    return write_conf(f);
}

void redis_fixture_start(struct redis_fixture *f)
{
    int tries = 0;
    do
        (void)fclose(prepare(f));
    while (!launched(f, ++tries));
}

void redis_fixture_start_node(struct redis_fixture *f)
{
    int tries = 0;
    do {
        FILE *conf = prepare(f);
        f->bus = redis_fixture_free_port();
        fprintf(conf, "cluster-enabled yes\ncluster-port %d\ncluster-node-timeout 1500\n", f->bus);
        fprintf(conf,
                "cluster-replica-validity-factor 0\ncluster-require-full-coverage no\nrepl-diskless-sync-delay 0\n");
        (void)fclose(conf);
    } while (!launched(f, ++tries));
}

void redis_fixture_start_tls(struct redis_fixture *f, const char *ca, const char *dir, const char *name)
{
    int tries = 0;
    do {
        FILE *conf = prepare(f);
        f->tls_port = redis_fixture_free_port();
        fprintf(conf, "tls-port %d\ntls-auth-clients optional\ntls-ca-cert-file %s\n", f->tls_port, ca);
        fprintf(conf, "tls-cert-file %s/%s.pem\ntls-key-file %s/%s.key\n", dir, name, dir, name);
        (void)fclose(conf);
    } while (!launched(f, ++tries));
}

void redis_fixture_kill(struct redis_fixture *f)
{
    disconnect(f);
    forget(f);
    if (f->pid == 0)
        return;
    (void)kill(f->pid, SIGKILL);
    (void)waitpid(f->pid, NULL, 0);
    f->pid = 0;
}

void redis_fixture_pause(struct redis_fixture *f)
{
    int status;
    (void)kill(f->pid, SIGSTOP);
    (void)waitpid(f->pid, &status, WUNTRACED);
    f->paused = true;
}

void redis_fixture_resume(struct redis_fixture *f)
{
    (void)kill(f->pid, SIGCONT);
    f->paused = false;
}

void redis_fixture_stop(struct redis_fixture *f)
{
    redis_fixture_kill(f);
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    if (system(command) !=
        0) // NOLINT(cert-env33-c,concurrency-mt-unsafe): a directory of our own, a test's only thread
        die("rm");
}

static redisReply *command_v(struct redis_fixture *f, const char *fmt, va_list ap)
{
    if (!connect_to(f))
        die("connecting to redis");
    redisReply *r = redisvCommand(f->ctx, fmt, ap);
    if (r == NULL)
        die("redis command");
    return r;
}

redisReply *redis_fixture_command(struct redis_fixture *f, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    redisReply *r = command_v(f, fmt, ap);
    va_end(ap);
    return r;
}

long long redis_fixture_number(struct redis_fixture *f, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    redisReply *r = command_v(f, fmt, ap);
    va_end(ap);
    if (r->type != REDIS_REPLY_INTEGER) {
        fprintf(stderr, "not a number: %s: %s\n", fmt, r->str != NULL ? r->str : "");
        exit(2);
    }
    long long n = r->integer;
    freeReplyObject(r);
    return n;
}

void redis_fixture_text(struct redis_fixture *f, char *ret, size_t n, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    redisReply *r = command_v(f, fmt, ap);
    va_end(ap);
    (void)snprintf(ret, n, "%s", r->str != NULL ? r->str : "");
    freeReplyObject(r);
}
