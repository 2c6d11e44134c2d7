/* broker/redis/watcher.c: talking to one sentinel. */
#include "broker/redis/watcher.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

#define PEERS_MAX 64

struct watcher {
    const struct watcher_config *cfg;
    struct loop *loop;
    struct redis_host host;
    struct redis_link_config link_cfg;
    struct redis_link *questions, *news;
    bool asking, again; /* again: asked while asking */
    uint64_t epoch;     /* of the answer under way */
    struct watcher_answer answer;
    char id[WATCHER_ID_MAX];
};

bool watcher_is_up(const struct watcher *w)
{
    return redis_link_is_up(w->questions);
}

bool watcher_is_at(const struct watcher *w, const char *host, int port)
{
    return w->host.port == port && strcmp(w->host.host, host) == 0;
}

const char *watcher_id(const struct watcher *w)
{
    return w->id;
}

const struct watcher_answer *watcher_answer(const struct watcher *w)
{
    return &w->answer;
}

/* What will be connected to, and shown in logs. */
static bool host_is_plain(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              (c != '\0' && strchr(".:-_%", c) != NULL)))
            return false;
    }
    return s.n != 0 && s.n < WATCHER_HOST_MAX;
}

static struct slice text_of(const redisReply *r)
{
    return r->type == REDIS_REPLY_STRING ? (struct slice){r->str, (size_t)r->len} : SLICE_NONE;
}

bool named_host_set(struct named_host *ret, const redisReply *host, const redisReply *port)
{
    struct slice name = text_of(host);
    uint64_t number;
    if (!host_is_plain(name) || !text_u64(text_of(port), 65535, &number) || number == 0)
        return false;
    memcpy(ret->host, name.p, name.n);
    ret->host[name.n] = '\0';
    ret->port = (int)number;
    return true;
}

/* Sentinel describes things as arrays of names and values. NULL: there is no such name. */
static const redisReply *value_of(const redisReply *r, const char *name)
{
    if (r->type != REDIS_REPLY_ARRAY)
        return NULL;
    for (size_t i = 0; i + 1 < r->elements; i += 2) {
        if (slice_eq(text_of(r->element[i]), slice_str(name)))
            return r->element[i + 1];
    }
    return NULL;
}

static void ask(struct watcher *w, const char *what, const char *about, redis_done *done)
{
    struct args a;
    args_init(&a);
    arg_str(&a, "SENTINEL");
    arg_str(&a, what);
    if (about != NULL)
        arg_str(&a, about);
    redis_link_send(w->questions, &a, REQUEST_QUIET, done, w);
}

/* An error reply that is not just "no such primary". */
static void complain(const struct watcher *w, enum err err, const char *why)
{
    if (err != OK && strstr(why, "No such master") == NULL)
        LOG_PEER(WARN, "a sentinel refused a question", "sentinel=%s:%d error=%s", w->host.host, w->host.port,
                 log_q(slice_str(why)));
}

static void on_id(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct watcher *w = arg;
    (void)err; /* before 6.2 there is no such command */
    (void)why;
    struct slice id = r != NULL ? text_of(r) : SLICE_NONE;
    if (id.n != 0 && id.n < sizeof w->id)
        (void)snprintf(w->id, sizeof w->id, "%.*s", SLICE_FMT(id));
}

static void on_description(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct watcher *w = arg;
    w->epoch = 0;
    if (r == NULL)
        return;
    complain(w, err, why);
    const redisReply *epoch = value_of(r, "config-epoch");
    if (epoch != NULL)
        (void)text_u64(text_of(epoch), UINT64_MAX, &w->epoch);
}

/* In two steps, but asked at once, so that both are of one moment. */
static void on_address(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct watcher *w = arg;
    struct watcher_answer *a = &w->answer;
    w->asking = false;
    if (r == NULL)
        return;
    complain(w, err, why);
    bool known =
        r->type == REDIS_REPLY_ARRAY && r->elements == 2 && named_host_set(&a->primary, r->element[0], r->element[1]);
    if (!known && (a->known || a->ms == 0))
        LOG(WARN, "a sentinel knows no primary of that name", "sentinel=%s:%d service=%s", w->host.host, w->host.port,
            w->cfg->service);
    a->known = known;
    a->epoch = w->epoch;
    a->ms = loop_now_ms(w->loop);
    w->cfg->events->answered(w->cfg->owner, a);
    if (w->again)
        watcher_ask(w);
}

void watcher_ask(struct watcher *w)
{
    w->again = w->asking;
    if (w->asking || !watcher_is_up(w))
        return;
    w->asking = true;
    ask(w, "MASTER", w->cfg->service, on_description);
    ask(w, "GET-MASTER-ADDR-BY-NAME", w->cfg->service, on_address);
}

