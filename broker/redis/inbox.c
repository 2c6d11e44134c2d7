/* broker/redis/inbox.c: the channels through which others reach this node rather than a room: for private messages, news of its sessions, its
 * own probe. One, or in a cluster one for each slot in which it has a session. */
#include <stdio.h>

#include "broker/redis/redis.h"

#define NODE_NAME_MAX 128 /* of an envelope */

uint16_t session_slot(const struct redis *r, struct slice sid)
{
    struct args a;
    if (r->cluster == NULL)
        return 0;
    args_init(&a);
    uint16_t slot = slot_of_key(arg_key(&a, r->session_prefix, sid, ""));
    args_fini(&a);
    return slot;
}

void arg_inbox(struct args *a, const struct redis *r, struct slice sid)
{
    if (r->cluster == NULL) {
        arg_join(a, slice_str(r->node_prefix), SLICE("{"));
        arg_str(a, "}");
        return;
    }
    char after[SLOT_TAG_LEN + 4] = ":{";
    memcpy(after + 2, pubsub_slot_tag(r->pubsub, session_slot(r, sid)), SLOT_TAG_LEN);
    after[SLOT_TAG_LEN + 2] = '}';
    arg_str(a, r->node_prefix);
    arg_join(a, slice_str(after), SLICE_NONE);
}

bool arg_inbox_of(struct args *a, const struct redis *r, struct slice sid, struct slice node)
{
    if (r->cluster == NULL) {
        (void)arg_key(a, r->node_prefix, node, "");
        return true;
    }
    char before[NODE_NAME_MAX + 64];
    int n = snprintf(before, sizeof before, "%s%.*s:", r->node_prefix, SLICE_FMT(node));
    if (n < 0 || (size_t)n >= sizeof before || strcspn(before, "{}") != (size_t)n)
        return false;
    struct slice key = arg_key(a, before, slice_str(pubsub_slot_tag(r->pubsub, session_slot(r, sid))), "");
    return key.n != 0;
}

void inbox_open(struct redis *r)
{
    if (r->cluster == NULL)
        pubsub_open_inbox(r->pubsub);
}

void inbox_hold(struct redis *r, uint16_t slot)
{
    if (r->cluster != NULL && r->pubsub != NULL)
        pubsub_listen(r->pubsub, slot, NULL, NULL);
}

void inbox_release(struct redis *r, uint16_t slot)
{
    if (r->cluster != NULL && r->pubsub != NULL)
        pubsub_listen_no_more(r->pubsub, slot);
}

/* That nobody listens yet is nothing that a session must end for. */
static void on_listening(void *arg, const struct broker_result *result)
{
    (void)result;
    gather_release(arg, &(struct broker_result){.err = OK});
}

void inbox_wait(struct redis *r, uint16_t slot, struct gather *g)
{
    if (r->cluster == NULL || !pubsub_is_up(r->pubsub))
        return;
    gather_hold(g);
    pubsub_listen(r->pubsub, slot, on_listening, g);
    pubsub_listen_no_more(r->pubsub, slot);
}

/* Probes. */

struct probing {
    struct redis *r;
    struct slice body;
};

static void probe_shard(void *arg, const struct shard *s)
{
    struct probing *p = arg;
    struct redis *r = p->r;
    struct args a;
    if (!redis_link_is_up(s->link))
        return;
    args_init(&a);
    arg_str(&a, "SPUBLISH");
    (void)arg_key(&a, pubsub_inbox_prefix(r->pubsub), slice_str(pubsub_slot_tag(r->pubsub, s->first)), "");
    arg_slice(&a, p->body);
    store_send(r->store, &a, 0, NULL, NULL);
}

void inbox_probe(struct redis *r, struct slice body)
{
    if (r->cluster != NULL) {
        struct probing p = {r, body};
        cluster_each(r->cluster, probe_shard, &p);
        return;
    }
    struct args a;
    args_init(&a);
    arg_str(&a, "PUBLISH");
    (void)arg_key(&a, r->node_prefix, slice_str(r->node), "");
    arg_slice(&a, body);
    store_send(r->store, &a, 0, NULL, NULL);
}
