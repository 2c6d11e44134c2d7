/* tests/fuzz/fuzz_action.c: actions of backends, as JSON and as fields of a command: what is taken must be good for the store. */
#include <assert.h>

#include "base/utf8.h"
#include "gateway/action.h"
#include "gateway/protocol/protocol.h"

#define NOW_MS     1700000000000u
#define FIELDS_MAX ((size_t)24)

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check_control(const struct action *a)
{
    const struct control *c = &a->control;
    assert(c->sid.n <= NAME_MAX_KEY && (c->sid.n != 0 || a->user.n != 0));
    if (a->kind != ACTION_DISCONNECT)
        assert(utf8_name_valid(c->room, NAME_MAX_ROOM) && c->room.p[0] != '$');
    assert(c->reason.n == 0 || utf8_name_valid(c->reason, CONTROL_REASON_MAX));
    assert(c->close_code == 0 || (c->close_code >= 4000 && c->close_code <= 4999));
}

static void check(const struct action *a)
{
    struct error error;
    const struct api_message *m = &a->message;
    switch (a->kind) {
    case ACTION_PUBLISH:
    case ACTION_SEND:
    case ACTION_BROADCAST:
        assert(m->data_type == DATA_BINARY || json_check(m->data, &error) == OK);
        assert(m->target_count <= API_TARGETS_MAX && (m->targets != NULL || utf8_name_valid(m->room, NAME_MAX_ROOM)));
        break;
    case ACTION_JOIN:
    case ACTION_LEAVE:
    case ACTION_DISCONNECT: check_control(a); break;
    case ACTION_BAN:
        assert(a->ban.until_ms == 0 || a->ban.until_ms > NOW_MS); /* and */
        break;
    case ACTION_UNBAN: assert(utf8_name_valid(a->user, NAME_MAX_USER)); break;
    case ACTION_EMIT: assert(json_check(a->emission, &error) == OK); break;
    case ACTION_ATTRIBUTES: assert(a->attributes.n == 0 || json_check(a->attributes, &error) == OK); break;
    case ACTIONS: assert(false);
    }
}

static void read_text(struct slice text)
{
    struct action a;
    struct error error;
    struct arena arena;
    arena_init(&arena, ACTION_ARENA);
    if (action_read(text, SLICE("session"), NOW_MS, &arena, &a, &error) == OK)
        check(&a);
    arena_reset(&arena);
}

/* A line is a name or a value. */
static void read_fields(struct slice text)
{
    struct event_field fields[FIELDS_MAX];
    struct slice parts[2 * FIELDS_MAX];
    size_t n = 0;
    while (n < 2 * FIELDS_MAX) {
        const char *end = text.n != 0 ? memchr(text.p, '\n', text.n) : NULL;
        parts[n++] = (struct slice){text.p, end != NULL ? (size_t)(end - text.p) : text.n};
        if (end == NULL)
            break;
        text = slice_from(text, (size_t)(end - text.p) + 1);
    }
    for (size_t i = 0; i + 1 < n; i += 2)
        fields[i / 2] = (struct event_field){parts[i], parts[i + 1]};
    struct buf json = BUF_INIT;
    struct error error, other;
    if (action_of_fields(fields, n / 2, &json, &error) == OK) {
        assert(!utf8_valid(buf_slice(&json)) || json_check(buf_slice(&json), &other) == OK);
        read_text(buf_slice(&json));
    }
    buf_fini(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct slice text = {(const char *)p, n};
    read_text(text);
    read_fields(text);
    return 0;
}
