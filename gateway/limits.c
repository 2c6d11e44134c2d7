/* gateway/limits.c: limits that the nodes of the cluster share. */
#include "gateway/limits.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "base/mem.h"
#include "gateway/bucket.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"

#define SUBJECTS_MAX 65536u /* remembered; over it the one not used for longest goes */
#define SETTLE_MAX   5000u  /* subjects settled in one period; the others wait for the next one */
#define PERIOD_MS    1000u
#define SHARED_FROM  8u   /* a subject is shared when an eighth of its limit is taken in one period … */
#define SHARED_LEAST 2u   /* … and at least so many tokens */
#define CALM_PERIODS 5u   /* shared subjects of which less is wanted for so long are no longer */
#define TOKEN        1000 /* thousandths, as the store counts */
#define NAME_BYTES   320

struct subject {
    UT_hash_handle hh;  /* by kind and name: `user:alice` */
    struct link used;   /* in limits->used, longest unused first */
    struct link shared; /* in limits->shared while it is */
    struct limits *limits;
    uint32_t rate, burst;
    struct bucket local;    /* while it is not shared */
    uint64_t taken, wanted; /* not told yet; while it is not shared: in the period that began at since_ms */
    uint64_t since_ms;
    /* While it is shared, in thousandths of tokens: */
    int64_t left;   /* may be taken now … */
    int64_t rate_m; /* … and so much is added per second */
    uint64_t left_ms;
    int64_t mine; /* what was wanted here, the older the less: the store counts the whole in the same way */
    uint64_t mine_ms;
    unsigned calm;
    bool asking; /* the store has been asked */
    bool gone;   /* forgotten meanwhile */
    size_t n;
    char name[];
};

struct limits {
    struct gateway *gw;
    struct subject *subjects;
    struct link used, shared;
    struct timer timer;
    bool ticking;
};

static const char *const words[LIMIT_KINDS] = {
#define X(code, word) [code] = (word),
    LIMIT_MAP(X)
#undef X
};

const char *limit_word(enum limit_kind kind)
{
    return words[kind];
}

static uint32_t capacity(const struct subject *s)
{
    return s->burst != 0 ? s->burst : s->rate;
}

/* --- subjects --- */

static bool is_shared(const struct subject *s)
{
    return !list_empty(&s->shared);
}

static void forget(struct subject *s)
{
    HASH_DELETE(hh, s->limits->subjects, s);
    list_del(&s->used);
    list_del(&s->shared);
    metrics->limit_subjects--;
    if (s->asking)
        s->gone = true;
    else
        free(s);
}

static struct subject *subject_create(struct limits *l, struct slice name)
{
    if (HASH_COUNT(l->subjects) >= SUBJECTS_MAX)
        forget(list_first(&l->used, struct subject, used));
    struct subject *s = xcalloc(1, sizeof *s + name.n);
    s->limits = l;
    s->n = name.n;
    memcpy(s->name, name.p, name.n);
    list_init(&s->used);
    list_init(&s->shared);
    HASH_ADD_KEYPTR(hh, l->subjects, s->name, s->n, s);
    metrics->limit_subjects++;
    return s;
}

static struct subject *subject_of(struct limits *l, struct slice name)
{
    struct subject *s;
    HASH_FIND(hh, l->subjects, name.p, name.n, s);
    if (s == NULL)
        s = subject_create(l, name);
    list_del(&s->used);
    list_append(&l->used, &s->used);
    return s;
}

/* The first 64 bits are what one customer has of IPv6. */
static struct slice network_of(struct slice ip, char ret[INET6_ADDRSTRLEN])
{
    struct in6_addr a;
    if (ip.n >= INET6_ADDRSTRLEN || memchr(ip.p, ':', ip.n) == NULL)
        return ip;
    memcpy(ret, ip.p, ip.n);
    ret[ip.n] = '\0';
    if (inet_pton(AF_INET6, ret, &a) != 1 || IN6_IS_ADDR_V4MAPPED(&a))
        return ip;
    memset(a.s6_addr + 8, 0, 8);
    (void)inet_ntop(AF_INET6, &a, ret, INET6_ADDRSTRLEN);
    return slice_str(ret);
}

/* --- settling --- */

/* Half as much after each period, by the same rule as in limit.lua. */
static int64_t decayed(int64_t n, uint64_t elapsed_ms)
{
    if (elapsed_ms >= 16ull * PERIOD_MS)
        return 0;
    n >>= elapsed_ms / PERIOD_MS;
    return n - n * (int64_t)(elapsed_ms % PERIOD_MS) / (int64_t)(2 * PERIOD_MS);
}

static void accrue(struct subject *s, uint64_t now_ms)
{
    uint64_t elapsed = now_ms - s->left_ms;
    int64_t most = (int64_t)capacity(s) * TOKEN;
    s->left_ms = now_ms;
    s->left += s->rate_m * (int64_t)(elapsed < 60000 ? elapsed : 60000) / 1000;
    if (s->left > most)
        s->left = most;
}

static void share(struct subject *s)
{
    struct limits *l = s->limits;
    if (!is_shared(s))
        list_append(&l->shared, &s->shared);
    if (!l->ticking)
        timer_start(&l->timer, PERIOD_MS);
    l->ticking = true;
}

