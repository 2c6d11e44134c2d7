/* gateway/recover.c: Socket.IO clients that come back. */
#include "gateway/recover.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "gateway/common.h"
#include "gateway/conn.h"
#include "gateway/engine.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "gateway/protocol/socketio_offset.h"
#include "gateway/request.h"
#include "gateway/resume.h"
#include "gateway/room.h"
#include "gateway/trail.h"

/* With where it begins in the rooms that all are in. */
#define PID_MAX (SID_LEN + TOKEN_LEN + 64 * COMMON_ROOMS)

struct resume *recover_wish(struct gateway *g, struct slice pid, struct slice offset)
{
    if (pid.n < SID_LEN + TOKEN_LEN || pid.n > PID_MAX || offset.n > SIO_OFFSET_MAX)
        return NULL;
    struct resume *r = resume_create(g, (struct slice){pid.p, SID_LEN}, (struct slice){pid.p + SID_LEN, TOKEN_LEN});
    r->recovers = true;
    r->began = resume_own(slice_from(pid, SID_LEN + TOKEN_LEN));
    r->offset = resume_own(offset.n != 0 ? offset : r->began);
    return r;
}

void recover_begin(struct session *s)
{
    struct resume *r = TAKE(s->wish);
    r->user = resume_own(s->user);
    r->request = request_create(s, &(struct command){.kind = CMD_RESUME});
    resume_ask(r);
}

void recover_failed(struct resume *r, const struct broker_result *result)
{
    struct session *asking = r->request->session;
    bool gone = result->err == ERR_NOT_FOUND || result->err == ERR_UNAUTHORIZED;
    LOG(DEBUG, "not recovered", "session=%s wanted=%s code=%s", asking->sid, r->sid, err_name(result->err));
    if (asking->conn != NULL && !gone)
        session_turn_away(asking, result->err, result->why);
    else if (asking->conn != NULL && r->moved)
        conn_close(asking->conn, err_close_code(ERR_UNAVAILABLE), SLICE("unavailable")); /* its client begins anew */
    else if (asking->conn != NULL && asking->gw->broker != NULL)
        session_begin(asking);
    metrics->unrecovered += gone;
    resume_free(r);
}

/* --- is nothing missing? --- */

static void begin_anew(struct session *old)
{
    struct conn *c = TAKE(old->conn);
    struct resume *r = TAKE(old->resume);
    const struct http_request request = {.user_agent = slice_str(old->agent), .origin = slice_str(old->origin)};
    metrics->unrecovered++;
    LOG(DEBUG, "not recovered", "session=%s why=missed", old->sid);
    random_id(c->channel->sid, SID_LEN);
    c->session = NULL;
    session_open(c, &request, r->user, TAKE(old->grant));
    for (size_t i = 0; i < r->room_count; i++) {
        struct room *room = room_get(old->gw, r->rooms[i]);
        room_quit(room, old, EXIT_DISCONNECT);
        room_unref(room);
    }
    resume_free(r);
    session_over(old);
}

/* Whoever is not there any more, or cannot be told now, comes again: parked by the way of any resume. */
static void checked(struct session *s)
{
    const struct resume *r = s->resume;
    if (s->gw->broker == NULL || s->taken) /* taken: all that is left is to let go of it */
        return;
    if (s->conn != NULL && s->conn->state == CONN_OPENING && r->lost) {
        begin_anew(s);
        return;
    }
    if (s->conn != NULL && r->unknown)
        session_turn_away(s, ERR_UNAVAILABLE, "the store does not say what was missed");
    session_join_implicit(s);
}

struct check {
    struct session *session;
    struct command_position *position;
};

/* What the client was told last must be where it was, or be known to be followed by what the log has first. */
static bool goes_on(const struct broker_result *r, struct position *said)
{
    const struct message_record *first = r->count != 0 ? &r->messages[0] : NULL;
    if (sio_offset_is(said, &r->position)) {
        *said = r->position;
        return true;
    }
    if (first == NULL || r->position.offset < said->offset)
        return false;
    if (first->position.offset == said->offset + 1)
        return true;
    if (!sio_offset_is(said, &first->position))
        return false;
    *said = first->position;
    return true;
}

