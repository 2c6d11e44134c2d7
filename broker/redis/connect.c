/* broker/redis/connect.c: getting a connection, setting it up, losing it, and getting the next. */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "broker/redis/link_private.h"

#define BACKOFF_FIRST_MS 50
#define BACKOFF_MAX_MS   2000
#define STEADY_MS        1000
#define TOLD_MAX         8 /* attempts whose reasons are logged, if they are new */

static void connect_begin(struct timer *t);

/* What can be done elsewhere is not ours any more. */
static void strand(struct redis_link *l, struct link *list)
{
    while (!list_empty(list)) {
        struct request *q = list_first(list, struct request, link);
        list_del(&q->link);
        l->events->stranded(l->owner, q);
    }
}

/* Puts back in front of the queue what may be repeated and still has time; leaves the rest in *lost. */
static void sort_out(struct redis_link *l, struct link *lost)
{
    struct link again;
    list_init(&again);
    list_splice(lost, &l->sent);
    list_for_each_safe (it, lost) {
        struct request *q = list_entry(it, struct request, link);
        if ((q->flags & REQUEST_REPEATABLE) != 0 && q->due_ms > loop_now_ms(l->loop)) {
            list_del(&q->link);
            list_append(&again, &q->link);
        }
    }
    list_splice(&again, &l->queue);
    if (l->events->stranded != NULL) {
        strand(l, &again);
        return;
    }
    list_for_each_safe (it, &again) {
        struct request *q = list_entry(it, struct request, link);
        list_del(&q->link);
        /* What pushes answer belongs to one connection; the next begins with a new set of subscriptions. */
        list_append((q->flags & REQUEST_UNANSWERED) != 0 ? lost : &l->queue, &q->link);
    }
}

static uint32_t backoff_ms(struct redis_link *l)
{
    uint32_t ms = BACKOFF_FIRST_MS << (l->failures < 6 ? l->failures : 6);
    l->failures++;
    if (ms > BACKOFF_MAX_MS)
        ms = BACKOFF_MAX_MS;
    return ms / 2 + random_below(ms / 2 + 1);
}

void link_lose(struct redis_link *l, const char *why)
{
    bool was_up = l->state == LINK_UP;
    /* Who is thrown out again at once must not come back at once. */
    if (was_up && loop_now_ms(l->loop) - l->up_ms >= STEADY_MS)
        l->failures = 0;
    /* A name may stand for several addresses, each with a reason of its own. */
    bool news = l->failures < TOLD_MAX && strncmp(l->told, why, sizeof l->told - 1) != 0;
    if (!l->cfg->quiet && (was_up || !l->was_down || news)) {
        LOG(WARN, was_up ? "redis link lost" : "redis cannot be reached", "link=%s redis=%s:%d reason=%s", l->cfg->name,
            l->to.host, l->to.port, log_q(slice_str(why)));
        (void)snprintf(l->told, sizeof l->told, "%s", why);
    }
    l->was_down = true;
    l->state = LINK_WAITING;
    l->drop_why[0] = '\0';
    l->setup_left = 0;
    io_set(&l->io, 0);
    wire_destroy(&l->wire);
    l->connect_timer.run = connect_begin;
    timer_start(&l->connect_timer, backoff_ms(l));
    struct link lost;
    list_init(&lost);
    sort_out(l, &lost);
    if (was_up)
        l->events->down(l->owner);
    if (l->events->failed != NULL)
        l->events->failed(l->owner);
    uint64_t now = loop_now_ms(l->loop);
    while (!list_empty(&lost)) {
        struct request *q = list_first(&lost, struct request, link);
        bool late = q->due_ms <= now;
        request_finish(l, q, late ? ERR_TIMEOUT : ERR_UNAVAILABLE,
                       late ? "Redis did not answer in time; whether it was done is unknown"
                            : "the link to Redis was lost; whether it was done is unknown");
    }
}

