/* gateway/net/peers.c: connections per address. */
#include "gateway/net/peers.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/table.h"

struct peer {
    struct peer_address key;
    uint32_t count;
    UT_hash_handle hh;
};

static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool is_v4(const struct peer_address *a)
{
    return memcmp(a->bytes, v4_prefix, sizeof v4_prefix) == 0;
}

bool peer_address_of(const struct sockaddr_storage *sa, struct peer_address *ret, uint16_t *ret_port)
{
    if (sa->ss_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof in);
        memcpy(ret->bytes, v4_prefix, sizeof v4_prefix);
        memcpy(ret->bytes + sizeof v4_prefix, &in.sin_addr, 4);
        *ret_port = ntohs(in.sin_port);
        return true;
    }
    if (sa->ss_family == AF_INET6) {
        struct sockaddr_in6 in;
        memcpy(&in, sa, sizeof in);
        memcpy(ret->bytes, &in.sin6_addr, sizeof ret->bytes);
        *ret_port = ntohs(in.sin6_port);
        return true;
    }
    return false;
}

void peer_address_text(const struct peer_address *a, char *ret)
{
    if (is_v4(a))
        (void)inet_ntop(AF_INET, a->bytes + sizeof v4_prefix, ret, PEER_TEXT);
    else
        (void)inet_ntop(AF_INET6, a->bytes, ret, PEER_TEXT);
}

const char *peer_name(const struct peer_address *a, uint16_t port)
{
    static char name[PEER_TEXT + 9];
    char text[PEER_TEXT];
    peer_address_text(a, text);
    (void)snprintf(name, sizeof name, is_v4(a) ? "%s:%u" : "[%s]:%u", text, (unsigned)port);
    return name;
}

struct peer *peer_enter(struct peer_table *t, const struct peer_address *a, uint32_t max)
{
    struct peer_address key = *a;
    if (!is_v4(a))
        memset(key.bytes + 8, 0, 8);
    struct peer *p;
    HASH_FIND(hh, t->peers, &key, sizeof key, p);
    if (p == NULL) {
        p = xcalloc(1, sizeof *p);
        p->key = key;
        HASH_ADD(hh, t->peers, key, sizeof p->key, p);
    } else if (max != 0 && p->count >= max) {
        return NULL;
    }
    p->count++;
    return p;
}

void peer_leave(struct peer_table *t, struct peer **pp)
{
    struct peer *p = *pp;
    *pp = NULL;
    if (p == NULL || --p->count > 0)
        return;
    HASH_DEL(t->peers, p);
    free(p);
}
