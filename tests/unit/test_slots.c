/* tests/unit/test_slots.c: slots of keys, redirections, the map of slots. */
#include "broker/redis/slots.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"

/* Those of the cluster specification, and what a real CLUSTER KEYSLOT says. */
static void keys_have_known_slots(void **state)
{
    (void)state;
    assert_int_equal(slot_crc16(SLICE("123456789")), 0x31C3);
    assert_int_equal(slot_crc16(SLICE_NONE), 0);
    assert_int_equal(slot_crc16((struct slice){"\xff\x00\xff", 3}), 0xD193);
    assert_int_equal(slot_of_key(SLICE("foo")), 12182);
    assert_int_equal(slot_of_key(SLICE("bar")), 5061);
    assert_int_equal(slot_of_key(SLICE("somekey")), 11058);
    assert_int_equal(slot_of_key(SLICE("foo{hash_tag}")), 2515);
    assert_int_equal(slot_of_key(SLICE("xd:{foo}:log")), 12182);
}

static void only_the_first_tag_counts(void **state)
{
    (void)state;
    assert_int_equal(slot_of_key(SLICE("{user1000}.following")), slot_of_key(SLICE("user1000")));
    assert_int_equal(slot_of_key(SLICE("foo{{bar}}zap")), slot_of_key(SLICE("{bar")));
    assert_int_equal(slot_of_key(SLICE("foo{bar}{zap}")), slot_of_key(SLICE("bar")));
    /* An empty tag, and an open one, are none. */
    assert_int_equal(slot_of_key(SLICE("foo{}{bar}")), slot_crc16(SLICE("foo{}{bar}")) % SLOTS);
    assert_int_equal(slot_of_key(SLICE("foo{bar")), slot_crc16(SLICE("foo{bar")) % SLOTS);
    assert_int_equal(slot_of_key(SLICE("foo{")), slot_crc16(SLICE("foo{")) % SLOTS);
}

static void commands_have_the_slot_of_their_key(void **state)
{
    (void)state;
    struct args a;
    args_init(&a);
    arg_str(&a, "HGET");
    arg_str(&a, "foo");
    arg_str(&a, "bar");
    assert_int_equal(slot_of_command(&a), 12182);
    args_fini(&a);
    args_init(&a);
    arg_str(&a, "EVALSHA");
    arg_str(&a, "0123456789012345678901234567890123456789");
    arg_u64(&a, 1);
    arg_str(&a, "bar");
    arg_str(&a, "foo");
    assert_int_equal(slot_of_command(&a), 5061);
    args_fini(&a);
    args_init(&a);
    arg_str(&a, "PING");
    assert_int_equal(slot_of_command(&a), 0);
    args_fini(&a);
}

static void every_slot_has_a_tag(void **state)
{
    (void)state;
    AUTO_FREE char(*tags)[SLOT_TAG_LEN + 1] = xcalloc(SLOTS, sizeof *tags);
    slot_tags(tags);
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        char key[16];
        assert_int_equal(strlen(tags[slot]), SLOT_TAG_LEN);
        (void)snprintf(key, sizeof key, "x:{%s}:y", tags[slot]);
        assert_int_equal(slot_of_key(slice_str(key)), slot);
    }
}

static void assert_redirect(const char *error, enum redirect_kind kind, uint16_t slot, const char *host, int port)
{
    struct redirect r;
    redirect_parse(slice_str(error), &r);
    if (r.kind != kind)
        fail_msg("%s: kind %d", error, (int)r.kind);
    if (kind != REDIRECT_MOVED && kind != REDIRECT_ASK)
        return;
    assert_int_equal(r.slot, slot);
    assert_string_equal(r.node.host, host);
    assert_int_equal(r.node.port, port);
}

static void redirections_are_understood(void **state)
{
    (void)state;
    assert_redirect("MOVED 3999 127.0.0.1:6381", REDIRECT_MOVED, 3999, "127.0.0.1", 6381);
    assert_redirect("ASK 16383 node-3.example.org:7000", REDIRECT_ASK, 16383, "node-3.example.org", 7000);
    assert_redirect("MOVED 0 2001:db8::1:6379", REDIRECT_MOVED, 0, "2001:db8::1", 6379);
    assert_redirect("MOVED 1 :6379", REDIRECT_MOVED, 1, "", 6379); /* the host we asked */
    assert_redirect("MOVED 1 ?:6379", REDIRECT_MOVED, 1, "", 6379);
    assert_redirect("TRYAGAIN Multiple keys request during rehashing of slot", REDIRECT_LATER, 0, NULL, 0);
    assert_redirect("CLUSTERDOWN Hash slot not served", REDIRECT_LATER, 0, NULL, 0);
    assert_redirect("READONLY You can't write against a read only replica.", REDIRECT_LATER, 0, NULL, 0);
    assert_redirect("LOADING Redis is loading the dataset in memory", REDIRECT_LATER, 0, NULL, 0);
}

static void other_errors_are_not(void **state)
{
    (void)state;
    static const char *const errors[] = {"",
                                         "ERR unknown command",
                                         "MOVED",
                                         "MOVED 1",
                                         "MOVED 16384 127.0.0.1:6381",
                                         "MOVED -1 127.0.0.1:6381",
                                         "MOVED 1 127.0.0.1",
                                         "MOVED 1 127.0.0.1:0",
                                         "MOVED 1 127.0.0.1:65536",
                                         "MOVED 1 127.0.0.1:6381 more",
                                         "MOVED 1 a/b:6381",
                                         "ASKING 1 127.0.0.1:6381",
                                         "moved 1 127.0.0.1:6381",
                                         "TRYAGAINST"};
    for (size_t i = 0; i < ARRAY_LEN(errors); i++)
        assert_redirect(errors[i], REDIRECT_NONE, 0, NULL, 0);
    char longer[512] = "MOVED 1 ";
    memset(longer + 8, 'a', 300);
    memcpy(longer + 308, ":6379", 6);
    assert_redirect(longer, REDIRECT_NONE, 0, NULL, 0);
}

