/* broker/redis/follow.c: a stream that others append to, read by every node for itself, over a connection of its own that waits for new entries.
 *
 * A place in the stream is the id of an entry, and good as long as that entry is there. When it is not, either the stream was cut beyond it, and then something may be
 * missing; or a failover has lost the newest entries, and ids that were told may come again for others: then reading goes back as far as is remembered, and what was told
 * is left out. */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "broker/redis/redis.h"

#define PAGE     32u
#define BLOCK_MS 1000u /* Redis waits for so long; a connection that is dead without saying so is found so much later */
#define RETRY_MS 200u
#define TOLD_MAX 1024u

struct stream_id {
    uint64_t ms, number;
};

/* What is asked next. */
enum follow_phase {
    FOLLOW_END,          /* where the stream ends */
    FOLLOW_CHECK,        /* whether our place is still there */
    FOLLOW_CHECK_OLDEST, /* it is not; and the oldest that is remembered? */
    FOLLOW_READ
};

struct follow {
    struct redis *r;
    char *stream, *name; /* name: of the link */
    uint16_t slot;
    struct redis_link_config cfg;
    struct redis_host host; /* in a cluster */
    uint32_t shard;
    struct redis_link *link; /* NULL: in a cluster nobody is known to have the slot, or it is being given up */
    struct timer retry;
    enum follow_phase phase, asked; /* asked: what the answer that is awaited is to */
    bool asking, begun, doubtful;   /* doubtful: our place was gone when reading began again */
    char trouble[160];              /* what Redis refused it with; empty: nothing */
    struct stream_id place, newest;
    struct stream_id told[TOLD_MAX]; /* a ring; the end that was found at first counts as told */
    size_t told_count, told_next;
    broker_done *done; /* NULL: nobody waits for entries */
    void *arg;
};

/* --- places --- */

static int id_compare(struct stream_id a, struct stream_id b)
{
    if (a.ms != b.ms)
        return a.ms < b.ms ? -1 : 1;
    return a.number == b.number ? 0 : a.number < b.number ? -1 : 1;
}

static bool id_parse(struct slice text, struct stream_id *ret)
{
    const char *dash = text.n != 0 ? memchr(text.p, '-', text.n) : NULL;
    if (dash == NULL)
        return false;
    size_t n = (size_t)(dash - text.p);
    return text_u64((struct slice){text.p, n}, UINT64_MAX, &ret->ms) &&
           text_u64(slice_from(text, n + 1), UINT64_MAX, &ret->number);
}

static bool id_is_none(struct stream_id id)
{
    return id.ms == 0 && id.number == 0;
}

static void remember(struct follow *f, struct stream_id id)
{
    f->told[f->told_next] = id;
    f->told_next = (f->told_next + 1) % TOLD_MAX;
    if (f->told_count < TOLD_MAX)
        f->told_count++;
    if (id_compare(id, f->newest) > 0)
        f->newest = id;
}

static struct stream_id oldest(const struct follow *f)
{
    return f->told[(f->told_next + TOLD_MAX - f->told_count) % TOLD_MAX];
}

static bool was_told(const struct follow *f, struct stream_id id)
{
    if (id_compare(id, f->newest) > 0)
        return false;
    for (size_t i = 0; i < f->told_count; i++)
        if (id_compare(f->told[i], id) == 0)
            return true;
    return false;
}

/* --- asking --- */

static void on_reply(void *arg, const redisReply *r, enum err err, const char *why);

static void ask(struct follow *f)
{
    char place[48], page[16], block[16];
    struct args a;
    (void)snprintf(place, sizeof place, "%llu-%llu", (unsigned long long)f->place.ms,
                   (unsigned long long)f->place.number);
    (void)snprintf(page, sizeof page, "%u", PAGE);
    (void)snprintf(block, sizeof block, "%u", BLOCK_MS);
    const char *const end[] = {"XREVRANGE", f->stream, "+", "-", "COUNT", "1", NULL};
    const char *const check[] = {"XRANGE", f->stream, place, place, NULL};
    const char *const read[] = {"XREAD", "COUNT", page, "BLOCK", block, "STREAMS", f->stream, place, NULL};
    const char *const *words = f->phase == FOLLOW_END ? end : f->phase == FOLLOW_READ ? read : check;
    args_init(&a);
    for (; *words != NULL; words++)
        arg_str(&a, *words);
    f->asking = true;
    f->asked = f->phase;
    redis_link_send(f->link, &a, REQUEST_QUIET, on_reply, f);
}

