/* tests/fuzz/fuzz_api.c: bodies of the server API, and its file of keys: what is taken must be good for the store. */
#include <assert.h>

#include "base/utf8.h"
#include "gateway/api_body.h"
#include "gateway/api_keys.h"
#include "gateway/api_verdict.h"
#include "gateway/crowd.h"
#include "gateway/protocol/emission.h"
#include "proto/json.h"

#define NOW_MS 1700000000000u

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check_message(const struct api_message *m)
{
    struct error error;
    assert(m->room.n == 0 || utf8_name_valid(m->room, 255));
    assert(m->event.n == 0 || utf8_name_valid(m->event, 128));
    assert(m->key.n <= 64 && m->except.n <= 64);
    assert(m->data_type == DATA_BINARY || json_check(m->data, &error) == OK);
    assert(m->target_count <= API_TARGETS_MAX);
    for (size_t i = 0; i < m->target_count; i++)
        assert(utf8_name_valid(m->targets[i], 255) && m->targets[i].p[0] == '$');
}

static void check_verdicts(struct slice body, struct arena *a)
{
    struct ban_record ban;
    struct revocation what;
    struct error error;
    if (api_read_ban(body, a, NOW_MS, &ban, &error) == OK) {
        assert(ban.reason.n == 0 || utf8_name_valid(ban.reason, BAN_REASON_MAX));
        assert(ban.until_ms == 0 || ban.until_ms > NOW_MS);
    }
    if (api_read_revocation(body, a, NOW_MS, 60, &what, &error) == OK) {
        assert((what.jti.n == 0) != (what.user.n == 0));
        assert(utf8_name_valid(what.jti.n != 0 ? what.jti : what.user, 128));
        assert(what.until_ms > NOW_MS && what.before_s != 0);
    }
}

static void check_emission(struct slice body, struct arena *a)
{
    struct emission e;
    struct error error;
    if (emission_read_json(body, a, &e, &error) != OK)
        return;
    assert(json_check(e.data, &error) == OK && e.to.nsp.p[0] == '/' && utf8_name_valid(e.to.nsp, 100));
    assert(e.to.room_count <= EMISSION_ROOMS_MAX && e.to.except_count <= EMISSION_ROOMS_MAX);
    for (size_t i = 0; i < e.to.room_count; i++)
        assert(utf8_name_valid(e.to.rooms[i], 255) && e.to.rooms[i].p[0] != '$');
    assert(e.timeout_ms != 0 && e.timeout_ms <= EMISSION_TIMEOUT_MAX_MS);
}

static void check_crowd(struct slice body, struct arena *a)
{
    struct crowd_request q;
    struct error error;
    if (crowd_read(body, a, &q, &error) != OK)
        return;
    assert(utf8_name_valid(q.crowd.name, 255) && q.limit != 0 && q.limit <= CROWD_LIMIT_MAX);
    assert(q.room_count <= CROWD_ROOMS_MAX && q.except_count <= CROWD_EXCEPT_MAX);
    for (size_t i = 0; i < q.room_count; i++)
        assert(utf8_name_valid(q.rooms[i], 255));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct slice body = {(const char *)p, n};
    struct arena a;
    struct api_message m, *batch;
    struct error error, *errors;
    size_t count;
    arena_init(&a, 1 << 20);
    check_emission(body, &a);
    check_crowd(body, &a);
    if (api_read_publish(body, &a, &m, &error) == OK)
        check_message(&m);
    if (api_read_send(body, &a, &m, &error) == OK)
        check_message(&m);
    if (api_read_broadcast(body, &a, &m, &error) == OK)
        check_message(&m);
    if (api_read_batch(body, &a, &batch, &errors, &count, &error) == OK) {
        assert(count != 0 && count <= API_BATCH_MAX);
        for (size_t i = 0; i < count; i++)
            if (errors[i].code == OK)
                check_message(&batch[i]);
    }
    check_verdicts(body, &a);
    arena_reset(&a);
    struct api_keys *k = api_keys_parse(body, &error);
    api_keys_unref(&k);
    return 0;
}