static void append_setup(struct redis_link *l, struct args *a, redis_done *done)
{
    struct request *q = xcalloc(1, sizeof *q);
    q->bytes = args_format(a, &q->n);
    q->setup = true;
    q->done = done;
    q->arg = l;
    /* Until the link is up connect_timer watches over the whole set-up. */
    q->due_ms = l->state == LINK_UP ? loop_now_ms(l->loop) + l->cfg->timeout_ms : UINT64_MAX;
    list_append(&l->sent, &q->link);
    request_waits(l, q);
    l->setup_left++;
    wire_put(l->wire, q->bytes, q->n);
}

static void on_setup(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct redis_link *l = arg;
    if (r == NULL)
        return;
    if (err != OK) {
        redis_link_drop(l, why);
        return;
    }
    if (l->setup_left != 0)
        return;
    l->state = LINK_UP;
    if (l->was_down)
        LOG(INFO, "redis link restored", "link=%s redis=%s:%d", l->cfg->name, l->to.host, l->to.port);
    l->was_down = false;
    l->up_ms = loop_now_ms(l->loop);
    timer_stop(&l->connect_timer);
    l->events->up(l->owner);
}

/* The sentinels may be behind: what they call the primary must think so too. */
static void on_role(void *arg, const redisReply *r, enum err err, const char *why)
{
    struct redis_link *l = arg;
    if (err == OK && r != NULL &&
        (r->type != REDIS_REPLY_ARRAY || r->elements == 0 || r->element[0]->type != REDIS_REPLY_STRING ||
         strcmp(r->element[0]->str, "master") != 0))
        redis_link_drop(l, "the sentinels name it, but it is a replica");
    else
        on_setup(arg, r, err, why);
}

void link_load_scripts(struct redis_link *l, redis_done *done)
{
    for (size_t i = 0; i < l->cfg->script_count; i++) {
        struct args a;
        args_init(&a);
        arg_str(&a, "SCRIPT");
        arg_str(&a, "LOAD");
        arg_str(&a, l->cfg->scripts[i].text);
        append_setup(l, &a, done);
    }
}

void link_ask(struct redis_link *l)
{
    struct args a;
    args_init(&a);
    arg_str(&a, "ASKING");
    append_setup(l, &a, NULL);
}

static void begin_setup(struct redis_link *l)
{
    const struct redis_url *url = l->cfg->url;
    struct args a;
    l->state = LINK_SETUP;
    if (url->password != NULL) {
        args_init(&a);
        arg_str(&a, "AUTH");
        if (url->user != NULL)
            arg_str(&a, url->user);
        arg_str(&a, url->password);
        append_setup(l, &a, on_setup);
    }
    if (url->db != 0) {
        args_init(&a);
        arg_str(&a, "SELECT");
        arg_u64(&a, url->db);
        append_setup(l, &a, on_setup);
    }
    args_init(&a);
    arg_str(&a, "CLIENT");
    arg_str(&a, "SETNAME");
    arg_str(&a, l->cfg->name);
    append_setup(l, &a, NULL); /* a convenience that an ACL may deny */
    link_load_scripts(l, on_setup);
    if (l->cfg->readonly) {
        args_init(&a);
        arg_str(&a, "READONLY");
        append_setup(l, &a, on_setup);
    }
    if (l->cfg->sentinel != NULL) {
        args_init(&a);
        arg_str(&a, "ROLE");
        append_setup(l, &a, on_role);
    }
    args_init(&a);
    arg_str(&a, "PING"); /* refused while Redis loads its data */
    append_setup(l, &a, on_setup);
}

void link_connected(struct redis_link *l)
{
    switch (wire_connect(l->wire)) {
    case WIRE_AGAIN: io_set(&l->io, wire_events(l->wire)); break;
    case WIRE_FAILED: link_lose(l, wire_error(l->wire)); break;
    case WIRE_READY:
        begin_setup(l);
        link_flush(l);
        break;
    }
}

