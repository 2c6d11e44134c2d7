/* broker/redis/sentinel.c: asking all sentinels, and what to believe of their answers. */
#include "broker/redis/sentinel.h"

#include <stdio.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"

#define SENTINELS_MAX  32 /* as many as a url may hold */
#define POLL_MS        1000
#define PEERS_POLLS    30   /* how often the others are asked for, in polls */
#define FRESH_MS       5000 /* older answers do not count */
#define ASK_MS         1000 /* without any answer: the last known primary has to do */
#define GRACE_MS       300  /* after the first answer, for the others' */
#define FORGET_MS      600000
#define LEARN_AFTER_MS 10000 /* sentinels of the url that have not said who they are by then might be counted twice */

struct entry {
    struct watcher *watcher;
    bool learned;
    uint64_t since_ms;
};

/* A sentinel that another one told of, until the next poll. */
struct peer {
    struct named_host at;
    char id[WATCHER_ID_MAX];
};

struct sentinel {
    struct loop *loop;
    char *node_name;
    struct redis_url url; /* nothing of its own: the sentinels' credentials */
    struct watcher_config cfg;
    struct broker_stats *stats;
    struct broker_stats own; /* what the links to sentinels count is nobody's business */
    struct entry entries[SENTINELS_MAX];
    size_t count;
    struct peer peers[SENTINELS_MAX];
    size_t peer_count;
    struct link listeners;
    struct timer poll, patience;
    uint64_t polls, asked_ms, created_ms;
    bool asking, first_heard;
    bool known;
    struct named_host primary;
    uint64_t epoch;
    struct named_host replicas[WATCHER_REPLICAS];
    size_t replica_count;
};

static bool same(const struct named_host *a, const struct named_host *b)
{
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

const struct named_host *sentinel_primary(const struct sentinel *s)
{
    return s->known ? &s->primary : NULL;
}

const char *sentinel_trouble(const struct sentinel *s)
{
    bool answered = false, up = false;
    for (size_t i = 0; i < s->count; i++) {
        up = up || watcher_is_up(s->entries[i].watcher);
        answered = answered || watcher_answer(s->entries[i].watcher)->ms != 0;
    }
    if (!up)
        return "no sentinel can be reached";
    return answered ? "the sentinels know no primary of that name" : "the sentinels have not answered yet";
}

/* An answer that counts; NULL otherwise. */
static const struct watcher_answer *fresh(const struct sentinel *s, size_t at)
{
    const struct watcher_answer *a = watcher_answer(s->entries[at].watcher);
    bool counts = a->known && watcher_is_up(s->entries[at].watcher) && loop_now_ms(s->loop) - a->ms <= FRESH_MS;
    return counts ? a : NULL;
}

static size_t votes(const struct sentinel *s, const struct named_host *for_whom)
{
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++) {
        const struct watcher_answer *a = fresh(s, i);
        n += a != NULL && same(&a->primary, for_whom) ? 1 : 0;
    }
    return n;
}

/* The newest configuration; of equal ones what most say, then what we have. */
static bool better(const struct sentinel *s, const struct watcher_answer *a, const struct watcher_answer *b)
{
    if (b == NULL || a->epoch != b->epoch)
        return b == NULL || a->epoch > b->epoch;
    size_t for_a = votes(s, &a->primary), for_b = votes(s, &b->primary);
    return for_a != for_b ? for_a > for_b : s->known && same(&a->primary, &s->primary);
}

static void adopt(struct sentinel *s, const struct watcher_answer *a)
{
    if (s->known) {
        s->stats->failovers++;
        LOG(INFO, "redis failover", "service=%s old=%s:%d new=%s:%d epoch=%lu", s->cfg.service, s->primary.host,
            s->primary.port, a->primary.host, a->primary.port, (unsigned long)a->epoch);
    } else {
        LOG(INFO, "redis primary named", "service=%s redis=%s:%d epoch=%lu", s->cfg.service, a->primary.host,
            a->primary.port, (unsigned long)a->epoch);
    }
    s->known = true;
    s->primary = a->primary;
    s->replica_count = 0; /* they were the old one's */
}

