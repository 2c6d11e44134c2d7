/* gateway/polling_record.c: connections by long-polling as the store keeps them. */
#include "gateway/polling_record.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "broker/broker.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/grant.h"
#include "gateway/room.h"
#include "gateway/session.h"
#include "gateway/trail.h"
#include "proto/json.h"

#define SETTLED   "{\"settled\":true,"
#define UNSETTLED "{\"settled\":false,"
#define ARENA     4096u   /* besides twice its size */
#define ROOMS_MAX 100000u /* of one session: as many as may be allowed */

/* --- writing --- */

/* What a client has said of itself need not be UTF-8; then it is not kept. */
static void put_text(struct buf *b, const char *name, struct slice s)
{
    if (s.n == 0 || !utf8_valid(s))
        return;
    buf_printf(b, ",\"%s\":", name);
    json_quote(b, s);
}

static void put_names(struct buf *b, const char *label, const struct buf *names)
{
    const char *before = "";
    if (names->n == 0)
        return;
    buf_printf(b, ",\"%s\":[", label);
    for (const char *p = auth_name_next(names, NULL); p != NULL; p = auth_name_next(names, p)) {
        buf_append_str(b, before);
        json_quote(b, slice_str(p));
        before = ",";
    }
    buf_append_char(b, ']');
}

/* As a backend would say it, which is how it is read. */
static void put_grant(struct buf *b, const struct auth_claims *c)
{
    buf_append_str(b, ",\"grant\":{\"user\":");
    if (c->user[0] != '\0')
        json_quote(b, slice_str(c->user));
    else
        buf_append_str(b, "null");
    if (c->expires_s != 0)
        buf_printf(b, ",\"expires\":%llu", (unsigned long long)c->expires_s);
    put_names(b, "join", &c->join);
    put_names(b, "publish", &c->publish);
    put_names(b, "watch", &c->watch);
    put_names(b, "rooms", &c->room);
    if (c->attributes.n != 0) {
        buf_append_str(b, ",\"attributes\":");
        buf_append(b, buf_slice(&c->attributes));
    }
    buf_printf(b, "},\"issued\":%llu", (unsigned long long)c->issued_s);
    put_text(b, "jti", slice_str(c->jti));
}

static void put_positions(struct buf *b, const struct session *s, bool all)
{
    const char *before = "";
    buf_append_str(b, ",\"rooms\":[");
    list_for_each (it, &s->members) {
        const struct member *m = list_entry(it, struct member, in_session);
        const struct position *told = all ? trail_told_ever(m) : trail_told(m);
        if (told == NULL)
            continue;
        buf_printf(b, "%s[", before);
        json_quote(b, m->room->name);
        buf_append_str(b, ",\"");
        position_append(b, told);
        buf_append_str(b, "\"]");
        before = ",";
    }
    buf_append_char(b, ']');
}

static void put_session(struct buf *b, const struct channel *ch, bool all)
{
    const struct session *s = ch->conn->session;
    buf_append_str(b, "{\"namespace\":");
    json_quote(b, ch->namespace->protocol->nsp);
    put_text(b, "session", slice_str(s->sid));
    put_text(b, "token", slice_str(s->token));
    put_text(b, "user", s->user);
    if (s->told.offset != 0) {
        buf_append_str(b, ",\"alone\":\"");
        position_append(b, &s->told);
        buf_append_char(b, '"');
    }
    if (s->grant != NULL)
        put_grant(b, &s->grant->claims);
    put_positions(b, s, all);
    buf_append_char(b, '}');
}

static void put_head(struct buf *b, const struct engine *e, bool base64)
{
    buf_append_str(b, namespaces_opening(e) ? UNSETTLED : SETTLED);
    buf_printf(b, "\"revision\":%d,\"base64\":%s", (int)e->revision, base64 ? "true" : "false");
    if (e->echo)
        buf_append_str(b, ",\"echo\":true");
    put_text(b, "ip", slice_str(e->conn->ip));
    put_text(b, "agent", slice_str(e->agent));
    put_text(b, "origin", slice_str(e->origin));
    put_text(b, "token", slice_str(e->token));
    put_text(b, "user", slice_str(e->user));
    put_text(b, "referer", slice_str(e->referer));
    put_text(b, "code", slice_str(e->code));
    put_text(b, "appid", slice_str(e->appid));
    buf_append_str(b, ",\"namespaces\":[");
}

