/* tests/support/cluster_fixture.c: starting a cluster, moving its slots. */
#include "tests/support/cluster_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/redis/slots.h"

#define PATIENCE 2000 /* naps */

static void nap(void)
{
    struct timespec ts = {.tv_nsec = 10000000};
    (void)nanosleep(&ts, NULL);
}

static void die(const char *what)
{
    fprintf(stderr, "cluster fixture: %s\n", what);
    exit(2);
}

/* An answer of OK is expected. */
#define OK_COMMAND(node, ...)                                                                                          \
    do {                                                                                                               \
        redisReply *r_ = redis_fixture_command((node), __VA_ARGS__);                                                   \
        if (r_->type == REDIS_REPLY_ERROR)                                                                             \
            die(r_->str);                                                                                              \
        freeReplyObject(r_);                                                                                           \
    } while (0)

static bool info_has(struct redis_fixture *node, const char *text)
{
    redisReply *r = redis_fixture_command(node, "CLUSTER INFO");
    bool has = r->str != NULL && strstr(r->str, text) != NULL;
    freeReplyObject(r);
    return has;
}

static void wait_for(struct cluster_fixture *f, const char *text)
{
    for (int i = 0; i < f->count; i++) {
        int left = PATIENCE;
        while (!info_has(&f->nodes[i], text) && --left > 0)
            nap();
        if (left == 0)
            die(text);
    }
}

static void meet(struct cluster_fixture *f)
{
    for (int i = 0; i < f->count; i++) {
        for (int k = 0; k < i; k++)
            OK_COMMAND(&f->nodes[i], "CLUSTER MEET 127.0.0.1 %d %d", f->nodes[k].port, f->nodes[k].bus);
    }
    char known[32];
    (void)snprintf(known, sizeof known, "cluster_known_nodes:%d", f->count);
    wait_for(f, known);
}

/* A replica must have heard of its primary first. */
static void replicate(struct cluster_fixture *f, int replica, int primary)
{
    for (int left = PATIENCE; left > 0; left--) {
        redisReply *r = redis_fixture_command(&f->nodes[replica], "CLUSTER REPLICATE %s", f->ids[primary]);
        bool ok = r->type != REDIS_REPLY_ERROR;
        freeReplyObject(r);
        if (ok)
            return;
        nap();
    }
    die("a replica does not become one");
}

static bool in_sync(struct redis_fixture *node)
{
    redisReply *r = redis_fixture_command(node, "INFO replication");
    bool ok = strstr(r->str, "master_link_status:up") != NULL;
    freeReplyObject(r);
    return ok;
}

static void wait_in_sync(struct redis_fixture *node)
{
    for (int left = PATIENCE; left > 0; left--) {
        if (in_sync(node))
            return;
        nap();
    }
    die("a replica does not get in sync");
}

void cluster_fixture_start(struct cluster_fixture *f, bool replicas)
{
    memset(f, 0, sizeof *f);
    f->count = replicas ? 2 * CLUSTER_PRIMARIES : CLUSTER_PRIMARIES;
    for (int i = 0; i < f->count; i++) {
        redis_fixture_start_node(&f->nodes[i]);
        redis_fixture_text(&f->nodes[i], f->ids[i], sizeof f->ids[i], "CLUSTER MYID");
        OK_COMMAND(&f->nodes[i], "CLUSTER SET-CONFIG-EPOCH %d", i + 1);
    }
    for (int i = 0; i < CLUSTER_PRIMARIES; i++)
        OK_COMMAND(&f->nodes[i], "CLUSTER ADDSLOTSRANGE %d %d", i * SLOTS / CLUSTER_PRIMARIES,
                   (i + 1) * SLOTS / CLUSTER_PRIMARIES - 1);
    meet(f);
    for (int i = CLUSTER_PRIMARIES; i < f->count; i++)
        replicate(f, i, i - CLUSTER_PRIMARIES);
    wait_for(f, "cluster_slots_ok:16384");
    wait_for(f, "cluster_state:ok");
    for (int i = CLUSTER_PRIMARIES; i < f->count; i++)
        wait_in_sync(&f->nodes[i]);
    (void)snprintf(f->url, sizeof f->url, "redis+cluster://xindao:SECRET@127.0.0.1:%d,127.0.0.1:%d", f->nodes[0].port,
                   f->nodes[1].port);
}

void cluster_fixture_stop(struct cluster_fixture *f)
{
    for (int i = 0; i < f->count; i++)
        redis_fixture_stop(&f->nodes[i]);
}

void cluster_fixture_flush(struct cluster_fixture *f)
{
    for (int i = 0; i < CLUSTER_PRIMARIES; i++)
        OK_COMMAND(&f->nodes[i], "FLUSHALL");
}

int cluster_fixture_slot(struct cluster_fixture *f, const char *key)
{
    return (int)redis_fixture_number(&f->nodes[0], "CLUSTER KEYSLOT %s", key);
}

int cluster_fixture_home(struct cluster_fixture *f, const char *key)
{
    int slot = cluster_fixture_slot(f, key), home = 0;
    while (slot >= (home + 1) * SLOTS / CLUSTER_PRIMARIES)
        home++;
    return home;
}

void cluster_fixture_open_slot(struct cluster_fixture *f, int slot, int from, int to)
{
    OK_COMMAND(&f->nodes[to], "CLUSTER SETSLOT %d IMPORTING %s", slot, f->ids[from]);
    OK_COMMAND(&f->nodes[from], "CLUSTER SETSLOT %d MIGRATING %s", slot, f->ids[to]);
}

int cluster_fixture_move_keys(struct cluster_fixture *f, int slot, int from, int to, int n)
{
    redisReply *keys = redis_fixture_command(&f->nodes[from], "CLUSTER GETKEYSINSLOT %d %d", slot, n);
    int moved = (int)keys->elements;
    for (size_t i = 0; i < keys->elements; i++)
        OK_COMMAND(&f->nodes[from], "MIGRATE 127.0.0.1 %d %b 0 5000", f->nodes[to].port, keys->element[i]->str,
                   (size_t)keys->element[i]->len);
    freeReplyObject(keys);
    return moved;
}

void cluster_fixture_close_slot(struct cluster_fixture *f, int slot, int from, int to)
{
    OK_COMMAND(&f->nodes[to], "CLUSTER SETSLOT %d NODE %s", slot, f->ids[to]);
    OK_COMMAND(&f->nodes[from], "CLUSTER SETSLOT %d NODE %s", slot, f->ids[to]);
}