/* What the store says of all nodes together becomes this node's part. */
static void take_part(struct subject *s, int64_t used, int64_t wanted)
{
    uint64_t now = loop_now_ms(s->limits->gw->loop);
    int64_t rate = (int64_t)s->rate * TOKEN, available = (int64_t)capacity(s) * TOKEN - used;
    int64_t mine = s->mine < wanted ? s->mine : wanted;
    if (wanted <= 0)
        mine = wanted = 1;
    int64_t over = available < 0 ? -available : 0;
    share(s);
    s->left = (available > 0 ? available * mine / wanted : 0) - (int64_t)s->taken * TOKEN;
    s->rate_m = over < rate ? (rate - over) * mine / wanted : 0;
    s->left_ms = now;
}

static void on_settled(void *arg, const struct broker_result *r)
{
    struct subject *s = arg;
    s->asking = false;
    if (s->gone) {
        free(s);
        return;
    }
    if (r->err == OK)
        take_part(s, (int64_t)r->limit_used, (int64_t)r->limit_wanted);
}

static void settle(struct subject *s)
{
    struct gateway *g = s->limits->gw;
    uint64_t now = loop_now_ms(g->loop);
    const struct limit_report report = {
        .subject = {s->name, s->n}, .rate = s->rate, .burst = capacity(s), .taken = s->taken, .wanted = s->wanted};
    s->mine = decayed(s->mine, now - s->mine_ms) + (int64_t)s->wanted * TOKEN;
    s->mine_ms = now;
    s->taken = s->wanted = 0;
    s->asking = true;
    metrics->limit_settlements++;
    g->broker->ops->limit(g->broker, &report, on_settled, s);
}

/* It is this node's own again. */
static void unshare(struct subject *s)
{
    uint64_t most = (uint64_t)capacity(s) * TOKEN, left = s->left > 0 ? (uint64_t)s->left : 0;
    list_del(&s->shared);
    s->local =
        (struct bucket){.used = left < most ? (most - left) * 1000 : 0, .at_us = loop_now_us(s->limits->gw->loop)};
    s->taken = s->wanted = 0;
    s->calm = 0;
}

static bool little(const struct subject *s)
{
    return s->wanted < SHARED_LEAST || s->wanted * SHARED_FROM < s->rate;
}

static void on_period(struct timer *t)
{
    struct limits *l = container_of(t, struct limits, timer);
    struct link turn;
    list_init(&turn);
    list_splice(&turn, &l->shared);
    for (unsigned i = 0; i < SETTLE_MAX && !list_empty(&turn); i++) {
        struct subject *s = list_first(&turn, struct subject, shared);
        list_del(&s->shared);
        list_append(&l->shared, &s->shared);
        s->calm = little(s) ? s->calm + 1 : 0;
        if (s->calm > CALM_PERIODS && !s->asking)
            unshare(s);
        else if (!s->asking && s->wanted != 0)
            settle(s);
    }
    list_splice(&turn, &l->shared); /* those whose turn did not come are first next time */
    list_splice(&l->shared, &turn);
    l->ticking = !list_empty(&l->shared);
    if (l->ticking)
        timer_start(t, PERIOD_MS);
}

/* --- taking --- */

static bool take_local(struct subject *s)
{
    struct limits *l = s->limits;
    uint64_t now = loop_now_ms(l->gw->loop);
    if (now - s->since_ms >= PERIOD_MS && !s->asking) {
        s->since_ms = now;
        s->taken = s->wanted = 0;
    }
    bool ok = bucket_take(&s->local, s->rate, s->burst, loop_now_us(l->gw->loop));
    s->taken += ok;
    s->wanted++;
    if (l->gw->broker->ops->limit != NULL && !s->asking && !little(s)) {
        settle(s);
    }
    return ok;
}

static bool take_shared(struct subject *s)
{
    accrue(s, loop_now_ms(s->limits->gw->loop));
    s->wanted++;
    if (s->left < TOKEN)
        return false;
    s->left -= TOKEN;
    s->taken++;
    return true;
}

bool limits_take(struct limits *l, enum limit_kind kind, struct slice name, uint32_t rate, uint32_t burst)
{
    char text[INET6_ADDRSTRLEN], key[NAME_BYTES];
    if (rate == 0 || name.n == 0 || l->gw->broker == NULL)
        return true;
    if (kind == LIMIT_IP || kind == LIMIT_LOGIN)
        name = network_of(name, text);
    int n = snprintf(key, sizeof key, "%s:%.*s", words[kind], SLICE_FMT(name));
    struct subject *s = subject_of(l, (struct slice){key, (size_t)n < sizeof key ? (size_t)n : sizeof key - 1});
    s->rate = rate;
    s->burst = burst;
    bool ok = is_shared(s) ? take_shared(s) : take_local(s);
    metrics->limited[kind] += !ok;
    return ok;
}

/* --- life --- */

struct limits *limits_create(struct gateway *g)
{
    struct limits *l = xcalloc(1, sizeof *l);
    l->gw = g;
    list_init(&l->used);
    list_init(&l->shared);
    timer_init(&l->timer, g->loop, on_period);
    return l;
}

void limits_destroy(struct limits **lp)
{
    struct limits *l = TAKE(*lp);
    if (l == NULL)
        return;
    while (!list_empty(&l->used))
        forget(list_first(&l->used, struct subject, used));
    timer_stop(&l->timer);
    free(l);
}