static void tell(struct sentinel *s)
{
    s->asking = false;
    timer_stop(&s->patience);
    list_for_each_safe (it, &s->listeners) {
        struct sentinel_listener *l = list_entry(it, struct sentinel_listener, link);
        l->named(l);
    }
}

/* True when there is another primary than before. */
static bool decide(struct sentinel *s)
{
    const struct watcher_answer *best = NULL;
    for (size_t i = 0; i < s->count; i++) {
        const struct watcher_answer *a = fresh(s, i);
        if (a != NULL && better(s, a, best))
            best = a;
    }
    if (best == NULL)
        return false;
    bool stays = s->known && same(&best->primary, &s->primary);
    /* Epochs grow. An older one is believed when most say so: they were set up anew. */
    if (!stays && s->known && best->epoch < s->epoch && 2 * votes(s, &best->primary) <= s->count)
        return false;
    s->epoch = best->epoch;
    if (!stays)
        adopt(s, best);
    return !stays;
}

static void settle(struct sentinel *s)
{
    (void)decide(s);
    if (s->known)
        tell(s);
}

static void on_patience(struct timer *t)
{
    struct sentinel *s = container_of(t, struct sentinel, patience);
    s->first_heard = false;
    settle(s);
}

static void on_answered(void *owner, const struct watcher_answer *answer)
{
    struct sentinel *s = owner;
    (void)answer;
    if (!s->asking) {
        if (decide(s))
            tell(s);
        return;
    }
    size_t heard = 0;
    for (size_t i = 0; i < s->count; i++) {
        const struct watcher_answer *a = fresh(s, i);
        heard += a != NULL && a->ms >= s->asked_ms ? 1 : 0;
    }
    if (2 * heard > s->count) {
        settle(s);
    } else if (!s->first_heard && heard != 0) {
        s->first_heard = true;
        timer_start(&s->patience, GRACE_MS);
    }
}

static void ask_all(struct sentinel *s)
{
    for (size_t i = 0; i < s->count; i++)
        watcher_ask(s->entries[i].watcher);
}

void sentinel_ask(struct sentinel *s)
{
    if (!s->asking) {
        s->asking = true;
        s->first_heard = false;
        s->asked_ms = loop_now_ms(s->loop);
        timer_start(&s->patience, ASK_MS);
    }
    ask_all(s);
}

/* Replicas. A sentinel that was cut off may think of another primary. */

static void on_replicas(void *owner, const struct named_host *primary, const struct named_host *hosts, size_t n)
{
    struct sentinel *s = owner;
    if (!s->known || !same(primary, &s->primary))
        return;
    s->replica_count = n;
    for (size_t i = 0; i < n; i++)
        s->replicas[i] = hosts[i];
}

const struct named_host *sentinel_replicas(const struct sentinel *s, size_t *ret_n)
{
    *ret_n = s->replica_count;
    return s->replicas;
}

void sentinel_ask_replicas(struct sentinel *s)
{
    for (size_t i = 0; i < s->count; i++)
        watcher_ask_replicas(s->entries[i].watcher);
}

/* Other sentinels. */

static void on_peer(void *owner, const struct named_host *host, struct slice id)
{
    struct sentinel *s = owner;
    if (s->peer_count == SENTINELS_MAX)
        return;
    struct peer *p = &s->peers[s->peer_count++];
    p->at = *host;
    (void)snprintf(p->id, sizeof p->id, "%.*s", SLICE_FMT(id));
}

static void watch(struct sentinel *s, const char *host, int port, bool learned)
{
    if (s->count == SENTINELS_MAX)
        return;
    struct entry *e = &s->entries[s->count++];
    *e = (struct entry){.learned = learned, .since_ms = loop_now_ms(s->loop)};
    e->watcher = watcher_create(s->loop, &s->cfg, host, port, &s->own);
}

