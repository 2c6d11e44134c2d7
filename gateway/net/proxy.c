/* gateway/net/proxy.c: PROXY protocol headers. */
#include "gateway/net/proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#define V1_MAX     107 /* with CRLF, says the specification */
#define V2_FIXED   16
#define V2_LOCAL   0x20
#define V2_PROXY   0x21
#define V2_TCP4    0x11
#define V2_TCP6    0x21
#define V2_ADDR_V4 12 /* two addresses, two ports */
#define V2_ADDR_V6 36

static const char v1_prefix[] = "PROXY ";
static const char v2_signature[] = "\r\n\r\n\0\r\nQUIT\n";

static enum proxy_result bad(const char *why, const char **ret_why)
{
    *ret_why = why;
    return PROXY_BAD;
}

/* True when p begins with the text, as far as p goes. */
static bool may_begin(const char *p, size_t n, const char *text, size_t text_n)
{
    return memcmp(p, text, n < text_n ? n : text_n) == 0;
}

static void take_v4(const void *ip, struct peer_address *ret)
{
    static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    memcpy(ret->bytes, prefix, sizeof prefix);
    memcpy(ret->bytes + sizeof prefix, ip, 4);
}

/* --- version 1: a line of text --- */

/* The next word of the line into ret, NUL-terminated; false when there is none or it is too long. */
static bool next_word(const char **at, const char *end, char *ret, size_t size)
{
    const char *space = memchr(*at, ' ', (size_t)(end - *at));
    const char *stop = space != NULL ? space : end;
    size_t n = (size_t)(stop - *at);
    if (n == 0 || n >= size || memchr(*at, '\0', n) != NULL)
        return false;
    memcpy(ret, *at, n);
    ret[n] = '\0';
    *at = space != NULL ? space + 1 : end;
    return true;
}

static bool parse_port(const char *word, uint16_t *ret)
{
    unsigned v = 0;
    if (word[0] == '0' && word[1] != '\0')
        return false;
    for (const char *c = word; *c != '\0'; c++) {
        if (*c < '0' || *c > '9')
            return false;
        v = v * 10 + (unsigned)(*c - '0');
        if (v > UINT16_MAX)
            return false;
    }
    *ret = (uint16_t)v;
    return true;
}

static bool parse_ip(bool v6, const char *word, struct peer_address *ret)
{
    if (v6)
        return inet_pton(AF_INET6, word, ret->bytes) == 1;
    struct in_addr in;
    if (inet_pton(AF_INET, word, &in) != 1)
        return false;
    take_v4(&in, ret);
    return true;
}

static enum proxy_result parse_v1(const char *p, size_t n, struct proxy_header *ret, const char **ret_why)
{
    size_t look = n < V1_MAX ? n : V1_MAX;
    const char *end = memchr(p, '\n', look);
    if (end == NULL)
        return look < V1_MAX ? PROXY_MORE : bad("the line is too long", ret_why);
    if (end[-1] != '\r')
        return bad("the line does not end in CRLF", ret_why);
    *ret = (struct proxy_header){.length = (size_t)(end - p) + 1};
    end--;
    const char *at = p + sizeof v1_prefix - 1;
    char family[8], source[PEER_TEXT], target[PEER_TEXT], source_port[6], target_port[6];
    if (!next_word(&at, end, family, sizeof family))
        return bad("the family is missing", ret_why);
    if (strcmp(family, "UNKNOWN") == 0) {
        ret->local = true;
        return PROXY_DONE;
    }
    bool v6 = strcmp(family, "TCP6") == 0;
    if (!v6 && strcmp(family, "TCP4") != 0)
        return bad("the family is not known", ret_why);
    struct peer_address ignored;
    uint16_t ignored_port;
    if (!next_word(&at, end, source, sizeof source) || !next_word(&at, end, target, sizeof target) ||
        !next_word(&at, end, source_port, sizeof source_port) ||
        !next_word(&at, end, target_port, sizeof target_port) || at != end)
        return bad("there are not four fields", ret_why);
    if (!parse_ip(v6, source, &ret->address) || !parse_ip(v6, target, &ignored))
        return bad("an address is malformed", ret_why);
    if (!parse_port(source_port, &ret->port) || !parse_port(target_port, &ignored_port))
        return bad("a port is malformed", ret_why);
    return PROXY_DONE;
}

/* --- version 2: binary --- */

static uint16_t get_u16(const char *p)
{
    return (uint16_t)((unsigned char)p[0] << 8 | (unsigned char)p[1]);
}

static enum proxy_result parse_v2(const char *p, size_t n, struct proxy_header *ret, const char **ret_why)
{
    if (n < V2_FIXED)
        return PROXY_MORE;
    unsigned command = (unsigned char)p[12], family = (unsigned char)p[13];
    size_t rest = get_u16(p + 14);
    if (command != V2_LOCAL && command != V2_PROXY)
        return bad("version or command is not known", ret_why);
    if (V2_FIXED + rest > PROXY_MAX)
        return bad("the header is too long", ret_why);
    *ret = (struct proxy_header){.length = V2_FIXED + rest};
    if (command == V2_PROXY && ((family == V2_TCP4 && rest < V2_ADDR_V4) || (family == V2_TCP6 && rest < V2_ADDR_V6)))
        return bad("the addresses are cut off", ret_why);
    if (n < ret->length)
        return PROXY_MORE;
    const char *addresses = p + V2_FIXED;
    if (command == V2_PROXY && family == V2_TCP4) {
        take_v4(addresses, &ret->address);
        ret->port = get_u16(addresses + 8);
    } else if (command == V2_PROXY && family == V2_TCP6) {
        memcpy(ret->address.bytes, addresses, sizeof ret->address.bytes);
        ret->port = get_u16(addresses + 32);
    } else {
        ret->local = true; /* the specification: families one does not know are treated as unspecified */
    }
    return PROXY_DONE;
}

enum proxy_result proxy_parse(const char *p, size_t n, struct proxy_header *ret, const char **ret_why)
{
    if (may_begin(p, n, v2_signature, sizeof v2_signature - 1))
        return n < sizeof v2_signature - 1 ? PROXY_MORE : parse_v2(p, n, ret, ret_why);
    if (may_begin(p, n, v1_prefix, sizeof v1_prefix - 1))
        return n < sizeof v1_prefix - 1 ? PROXY_MORE : parse_v1(p, n, ret, ret_why);
    return PROXY_NONE;
}
