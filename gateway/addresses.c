/* gateway/addresses.c: is an address in a range? */
#include "gateway/addresses.h"

#include <arpa/inet.h>

#include "base/text.h"

struct range {
    unsigned char bytes[sizeof(struct in6_addr)];
    size_t n; /* bytes of the address */
    uint64_t bits;
};

static bool read_address(struct slice text, struct range *ret)
{
    char s[INET6_ADDRSTRLEN];
    if (text.n == 0 || text.n >= sizeof s)
        return false;
    memcpy(s, text.p, text.n);
    s[text.n] = '\0';
    if (inet_pton(AF_INET, s, ret->bytes) == 1)
        ret->n = sizeof(struct in_addr);
    else if (inet_pton(AF_INET6, s, ret->bytes) == 1)
        ret->n = sizeof(struct in6_addr);
    else
        return false;
    ret->bits = ret->n * 8;
    return true;
}

static bool read_range(struct slice text, struct range *ret)
{
    const char *slash = text.n != 0 ? memchr(text.p, '/', text.n) : NULL;
    size_t n = slash != NULL ? (size_t)(slash - text.p) : text.n;
    if (!read_address((struct slice){text.p, n}, ret))
        return false;
    return slash == NULL || text_u64(slice_from(text, n + 1), ret->n * 8, &ret->bits);
}

bool address_range_valid(struct slice text)
{
    struct range r;
    return read_range(text, &r);
}

static bool contains(const struct range *r, const struct range *address)
{
    size_t whole = (size_t)r->bits / 8;
    unsigned rest = (unsigned)r->bits % 8;
    if (r->n != address->n || memcmp(r->bytes, address->bytes, whole) != 0)
        return false;
    return rest == 0 || ((r->bytes[whole] ^ address->bytes[whole]) & 0xffu << (8 - rest) & 0xffu) == 0;
}

bool address_in(const struct strings *ranges, struct slice ip)
{
    struct range address, r;
    if (!read_address(ip, &address))
        return false;
    for (size_t i = 0; i < ranges->count; i++)
        if (read_range(slice_str(ranges->items[i]), &r) && contains(&r, &address))
            return true;
    return false;
}
