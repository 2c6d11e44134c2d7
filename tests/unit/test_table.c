/* tests/unit/test_table.c: hash tables with a keyed hash. */
#include <stdio.h>

#include "base/mem.h"
#include "base/table.h"
#include "tests/support/check.h"

/* Before table_seed the key is zero. CPython hashes bytes with the same SipHash-1-3, and with a zero key under PYTHONHASHSEED=0: these are
 * its values of hash(b"…"). */
static void is_siphash_1_3(void **state)
{
    static const struct {
        const char *text;
        uint64_t hash;
    } known[] = {
        {"a", 0x407448d2b89b1813u},        {"room", 0xf9d3fff8c23da278u},      {"1234567", 0xa33d651594fdae81u},
        {"12345678", 0x3489982430560a87u}, {"123456789", 0x0fbc0f0007965fcfu},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        assert_true(table_hash(known[i].text, strlen(known[i].text)) == known[i].hash);
    unsigned char counting[63];
    for (size_t i = 0; i < sizeof counting; i++)
        counting[i] = (unsigned char)i;
    assert_true(table_hash(counting, sizeof counting) == 0x385d3e39e5f37359u);
    char xs[1000];
    memset(xs, 'x', sizeof xs);
    assert_true(table_hash(xs, sizeof xs) == 0x1b47c0cc4dd21f05u);
}

static void the_seed_changes_it(void **state)
{
    (void)state;
    uint64_t before = table_hash("room", 4);
    table_seed();
    uint64_t after = table_hash("room", 4);
    assert_true(before != after);
    assert_true(after == table_hash("room", 4));
    table_seed();
    assert_true(after != table_hash("room", 4));
}

struct item {
    char name[24];
    UT_hash_handle hh;
};

static void holds_many_names(void **state)
{
    enum { COUNT = 5000 };
    struct item *table = NULL;
    (void)state;
    for (int i = 0; i < COUNT; i++) {
        struct item *item = xcalloc(1, sizeof *item);
        (void)snprintf(item->name, sizeof item->name, "room-%d", i);
        HASH_ADD_KEYPTR(hh, table, item->name, strlen(item->name), item);
    }
    assert_int_equal(HASH_COUNT(table), COUNT);
    for (int i = 0; i < COUNT; i += 2) {
        char name[24];
        struct item *found;
        (void)snprintf(name, sizeof name, "room-%d", i);
        HASH_FIND(hh, table, name, strlen(name), found);
        assert_non_null(found);
        assert_string_equal(found->name, name);
        HASH_DEL(table, found);
        free(found);
        HASH_FIND(hh, table, name, strlen(name), found);
        assert_null(found);
    }
    assert_int_equal(HASH_COUNT(table), COUNT / 2);
    struct item *item, *next;
    HASH_ITER (hh, table, item, next) {
        HASH_DEL(table, item);
        free(item);
    }
    assert_null(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_siphash_1_3),
        cmocka_unit_test(the_seed_changes_it),
        cmocka_unit_test(holds_many_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
