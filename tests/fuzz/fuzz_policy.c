/* tests/fuzz/fuzz_policy.c: a room name in the first line, policies in the others; and the first policy's pattern is matched against a slow matcher. */
#include <assert.h>

#include "base/mem.h"
#include "gateway/policy.h"

#define LINES_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* One row of the textbook table per byte of the pattern; for ASCII, where a character is a byte. */
static bool table_match(const char *pattern, struct slice name)
{
    bool row[256] = {true}, old;
    for (; *pattern != '\0'; pattern++) {
        old = row[0];
        row[0] = old && *pattern == '*';
        for (size_t i = 1; i <= name.n; i++) {
            bool diagonal = old;
            old = row[i];
            row[i] = *pattern == '*' ? old || row[i - 1] : diagonal && (*pattern == '?' || *pattern == name.p[i - 1]);
        }
    }
    return row[name.n];
}

static bool ascii(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] >= 0x80)
            return false;
    return true;
}

static struct slice next_line(struct slice *rest)
{
    const char *end = rest->n != 0 ? memchr(rest->p, '\n', rest->n) : NULL;
    struct slice line = {rest->p, end != NULL ? (size_t)(end - rest->p) : rest->n};
    *rest = slice_from(*rest, line.n + (end != NULL));
    return line;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct slice rest = {(const char *)p, n}, room = next_line(&rest);
    char *lines[LINES_MAX];
    size_t count = 0;
    while (rest.n != 0 && count < LINES_MAX) {
        struct slice line = next_line(&rest);
        lines[count++] = xstrndup(line.p, line.n);
    }
    if (room.n > 255)
        room.n = 255;
    struct error err = {OK, ""};
    struct policies *policies = policies_create(lines, count, false, &err);
    if (policies == NULL) {
        assert(err.code != OK && err.text[0] != '\0');
    } else {
        const struct policy *found = policies_find(policies, room);
        assert(policy_match(found->pattern, room));
        if (ascii(room))
            assert(table_match(found->pattern, room));
        policies_destroy(&policies);
    }
    for (size_t i = 0; i < count; i++) { /* any text is a pattern to the matcher */
        bool same =
            !ascii(room) || !ascii(slice_str(lines[i])) || table_match(lines[i], room) == policy_match(lines[i], room);
        assert(same);
        free(lines[i]);
    }
    return 0;
}
