/* gateway/protocol/socketio.c: Socket.IO packets in, by the rules of the official decoder. */
#include "gateway/protocol/socketio.h"

#include "base/mem.h"
#include "base/text.h"
#include "base/utf8.h"
#include "gateway/protocol/native.h"

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

/* --- one text packet --- */

static enum err parse_attachments(struct slice *rest, struct sio_packet *p, struct error *reterr)
{
    size_t n = 0;
    uint64_t count;
    while (n < rest->n && digit(rest->p[n]))
        n++;
    if (n == rest->n || rest->p[n] != '-' || !text_u64((struct slice){rest->p, n}, UINT32_MAX, &count))
        return fail(reterr, ERR_BAD_REQUEST, "a binary packet does not say how many attachments it has");
    if (count > SIO_ATTACHMENTS_MAX)
        return fail(reterr, ERR_TOO_LARGE, "%llu attachments, at most %d allowed", (unsigned long long)count,
                    SIO_ATTACHMENTS_MAX);
    p->attachment_count = (uint32_t)count;
    *rest = slice_from(*rest, n + 1);
    return OK;
}

/* How long its name may be is for whoever connects it. */
static void parse_namespace(struct slice *rest, struct sio_packet *p)
{
    p->nsp = SLICE("/");
    if (rest->n == 0 || rest->p[0] != '/')
        return;
    const char *comma = memchr(rest->p, ',', rest->n);
    size_t n = comma != NULL ? (size_t)(comma - rest->p) : rest->n;
    const char *question = memchr(rest->p, '?', n);
    size_t name = question != NULL ? (size_t)(question - rest->p) : n;
    p->nsp = (struct slice){rest->p, name};
    if (question != NULL)
        p->query = (struct slice){question + 1, n - name - 1};
    *rest = slice_from(*rest, comma != NULL ? n + 1 : n);
}

static enum err parse_id(struct slice *rest, struct sio_packet *p, struct error *reterr)
{
    size_t n = 0;
    while (n < rest->n && digit(rest->p[n]))
        n++;
    if (n > SIO_ID_MAX)
        return fail(reterr, ERR_BAD_REQUEST, "an id of %zu digits, at most %d allowed", n, SIO_ID_MAX);
    p->id = (struct slice){rest->p, n};
    while (p->id.n > 1 && p->id.p[0] == '0')
        p->id = slice_from(p->id, 1); /* a number: it comes back as numbers are written */
    *rest = slice_from(*rest, n);
    return OK;
}

static enum err check_event(struct sio_packet *p, struct error *reterr)
{
    size_t at = 0;
    const struct json_value array = {JSON_KIND_ARRAY, p->payload};
    if (p->payload.n == 0 || p->payload.p[0] != '[' || !json_next(array, &at, &p->event))
        return fail(reterr, ERR_BAD_REQUEST, "the payload of an event is an array that begins with its name");
    if (p->event.kind == JSON_KIND_NUMBER)
        return OK;
    if (p->event.kind != JSON_KIND_STRING)
        return fail(reterr, ERR_BAD_REQUEST, "the name of an event is a string or a number");
    /* A reserved name may be escaped; such a packet is wrong all the same. */
    struct arena a;
    struct slice name = SLICE_NONE;
    arena_init(&a, p->event.raw.n + 64);
    enum err err = json_unquote(p->event, &a, &name, reterr);
    if (err == OK && sio_reserved(EIO_4, name))
        err = fail(reterr, ERR_BAD_REQUEST, "the name of an event is one of the library's own");
    arena_reset(&a);
    return err;
}

static enum err check_payload(struct sio_packet *p, struct error *reterr)
{
    char first = p->payload.n != 0 ? p->payload.p[0] : '\0';
    switch (p->type) {
    case SIO_CONNECT:
        if (first != '\0' && first != '{')
            return fail(reterr, ERR_BAD_REQUEST, "the payload of a connect is an object");
        return OK;
    case SIO_DISCONNECT:
        if (first != '\0')
            return fail(reterr, ERR_BAD_REQUEST, "a disconnect has no payload");
        return OK;
    case SIO_EVENT:
    case SIO_BINARY_EVENT: return check_event(p, reterr);
    case SIO_ACK:
    case SIO_BINARY_ACK:
        if (first != '[')
            return fail(reterr, ERR_BAD_REQUEST, "the payload of an ack is an array");
        return OK;
    case SIO_CONNECT_ERROR:
    case SIO_TYPES: break;
    }
    return fail(reterr, ERR_BAD_REQUEST, "a packet that only a server sends");
}

static struct slice trim(struct slice s)
{
    while (s.n != 0 && (s.p[0] == ' ' || s.p[0] == '\t' || s.p[0] == '\n' || s.p[0] == '\r'))
        s = slice_from(s, 1);
    return s;
}