void record_append(const struct engine *e, bool base64, struct buf *ret)
{
    const char *before = "";
    put_head(ret, e, base64);
    list_for_each (it, &e->channels) {
        const struct channel *ch = list_entry(it, struct channel, link);
        const struct session *s = ch->conn->session;
        if (s == NULL || s->state != SESSION_ACTIVE || ch->conn->state != CONN_OPEN || ch->ended)
            continue;
        buf_append_str(ret, before);
        put_session(ret, ch, false);
        before = ",";
    }
    buf_append_str(ret, "]}");
}

void record_append_one(const struct channel *ch, struct buf *ret)
{
    put_head(ret, ch->engine, false);
    put_session(ret, ch, true);
    buf_append_str(ret, "]}");
}

void record_unsettle(struct slice record, struct buf *ret)
{
    bool settled = slice_starts(record, SLICE(SETTLED));
    buf_append_str(ret, UNSETTLED);
    buf_append(ret, slice_from(record, settled ? strlen(SETTLED) : strlen(UNSETTLED)));
}

/* --- reading --- */

static bool text_of(struct json_value v, struct arena *a, struct slice *ret)
{
    struct error ignored;
    return v.kind == JSON_KIND_NONE || (v.kind == JSON_KIND_STRING && json_unquote(v, a, ret, &ignored) == OK);
}

static bool flag_of(struct json_value v, bool *ret)
{
    *ret = v.kind == JSON_KIND_TRUE;
    return v.kind == JSON_KIND_TRUE || v.kind == JSON_KIND_FALSE;
}

static bool position_of(struct json_value v, struct arena *a, struct position *ret)
{
    struct slice text = SLICE_NONE;
    return v.kind == JSON_KIND_STRING && text_of(v, a, &text) && position_parse(text, ret);
}

static bool read_position(struct json_value pair, struct arena *a, struct command_position *ret)
{
    struct json_value room, position, more;
    size_t at = 0;
    return pair.kind == JSON_KIND_ARRAY && json_next(pair, &at, &room) && room.kind == JSON_KIND_STRING &&
           json_next(pair, &at, &position) && !json_next(pair, &at, &more) && text_of(room, a, &ret->room) &&
           utf8_name_valid(ret->room, NAME_MAX_ROOM) && position_of(position, a, &ret->seen.at);
}

static bool read_positions(struct json_value rooms, struct arena *a, struct record_session *s)
{
    struct json_value pair;
    size_t at = 0, count = 0;
    if (rooms.kind != JSON_KIND_ARRAY)
        return false;
    while (json_next(rooms, &at, &pair))
        count++;
    if (count > ROOMS_MAX)
        return false;
    s->positions = xcalloc(count + 1, sizeof *s->positions);
    for (at = 0; json_next(rooms, &at, &pair); s->position_count++)
        if (!read_position(pair, a, &s->positions[s->position_count]))
            return false;
    return true;
}

static bool read_grant(struct json_value grant, struct json_value issued, struct json_value jti, struct arena *a,
                       struct record_session *s)
{
    struct error ignored;
    struct slice name = SLICE_NONE;
    uint64_t issued_s;
    if (grant.kind == JSON_KIND_NONE)
        return true;
    if (grant.kind != JSON_KIND_OBJECT || !json_uint(issued, OFFSET_MAX, &issued_s) || !text_of(jti, a, &name) ||
        name.n > AUTH_JTI_MAX || auth_answer_read(grant.raw, issued_s, &s->claims, &ignored) != OK)
        return false;
    s->granted = true;
    if (name.n != 0)
        s->claims.jti = xstrndup(name.p, name.n);
    return slice_eq(slice_str(s->claims.user), s->user);
}

