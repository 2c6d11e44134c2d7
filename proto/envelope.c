/* proto/envelope.c: envelopes to bytes and back, through protobuf-c, with every field checked on the way in. */
#include "proto/envelope.h"

#include <assert.h>
#include <envelope.pb-c.h>

#include "base/utf8.h"

#define VERSION    1
#define ROOM_MAX   255
#define EVENT_MAX  128
#define KEY_MAX    64
#define USER_MAX   128
#define NODE_MAX   128
#define ID_MAX     64
#define DATA_FIELD 17
#define WIRE_BYTES 2

const char *exit_reason_name(enum exit_reason reason)
{
    static const char *const names[EXIT_REASONS] = {
#define X(code, name) [code] = (name),
        EXIT_REASON_MAP(X)
#undef X
    };
    return names[reason];
}

/* protobuf-c takes bytes as unsigned and writable, but only reads what it packs. */
static ProtobufCBinaryData binary(struct slice s)
{
    union {
        const char *from;
        uint8_t *to;
    } p = {.from = s.p};
    return (ProtobufCBinaryData){.len = s.n, .data = p.to};
}

static void fill_head(const struct envelope *e, Xd__Envelope *pb)
{
    xd__envelope__init(pb);
    pb->v = VERSION;
    pb->kind = (uint32_t)e->kind;
    pb->room = binary(e->room);
    pb->event = binary(e->event);
    pb->id = binary(e->id);
    pb->from = binary(e->from);
    pb->user = binary(e->user);
    pb->node = binary(e->node);
    pb->except = binary(e->except);
    pb->data_type = (uint32_t)e->data_type;
    pb->total = e->total;
    pb->reason = (uint32_t)e->reason;
    pb->again = e->again;
    pb->user_state = (uint32_t)e->user_state;
    pb->seen = e->seen_ms;
    pb->version = e->version;
    pb->read_room = binary(e->read_room);
    pb->read_offset = e->read.offset;
    pb->read_tag = binary(slice_str(e->read.tag));
    if (e->kind != ENVELOPE_MESSAGE)
        return;
    pb->tag = binary(slice_str(e->position.tag));
    pb->was_offset = e->was.at.offset;
    pb->was_tag = binary(slice_str(e->was.at.tag));
    pb->was_since = e->was.since;
}

static void pack(const Xd__Envelope *pb, struct buf *ret)
{
    size_t n = xd__envelope__get_packed_size(pb);
    char *at = buf_reserve(ret, n);
    ret->n += xd__envelope__pack(pb, (uint8_t *)at);
}

static void append_varint(struct buf *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        buf_append_char(b, (char)(v | 0x80));
    buf_append_char(b, (char)v);
}

void envelope_pack_head(const struct envelope *e, struct buf *ret)
{
    Xd__Envelope pb;
    fill_head(e, &pb);
    pack(&pb, ret);
    if (e->data.n == 0)
        return;
    append_varint(ret, DATA_FIELD << 3 | WIRE_BYTES);
    append_varint(ret, e->data.n);
}

void envelope_pack(const struct envelope *e, struct buf *ret)
{
    Xd__Envelope pb;
    fill_head(e, &pb);
    pb.offset = e->position.offset;
    pb.time = e->time_ms;
    pb.prev = binary(slice_str(e->prev));
    pb.tag = binary(slice_str(e->position.tag));
    pb.data = binary(e->data);
    pack(&pb, ret);
}

static void *allocate(void *arena, size_t n)
{
    return arena_alloc(arena, n);
}

static void keep(void *arena, void *p)
{
    (void)arena; /* goes with the arena */
    (void)p;
}

static struct slice slice_of(ProtobufCBinaryData b)
{
    return (struct slice){(const char *)b.data, b.len};
}

static void tag_copy(char to[TAG_LEN + 1], struct slice from)
{
    if (from.n != 0)
        memcpy(to, from.p, from.n);
    to[from.n] = '\0';
}

/* NULL, or what is wrong. Empty is allowed where a kind may do without. */
static const char *bad_text(const Xd__Envelope *pb)
{
    const struct {
        const char *what;
        struct slice s;
        size_t max;
    } names[] = {
        {"room", slice_of(pb->room), ROOM_MAX},           {"from", slice_of(pb->from), ID_MAX},
        {"user", slice_of(pb->user), USER_MAX},           {"node", slice_of(pb->node), NODE_MAX},
        {"read_room", slice_of(pb->read_room), ROOM_MAX}, {"id", slice_of(pb->id), KEY_MAX},
        {"except", slice_of(pb->except), ID_MAX},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].s.n != 0 && !utf8_name_valid(names[i].s, names[i].max))
            return names[i].what;
    }
    struct slice event = slice_of(pb->event);
    if (event.n > EVENT_MAX || !utf8_valid(event))
        return "event";
    if (pb->tag.len != 0 && !tag_valid(slice_of(pb->tag)))
        return "tag";
    if (pb->prev.len != 0 && !tag_valid(slice_of(pb->prev)))
        return "prev";
    if (pb->read_tag.len != 0 && !tag_valid(slice_of(pb->read_tag)))
        return "read_tag";
    if (pb->was_tag.len != 0 && !tag_valid(slice_of(pb->was_tag)))
        return "was_tag";
    return NULL;
}

