/* broker/redis/replies.c: Redis' replies to plain values, trusting none of them. */
#include "broker/redis/redis.h"

#include "base/text.h"

const redisReply *reply_at(const redisReply *r, size_t at)
{
    return r != NULL && r->type == REDIS_REPLY_ARRAY && at < r->elements ? r->element[at] : NULL;
}

struct slice reply_slice(const redisReply *r)
{
    if (r == NULL || (r->type != REDIS_REPLY_STRING && r->type != REDIS_REPLY_STATUS))
        return SLICE_NONE;
    return (struct slice){r->str, (size_t)r->len};
}

bool reply_u64(const redisReply *r, uint64_t *ret)
{
    if (r != NULL && r->type == REDIS_REPLY_INTEGER && r->integer >= 0) {
        *ret = (uint64_t)r->integer;
        return true;
    }
    return text_u64(reply_slice(r), UINT64_MAX, ret);
}

bool reply_position(const redisReply *r, size_t at, struct position *ret)
{
    struct position p = {0};
    const redisReply *offset = reply_at(r, at), *tag = reply_at(r, at + 1);
    if (offset == NULL || tag == NULL)
        return false;
    if (offset->type == REDIS_REPLY_NIL || (reply_u64(offset, &p.offset) && p.offset == 0)) {
        *ret = (struct position){0};
        return true;
    }
    if (p.offset == 0 || !tag_valid(reply_slice(tag)))
        return false;
    memcpy(p.tag, tag->str, TAG_LEN);
    *ret = p;
    return true;
}

/* Cuts the next word off s. */
static bool word(struct slice *s, struct slice *ret)
{
    const char *space = s->n == 0 ? NULL : memchr(s->p, ' ', s->n);
    if (space == NULL)
        return false;
    *ret = (struct slice){s->p, (size_t)(space - s->p)};
    *s = slice_from(*s, ret->n + 1);
    return true;
}

bool member_parse(struct slice sid, struct slice value, struct member_record *ret)
{
    struct member_record m = {.sid = sid};
    struct slice since, state;
    if (sid.n == 0 || !word(&value, &m.node) || !word(&value, &since) || !word(&value, &state))
        return false;
    if (!text_u64(since, UINT64_MAX, &m.since_ms))
        return false;
    if (slice_eq(state, SLICE("suspended")))
        m.state = MEMBER_SUSPENDED;
    else if (!slice_eq(state, SLICE("active")))
        return false;
    m.user = value;
    *ret = m;
    return true;
}

/* `<offset> <tag> <since>`, the offset not 0. */
static bool was_parse(struct slice value, struct was *ret)
{
    struct slice offset, tag;
    struct was w = {0};
    if (!word(&value, &offset) || !word(&value, &tag) || !text_u64(offset, OFFSET_MAX, &w.at.offset) ||
        !tag_valid(tag) || !text_u64(value, OFFSET_MAX, &w.since) || w.since >= w.at.offset)
        return false;
    memcpy(w.at.tag, tag.p, TAG_LEN);
    *ret = w;
    return true;
}

static bool message_field(struct message_record *m, struct slice name, struct slice value)
{
    if (slice_eq(name, SLICE("time")))
        return text_u64(value, UINT64_MAX, &m->time_ms);
    if (slice_eq(name, SLICE("tag"))) {
        if (!tag_valid(value))
            return false;
        memcpy(m->position.tag, value.p, TAG_LEN);
    } else if (slice_eq(name, SLICE("event"))) {
        m->event = value;
    } else if (slice_eq(name, SLICE("from"))) {
        m->from = value;
    } else if (slice_eq(name, SLICE("user"))) {
        m->user = value;
    } else if (slice_eq(name, SLICE("id"))) {
        m->id = value;
    } else if (slice_eq(name, SLICE("except"))) {
        m->except = value;
    } else if (slice_eq(name, SLICE("type"))) {
        m->data_type = slice_eq(value, SLICE("binary"))     ? DATA_BINARY
                       : slice_eq(value, SLICE("emission")) ? DATA_EMISSION
                                                            : DATA_JSON;
    } else if (slice_eq(name, SLICE("was"))) {
        return was_parse(value, &m->was);
    } else if (slice_eq(name, SLICE("data"))) {
        m->data = value;
    }
    return true; /* a newer node may write more */
}

bool message_parse(const redisReply *entry, struct message_record *ret)
{
    struct message_record m = {.data_type = DATA_JSON};
    struct slice id = reply_slice(reply_at(entry, 0));
    const redisReply *fields = reply_at(entry, 1);
    const char *dash = id.n == 0 ? NULL : memchr(id.p, '-', id.n);
    if (dash == NULL || fields == NULL || fields->type != REDIS_REPLY_ARRAY)
        return false;
    if (!text_u64((struct slice){id.p, (size_t)(dash - id.p)}, UINT64_MAX, &m.position.offset) ||
        m.position.offset == 0)
        return false;
    for (size_t i = 0; i + 1 < fields->elements; i += 2) {
        if (!message_field(&m, reply_slice(reply_at(fields, i)), reply_slice(reply_at(fields, i + 1))))
            return false;
    }
    if (m.position.tag[0] == '\0' || (m.data.n == 0 && m.data_type != DATA_BINARY))
        return false;
    *ret = m;
    return true;
}

void entry_parse(const redisReply *entry, struct event_field *fields, struct event_entry *ret)
{
    const redisReply *list = reply_at(entry, 1);
    *ret = (struct event_entry){.id = reply_slice(reply_at(entry, 0)), .fields = fields};
    for (size_t i = 0; list != NULL && i + 1 < list->elements && ret->count < EVENT_FIELDS_MAX; i += 2)
        fields[ret->count++] = (struct event_field){reply_slice(reply_at(list, i)), reply_slice(reply_at(list, i + 1))};
}