static bool is_id(struct slice s, size_t n)
{
    if (s.n != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (s.p[i] <= ' ' || s.p[i] > '~' || strchr("{}%", s.p[i]) != NULL)
            return false;
    return true;
}

static bool read_session(struct json_value object, struct arena *a, struct record_session *s)
{
    enum { NSP, SID, TOKEN, USER, ALONE, GRANT, ISSUED, JTI, ROOMS, NAMES };
    static const char *const names[NAMES] = {"namespace", "session", "token", "user", "alone",
                                             "grant",     "issued",  "jti",   "rooms"};
    struct json_value v[NAMES];
    struct error ignored;
    return object.kind == JSON_KIND_OBJECT && json_members(object.raw, names, NAMES, v, &ignored) == OK &&
           text_of(v[NSP], a, &s->nsp) && s->nsp.n != 0 && s->nsp.p[0] == '/' &&
           utf8_name_valid(s->nsp, SIO_NAMESPACE_MAX) && text_of(v[SID], a, &s->sid) && is_id(s->sid, SID_LEN) &&
           text_of(v[TOKEN], a, &s->token) && is_id(s->token, TOKEN_LEN) && text_of(v[USER], a, &s->user) &&
           (s->user.n == 0 || utf8_name_valid(s->user, NAME_MAX_USER)) &&
           (v[ALONE].kind == JSON_KIND_NONE || position_of(v[ALONE], a, &s->alone)) &&
           read_grant(v[GRANT], v[ISSUED], v[JTI], a, s) && read_positions(v[ROOMS], a, s);
}

static bool read_sessions(struct json_value list, struct record *r)
{
    struct json_value object;
    size_t at = 0;
    if (list.kind != JSON_KIND_ARRAY)
        return false;
    while (json_next(list, &at, &object)) {
        if (r->session_count == CHANNELS_MAX)
            return false;
        struct record_session *s = &r->sessions[r->session_count++];
        if (!read_session(object, &r->arena, s) || record_find(r, s->nsp) != s)
            return false;
    }
    return true;
}

static bool read_all(struct slice text, struct record *r)
{
    enum { STATE, REVISION, BASE64, IP, AGENT, ORIGIN, TOKEN, USER, REFERER, CODE, APPID, ECHO, NAMESPACES, NAMES };
    static const char *const names[NAMES] = {"settled", "revision", "base64", "ip",    "agent", "origin",    "token",
                                             "user",    "referer",  "code",   "appid", "echo",  "namespaces"};
    struct slice *const texts[] = {&r->ip,   &r->agent,   &r->origin, &r->token,
                                   &r->user, &r->referer, &r->code,   &r->appid};
    struct json_value v[NAMES];
    struct error ignored;
    uint64_t revision;
    if (!utf8_valid(text) || json_members(text, names, NAMES, v, &ignored) != OK || !flag_of(v[STATE], &r->settled) ||
        !flag_of(v[BASE64], &r->base64) || !json_uint(v[REVISION], 4, &revision) || revision < 3)
        return false;
    r->echo = v[ECHO].kind == JSON_KIND_TRUE;
    r->revision = (enum eio_revision)revision;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (!text_of(v[IP + i], &r->arena, texts[i]))
            return false;
    return r->ip.n < CONN_IP_MAX && r->token.n <= AUTH_TOKEN_MAX && read_sessions(v[NAMESPACES], r);
}

enum err record_read(struct slice text, struct record *ret, struct error *reterr)
{
    memset(ret, 0, sizeof *ret);
    arena_init(&ret->arena, ARENA + 2 * text.n);
    if (text.n <= RECORD_MAX && read_all(text, ret))
        return OK;
    record_fini(ret);
    return fail(reterr, ERR_BAD_REQUEST, "a record of %zu bytes that is none of a connection by long-polling", text.n);
}

void record_fini(struct record *r)
{
    for (size_t i = 0; i < r->session_count; i++) {
        auth_claims_fini(&r->sessions[i].claims);
        free(r->sessions[i].positions);
    }
    arena_reset(&r->arena);
    memset(r, 0, sizeof *r);
}

struct record_session *record_find(struct record *r, struct slice nsp)
{
    for (size_t i = 0; i < r->session_count; i++)
        if (slice_eq(r->sessions[i].nsp, nsp))
            return &r->sessions[i];
    return NULL;
}
