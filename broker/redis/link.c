/* broker/redis/link.c: our own queue of requests over hiredis' parser: pipelining, answers, timeouts. */
#include <stdio.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "broker/redis/link_private.h"

#define FLUSH_DELAY_US 100
#define WRITE_CHUNK    ((size_t)64 * 1024) /* handed to the wire at once; what it holds counts as sent */

static void request_free(struct request *q)
{
    if ((q->flags & REQUEST_BORROWED) == 0)
        redisFreeCommand(q->bytes);
    free(q);
}

/* What a connection needs to begin is not the users' queue. */
void backlog_add(struct redis_backlog *b, struct broker_stats *stats, const struct request *q)
{
    if (q->setup)
        return;
    b->bytes += q->n;
    b->count++;
    stats->queued_bytes += q->n;
    stats->queued_commands++;
}

void backlog_sub(struct redis_backlog *b, struct broker_stats *stats, const struct request *q)
{
    if (q->setup)
        return;
    b->bytes -= q->n;
    b->count--;
    stats->queued_bytes -= q->n;
    stats->queued_commands--;
}

void request_waits(struct redis_link *l, const struct request *q)
{
    backlog_add(l->backlog, l->stats, q);
}

static void waiting_sub(struct redis_link *l, const struct request *q)
{
    backlog_sub(l->backlog, l->stats, q);
}

void request_complete(struct request *q, const redisReply *r, enum err err, const char *why)
{
    if (q->done != NULL)
        q->done(q->arg, r, err, why);
    request_free(q);
}

void request_finish(struct redis_link *l, struct request *q, enum err err, const char *why)
{
    list_del(&q->link);
    waiting_sub(l, q);
    if (err == ERR_TIMEOUT)
        l->stats->timeouts++;
    request_complete(q, NULL, err, why);
}

static uint64_t min_due(const struct link *list, uint64_t due)
{
    if (list_empty(list))
        return due;
    uint64_t first = list_entry(list->next, struct request, link)->due_ms;
    return first < due ? first : due;
}

/* Requests have the same patience, so the first of each list is the first to run out. */
static void request_timer_arm(struct redis_link *l)
{
    uint64_t now = loop_now_ms(l->loop), due = min_due(&l->queue, min_due(&l->sent, UINT64_MAX));
    l->request_timer_set = due != UINT64_MAX;
    if (l->request_timer_set)
        timer_start(&l->request_timer, due > now ? due - now : 0);
}

/* Error replies that mean "not now" rather than "never". */
static enum err reply_error(const redisReply *r)
{
    static const char *const not_now[] = {"LOADING",  "BUSY",       "READONLY", "MASTERDOWN", "MISCONF", "CLUSTERDOWN",
                                          "TRYAGAIN", "NOREPLICAS", "OOM",      "NOAUTH",     "MOVED",   "ASK"};
    for (size_t i = 0; i < ARRAY_LEN(not_now); i++) {
        if (strstr(r->str, not_now[i]) != NULL)
            return ERR_UNAVAILABLE;
    }
    return ERR_INTERNAL;
}

/* Moves what fits from the queue to the wire; false when there was nothing. */
static bool fill(struct redis_link *l)
{
    size_t n = 0;
    while (l->state == LINK_UP && !list_empty(&l->queue) && n < WRITE_CHUNK) {
        struct request *q = list_first(&l->queue, struct request, link);
        list_del(&q->link);
        n += q->n;
        q->sent = ++l->sent_count;
        if (q->asking)
            link_ask(l);
        wire_put(l->wire, q->bytes, q->n);
        l->stats->commands++;
        if ((q->flags & REQUEST_UNANSWERED) != 0) {
            waiting_sub(l, q);
            request_free(q);
        } else {
            list_append(&l->sent, &q->link);
        }
    }
    return n != 0;
}

void link_flush(struct redis_link *l)
{
    bool all;
    do {
        if (!wire_write(l->wire, &all)) {
            link_lose(l, wire_error(l->wire));
            return;
        }
    } while (all && fill(l));
    io_set(&l->io, wire_events(l->wire));
}

/* Redis has forgotten its scripts (SCRIPT FLUSH): load them all and ask again. */
static void retry_with_scripts(struct redis_link *l, struct request *q)
{
    link_load_scripts(l, NULL);
    q->retried = true;
    list_append(&l->queue, &q->link);
    request_waits(l, q);
}

/* The first word of a formatted command: *ARGUMENTS CRLF $LENGTH CRLF WORD CRLF. */
static struct slice command_name(struct slice bytes)
{
    for (int i = 0; i < 2; i++) {
        const char *end = bytes.n != 0 ? memchr(bytes.p, '\n', bytes.n) : NULL;
        bytes = end != NULL ? slice_from(bytes, (size_t)(end - bytes.p) + 1) : SLICE_NONE;
    }
    const char *end = bytes.n != 0 ? memchr(bytes.p, '\r', bytes.n) : NULL;
    return end != NULL ? (struct slice){bytes.p, (size_t)(end - bytes.p)} : SLICE_NONE;
}

