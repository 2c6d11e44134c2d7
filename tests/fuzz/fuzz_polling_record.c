/* tests/fuzz/fuzz_polling_record.c: a connection by long-polling as somebody may have written it into the store. What is read of it is within limits, and names are names. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/conn.h"
#include "gateway/polling_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check(const struct record_session *s)
{
    assert(s->sid.n == SID_LEN && s->token.n == TOKEN_LEN && s->nsp.n <= SIO_NAMESPACE_MAX && s->nsp.p[0] == '/');
    assert(s->user.n == 0 || utf8_name_valid(s->user, NAME_MAX_USER));
    assert(!s->granted || strlen(s->claims.user) == s->user.n);
    for (size_t i = 0; i < s->position_count; i++)
        assert(utf8_name_valid(s->positions[i].room, NAME_MAX_ROOM) && s->positions[i].seen.at.offset <= OFFSET_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct record r;
    struct error error;
    if (record_read((struct slice){(const char *)p, n}, &r, &error) != OK)
        return 0;
    assert((r.revision == EIO_3 || r.revision == EIO_4) && r.ip.n < CONN_IP_MAX);
    assert(r.session_count <= CHANNELS_MAX && r.token.n <= AUTH_TOKEN_MAX);
    for (size_t i = 0; i < r.session_count; i++) {
        check(&r.sessions[i]);
        assert(record_find(&r, r.sessions[i].nsp) == &r.sessions[i]);
    }
    record_fini(&r);
    record_fini(&r);
    return 0;
}