static void step(struct follow *f)
{
    if (f->asking || f->link == NULL || !redis_link_is_up(f->link) || (f->begun && f->done == NULL))
        return;
    ask(f);
}

static void on_retry(struct timer *t)
{
    step(container_of(t, struct follow, retry));
}

/* --- answers --- */

/* *ret stays when the stream is empty. False: that was no such answer. */
static bool end_of(const redisReply *r, struct stream_id *ret)
{
    if (r->type != REDIS_REPLY_ARRAY)
        return false;
    return r->elements == 0 || id_parse(reply_slice(reply_at(reply_at(r, 0), 0)), ret);
}

/* Our place is gone: goes back as far as is remembered. */
static void go_back(struct follow *f)
{
    struct stream_id to = oldest(f);
    bool again = f->asked == FOLLOW_CHECK && !id_is_none(to) && id_compare(to, f->place) != 0;
    f->place = to;
    f->phase = again ? FOLLOW_CHECK_OLDEST : FOLLOW_READ;
    f->doubtful = !again;
}

static void tell(struct follow *f, const redisReply *entries)
{
    AUTO_FREE struct event_entry *list = xcalloc(entries->elements + 1, sizeof *list);
    AUTO_FREE struct event_field *fields = xcalloc(entries->elements * EVENT_FIELDS_MAX + 1, sizeof *fields);
    struct broker_result result = {.events = list};
    for (size_t i = 0; i < entries->elements; i++) {
        struct stream_id id;
        struct event_entry *e = &list[result.count];
        entry_parse(entries->element[i], &fields[i * EVENT_FIELDS_MAX], e);
        if (!id_parse(e->id, &id))
            continue;
        bool told = was_told(f, id);
        result.anew = result.anew || (f->doubtful && !told);
        f->doubtful = false;
        f->place = id;
        f->phase = entries->elements < PAGE ? FOLLOW_READ : FOLLOW_CHECK; /* what we are behind may be cut */
        if (told)
            continue;
        remember(f, id);
        result.count++;
    }
    if (result.count != 0)
        broker_complete(TAKE(f->done), f->arg, &result);
    if (f->done == NULL)
        f->phase = FOLLOW_CHECK; /* so may what comes until more is wanted */
}

/* False: that was no answer to what was asked. */
static bool take(struct follow *f, const redisReply *r)
{
    const redisReply *entries = reply_at(reply_at(r, 0), 1);
    switch (f->asked) {
    case FOLLOW_END:
        if (!end_of(r, &f->place))
            return false;
        remember(f, f->place);
        f->begun = true;
        f->phase = FOLLOW_READ;
        return true;
    case FOLLOW_CHECK:
    case FOLLOW_CHECK_OLDEST:
        if (r->type != REDIS_REPLY_ARRAY)
            return false;
        if (r->elements != 0)
            f->phase = FOLLOW_READ;
        else
            go_back(f);
        return true;
    case FOLLOW_READ:
        if (r->type == REDIS_REPLY_NIL)
            return true;
        if (entries == NULL || entries->type != REDIS_REPLY_ARRAY)
            return false;
        tell(f, entries);
        return true;
    }
    return false;
}

/* In a cluster the stream may have moved. */
static bool moved(const struct follow *f, const redisReply *r)
{
    struct redirect where = {0};
    struct cluster *c = f->r->cluster;
    if (c == NULL || r == NULL || r->type != REDIS_REPLY_ERROR)
        return false;
    redirect_parse((struct slice){r->str, (size_t)r->len}, &where);
    if (where.kind == REDIRECT_MOVED && where.slot == f->slot)
        cluster_moved(c, f->shard, &where);
    else
        cluster_doubt(c);
    return where.kind != REDIRECT_NONE;
}

static void on_trouble(struct follow *f, const redisReply *r, const char *why)
{
    char trouble[sizeof f->trouble];
    timer_start(&f->retry, RETRY_MS);
    (void)snprintf(trouble, sizeof trouble, "the stream of Redis emitters cannot be read: %s", why);
    if (moved(f, r) || strcmp(trouble, f->trouble) == 0)
        return;
    (void)snprintf(f->trouble, sizeof f->trouble, "%s", trouble);
    f->r->b.stats.command_errors++;
    LOG_PEER(WARN, "redis refused to have the stream of Redis emitters read",
             "stream=%s error=%s hint=\"its ACL must allow what docs/operations.md lists\"",
             log_q(slice_str(f->stream)), log_q(slice_str(why)));
}