static bool bad_was(const Xd__Envelope *pb)
{
    if (pb->was_offset == 0)
        return pb->was_tag.len != 0;
    return pb->kind != ENVELOPE_MESSAGE || pb->was_tag.len == 0 || pb->was_offset > OFFSET_MAX ||
           pb->was_since >= pb->was_offset;
}

/* NULL, or what is wrong with numbers, and with fields that depend on each other. */
static const char *bad_shape(const Xd__Envelope *pb)
{
    if (pb->v != VERSION)
        return "v";
    if (pb->kind == 0)
        return "kind";
    if (pb->data_type >= DATA_TYPES)
        return "data_type";
    if (pb->reason >= EXIT_REASONS)
        return "reason";
    if (pb->kind != ENVELOPE_PROBE && pb->room.len == 0)
        return "room";
    if ((pb->offset == 0) != (pb->tag.len == 0))
        return "tag";
    if ((pb->read_offset == 0) != (pb->read_tag.len == 0) || pb->read_offset > OFFSET_MAX ||
        (pb->kind == ENVELOPE_READ) != (pb->read_room.len != 0))
        return "read";
    if (pb->user_state >= USER_STATES)
        return "user_state";
    if (bad_was(pb))
        return "was";
    if (pb->kind == ENVELOPE_VERDICT)
        return pb->user.len == 0 ? "user" : NULL;
    if (pb->kind != ENVELOPE_MESSAGE)
        return pb->kind != ENVELOPE_PROBE && pb->from.len == 0 ? "from" : NULL;
    if (pb->offset == 0)
        return "offset";
    /* JSON goes into text frames as it is: one bad byte would cost every receiver its connection. */
    if (pb->data_type != DATA_BINARY && (pb->data.len == 0 || !utf8_valid(slice_of(pb->data))))
        return "data";
    return NULL;
}

static void convert(const Xd__Envelope *pb, struct envelope *ret)
{
    *ret = (struct envelope){.kind = (enum envelope_kind)pb->kind,
                             .data_type = (enum data_type)pb->data_type,
                             .reason = (enum exit_reason)pb->reason,
                             .again = pb->again != 0,
                             .total = pb->total,
                             .time_ms = pb->time,
                             .room = slice_of(pb->room),
                             .event = slice_of(pb->event),
                             .id = slice_of(pb->id),
                             .from = slice_of(pb->from),
                             .user = slice_of(pb->user),
                             .node = slice_of(pb->node),
                             .except = slice_of(pb->except),
                             .data = slice_of(pb->data),
                             .position = {.offset = pb->offset},
                             .user_state = (enum user_state)pb->user_state,
                             .seen_ms = pb->seen,
                             .version = pb->version,
                             .read_room = slice_of(pb->read_room),
                             .read = {.offset = pb->read_offset},
                             .was = {.at = {.offset = pb->was_offset}, .since = pb->was_since}};
    tag_copy(ret->position.tag, slice_of(pb->tag));
    tag_copy(ret->prev, slice_of(pb->prev));
    tag_copy(ret->read.tag, slice_of(pb->read_tag));
    tag_copy(ret->was.at.tag, slice_of(pb->was_tag));
}

enum err envelope_unpack(struct slice bytes, struct arena *a, struct envelope *ret, struct error *reterr)
{
    ProtobufCAllocator allocator = {.alloc = allocate, .free = keep, .allocator_data = a};
    const Xd__Envelope *pb = xd__envelope__unpack(&allocator, bytes.n, (const uint8_t *)bytes.p);
    if (pb == NULL)
        return fail(reterr, ERR_BAD_REQUEST, "envelope of %zu bytes cannot be unpacked", bytes.n);
    if (pb->v == VERSION && pb->kind >= ENVELOPE_KINDS)
        return fail(reterr, ERR_UNKNOWN_TYPE, "envelope of kind %u", pb->kind);
    const char *bad = bad_shape(pb);
    if (bad == NULL)
        bad = bad_text(pb);
    if (bad != NULL)
        return fail(reterr, ERR_BAD_REQUEST, "envelope of %zu bytes: bad %s", bytes.n, bad);
    convert(pb, ret);
    return OK;
}