enum err sio_parse(struct slice text, struct sio_packet *ret, struct error *reterr)
{
    if (text.n == 0 || text.p[0] < '0' || text.p[0] >= '0' + (char)SIO_TYPES)
        return fail(reterr, ERR_BAD_REQUEST, "a packet of %zu bytes has no type, 0 to 6", text.n);
    struct sio_packet p = {.type = (enum sio_type)(text.p[0] - '0')};
    struct slice rest = slice_from(text, 1);
    enum err err = OK;
    if (p.type == SIO_BINARY_EVENT || p.type == SIO_BINARY_ACK)
        err = parse_attachments(&rest, &p, reterr);
    if (err == OK) {
        parse_namespace(&rest, &p);
        err = parse_id(&rest, &p, reterr);
    }
    if (err == OK && rest.n != 0)
        err = json_check(rest, reterr);
    if (err != OK)
        return err;
    p.payload = trim(rest);
    err = check_payload(&p, reterr);
    if (err == OK)
        *ret = p;
    return err;
}

bool sio_reserved(enum eio_revision revision, struct slice event)
{
    /* The first six in every version; what follows, clients 2.x emit to themselves. */
    static const char *const names[] = {
        "connect",           "connect_error",    "disconnect",      "disconnecting", "newListener", "removeListener",
        "connect_timeout",   "connecting",       "error",           "ping",          "pong",        "reconnect",
        "reconnect_attempt", "reconnect_failed", "reconnect_error", "reconnecting"};
    size_t count = revision == EIO_4 ? 6 : ARRAY_LEN(names);
    for (size_t i = 0; i < count; i++)
        if (slice_eq(event, slice_str(names[i])))
            return true;
    return false;
}

/* --- with its attachments --- */

void sio_assembly_fini(struct sio_assembly *a)
{
    buf_fini(&a->text);
    buf_fini(&a->bytes);
    a->expected = a->count = 0;
}

bool sio_assembly_piece(const struct sio_assembly *a, uint32_t at, struct slice *ret)
{
    if (a->expected == 0 || at > a->count)
        return false;
    *ret = buf_slice(at == 0 ? &a->text : &a->bytes);
    if (at != 0) {
        const size_t from = at == 1 ? 0 : a->ends[at - 2];
        ret->n = a->ends[at - 1];
        *ret = slice_from(*ret, from);
    }
    return true;
}

static enum err take_attachment(struct sio_assembly *a, struct slice data, bool *ret_complete, struct sio_packet *ret,
                                struct error *reterr)
{
    if (a->expected == 0)
        return fail(reterr, ERR_BAD_REQUEST, "an attachment of %zu bytes, but no packet waits for one", data.n);
    if (data.n > a->max_bytes || a->bytes.n > a->max_bytes - data.n)
        return fail(reterr, ERR_TOO_LARGE, "attachments of more than %zu bytes (max-message-size)", a->max_bytes);
    buf_append(&a->bytes, data);
    a->ends[a->count++] = a->bytes.n;
    *ret_complete = a->count == a->expected;
    if (!*ret_complete)
        return OK;
    enum err err = sio_parse(buf_slice(&a->text), ret, reterr);
    if (err != OK)
        return err;
    for (uint32_t i = 0; i < a->count; i++) {
        size_t from = i == 0 ? 0 : a->ends[i - 1];
        if (a->ends[i] != from) /* without a single byte there is no buffer either */
            ret->attachments[i] = (struct slice){a->bytes.p + from, a->ends[i] - from};
    }
    a->expected = 0;
    if (!sio_placeholders_valid(ret->payload, ret->attachment_count))
        return fail(reterr, ERR_BAD_REQUEST, "a placeholder of an attachment that the packet has not");
    return OK;
}

enum err sio_assemble(struct sio_assembly *a, struct slice data, bool binary, bool *ret_complete,
                      struct sio_packet *ret, struct error *reterr)
{
    *ret_complete = false;
    if (binary)
        return take_attachment(a, data, ret_complete, ret, reterr);
    if (a->expected != 0)
        return fail(reterr, ERR_BAD_REQUEST, "a packet while %u attachments of the last one are missing",
                    a->expected - a->count);
    sio_assembly_fini(a);
    struct sio_packet p;
    enum err err = sio_parse(data, &p, reterr);
    if (err != OK)
        return err;
    if (p.attachment_count == 0 && (p.type == SIO_BINARY_EVENT || p.type == SIO_BINARY_ACK) &&
        !sio_placeholders_valid(p.payload, 0))
        return fail(reterr, ERR_BAD_REQUEST, "a placeholder of an attachment that the packet has not");
    if (p.attachment_count != 0) {
        a->expected = p.attachment_count;
        buf_append(&a->text, data);
        return OK;
    }
    *ret_complete = true;
    *ret = p;
    return OK;
}

/* --- events --- */

enum err sio_event_name(const struct sio_packet *p, struct arena *a, struct slice *ret, struct error *reterr)
{
    struct slice name = p->event.raw;
    enum err err = p->event.kind == JSON_KIND_STRING ? json_unquote(p->event, a, &name, reterr) : OK;
    if (err != OK)
        return err;
    if (!utf8_name_valid(name, NAME_MAX_EVENT))
        return fail(reterr, ERR_INVALID_NAME, "the name of an event has 1 to %d bytes and no control characters",
                    NAME_MAX_EVENT);
    *ret = name;
    return OK;
}