static bool is_watched(const struct sentinel *s, const struct peer *p)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct watcher *w = s->entries[i].watcher;
        if (watcher_is_at(w, p->at.host, p->at.port) || (p->id[0] != '\0' && strcmp(watcher_id(w), p->id) == 0))
            return true;
    }
    return false;
}

/* The url may call them by other names than they themselves do. */
static bool all_introduced(const struct sentinel *s)
{
    for (size_t i = 0; i < s->count; i++) {
        if (!s->entries[i].learned && watcher_id(s->entries[i].watcher)[0] == '\0')
            return false;
    }
    return true;
}

static void learn(struct sentinel *s)
{
    if (s->peer_count == 0 || (!all_introduced(s) && loop_now_ms(s->loop) - s->created_ms < LEARN_AFTER_MS))
        return;
    for (size_t i = 0; i < s->peer_count; i++) {
        const struct peer *p = &s->peers[i];
        if (is_watched(s, p))
            continue;
        LOG(INFO, "another sentinel is known now", "sentinel=%s:%d", p->at.host, p->at.port);
        watch(s, p->at.host, p->at.port, true);
    }
    s->peer_count = 0;
}

/* Learned ones that have been silent for long: the others will tell again if they know better. */
static void forget_the_dead(struct sentinel *s)
{
    uint64_t now = loop_now_ms(s->loop);
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++) {
        struct entry *e = &s->entries[i];
        uint64_t heard_ms = watcher_answer(e->watcher)->ms;
        if (heard_ms == 0)
            heard_ms = e->since_ms;
        if (e->learned && now - heard_ms > FORGET_MS)
            watcher_destroy(&e->watcher);
        else
            s->entries[kept++] = *e;
    }
    s->count = kept;
}

static void on_poll(struct timer *t)
{
    struct sentinel *s = container_of(t, struct sentinel, poll);
    timer_start(&s->poll, POLL_MS);
    forget_the_dead(s);
    learn(s);
    ask_all(s);
    if (++s->polls % PEERS_POLLS == 0) {
        for (size_t i = 0; i < s->count; i++)
            watcher_ask_peers(s->entries[i].watcher);
    }
}

void sentinel_listen(struct sentinel *s, struct sentinel_listener *l)
{
    list_append(&s->listeners, &l->link);
}

void sentinel_forget(struct sentinel_listener *l)
{
    list_del(&l->link);
}

static const struct watcher_events watcher_events = {.answered = on_answered, .replicas = on_replicas, .peer = on_peer};

struct sentinel *sentinel_create(struct loop *loop, const struct sentinel_config *cfg, struct broker_stats *stats)
{
    struct sentinel *s = xcalloc(1, sizeof *s);
    const struct redis_url *url = cfg->url;
    s->loop = loop;
    s->stats = stats;
    size_t n = strlen(cfg->node) + sizeof ":sentinel";
    s->node_name = xmalloc(n);
    (void)snprintf(s->node_name, n, "%s:sentinel", cfg->node);
    s->url = (struct redis_url){.hosts = url->hosts,
                                .host_count = url->host_count,
                                .user = url->sentinel_user,
                                .password = url->sentinel_password,
                                .tls = url->tls};
    s->cfg = (struct watcher_config){.name = s->node_name,
                                     .service = url->service,
                                     .url = &s->url,
                                     .tls = cfg->tls,
                                     .timeout_ms = cfg->timeout_ms,
                                     .events = &watcher_events,
                                     .owner = s};
    s->created_ms = loop_now_ms(loop);
    list_init(&s->listeners);
    timer_init(&s->patience, loop, on_patience);
    timer_init(&s->poll, loop, on_poll);
    timer_start(&s->poll, POLL_MS);
    for (size_t i = 0; i < url->host_count; i++)
        watch(s, url->hosts[i].host, url->hosts[i].port, false);
    return s;
}

void sentinel_destroy(struct sentinel **sentinel)
{
    struct sentinel *s = TAKE(*sentinel);
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->count; i++)
        watcher_destroy(&s->entries[i].watcher);
    timer_stop(&s->poll);
    timer_stop(&s->patience);
    free(s->node_name);
    free(s);
}
