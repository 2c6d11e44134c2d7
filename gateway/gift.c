/* gateway/gift.c: reading the attributes of a session, merging, and writing them unless they have changed meanwhile: then again. */
#include "gateway/gift.h"

#include <jansson.h>

#include "base/mem.h"
#include "gateway/gateway.h"
#include "gateway/protocol/protocol.h"

#define TRIES_MAX 5 /* when others change them at the same time */

struct gift {
    struct gateway *gw;
    gift_done *done;
    void *arg;
    json_t *patch;
    struct buf by_token, given;
    int tries;
    size_t sid_n;
    char sid[NAME_MAX_KEY];
};

static void on_attributes(void *arg, const struct broker_result *r);

static json_t *load_object(struct slice text)
{
    json_t *o = text.n != 0 ? json_loadb(text.p, text.n, JSON_ALLOW_NUL, NULL) : NULL;
    if (json_is_object(o))
        return o;
    json_decref(o);
    return json_object();
}

static void dump(const json_t *object, struct buf *ret)
{
    AUTO_FREE char *text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
    buf_append_str(ret, text != NULL ? text : "{}");
}

void gift_merge(struct slice by_token, struct slice given, struct buf *ret)
{
    const char *name;
    json_t *value, *all = load_object(by_token), *over = load_object(given);
    json_object_foreach(over, name, value)
    {
        if (json_is_null(value))
            json_object_del(all, name);
        else
            json_object_set(all, name, value);
    }
    dump(all, ret);
    json_decref(over);
    json_decref(all);
}

static void gift_end(struct gift *g, enum err err, const char *why)
{
    struct buf all = BUF_INIT;
    if (err == OK)
        gift_merge(buf_slice(&g->by_token), buf_slice(&g->given), &all);
    g->done(g->arg, err, why, buf_slice(&all));
    buf_fini(&all);
    buf_fini(&g->by_token);
    buf_fini(&g->given);
    json_decref(g->patch);
    free(g);
}

static void look(struct gift *g)
{
    struct broker *b = g->gw->broker;
    b->ops->session_get(b, (struct slice){g->sid, g->sid_n}, on_attributes, g);
}

static void on_given(void *arg, const struct broker_result *r)
{
    struct gift *g = arg;
    if (r->err == ERR_CONFLICT && ++g->tries < TRIES_MAX && g->gw->broker != NULL)
        look(g);
    else
        gift_end(g, r->err, r->why);
}

static void on_attributes(void *arg, const struct broker_result *r)
{
    struct gift *g = arg;
    struct broker *b = g->gw->broker;
    if (r->err != OK || b == NULL) {
        gift_end(g, r->err != OK ? r->err : ERR_UNAVAILABLE, r->err != OK ? r->why : "this node is stopping");
        return;
    }
    buf_clear(&g->by_token);
    buf_append(&g->by_token, r->session->attributes);
    json_t *given = load_object(r->session->given);
    json_object_update(given, g->patch);
    buf_clear(&g->given);
    dump(given, &g->given);
    json_decref(given);
    if (g->given.n <= GIFT_MAX) {
        b->ops->session_give(b, (struct slice){g->sid, g->sid_n}, r->session->given, buf_slice(&g->given), on_given, g);
        return;
    }
    struct error error;
    (void)fail(&error, ERR_TOO_LARGE, "the attributes of a session are at most %u bytes", GIFT_MAX);
    gift_end(g, error.code, error.text);
}

enum err gift_give(struct gateway *gw, struct slice sid, struct slice patch, gift_done *done, void *arg,
                   struct error *reterr)
{
    json_t *object = patch.n != 0 ? json_loadb(patch.p, patch.n, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (!json_is_object(object)) {
        json_decref(object);
        return fail(reterr, ERR_BAD_REQUEST, "attributes must be an object, with every member once and no \\u0000");
    }
    struct gift *g = xcalloc(1, sizeof *g);
    g->gw = gw;
    g->done = done;
    g->arg = arg;
    g->patch = object;
    g->sid_n = sid.n;
    memcpy(g->sid, sid.p, sid.n);
    look(g);
    return OK;
}