enum err sio_decode_message(const struct sio_packet *p, struct arena *a, struct command *ret, struct error *reterr)
{
    *ret = (struct command){.kind = CMD_PUBLISH, .echo = true};
    enum err err = sio_event_name(p, a, &ret->event, reterr);
    if (err == OK)
        err = sio_data_from_arguments(p, p->payload, 1, a, ret, reterr);
    ret->id = p->id;
    return err;
}

/* The text of {"room":…} and so on, in the arena. */
static enum err object_of(struct arena *a, const struct slice *parts, size_t count, struct slice *ret,
                          struct error *reterr)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += parts[i].n;
    char *text = arena_alloc(a, n), *at = text;
    if (text == NULL)
        return fail(reterr, ERR_TOO_LARGE, "arguments of %zu bytes", n);
    for (size_t i = 0; i < count; i++) {
        if (parts[i].n != 0)
            memcpy(at, parts[i].p, parts[i].n);
        at += parts[i].n;
    }
    *ret = (struct slice){text, n};
    return OK;
}

/* emit("publish", room, event, …) and emit("broadcast", event, …). */
static enum err decode_spread(const struct sio_packet *p, enum command_kind kind, struct arena *a, struct command *ret,
                              struct error *reterr)
{
    const struct json_value array = {JSON_KIND_ARRAY, p->payload};
    struct json_value verb, room = {0}, event;
    struct slice object;
    size_t at = 0, skip = kind == CMD_PUBLISH ? 3 : 2;
    (void)json_next(array, &at, &verb);
    if (kind == CMD_PUBLISH)
        (void)json_next(array, &at, &room);
    if (!json_next(array, &at, &event) || event.kind != JSON_KIND_STRING)
        return fail(reterr, ERR_BAD_REQUEST, "%s needs the name of an event", command_name(kind));
    const struct slice parts[] = {
        SLICE("{"),
        kind == CMD_PUBLISH ? SLICE("\"room\":") : SLICE_NONE,
        room.raw,
        kind == CMD_PUBLISH ? SLICE(",") : SLICE_NONE,
        SLICE("\"event\":"),
        event.raw,
        SLICE(",\"data\":0}"),
    };
    enum err err = object_of(a, parts, ARRAY_LEN(parts), &object, reterr);
    if (err == OK)
        err = native_decode_members(kind, object, a, ret, reterr);
    return err == OK ? sio_data_from_arguments(p, p->payload, skip, a, ret, reterr) : err;
}

static enum err decode_room(enum command_kind kind, struct slice room, struct arena *a, struct command *ret,
                            struct error *reterr)
{
    struct slice object;
    const struct slice parts[] = {SLICE("{\"room\":"), room, SLICE("}")};
    enum err err = object_of(a, parts, ARRAY_LEN(parts), &object, reterr);
    return err == OK ? native_decode_members(kind, object, a, ret, reterr) : err;
}

/* The data stands in an object; where there are attachments it may be, or have, one. */
static enum err decode_object(const struct sio_packet *p, enum command_kind kind, struct slice object, struct arena *a,
                              struct command *ret, struct error *reterr)
{
    enum err err = native_decode_members(kind, object, a, ret, reterr);
    if (err != OK || p->attachment_count == 0 || ret->data.n == 0)
        return err;
    struct slice array;
    const struct slice parts[] = {SLICE("["), ret->data, SLICE("]")};
    err = object_of(a, parts, ARRAY_LEN(parts), &array, reterr);
    return err == OK ? sio_data_from_arguments(p, array, 0, a, ret, reterr) : err;
}

enum err sio_decode_verb(const struct sio_packet *p, enum command_kind kind, struct arena *a, struct command *ret,
                         struct error *reterr)
{
    const struct json_value array = {JSON_KIND_ARRAY, p->payload};
    struct json_value verb, first = {JSON_KIND_OBJECT, SLICE("{}")};
    size_t at = 0;
    enum err err;
    *ret = (struct command){.kind = kind};
    (void)json_next(array, &at, &verb);
    bool some = json_next(array, &at, &first);
    if (some && first.kind == JSON_KIND_STRING && (kind == CMD_PUBLISH || kind == CMD_BROADCAST))
        err = decode_spread(p, kind, a, ret, reterr);
    else if (some && first.kind == JSON_KIND_STRING)
        err = decode_room(kind, first.raw, a, ret, reterr);
    else if (!some || first.kind == JSON_KIND_OBJECT)
        err = decode_object(p, kind, first.raw, a, ret, reterr);
    else
        err =
            fail(reterr, ERR_BAD_REQUEST, "the argument of %s is an object or the name of a room", command_name(kind));
    ret->id = p->id;
    return err;
}