/* What may be wrong with the user that the url names. */
static const char *hint_for(const struct redis_link *l, const char *error)
{
    if (strstr(error, "NOAUTH") != NULL)
        return " hint=\"the url has no user and password\"";
    if (strstr(error, "WRONGPASS") != NULL || strstr(error, "invalid password") != NULL)
        return " hint=\"user or password of the url\"";
    if (strstr(error, "NOPERM") != NULL || strstr(error, "ACL failure") != NULL ||
        strstr(error, "The user executing the script can't") != NULL)
        return l->cfg->url->user != NULL ? " hint=\"its ACL must allow what docs/operations.md lists\""
                                         : " hint=\"the ACL of the default user; better give it a user of its own\"";
    return "";
}

static void log_refused(struct redis_link *l, const struct request *q, const redisReply *r)
{
    struct slice name = command_name((struct slice){q->bytes, q->n});
    l->stats->command_errors++;
    LOG_PEER(WARN, "redis refused a command", "link=%s command=%s error=%s%s", l->cfg->name, log_q(name),
             log_q(slice_str(r->str)), hint_for(l, r->str));
}

static void answer(struct redis_link *l, const redisReply *r)
{
    struct request *q = list_first(&l->sent, struct request, link);
    list_del(&q->link);
    if (r->type == REDIS_REPLY_ERROR && l->events->refused != NULL && !q->setup && l->events->refused(l->owner, q, r))
        return;
    waiting_sub(l, q);
    if (q->setup)
        l->setup_left--;
    bool convenience = q->setup && q->done == NULL; /* which an ACL may deny */
    if (r->type != REDIS_REPLY_ERROR || convenience) {
        if (l->events->answered != NULL && !q->setup)
            l->events->answered(l->owner, q);
        request_complete(q, r, OK, NULL);
    } else if (strncmp(r->str, "NOSCRIPT", 8) == 0 && !q->retried) {
        retry_with_scripts(l, q);
    } else {
        if ((q->flags & REQUEST_QUIET) == 0)
            log_refused(l, q, r);
        /* It was a primary once; the sentinels know another, or soon will. */
        if (l->cfg->sentinel != NULL && strstr(r->str, "READONLY") != NULL)
            redis_link_drop(l, "it is no primary any more (READONLY)");
        request_complete(q, r, reply_error(r), r->str);
    }
}

static bool tell_replies(struct redis_link *l)
{
    redisReply *reply;
    while (l->drop_why[0] == '\0') {
        if (!wire_reply(l->wire, &reply))
            return false;
        if (reply == NULL)
            return true;
        if (l->events->push != NULL && l->events->push(l->owner, reply)) {
            /* taken */
        } else if (!list_empty(&l->sent)) {
            answer(l, reply);
        } else if (reply->type == REDIS_REPLY_ERROR) { /* to what pushes would have answered */
            l->stats->command_errors++;
            LOG_PEER(WARN, "redis refused a subscription", "link=%s error=%s%s", l->cfg->name,
                     log_q(slice_str(reply->str)), hint_for(l, reply->str));
            redis_link_drop(l, reply->str);
        } else {
            redis_link_drop(l, "an answer nobody asked for");
        }
        freeReplyObject(reply);
    }
    return true;
}

void link_io(struct io *io, int events)
{
    struct redis_link *l = container_of(io, struct redis_link, io);
    if (l->state == LINK_CONNECTING) {
        link_connected(l);
        return;
    }
    if ((events & IO_READ) != 0 && (!wire_read(l->wire) || !tell_replies(l))) {
        link_lose(l, wire_error(l->wire));
        return;
    }
    if (l->drop_why[0] != '\0')
        link_lose(l, l->drop_why);
    else
        link_flush(l);
}

static void on_request_timer(struct timer *t)
{
    struct redis_link *l = container_of(t, struct redis_link, request_timer);
    uint64_t now = loop_now_ms(l->loop);
    bool stuck = min_due(&l->sent, UINT64_MAX) <= now;
    while (!stuck && min_due(&l->queue, UINT64_MAX) <= now) {
        struct request *q = list_first(&l->queue, struct request, link);
        stuck = (q->flags & REQUEST_UNANSWERED) != 0; /* it cannot be dropped alone: nobody would ask again */
        if (!stuck)
            request_finish(l, q, ERR_TIMEOUT, "Redis could not be reached in time");
    }
    if (stuck)
        link_lose(l, "a command was not answered in time");
    request_timer_arm(l);
}

static void on_task(struct task *t)
{
    struct redis_link *l = container_of(t, struct redis_link, task);
    struct link told;
    list_init(&told);
    list_splice(&told, &l->refused);
    while (!list_empty(&told)) {
        struct request *q = list_first(&told, struct request, link);
        list_del(&q->link);
        request_complete(q, NULL, ERR_UNAVAILABLE, "too many requests wait for Redis");
    }
    if (l->drop_why[0] != '\0')
        link_lose(l, l->drop_why);
    else if (l->state == LINK_UP && (l->io.events & IO_WRITE) == 0)
        link_flush(l);
}