/* An inbox that does not go on from there begins behind what its user has read. */
static void not_there(struct resume *r, struct command_position *p)
{
    if (room_is_user(p->room))
        p->room.n = 0; /* found no more, and freed all the same */
    else
        r->lost = true;
}

static void on_page(void *arg, const struct broker_result *result)
{
    struct check *c = arg;
    struct session *s = c->session;
    struct resume *r = s->resume;
    if (result->err != OK)
        r->unknown = true;
    else if (!goes_on(result, &c->position->seen.at))
        not_there(r, c->position);
    free(c);
    if (--r->checks == 0)
        checked(s);
    session_unref(s);
}

static void ask(struct session *s, struct command_position *p)
{
    struct check *c = xcalloc(1, sizeof *c);
    uint64_t offset = p->seen.at.offset;
    *c = (struct check){s, p};
    session_ref(s);
    const struct log_page page = {.room = p->room, .after = offset != 0 ? offset - 1 : 0, .limit = 1};
    s->gw->broker->ops->history(s->gw->broker, &page, on_page, c);
}

static void read_room(struct resume *r, struct slice room)
{
    struct command_position *p = &r->positions[r->position_count++];
    p->room = resume_own(room);
    /* One that it was never told of: whether it knows that it is there cannot be known. */
    if (sio_offset_find(r->offset, p->room, &p->seen.at) != SIO_OFFSET_POSITION)
        r->lost = true;
}

/* What was said to it alone is in no log. */
static bool knows_own(const struct session *s)
{
    struct trail_name name;
    struct position said;
    return sio_offset_find(s->resume->offset, trail_session(s, &name), &said) == SIO_OFFSET_POSITION &&
           sio_offset_is(&said, &s->told);
}

static void read_common(void *arg, struct slice room)
{
    read_room(arg, room);
}

/* It is not among the rooms that the store names: nobody joins it. */
static void read_inbox(struct resume *r, struct slice user)
{
    char name[sizeof "$user:" + NAME_MAX_USER];
    int n = snprintf(name, sizeof name, "$user:%.*s", SLICE_FMT(user));
    struct slice room = {name, (size_t)n};
    struct position at;
    if (user.n != 0 && sio_offset_find(r->offset, room, &at) == SIO_OFFSET_POSITION)
        r->positions[r->position_count++] = (struct command_position){.room = resume_own(room), .seen = {.at = at}};
}

/* Its client was told of more rooms than the store has it in: it would not miss them. */
static bool knows_more(const struct resume *r, const struct session *s)
{
    struct trail_name name;
    struct position ignored;
    size_t known = r->position_count;
    known += sio_offset_find(r->offset, trail_session(s, &name), &ignored) != SIO_OFFSET_NOTHING;
    return sio_offset_count(r->offset) > known;
}

static void read_offset(struct resume *r, const struct session *s)
{
    r->positions = xcalloc(r->room_count + 1 + COMMON_ROOMS, sizeof *r->positions);
    for (size_t i = 0; i < r->room_count; i++)
        read_room(r, r->rooms[i]);
    if (s->conn != NULL)
        common_each_name(sio_protocol_of(s->conn->protocol), read_common, r);
    read_inbox(r, s->user);
    if ((s->told.offset != 0 && !knows_own(s)) || knows_more(r, s))
        r->lost = true;
}

void recover_check(struct session *s)
{
    struct resume *r = s->resume;
    request_drop(&r->request);
    read_offset(r, s);
    r->checks = r->lost ? 0 : (uint32_t)r->position_count;
    if (r->checks == 0)
        checked(s);
    else
        for (size_t i = 0; i < r->position_count; i++)
            ask(s, &r->positions[i]);
}
