/* gateway/api_bans.c: users whom nobody lets in, and tokens that count no longer, as backends decide it. */
#include "base/log.h"
#include "base/mem.h"
#include "gateway/api.h"
#include "gateway/api_routes.h"
#include "gateway/api_verdict.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/uri.h"
#include "proto/json.h"

#define ARENA_BYTES  65536u
#define CURSOR_BYTES 300

/* A request under way, and the answer if it goes well. */
struct judging {
    struct api_call *call;
    const char *fact; /* to be logged then; NULL: it changes nothing */
    uint64_t *count;
    struct buf answer;
};

static struct judging *judging_create(struct api_call *c)
{
    struct judging *j = xcalloc(1, sizeof *j);
    j->call = c;
    return j;
}

static void judging_end(struct judging *j)
{
    buf_fini(&j->answer);
    free(j);
}

static void on_done(void *arg, const struct broker_result *r)
{
    struct judging *j = arg;
    if (r->err != OK) {
        api_refuse_result(j->call, r->err, r->why);
    } else {
        LOG(INFO, j->fact, "by=%s id=%s what=%s", log_q(slice_str(j->call->key->name)), j->call->id,
            log_q(buf_slice(&j->answer)));
        (*j->count)++;
        api_answer(j->call, buf_slice(&j->answer));
    }
    judging_end(j);
}

static struct judging *judging_of(struct api_call *c, const char *fact, uint64_t *count)
{
    struct judging *j = judging_create(c);
    j->fact = fact;
    j->count = count;
    return j;
}

/* --- bans --- */

static void put_ban(struct buf *b, const struct ban_record *ban)
{
    api_put(b, "{\"user\":", ban->user);
    api_put(b, ",\"reason\":", ban->reason);
    api_put_time(b, ",\"until\":", ban->until_ms);
    if (ban->since_ms != 0)
        api_put_time(b, ",\"since\":", ban->since_ms);
    api_put(b, ",\"by\":", ban->by);
    buf_append_char(b, '}');
}

/* The user in the path; else it is answered. */
static bool read_user(struct api_call *c, char bytes[NAME_MAX_USER], struct slice *ret)
{
    struct error error = {0};
    if (api_param_user(c->params[0], bytes, ret, &error) == OK)
        return true;
    api_refuse(c, &error);
    return false;
}

void api_put_ban(struct api_call *c, const struct http_request *r)
{
    char bytes[NAME_MAX_USER];
    struct slice user;
    struct ban_record ban;
    struct error error = {0};
    struct arena arena;
    if (!read_user(c, bytes, &user))
        return;
    arena_init(&arena, ARENA_BYTES);
    if (api_read_ban(r->body, &arena, loop_wall_ms(c->gw->loop), &ban, &error) != OK) {
        api_refuse(c, &error);
    } else {
        struct judging *j = judging_of(c, "user banned", &metrics->bans);
        ban.user = user;
        ban.by = slice_str(c->key->name);
        put_ban(&j->answer, &ban);
        c->gw->broker->ops->ban(c->gw->broker, &ban, on_done, j);
    }
    arena_reset(&arena);
}

void api_delete_ban(struct api_call *c, const struct http_request *r)
{
    char bytes[NAME_MAX_USER];
    struct slice user;
    (void)r;
    if (!read_user(c, bytes, &user))
        return;
    struct judging *j = judging_of(c, "ban taken back", &metrics->unbans);
    api_put(&j->answer, "{\"user\":", user);
    buf_append_char(&j->answer, '}');
    c->gw->broker->ops->unban(c->gw->broker, user, on_done, j);
}

static void on_ban(void *arg, const struct broker_result *r)
{
    struct judging *j = arg;
    if (r->err == ERR_BANNED) {
        put_ban(&j->answer, &r->bans[0]);
        api_answer(j->call, buf_slice(&j->answer));
    } else if (r->err == OK) {
        api_refuse_with(j->call, ERR_NOT_FOUND, "this user is not banned");
    } else {
        api_refuse_result(j->call, r->err, r->why);
    }
    judging_end(j);
}

void api_get_ban(struct api_call *c, const struct http_request *r)
{
    char bytes[NAME_MAX_USER];
    struct slice user;
    (void)r;
    if (!read_user(c, bytes, &user))
        return;
    c->gw->broker->ops->admit(c->gw->broker, &(struct admission){.user = user}, on_ban, judging_create(c));
}

static void on_bans(void *arg, const struct broker_result *r)
{
    struct judging *j = arg;
    struct buf *b = &j->answer;
    if (r->err != OK) {
        api_refuse_result(j->call, r->err, r->why);
        judging_end(j);
        return;
    }
    buf_append_str(b, "{\"bans\":[");
    for (size_t i = 0; i < r->count; i++) {
        if (i != 0)
            buf_append_char(b, ',');
        put_ban(b, &r->bans[i]);
    }
    api_put(b, "],\"next\":", r->more ? r->cursor : SLICE_NONE);
    buf_append_char(b, '}');
    api_answer(j->call, buf_slice(b));
    judging_end(j);
}

void api_get_bans(struct api_call *c, const struct http_request *r)
{
    char bytes[CURSOR_BYTES];
    struct slice cursor;
    struct error error = {0};
    uint32_t limit;
    if (api_limit(r->query, &limit, &error) != OK ||
        api_query_text(r->query, "cursor", bytes, sizeof bytes, &cursor, &error) != OK) {
        api_refuse(c, &error);
        return;
    }
    c->gw->broker->ops->bans(c->gw->broker, cursor, limit, on_bans, judging_create(c));
}

/* --- tokens --- */

static void put_revocation(struct buf *b, const struct revocation *what)
{
    if (what->jti.n != 0) {
        api_put(b, "{\"jti\":", what->jti);
    } else {
        api_put(b, "{\"user\":", what->user);
        api_put_time(b, ",\"before\":", what->before_s);
    }
    api_put_time(b, ",\"expires\":", what->until_ms / 1000);
    buf_append_char(b, '}');
}

void api_revoke(struct api_call *c, const struct http_request *r)
{
    struct revocation what;
    struct error error = {0};
    struct arena arena;
    arena_init(&arena, ARENA_BYTES);
    if (api_read_revocation(r->body, &arena, loop_wall_ms(c->gw->loop), c->gw->cfg->revocation_time_s, &what, &error) !=
        OK) {
        api_refuse(c, &error);
    } else {
        struct judging *j = judging_of(c, "tokens revoked", &metrics->revocations);
        what.by = slice_str(c->key->name);
        put_revocation(&j->answer, &what);
        c->gw->broker->ops->revoke(c->gw->broker, &what, on_done, j);
    }
    arena_reset(&arena);
}
