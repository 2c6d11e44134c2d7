/* gateway/sweep.c: page by page, each session told by a command of its own. */
#include "gateway/sweep.h"

#include <stdio.h>

#include "base/mem.h"
#include "gateway/gateway.h"
#include "gateway/protocol/protocol.h"

#define PAGE      100u
#define IDLE_MAX  3    /* pages in a row in which nobody could be moved */
#define PAGES_MAX 2000 /* who goes on coming in for so long is not to be got rid of this way */
#define CLEAR_MAX 3

/* A page of sessions is listed and each of them sent a command, until the list is empty. */
struct sweep {
    struct gateway *gw;
    sweep_done *done;
    void *arg;
    enum control_verb verb; /* DISCONNECT: of a user; LEAVE: of a room */
    unsigned pages, idle, clears;
    uint64_t moved;
    size_t left, moved_now, cursor_n;
    char cursor[64]; /* behind pages that were empty, though there is more */
    enum err err;    /* of the last one that could not be moved */
    size_t name_n, reason_n;
    char name[NAME_MAX_ROOM], reason[CONTROL_REASON_MAX];
    char why[sizeof(((struct error *)0)->text)];
};

static struct slice name_of(const struct sweep *s)
{
    return (struct slice){s->name, s->name_n};
}

static void list_page(struct sweep *s);

static void sweep_end(struct sweep *s, enum err err, const char *why)
{
    s->done(s->arg, err, why, s->moved);
    free(s);
}

static void on_cleared(void *arg, const struct broker_result *r)
{
    struct sweep *s = arg;
    if (r->err == ERR_CONFLICT && ++s->clears < CLEAR_MAX && s->gw->broker != NULL)
        list_page(s); /* somebody has come in meanwhile */
    else
        sweep_end(s, r->err, r->why);
}

static void nobody_left(struct sweep *s)
{
    struct broker *b = s->gw->broker;
    if (s->verb == CONTROL_LEAVE)
        b->ops->room_clear(b, name_of(s), on_cleared, s);
    else
        sweep_end(s, OK, NULL);
}

static void page_over(struct sweep *s)
{
    s->moved += s->moved_now;
    s->idle = s->moved_now != 0 ? 0 : s->idle + 1;
    if (s->gw->broker == NULL)
        sweep_end(s, ERR_UNAVAILABLE, "this node is stopping");
    else if (s->idle < IDLE_MAX && ++s->pages < PAGES_MAX)
        list_page(s);
    else
        sweep_end(s, s->err != OK ? s->err : ERR_CONFLICT,
                  s->err != OK ? s->why : "they come back faster than they go");
}

static void on_moved(void *arg, enum err err, const char *why)
{
    struct sweep *s = arg;
    if (err == OK) {
        s->moved_now++;
    } else if (err == ERR_NOT_FOUND || err == ERR_NOT_MEMBER) {
        s->err = ERR_UNAVAILABLE; /* gone by itself; or its node has died, and will be cleaned up after */
        (void)snprintf(s->why, sizeof s->why, "a session cannot be reached at the moment");
    } else {
        s->err = err;
        (void)snprintf(s->why, sizeof s->why, "%s", why != NULL ? why : err_name(err));
    }
    if (--s->left == 0)
        page_over(s);
}

/* Nobody on this page, but there are others. */
static void next_page(struct sweep *s, struct slice cursor)
{
    if (cursor.n > sizeof s->cursor || ++s->pages >= PAGES_MAX) {
        sweep_end(s, ERR_UNAVAILABLE, "the store has not shown everybody");
        return;
    }
    s->cursor_n = cursor.n;
    memcpy(s->cursor, cursor.p, cursor.n);
    list_page(s);
}

static void on_page(void *arg, const struct broker_result *r)
{
    struct sweep *s = arg;
    if (r->err != OK || s->gw->broker == NULL) {
        sweep_end(s, r->err != OK ? r->err : ERR_UNAVAILABLE, r->err != OK ? r->why : "this node is stopping");
        return;
    }
    s->cursor_n = 0;
    if (r->count == 0) {
        if (r->more)
            next_page(s, r->cursor);
        else
            nobody_left(s);
        return;
    }
    s->left = r->count;
    s->moved_now = 0;
    for (size_t i = 0; i < r->count; i++) {
        const struct control what = {.verb = s->verb,
                                     .sid = r->members[i].sid,
                                     .room = s->verb == CONTROL_LEAVE ? name_of(s) : SLICE_NONE,
                                     .reason = {s->reason, s->reason_n}};
        control_send(s->gw, &what, on_moved, s);
    }
}

static void list_page(struct sweep *s)
{
    struct broker *b = s->gw->broker;
    if (s->verb == CONTROL_LEAVE)
        b->ops->presence(b, name_of(s), (struct slice){s->cursor, s->cursor_n}, PAGE, on_page, s);
    else
        b->ops->sessions(
            b,
            &(struct session_query){
                .by = SESSIONS_BY_USER, .name = name_of(s), .cursor = {s->cursor, s->cursor_n}, .limit = PAGE},
            on_page, s);
}

void sweep_begin(struct gateway *g, enum control_verb verb, struct slice name, struct slice reason, sweep_done *done,
                 void *arg)
{
    struct sweep *s = xcalloc(1, sizeof *s);
    s->gw = g;
    s->done = done;
    s->arg = arg;
    s->verb = verb;
    s->name_n = name.n;
    memcpy(s->name, name.p, name.n);
    s->reason_n = reason.n;
    if (reason.n != 0)
        memcpy(s->reason, reason.p, reason.n);
    list_page(s);
}
