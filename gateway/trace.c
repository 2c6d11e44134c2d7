/* gateway/trace.c: where a member stands, and what that says of one message. */
#include "gateway/trace.h"

#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/room.h"
#include "gateway/session.h"

static const struct {
    const char *word, *sentence;
} traces[TRACES] = {
#define X(code, word, sentence) [code] = {word, sentence},
    TRACE_MAP(X)
#undef X
};

const char *trace_word(enum trace t)
{
    return traces[t].word;
}

const char *trace_sentence(enum trace t)
{
    return traces[t].sentence;
}

enum trace trace_find(struct slice word)
{
    enum trace t = 0;
    while (t < TRACES && !slice_eq(word, slice_str(traces[t].word)))
        t++;
    return t;
}

/* A connection keeps no account of which bytes belong to which message. */
static enum trace on_connection(const struct session *s, const struct room *r)
{
    bool drops = r->policy->slow == POLICY_SLOW_DROP_OLDEST ||
                 (r->policy->slow == POLICY_SLOW_DEFAULT && s->gw->cfg->slow_consumer == SLOW_DROP_OLDEST);
    if (drops)
        return TRACE_UNCERTAIN;
    return s->conn != NULL && s->conn->out.count == 0 && list_empty(&r->flush.link) ? TRACE_SENT : TRACE_QUEUED;
}

enum trace trace_member(const struct session *s, struct slice room, uint64_t offset)
{
    const struct member *m = session_member(s, room);
    if (m == NULL || m->phase == MEMBER_LEAVING)
        return TRACE_NOT_MEMBER;
    if (m->phase == MEMBER_JOINING)
        return m->returning ? TRACE_REPLAYING : TRACE_JOINING;
    if (offset > m->room->stream.last.offset)
        return TRACE_NOT_YET;
    if (!list_empty(&m->in_room))
        return TRACE_BEHIND;
    if (offset <= m->entered)
        return TRACE_LATER;
    if (m->whole && m->has_seen && offset <= m->seen.at.offset)
        return TRACE_EARLIER;
    return on_connection(s, m->room);
}