static void on_reply(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct follow *f = arg;
    f->asking = false;
    if (f->link == NULL)
        return;
    if (err != OK && r == NULL)
        return; /* the link is gone, and on_up follows */
    if (err != OK || !take(f, r)) {
        on_trouble(f, r, err != OK ? why : "a strange answer");
        return;
    }
    if (f->trouble[0] != '\0')
        LOG(INFO, "the stream of Redis emitters is read again", "stream=%s", log_q(slice_str(f->stream)));
    f->trouble[0] = '\0';
    step(f);
}

/* --- the link --- */

static void on_up(void *owner)
{
    struct follow *f = owner;
    if (f->begun)
        f->phase = id_is_none(f->place) ? FOLLOW_READ : FOLLOW_CHECK;
    step(f);
}

static void on_down(void *owner)
{
    (void)owner;
}

static void on_failed(void *owner)
{
    const struct follow *f = owner;
    if (f->r->cluster != NULL && f->link != NULL)
        cluster_doubt(f->r->cluster);
}

static const struct redis_link_events link_events = {.up = on_up, .down = on_down, .failed = on_failed};

static void give_up_link(struct follow *f)
{
    struct redis_link *l = TAKE(f->link);
    if (l != NULL)
        (void)redis_link_close(l);
    redis_link_destroy(&l);
    timer_stop(&f->retry);
    free(f->host.host);
    f->host.host = NULL;
}

void follow_rehome(struct follow *f)
{
    const struct shard *s = f != NULL ? cluster_owner(f->r->cluster, f->slot) : NULL;
    if (s == NULL || (f->link != NULL && f->shard == s->id))
        return;
    give_up_link(f);
    f->shard = s->id;
    f->host = (struct redis_host){.host = xstrdup(s->host.host), .port = s->host.port};
    f->link = redis_link_create(f->r->b.loop, &f->cfg, &link_events, f, &f->r->b.stats);
}

/* --- life --- */

const char *follow_problem(const struct follow *f)
{
    if (f == NULL || f->begun)
        return NULL;
    return f->trouble[0] != '\0' ? f->trouble : "the end of the stream of Redis emitters is not known yet";
}

void redis_follow(struct broker *b, broker_done *done, void *arg)
{
    struct redis *r = redis_of(b);
    struct follow *f = r->follow;
    if (f == NULL || r->closing) {
        redis_complete_later(r, done, arg, ERR_UNAVAILABLE, "no stream is followed");
        return;
    }
    f->done = done;
    f->arg = arg;
    step(f);
}

struct follow *follow_create(struct redis *r, const char *stream)
{
    struct follow *f = xcalloc(1, sizeof *f);
    size_t n = strlen(r->node) + sizeof ".follow";
    f->r = r;
    f->stream = xstrdup(stream);
    f->name = xmalloc(n);
    (void)snprintf(f->name, n, "%s.follow", r->node);
    f->slot = slot_of_key(slice_str(stream));
    f->cfg = (struct redis_link_config){.name = f->name,
                                        .url = &r->url,
                                        .tls = r->tls,
                                        .sentinel = r->sentinel,
                                        .host = r->cluster != NULL ? &f->host : NULL,
                                        .timeout_ms = r->link_cfg.timeout_ms + BLOCK_MS};
    timer_init(&f->retry, r->b.loop, on_retry);
    if (r->cluster == NULL)
        f->link = redis_link_create(r->b.loop, &f->cfg, &link_events, f, &r->b.stats);
    else
        follow_rehome(f);
    return f;
}

bool follow_close(struct follow *f)
{
    if (f == NULL)
        return false;
    give_up_link(f);
    broker_done *done = TAKE(f->done);
    if (done != NULL)
        broker_fail(done, f->arg, ERR_UNAVAILABLE, "the broker is closing");
    return done != NULL;
}

void follow_destroy(struct follow **fp)
{
    struct follow *f = TAKE(*fp);
    if (f == NULL)
        return;
    free(f->stream);
    free(f->name);
    free(f);
}
