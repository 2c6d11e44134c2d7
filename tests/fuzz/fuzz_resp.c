/* tests/fuzz/fuzz_resp.c: Redis' replies to plain values: no reply, however odd, may be misread or crash.
 *
 * The input is RESP; hiredis parses it (whole, and byte by byte: both must agree), and every decoder of ours is shown every reply. */
#include <assert.h>
#include <stdio.h>

#include "broker/redis/redis.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check_tag(const struct position *p)
{
    assert((p->offset == 0) == (p->tag[0] == '\0'));
    assert(p->offset == 0 || tag_valid(slice_str(p->tag)));
}

static void show(const redisReply *r, int depth)
{
    struct position position = {0};
    struct member_record member;
    struct message_record message;
    uint64_t number;
    (void)reply_u64(r, &number);
    for (size_t at = 0; at < 3; at++) {
        if (reply_position(r, at, &position))
            check_tag(&position);
    }
    struct slice text = reply_slice(r);
    if (member_parse(SLICE("s"), text, &member))
        assert(member.node.n + member.user.n + 2 <= text.n);
    if (message_parse(r, &message)) {
        check_tag(&message.position);
        if (message.was.at.offset != 0)
            check_tag(&message.was.at);
        assert(message.was.since < message.was.at.offset || message.was.since == 0);
        assert(message.position.offset != 0 && (message.data_type == DATA_BINARY || message.data.n != 0));
    }
    if (r->type != REDIS_REPLY_ARRAY || depth > 9)
        return;
    for (size_t i = 0; i < r->elements; i++)
        show(r->element[i], depth + 1);
}

/* Feeds in steps; returns how many replies there were. */
static size_t feed(const char *p, size_t n, size_t step)
{
    redisReader *reader = redisReaderCreate();
    size_t count = 0;
    bool ok = true;
    for (size_t at = 0; at < n && ok; at += step) {
        void *reply = NULL;
        (void)redisReaderFeed(reader, p + at, n - at < step ? n - at : step);
        while ((ok = redisReaderGetReply(reader, &reply) == REDIS_OK) && reply != NULL) {
            show(reply, 0);
            freeReplyObject(reply);
            count++;
        }
    }
    redisReaderFree(reader);
    return count;
}

/* hiredis believes the length it is told and allocates at once; a real Redis does not lie about it, so neither do we. */
static bool plausible(const char *p, size_t n)
{
    size_t digits = 0;
    for (size_t i = 0; i < n; i++) {
        digits = p[i] >= '0' && p[i] <= '9' ? digits + 1 : 0;
        if (digits > 4 && i >= digits && (p[i - digits] == '*' || p[i - digits] == '$'))
            return false;
    }
    return true;
}

static void check_key(const char *p, size_t n)
{
    struct args a;
    args_init(&a);
    struct slice key = arg_key(&a, "xd:", (struct slice){p, n < 256 ? n : 256}, ":head");
    const char *open = memchr(key.p, '{', key.n), *close = memchr(key.p, '}', key.n);
    assert(open == key.p + 3 && close == key.p + key.n - 6);
    assert(memchr(open + 1, '{', key.n - 4) == NULL);
    args_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const char *p = (const char *)bytes;
    check_key(p, n);
    if (!plausible(p, n))
        return 0;
    size_t whole = feed(p, n, n != 0 ? n : 1), single = feed(p, n, 1);
    assert(whole == single);
    (void)whole;
    (void)single;
    return 0;
}
