/* tests/fuzz/fuzz_slots.c: what a cluster says about its slots: redirections (lines) and maps (RESP).
 *
 * A redirection that is understood says the same when it is written down again; a map that is accepted names an owner in it, or nobody, for
 * every slot; and every host is fit for a log and a look-up. */
#include <assert.h>
#include <stdio.h>

#include "base/mem.h"
#include "broker/redis/slots.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check_node(const struct slot_node *node)
{
    size_t n = strlen(node->host);
    assert(node->port > 0 && node->port < 65536 && n <= HOST_MAX);
    for (size_t i = 0; i < n; i++)
        assert(node->host[i] > ' ' && node->host[i] < 127);
}

static void check_redirect(struct slice line)
{
    struct redirect r, again;
    redirect_parse(line, &r);
    if (r.kind != REDIRECT_MOVED && r.kind != REDIRECT_ASK)
        return;
    check_node(&r.node);
    assert(r.slot < SLOTS);
    char text[HOST_MAX + 64];
    (void)snprintf(text, sizeof text, "%s %u %s:%d", r.kind == REDIRECT_MOVED ? "MOVED" : "ASK", r.slot, r.node.host,
                   r.node.port);
    redirect_parse(slice_str(text), &again);
    assert(again.kind == r.kind && again.slot == r.slot && again.node.port == r.node.port);
    assert(strcmp(again.node.host, r.node.host) == 0);
}

static void check_map(const redisReply *r)
{
    char name[] = "asked.example";
    struct redis_host asked = {.host = name, .port = 1};
    struct slot_map map;
    struct error error;
    if (slot_map_parse(r, &asked, &map, &error) != OK)
        return;
    assert(map.primary_count <= SLOT_NODES);
    for (size_t i = 0; i < map.primary_count; i++)
        check_node(&map.primaries[i]);
    for (size_t i = 0; i < map.replica_count; i++)
        check_node(&map.replicas[i]);
    for (size_t i = 0; i < SLOTS; i++)
        assert(map.owner[i] == SLOT_NOBODY || map.owner[i] < map.primary_count);
    slot_map_fini(&map);
}

/* hiredis believes the length it is told and allocates at once; a real Redis does not lie about it, so neither do we. */
static bool plausible(const char *p, size_t n)
{
    size_t digits = 0;
    for (size_t i = 0; i < n; i++) {
        digits = p[i] >= '0' && p[i] <= '9' ? digits + 1 : 0;
        if (digits > 4 && i >= digits && (p[i - digits] == '*' || p[i - digits] == '$'))
            return false;
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct slice s = {(const char *)p, n};
    check_redirect(s);
    assert(slot_of_key(s) < SLOTS);
    if (n == 0 || !plausible(s.p, n))
        return 0;
    redisReader *reader = redisReaderCreate();
    void *reply = NULL;
    (void)redisReaderFeed(reader, s.p, n);
    while (redisReaderGetReply(reader, &reply) == REDIS_OK && reply != NULL) {
        check_map(reply);
        freeReplyObject(reply);
    }
    redisReaderFree(reader);
    return 0;
}