static void connect_late(struct timer *t)
{
    struct redis_link *l = container_of(t, struct redis_link, connect_timer);
    if (l->state == LINK_ASKING)
        link_lose(l, sentinel_trouble(l->cfg->sentinel));
    else
        link_lose(l, l->state == LINK_RESOLVING ? "its name was not resolved in time" : wire_late(l->wire));
}

static void connect_to(struct redis_link *l, const char *address)
{
    l->wire = wire_create(address, l->to.port, l->cfg->tls, l->to.host);
    l->state = LINK_CONNECTING;
    io_init(&l->io, l->loop, wire_fd(l->wire), link_io);
    if (wire_error(l->wire)[0] != '\0')
        link_lose(l, wire_error(l->wire));
    else
        io_set(&l->io, IO_WRITE);
}

static void on_resolved(void *owner, const char *address, const char *why)
{
    struct redis_link *l = owner;
    if (l->state != LINK_RESOLVING)
        return; /* too late; the next attempt asks again */
    if (address != NULL)
        connect_to(l, address);
    else
        link_lose(l, why);
}

/* l->to is set. */
static void connect_there(struct redis_link *l)
{
    if (address_is_numeric(l->to.host)) {
        connect_to(l, l->to.host);
        return;
    }
    if (l->resolver == NULL)
        l->resolver = resolver_create(l->loop, l->to.host, on_resolved, l);
    l->state = LINK_RESOLVING;
    resolver_start(l->resolver);
}

static bool is_there(const struct redis_link *l, const struct named_host *host)
{
    return host->port == l->to.port && strcmp(host->host, l->to.host) == 0;
}

static void go_to(struct redis_link *l, const struct named_host *host)
{
    if (!is_there(l, host))
        resolver_destroy(&l->resolver);
    l->to = *host;
    connect_there(l);
}

static void connect_begin(struct timer *t)
{
    struct redis_link *l = container_of(t, struct redis_link, connect_timer);
    if (l->failures != 0)
        l->stats->reconnects++;
    l->connect_timer.run = connect_late;
    timer_start(&l->connect_timer, l->cfg->timeout_ms);
    if (l->cfg->sentinel == NULL) {
        connect_there(l);
        return;
    }
    l->state = LINK_ASKING;
    sentinel_ask(l->cfg->sentinel);
}

static void on_named(struct sentinel_listener *listener)
{
    struct redis_link *l = container_of(listener, struct redis_link, listener);
    const struct named_host *host = sentinel_primary(l->cfg->sentinel);
    char why[sizeof l->drop_why];
    switch (l->state) {
    case LINK_WAITING:
        if (!is_there(l, host)) /* nothing to be patient with any more */
            timer_start(&l->connect_timer, 0);
        break;
    case LINK_ASKING: go_to(l, host); break;
    case LINK_RESOLVING:
    case LINK_CONNECTING:
    case LINK_SETUP:
    case LINK_UP:
        if (is_there(l, host))
            break;
        (void)snprintf(why, sizeof why, "the sentinels name another primary, %.60s:%d", host->host, host->port);
        if (l->wire != NULL)
            redis_link_drop(l, why);
        else
            link_lose(l, why);
        break;
    }
}

void link_connect_start(struct redis_link *l)
{
    const struct redis_link_config *cfg = l->cfg;
    const struct redis_host *host = cfg->host != NULL ? cfg->host : &cfg->url->hosts[0];
    list_init(&l->listener.link);
    l->listener.named = on_named;
    if (cfg->sentinel != NULL) {
        sentinel_listen(cfg->sentinel, &l->listener);
    } else {
        (void)snprintf(l->to.host, sizeof l->to.host, "%s", host->host);
        l->to.port = host->port;
    }
    timer_init(&l->connect_timer, l->loop, connect_begin);
    timer_start(&l->connect_timer, 0);
}

void link_connect_stop(struct redis_link *l)
{
    sentinel_forget(&l->listener);
    timer_stop(&l->connect_timer);
    resolver_destroy(&l->resolver);
    if (l->wire == NULL)
        return;
    io_set(&l->io, 0);
    wire_destroy(&l->wire);
}
