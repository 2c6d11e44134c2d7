/* gateway/polling_take.c: connections by long-polling that were another node's. */
#include "gateway/polling_take.h"

#include "base/log.h"
#include "base/mem.h"
#include "gateway/auth/auth.h"
#include "gateway/conn.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/grant.h"
#include "gateway/metrics.h"
#include "gateway/polling_private.h"
#include "gateway/polling_record.h"
#include "gateway/recover.h"
#include "gateway/resume.h"

/* Until the first GET. */
struct polling_back {
    struct buf state, before, answered;
};

static void own(struct buf *b, struct slice s)
{
    buf_append(b, s);
}

void polling_back_free(struct polling_back *back)
{
    if (back == NULL)
        return;
    buf_fini(&back->state);
    buf_fini(&back->before);
    buf_fini(&back->answered);
    free(back);
}

/* --- building it --- */

static char *copy(struct slice s)
{
    return s.n != 0 ? xstrndup(s.p, s.n) : NULL;
}

static void tell_facts(struct engine *e, const struct record *r)
{
    e->echo = r->echo;
    e->agent = copy(r->agent);
    e->origin = copy(r->origin);
    e->token = copy(r->token);
    e->user = copy(r->user);
    e->referer = copy(r->referer);
    e->code = copy(r->code);
    e->appid = copy(r->appid);
}

enum err polling_revive(struct gateway *g, struct slice sid, const struct polling_record *stored, struct polling **ret,
                        struct error *reterr)
{
    struct record r;
    if (g->draining)
        return fail(reterr, ERR_DRAINING, "this node is going away");
    enum err err = record_read(stored->state, &r, reterr);
    if (err != OK)
        return err;
    if (!r.settled)
        err = fail(reterr, ERR_NOT_FOUND, "its client was connecting to a namespace, or leaving one");
    struct polling *po = NULL;
    if (err == OK)
        err = polling_create(g, r.revision, r.ip, r.base64, &po, reterr);
    if (err == OK) {
        memcpy(po->engine->sid, sid.p, SID_LEN);
        tell_facts(po->engine, &r);
        po->back = xcalloc(1, sizeof *po->back);
        own(&po->back->state, stored->state);
        own(&po->back->before, stored->before);
        own(&po->back->answered, stored->answered);
        po->engine->returning = 1;
        polling_list(po);
        engine_go_on(po->engine);
        metrics->polls_taken_over++;
        LOG(INFO, "connection by long-polling goes on here", "engine=%.6s peer=%s sessions=%zu", po->engine->sid,
            po->engine->conn->ip, r.session_count);
        *ret = po;
    }
    record_fini(&r);
    return err;
}

/* --- its sessions --- */

static bool expired(const struct gateway *g, const struct record_session *s)
{
    uint64_t leeway_s = g->auth != NULL ? auth_jwt_leeway_s(g->auth) : 0;
    return s->granted && s->claims.expires_s != 0 && g->cfg->jwt_expiry != EXPIRY_IGNORE &&
           loop_wall_ms(g->loop) / 1000 >= s->claims.expires_s + leeway_s;
}

static bool any_expired(const struct gateway *g, const struct record *r)
{
    for (size_t i = 0; i < r->session_count; i++)
        if (expired(g, &r->sessions[i]))
            return true;
    return false;
}

static struct resume *wish(struct gateway *g, const struct record_session *s)
{
    struct resume *r = resume_create(g, s->sid, s->token);
    r->recovers = r->moved = true;
    r->alone = s->alone;
    resume_set_positions(r, s->positions, s->position_count);
    return r;
}

static void take_up(struct engine *e, struct record_session *s)
{
    struct grant *grant = s->granted ? grant_create(&s->claims) : NULL;
    struct channel *ch = channel_begin(e, s->nsp, s->user, grant, wish(e->gw, s));
    ch->returning = true;
    e->returning++;
}

/* Where its client was before the answer that it may not have got. A namespace that is new since then cannot be told again. */
static bool go_back(struct record *to, struct record *from)
{
    for (size_t i = 0; i < to->session_count; i++) {
        struct record_session *s = &to->sessions[i], *was = record_find(from, s->nsp);
        if (was == NULL || !slice_eq(was->sid, s->sid))
            return false;
        free(s->positions);
        s->positions = TAKE(was->positions);
        s->position_count = was->position_count;
        s->alone = was->alone;
    }
    return true;
}

/* False: it must begin anew. */
static bool take_all_up(struct polling *po, const struct polling_back *back, bool again)
{
    struct engine *e = po->engine;
    struct record r, was = {0};
    struct error ignored;
    if (record_read(buf_slice(&back->state), &r, &ignored) != OK)
        return false;
    bool ok = !again || (record_read(buf_slice(&back->before), &was, &ignored) == OK && go_back(&r, &was));
    ok = ok && !any_expired(e->gw, &r);
    for (size_t i = 0; ok && i < r.session_count; i++)
        take_up(e, &r.sessions[i]);
    record_fini(&r);
    record_fini(&was);
    return ok;
}

void polling_go_on(struct polling *po, struct slice again)
{
    struct polling_back *back = TAKE(po->back);
    if (back == NULL)
        return;
    bool lost = again.n != 0 && slice_eq(buf_slice(&back->answered), again) && back->before.n != 0;
    if (!take_all_up(po, back, lost)) {
        LOG(INFO, "connection by long-polling cannot go on", "engine=%.6s", po->engine->sid);
        conn_close(po->engine->conn, err_close_code(ERR_UNAVAILABLE), SLICE("unavailable"));
    }
    save_begin(&po->save, lost ? &back->before : &back->state, !lost);
    polling_back_free(back);
    engine_returned(po->engine);
}

bool polling_may_carry_on(const struct gateway *g, const struct record *r)
{
    return r->settled && !any_expired(g, r);
}

void polling_carry_on(struct conn *c, struct slice sid, struct record *r, struct move *move)
{
    struct engine *e = engine_create(c, r->revision);
    memcpy(e->sid, sid.p, SID_LEN);
    tell_facts(e, r);
    e->move = move;
    e->returning = 1;
    engine_go_on(e);
    for (size_t i = 0; i < r->session_count; i++)
        take_up(e, &r->sessions[i]);
}
