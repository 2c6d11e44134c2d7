/* gateway/doctor/answer.c: HTTP answers and WebSocket frames of a server, from bytes. */
#include "gateway/doctor/answer.h"

#include <strings.h>

#include "base/text.h"

/* --- HTTP --- */

static bool status_line(struct slice line, int *ret)
{
    uint64_t status;
    if (!slice_starts(line, SLICE("HTTP/1.1 ")) && !slice_starts(line, SLICE("HTTP/1.0 ")))
        return false;
    line = slice_from(line, 9);
    if (line.n < 3 || (line.n > 3 && line.p[3] != ' ') || !text_u64((struct slice){line.p, 3}, 999, &status) ||
        status < 100)
        return false;
    *ret = (int)status;
    return true;
}

enum err answer_parse(struct slice in, struct answer *ret, bool *ret_more, struct error *reterr)
{
    struct answer a = {0};
    size_t shown = in.n < 9 ? in.n : 9;
    *ret_more = false;
    if (!slice_starts(SLICE("HTTP/1.1 "), (struct slice){in.p, shown}) &&
        !slice_starts(SLICE("HTTP/1.0 "), (struct slice){in.p, shown}))
        return fail(reterr, ERR_BAD_REQUEST, "the answer does not begin with HTTP/1.1");
    const char *end = in.n != 0 ? memmem(in.p, in.n, "\r\n\r\n", 4) : NULL;
    if (end == NULL) {
        *ret_more = true;
        return OK;
    }
    a.head = (size_t)(end - in.p) + 4;
    const char *first = memmem(in.p, a.head, "\r\n", 2);
    if (!status_line((struct slice){in.p, (size_t)(first - in.p)}, &a.status))
        return fail(reterr, ERR_BAD_REQUEST, "the answer has no HTTP status");
    a.headers = (struct slice){first + 2, a.head - (size_t)(first - in.p) - 4};
    *ret = a;
    return OK;
}

struct slice answer_header(const struct answer *a, const char *name, size_t *ret_count)
{
    struct slice rest = a->headers, found = SLICE_NONE;
    size_t n = strlen(name), count = 0;
    while (rest.n != 0) {
        const char *end = memmem(rest.p, rest.n, "\r\n", 2);
        struct slice line = {rest.p, end != NULL ? (size_t)(end - rest.p) : rest.n};
        if (line.n > n && line.p[n] == ':' && strncasecmp(line.p, name, n) == 0 && count++ == 0)
            found = text_trim(slice_from(line, n + 1));
        rest = slice_from(rest, line.n + (end != NULL ? 2 : 0));
    }
    if (ret_count != NULL)
        *ret_count = count;
    return found;
}

bool answer_list_has(struct slice list, const char *word)
{
    size_t n = strlen(word);
    while (list.n != 0) {
        const char *comma = memchr(list.p, ',', list.n);
        struct slice item = {list.p, comma != NULL ? (size_t)(comma - list.p) : list.n};
        list = slice_from(list, item.n + (comma != NULL));
        item = text_trim(item);
        if (item.n == n && strncasecmp(item.p, word, n) == 0)
            return true;
    }
    return false;
}

bool answer_date(struct slice text, time_t *ret)
{
    char copy[32];
    struct tm t = {0};
    if (text.n != 29) /* Sun, 06 Nov 1994 08:49:37 GMT */
        return false;
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    const char *end = strptime(copy, "%a, %d %b %Y %H:%M:%S GMT", &t);
    if (end == NULL || *end != '\0')
        return false;
    *ret = timegm(&t);
    return true;
}

/* --- frames --- */

static bool frame_length(struct slice in, size_t *ret_header, uint64_t *ret_length, bool *ret_shortest)
{
    uint64_t length = (unsigned char)in.p[1] & 0x7f;
    size_t bytes = length == 126 ? 2 : length == 127 ? 8 : 0;
    if (in.n < 2 + bytes)
        return false;
    if (bytes != 0)
        length = 0;
    for (size_t i = 0; i < bytes; i++)
        length = length << 8 | (unsigned char)in.p[2 + i];
    *ret_header = 2 + bytes;
    *ret_length = length;
    *ret_shortest = bytes == 0 || length > (bytes == 2 ? 125u : 65535u);
    return true;
}

enum err frame_parse(struct slice in, struct frame *ret, bool *ret_more, struct error *reterr)
{
    size_t header;
    uint64_t length;
    bool shortest;
    *ret_more = in.n < 2;
    if (*ret_more)
        return OK;
    unsigned char first = (unsigned char)in.p[0];
    unsigned opcode = first & 0x0fu;
    bool fin = (first & 0x80) != 0, control = opcode >= FRAME_CLOSE;
    if ((first & 0x70) != 0)
        return fail(reterr, ERR_BAD_REQUEST, "a frame uses an extension that was not agreed on");
    if (opcode > FRAME_PONG || (opcode > FRAME_BINARY && !control))
        return fail(reterr, ERR_BAD_REQUEST, "a frame has the unknown opcode %u", opcode);
    if (((unsigned char)in.p[1] & 0x80) != 0)
        return fail(reterr, ERR_BAD_REQUEST, "a frame of the server is masked");
    *ret_more = !frame_length(in, &header, &length, &shortest);
    if (*ret_more)
        return OK;
    if (!shortest || (control && (!fin || length > 125)))
        return fail(reterr, ERR_BAD_REQUEST, "a frame of opcode %u has a length that is not allowed", opcode);
    if (length > FRAME_MAX)
        return fail(reterr, ERR_TOO_LARGE, "a frame has %llu bytes", (unsigned long long)length);
    *ret_more = in.n < header + length;
    if (!*ret_more)
        *ret = (struct frame){opcode, fin, {in.p + header, (size_t)length}, header + (size_t)length};
    return OK;
}
