/* broker/memory_wechat.c: who has logged in at WeChat, as far as the embedded broker knows: as long as the process lasts. */
#include "base/mem.h"
#include "broker/memory.h"

#define SWEEP_USERS 64

struct login {
    char *name, *hash; /* NULL: free */
    uint64_t since_ms, seen_ms, known_until_ms;
};

struct wechat_user {
    UT_hash_handle hh;
    struct link all;
    char *id, *appid, *openid, *unionid, *info;
    size_t info_n;
    struct login logins[WECHAT_LOGINS_MAX];
};

/* --- logins --- */

static void login_drop(struct login *l)
{
    free(l->name);
    free(l->hash);
    *l = (struct login){0};
}

static uint64_t end_ms(const struct login *l, uint64_t whole_ms, uint64_t idle_ms)
{
    uint64_t whole = l->since_ms + whole_ms, idle = l->seen_ms + idle_ms;
    return whole < idle ? whole : idle;
}

static void login_seen(struct login *l, uint64_t now, const struct op *op)
{
    l->seen_ms = now;
    l->known_until_ms = end_ms(l, op->period_ms, op->lead_ms) + WECHAT_KEEP_MS;
}

static struct login *login_find(struct wechat_user *u, struct slice name)
{
    for (size_t i = 0; i < WECHAT_LOGINS_MAX; i++)
        if (u->logins[i].name != NULL && slice_eq(slice_str(u->logins[i].name), name))
            return &u->logins[i];
    return NULL;
}

/* One of that name, a free one, or the one that was not checked for longest. */
static struct login *login_place(struct wechat_user *u, struct slice name)
{
    struct login *place = login_find(u, name);
    for (size_t i = 0; place == NULL && i < WECHAT_LOGINS_MAX; i++)
        if (u->logins[i].name == NULL)
            place = &u->logins[i];
    if (place == NULL) {
        place = &u->logins[0];
        for (size_t i = 1; i < WECHAT_LOGINS_MAX; i++)
            if (u->logins[i].seen_ms < place->seen_ms)
                place = &u->logins[i];
    }
    login_drop(place);
    return place;
}

/* --- users --- */

static void user_forget(struct wechat_user *u)
{
    free(u->appid);
    free(u->openid);
    free(u->unionid);
    free(u->info);
}

static void user_free(struct memory *m, struct wechat_user *u)
{
    for (size_t i = 0; i < WECHAT_LOGINS_MAX; i++)
        login_drop(&u->logins[i]);
    HASH_DELETE(hh, m->wechat, u);
    list_del(&u->all);
    user_forget(u);
    free(u->id);
    free(u);
}

static struct wechat_user *user_find(struct memory *m, struct slice id)
{
    struct wechat_user *u;
    HASH_FIND(hh, m->wechat, id.p, id.n, u);
    return u;
}

static char *copy(struct slice s)
{
    return s.n != 0 ? xstrndup(s.p, s.n) : NULL;
}

static struct wechat_user *user_get(struct memory *m, struct slice id)
{
    struct wechat_user *u = user_find(m, id);
    if (u != NULL)
        return u;
    u = xcalloc(1, sizeof *u);
    u->id = xstrndup(id.p, id.n);
    list_append(&m->wechat_all, &u->all);
    HASH_ADD_KEYPTR(hh, m->wechat, u->id, id.n, u);
    return u;
}

/* False when he has none left. */
static bool user_expire(struct memory *m, struct wechat_user *u)
{
    bool any = false;
    for (size_t i = 0; i < WECHAT_LOGINS_MAX; i++) {
        struct login *l = &u->logins[i];
        if (l->name != NULL && l->known_until_ms <= loop_now_ms(m->b.loop))
            login_drop(l);
        any = any || l->name != NULL;
    }
    return any;
}

/* --- the operations --- */

static void run_put(struct memory *m, struct op *op)
{
    struct wechat_user *u = user_get(m, op->p.room);
    uint64_t now = loop_now_ms(m->b.loop);
    (void)user_expire(m, u);
    user_forget(u);
    u->appid = copy(op->p.except);
    u->openid = copy(op->p.user);
    u->unionid = copy(op->p.event);
    u->info = copy(op->p.data);
    u->info_n = op->p.data.n;
    struct login *l = login_place(u, op->p.key);
    *l = (struct login){.name = copy(op->p.key), .hash = copy(op->p.from), .since_ms = now};
    login_seen(l, now, op);
    broker_complete(op->done, op->arg, &(struct broker_result){.err = OK});
}

static void run_check(struct memory *m, struct op *op)
{
    struct wechat_user *u = user_find(m, op->p.room);
    struct login *l = u != NULL ? login_find(u, op->p.key) : NULL;
    uint64_t now = loop_now_ms(m->b.loop);
    if (l == NULL || !slice_eq(slice_str(l->hash), op->p.from) || !slice_eq(slice_str(u->appid), op->p.except)) {
        broker_fail(op->done, op->arg, ERR_NOT_FOUND, "no such login");
        return;
    }
    if (now >= end_ms(l, op->period_ms, op->lead_ms)) {
        broker_fail(op->done, op->arg, ERR_UNAUTHORIZED, "the login is over");
        return;
    }
    login_seen(l, now, op);
    const struct wechat_login view = {
        .openid = slice_str(u->openid), .unionid = slice_str(u->unionid), .info = {u->info, u->info_n}};
    broker_complete(op->done, op->arg, &(struct broker_result){.wechat = &view});
}

static void request(struct broker *b, void (*run)(struct memory *, struct op *), const struct wechat_login *l,
                    broker_done *done, void *arg)
{
    const struct publish p = {.room = l->id,
                              .key = l->name,
                              .from = l->hash,
                              .except = l->appid,
                              .user = l->openid,
                              .event = l->unionid,
                              .data = l->info};
    struct op *op = memory_request(b, run, &p, done, arg);
    op->period_ms = l->whole_ms;
    op->lead_ms = l->idle_ms;
}

void memory_wechat_put(struct broker *b, const struct wechat_login *l, broker_done *done, void *arg)
{
    request(b, run_put, l, done, arg);
}

void memory_wechat_check(struct broker *b, const struct wechat_login *l, broker_done *done, void *arg)
{
    request(b, run_check, l, done, arg);
}

void memory_wechat_sweep(struct memory *m)
{
    for (int i = 0; i < SWEEP_USERS && !list_empty(&m->wechat_all); i++) {
        struct wechat_user *u = list_first(&m->wechat_all, struct wechat_user, all);
        list_del(&u->all);
        list_append(&m->wechat_all, &u->all);
        if (!user_expire(m, u))
            user_free(m, u);
    }
}

void memory_wechat_clear(struct memory *m)
{
    while (!list_empty(&m->wechat_all))
        user_free(m, list_first(&m->wechat_all, struct wechat_user, all));
}