static redisReply *reply(const char *resp)
{
    redisReader *reader = redisReaderCreate();
    void *r = NULL;
    assert_int_equal(redisReaderFeed(reader, resp, strlen(resp)), REDIS_OK);
    assert_int_equal(redisReaderGetReply(reader, &r), REDIS_OK);
    assert_non_null(r);
    redisReaderFree(reader);
    return r;
}

static enum err parse(const char *resp, struct slot_map *ret)
{
    char name[] = "10.0.0.9";
    struct redis_host asked = {.host = name, .port = 1};
    struct error error;
    redisReply *r = reply(resp);
    enum err e = slot_map_parse(r, &asked, ret, &error);
    freeReplyObject(r);
    return e;
}

#define NODE_A "*3\r\n$8\r\n10.0.0.1\r\n:7001\r\n$2\r\nid\r\n"
#define NODE_B "*4\r\n$8\r\n10.0.0.2\r\n:7002\r\n$2\r\nid\r\n*0\r\n"
#define NODE_C "*3\r\n$8\r\n10.0.0.3\r\n:7003\r\n$2\r\nid\r\n"

static void map_is_read(void **state)
{
    (void)state;
    struct slot_map m;
    assert_int_equal(parse("*3\r\n*4\r\n:0\r\n:100\r\n" NODE_A NODE_C "*3\r\n:101\r\n:16000\r\n" NODE_B
                           "*3\r\n:16383\r\n:16383\r\n" NODE_A,
                           &m),
                     OK);
    assert_int_equal(m.primary_count, 2);
    assert_int_equal(m.replica_count, 1);
    assert_string_equal(m.primaries[m.owner[0]].host, "10.0.0.1");
    assert_int_equal(m.primaries[m.owner[0]].port, 7001);
    assert_int_equal(m.owner[100], m.owner[0]);
    assert_string_equal(m.primaries[m.owner[101]].host, "10.0.0.2");
    assert_int_equal(m.owner[16383], m.owner[0]);
    assert_int_equal(m.owner[16001], SLOT_NOBODY);
    assert_string_equal(m.replicas[0].host, "10.0.0.3");
    slot_map_fini(&m);
    assert_int_equal(parse("*0\r\n", &m), OK);
    assert_int_equal(m.owner[0], SLOT_NOBODY);
    slot_map_fini(&m);
}

/* A node that does not know its own address is where we found it. */
static void unknown_hosts_are_the_one_asked(void **state)
{
    (void)state;
    static const char *const nodes[] = {"*3\r\n:0\r\n:1\r\n*3\r\n$-1\r\n:7001\r\n$2\r\nid\r\n",
                                        "*3\r\n:0\r\n:1\r\n*3\r\n$0\r\n\r\n:7001\r\n$2\r\nid\r\n",
                                        "*3\r\n:0\r\n:1\r\n*3\r\n$1\r\n?\r\n:7001\r\n$2\r\nid\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
        char resp[128];
        struct slot_map m;
        (void)snprintf(resp, sizeof resp, "*1\r\n%s", nodes[i]);
        assert_int_equal(parse(resp, &m), OK);
        assert_string_equal(m.primaries[0].host, "10.0.0.9");
        slot_map_fini(&m);
    }
}

static void nonsense_is_no_map(void **state)
{
    (void)state;
    static const char *const resps[] = {"+OK\r\n",
                                        "$1\r\na\r\n",
                                        "*1\r\n:1\r\n",
                                        "*1\r\n*2\r\n:0\r\n:1\r\n",
                                        "*1\r\n*3\r\n:0\r\n:16384\r\n" NODE_A,
                                        "*1\r\n*3\r\n:5\r\n:4\r\n" NODE_A,
                                        "*1\r\n*3\r\n:-1\r\n:4\r\n" NODE_A,
                                        "*1\r\n*3\r\n:0\r\n:4\r\n*2\r\n$3\r\na b\r\n:1\r\n",
                                        "*1\r\n*3\r\n:0\r\n:4\r\n*2\r\n$1\r\na\r\n:0\r\n",
                                        "*1\r\n*3\r\n:0\r\n:4\r\n*2\r\n$1\r\na\r\n:65536\r\n",
                                        "*1\r\n*3\r\n:0\r\n:4\r\n*1\r\n$1\r\na\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(resps); i++) {
        struct slot_map m;
        if (parse(resps[i], &m) == OK)
            fail_msg("%zu is taken for a map", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_have_known_slots),
        cmocka_unit_test(only_the_first_tag_counts),
        cmocka_unit_test(commands_have_the_slot_of_their_key),
        cmocka_unit_test(every_slot_has_a_tag),
        cmocka_unit_test(redirections_are_understood),
        cmocka_unit_test(other_errors_are_not),
        cmocka_unit_test(map_is_read),
        cmocka_unit_test(unknown_hosts_are_the_one_asked),
        cmocka_unit_test(nonsense_is_no_map),
    };
    return cmocka_run_group_tests_name("slots of a cluster", tests, NULL, NULL);
}