static void on_peers(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct watcher *w = arg;
    if (r == NULL)
        return;
    complain(w, err, why);
    if (r->type != REDIS_REPLY_ARRAY)
        return;
    for (size_t i = 0; i < r->elements && i < PEERS_MAX; i++) {
        const redisReply *host = value_of(r->element[i], "ip"), *port = value_of(r->element[i], "port"),
                         *id = value_of(r->element[i], "runid");
        struct named_host named;
        if (host != NULL && port != NULL && named_host_set(&named, host, port))
            w->cfg->events->peer(w->cfg->owner, &named, id != NULL ? text_of(id) : SLICE_NONE);
    }
}

void watcher_ask_peers(struct watcher *w)
{
    if (watcher_is_up(w))
        ask(w, "SENTINELS", w->cfg->service, on_peers);
}

/* It is connected to by its sentinel, and to its primary. */
static bool is_in_order(const redisReply *r)
{
    static const char *const bad[] = {"s_down", "o_down", "disconnected"};
    const redisReply *flags = value_of(r, "flags"), *link = value_of(r, "master-link-status");
    if (flags == NULL || flags->type != REDIS_REPLY_STRING || link == NULL || !slice_eq(text_of(link), SLICE("ok")))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (strstr(flags->str, bad[i]) != NULL)
            return false;
    }
    return true;
}

static void on_replicas(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct watcher *w = arg;
    struct named_host hosts[WATCHER_REPLICAS];
    size_t n = 0;
    if (r == NULL)
        return;
    complain(w, err, why);
    if (r->type != REDIS_REPLY_ARRAY || !w->answer.known)
        return;
    for (size_t i = 0; i < r->elements && n < WATCHER_REPLICAS; i++) {
        const redisReply *one = r->element[i], *host = value_of(one, "ip"), *port = value_of(one, "port");
        if (is_in_order(one) && host != NULL && port != NULL && named_host_set(&hosts[n], host, port))
            n++;
    }
    w->cfg->events->replicas(w->cfg->owner, &w->answer.primary, hosts, n);
}

void watcher_ask_replicas(struct watcher *w)
{
    if (watcher_is_up(w))
        ask(w, "REPLICAS", w->cfg->service, on_replicas);
}

static void on_questions_up(void *owner)
{
    struct watcher *w = owner;
    ask(w, "MYID", NULL, on_id);
    watcher_ask(w);
    watcher_ask_peers(w);
}

static void on_questions_down(void *owner)
{
    struct watcher *w = owner;
    w->again = false;
}

static void on_news_up(void *owner)
{
    struct watcher *w = owner;
    struct args a;
    args_init(&a);
    arg_str(&a, "SUBSCRIBE");
    arg_str(&a, "+switch-master");
    redis_link_send(w->news, &a, REQUEST_UNANSWERED | REQUEST_UNBOUNDED, NULL, NULL);
    watcher_ask(w); /* it may have happened meanwhile */
}

static void on_news_down(void *owner)
{
    (void)owner;
}

/* "NAME old-host old-port new-host new-port"; also the confirmation, which costs one question. The answer to that has the epoch, the news has not. */
static bool on_news(void *owner, const redisReply *r)
{
    struct watcher *w = owner;
    if (r->type != REDIS_REPLY_ARRAY || r->elements != 3)
        return false;
    watcher_ask(w);
    return true;
}

static const struct redis_link_events question_events = {.up = on_questions_up, .down = on_questions_down};
static const struct redis_link_events news_events = {.up = on_news_up, .down = on_news_down, .push = on_news};

struct watcher *watcher_create(struct loop *loop, const struct watcher_config *cfg, const char *host, int port,
                               struct broker_stats *stats)
{
    struct watcher *w = xcalloc(1, sizeof *w);
    w->cfg = cfg;
    w->loop = loop;
    w->host = (struct redis_host){.host = xstrdup(host), .port = port};
    w->link_cfg = (struct redis_link_config){
        .name = cfg->name, .url = cfg->url, .tls = cfg->tls, .host = &w->host, .timeout_ms = cfg->timeout_ms};
    w->questions = redis_link_create(loop, &w->link_cfg, &question_events, w, stats);
    w->news = redis_link_create(loop, &w->link_cfg, &news_events, w, stats);
    return w;
}

void watcher_destroy(struct watcher **watcher)
{
    struct watcher *w = TAKE(*watcher);
    if (w == NULL)
        return;
    (void)redis_link_close(w->news);
    (void)redis_link_close(w->questions);
    redis_link_destroy(&w->news);
    redis_link_destroy(&w->questions);
    free(w->host.host);
    free(w);
}
