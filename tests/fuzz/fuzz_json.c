/* tests/fuzz/fuzz_json.c: the JSON scanner must agree with jansson on every input, and what it finds must survive unquoting and quoting. */
#include <assert.h>
#include <jansson.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "proto/json.h"

#define DEEPER (JSON_MAX_DEPTH + 1)

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { TYPE, ID, DATA, ESCAPED, COUNT };
static const char *const names[COUNT] = {"type", "id", "data", "a\"\xc3\xa9"};

/* Levels of containers; more than JSON_MAX_DEPTH is all the same. */
static unsigned depth_of(json_t *v, unsigned above)
{
    unsigned deepest = above;
    if (json_is_object(v) || json_is_array(v))
        deepest = ++above;
    if (above >= DEEPER)
        return above;
    const char *key;
    json_t *child;
    size_t i;
    json_object_foreach(v, key, child)
    {
        unsigned d = depth_of(child, above);
        deepest = d > deepest ? d : deepest;
    }
    json_array_foreach(v, i, child)
    {
        unsigned d = depth_of(child, above);
        deepest = d > deepest ? d : deepest;
    }
    return deepest;
}

/* The string as jansson reads it must be the string as we do, and quoting it must give it back. */
static void check_string(struct json_value v)
{
    struct arena a;
    struct error error;
    struct slice ours, again;
    struct buf quoted = BUF_INIT;
    arena_init(&a, 1 << 20);
    enum err err = json_unquote(v, &a, &ours, &error);
    assert(err == OK);
    assert(utf8_valid(ours));
    json_t *theirs = json_loadb(v.raw.p, v.raw.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    assert(theirs != NULL);
    assert(slice_eq(ours, (struct slice){json_string_value(theirs), json_string_length(theirs)}));
    json_quote(&quoted, ours);
    err = json_unquote((struct json_value){JSON_KIND_STRING, buf_slice(&quoted)}, &a, &again, &error);
    assert(err == OK);
    assert(slice_eq(ours, again));
    assert(json_check(buf_slice(&quoted), &error) == OK);
    json_decref(theirs);
    buf_fini(&quoted);
    arena_reset(&a);
}

/* Walking an array must visit what jansson has, in order. */
static void check_array(struct json_value array, json_t *theirs)
{
    struct json_value element;
    size_t at = 0, count = 0;
    while (json_next(array, &at, &element)) {
        struct error ignored;
        assert(element.raw.p > array.raw.p && element.raw.p + element.raw.n < array.raw.p + array.raw.n);
        assert(json_check(element.raw, &ignored) == OK);
        assert((element.kind == JSON_KIND_STRING) == json_is_string(json_array_get(theirs, count)));
        assert((element.kind == JSON_KIND_ARRAY) == json_is_array(json_array_get(theirs, count)));
        count++;
    }
    assert(count == json_array_size(theirs));
}

static void check_members(struct slice text, json_t *theirs)
{
    struct json_value v[COUNT];
    struct error error = {0};
    enum err err = json_members(text, names, COUNT, v, &error);
    if (theirs == NULL || !json_is_object(theirs))
        assert(err != OK);
    else
        assert(err == OK || strstr(error.text, "given twice") != NULL);
    for (size_t i = 0; i < COUNT; i++) {
        if (v[i].kind == JSON_KIND_NONE) {
            assert(err != OK || json_object_get(theirs, names[i]) == NULL);
            continue;
        }
        struct error ignored;
        assert(v[i].raw.p >= text.p && v[i].raw.p + v[i].raw.n <= text.p + text.n);
        assert(json_check(v[i].raw, &ignored) == OK);
        if (err == OK)
            assert(json_object_get(theirs, names[i]) != NULL);
        if (v[i].kind == JSON_KIND_STRING)
            check_string(v[i]);
        if (v[i].kind == JSON_KIND_ARRAY && err == OK)
            check_array(v[i], json_object_get(theirs, names[i]));
        uint64_t number;
        if (json_uint(v[i], UINT32_MAX, &number) && err == OK)
            assert((uint64_t)json_integer_value(json_object_get(theirs, names[i])) == number);
    }
    if (err != OK)
        assert(error.code == err && memchr(error.text, '\0', sizeof error.text) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct slice text = {(const char *)p, n};
    struct error error = {0};
    json_error_t why;
    if (!utf8_valid(text))
        return 0; /* the scanner only ever gets UTF-8 */
    bool ours = json_check(text, &error) == OK;
    if (n != 0 && memchr(p, '\0', n) != NULL) {
        assert(!ours); /* jansson loses a zero byte behind a number */
        return 0;
    }
    json_t *theirs = json_loadb(text.p != NULL ? text.p : "", n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    if (theirs == NULL &&
        (json_error_code(&why) == json_error_numeric_overflow || json_error_code(&why) == json_error_null_byte_in_key))
        return 0; /* may be valid JSON, but jansson cannot hold it */
    if (ours)
        assert(theirs != NULL && depth_of(theirs, 0) <= JSON_MAX_DEPTH);
    else
        assert(theirs == NULL || depth_of(theirs, 0) > JSON_MAX_DEPTH);
    check_members(text, ours ? theirs : NULL);
    json_decref(theirs);
    return 0;
}
