/* tests/support/redis_fixture.h: a real Redis of the test's own: a free port on 127.0.0.1, its data in a temporary directory. */
#ifndef XD_TESTS_REDIS_FIXTURE_H
#define XD_TESTS_REDIS_FIXTURE_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <sys/types.h>

struct redis_fixture {
    pid_t pid; /* 0 while it does not run */
    int port;
    int tls_port;          /* 0: none */
    char dir[64], url[64]; /* url: as the user that docs/operations.md describes */
    int bus;               /* the port of its cluster bus; 0: it is not part of a cluster */
    redisContext *ctx;     /* our own connection, made when first needed */
    bool paused;
    struct redis_fixture *next; /* of those that run */
};

/* Starts redis-server (or what XINDAO_TEST_REDIS names: valkey-server) with AOF, every write synced; fails the test when it cannot. */
void redis_fixture_start(struct redis_fixture *f);
/* The same with TLS on another port. ca: the file of the authority that clients' certificates must be by, if they have one. The server's certificate is
 * DIR/NAME.pem with DIR/NAME.key; all of it can be changed by CONFIG SET. */
void redis_fixture_start_tls(struct redis_fixture *f, const char *ca, const char *dir, const char *name);
/* The same as a node of a cluster, which has no slots and knows nobody yet. */
void redis_fixture_start_node(struct redis_fixture *f);
/* Kills it without a chance to say anything. */
void redis_fixture_kill(struct redis_fixture *f);
/* Starts it again: same port, same data. */
void redis_fixture_restart(struct redis_fixture *f);
/* Stops it from running, connections and all, and lets it run again. */
void redis_fixture_pause(struct redis_fixture *f);
void redis_fixture_resume(struct redis_fixture *f);
/* Kills it and removes the directory. */
void redis_fixture_stop(struct redis_fixture *f);

/* A port of 127.0.0.1 that nobody listens on. */
int redis_fixture_free_port(void);
/* A command, printf-like as in hiredis; the reply must be freed. Fails the test when there is none. */
redisReply *redis_fixture_command(struct redis_fixture *f, const char *fmt, ...);
/* The same for replies that are numbers. */
long long redis_fixture_number(struct redis_fixture *f, const char *fmt, ...);
/* The same for strings, copied to ret; empty for nil. */
void redis_fixture_text(struct redis_fixture *f, char *ret, size_t n, const char *fmt, ...);

#endif