bool request_fits(const struct redis_link_config *cfg, const struct redis_backlog *backlog, const struct request *q)
{
    return (q->flags & REQUEST_UNBOUNDED) != 0 ||
           ((cfg->queue_commands == 0 || backlog->count < cfg->queue_commands) &&
            (cfg->queue_bytes == 0 || backlog->bytes + q->n <= cfg->queue_bytes));
}

char *args_format(struct args *a, size_t *ret_n)
{
    char *bytes;
    int n = redisFormatCommandArgv(&bytes, a->n, a->v, a->len);
    args_fini(a);
    if (n < 0)
        abort();
    *ret_n = (size_t)n;
    return bytes;
}

struct request *request_new(const struct redis_link_config *cfg, struct loop *loop, struct command *c, unsigned flags,
                            redis_done *done, void *arg)
{
    struct request *q = xcalloc(1, sizeof *q);
    list_init(&q->link);
    q->flags = flags;
    q->done = done;
    q->arg = arg;
    q->due_ms = loop_now_ms(loop) + cfg->timeout_ms;
    q->bytes = TAKE(c->bytes);
    q->n = c->n;
    q->slot = c->slot;
    return q;
}

void link_take(struct redis_link *l, struct request *q)
{
    loop_idle(l->loop, &l->task, FLUSH_DELAY_US);
    list_append(&l->queue, &q->link);
    if (!l->request_timer_set) {
        l->request_timer_set = true;
        timer_start(&l->request_timer, l->cfg->timeout_ms);
    }
}

void redis_link_send_bytes(struct redis_link *l, char *bytes, size_t n, unsigned flags, redis_done *done, void *arg)
{
    struct command c = {.bytes = TAKE(bytes), .n = n};
    struct request *q = request_new(l->cfg, l->loop, &c, flags, done, arg);
    if (!request_fits(l->cfg, l->backlog, q)) {
        l->stats->refused++;
        list_append(&l->refused, &q->link);
        loop_idle(l->loop, &l->task, FLUSH_DELAY_US);
        return;
    }
    request_waits(l, q);
    link_take(l, q);
}

bool link_has_passed(const struct redis_link *l, uint64_t sent)
{
    return list_empty(&l->sent) || list_first(&l->sent, struct request, link)->sent > sent;
}

bool link_is_idle(const struct redis_link *l)
{
    return list_empty(&l->sent) && list_empty(&l->queue);
}

void redis_link_send(struct redis_link *l, struct args *a, unsigned flags, redis_done *done, void *arg)
{
    size_t n;
    char *bytes = args_format(a, &n);
    redis_link_send_bytes(l, bytes, n, flags, done, arg);
}

void redis_link_drop(struct redis_link *l, const char *why)
{
    if (l->wire == NULL || l->drop_why[0] != '\0')
        return;
    (void)snprintf(l->drop_why, sizeof l->drop_why, "%s", why);
    loop_idle(l->loop, &l->task, 0);
}

bool redis_link_is_up(const struct redis_link *l)
{
    return l->state == LINK_UP;
}

struct redis_link *redis_link_create(struct loop *loop, const struct redis_link_config *cfg,
                                     const struct redis_link_events *events, void *owner, struct broker_stats *stats)
{
    struct redis_link *l = xcalloc(1, sizeof *l);
    l->cfg = cfg;
    l->events = events;
    l->owner = owner;
    l->loop = loop;
    l->stats = stats;
    l->backlog = cfg->backlog != NULL ? cfg->backlog : &l->own;
    list_init(&l->queue);
    list_init(&l->sent);
    list_init(&l->refused);
    task_init(&l->task, on_task);
    timer_init(&l->request_timer, loop, on_request_timer);
    link_connect_start(l);
    return l;
}

static bool complete_all(struct redis_link *l, struct link *list, bool counted)
{
    bool any = !list_empty(list);
    while (!list_empty(list)) {
        struct request *q = list_first(list, struct request, link);
        list_del(&q->link);
        if (counted)
            waiting_sub(l, q);
        request_complete(q, NULL, ERR_UNAVAILABLE, "the broker is closing");
    }
    return any;
}

bool redis_link_close(struct redis_link *l)
{
    l->state = LINK_WAITING;
    link_connect_stop(l);
    timer_stop(&l->request_timer);
    l->request_timer_set = true; /* stays off */
    bool any = complete_all(l, &l->sent, true);
    any = complete_all(l, &l->queue, true) || any;
    any = complete_all(l, &l->refused, false) || any;
    task_cancel(&l->task);
    return any;
}

void redis_link_destroy(struct redis_link **link)
{
    free(*link);
    *link = NULL;
}
