/* broker/redis/slots.c: slots of keys, redirections, the map of slots. */
#include "broker/redis/slots.h"

#include "base/mem.h"
#include "base/text.h"

#define REPLICAS_MAX 4000
#define PORT_MAX     65535

/* Four bits at a time: the table is small enough to be written down. */
uint16_t slot_crc16(struct slice s)
{
    static const uint16_t table[16] = {0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
                                       0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef};
    uint16_t crc = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned byte = (unsigned char)s.p[i];
        crc = (uint16_t)(crc << 4 ^ table[(crc >> 12 ^ byte >> 4) & 15]);
        crc = (uint16_t)(crc << 4 ^ table[(crc >> 12 ^ byte) & 15]);
    }
    return crc;
}

uint16_t slot_of_key(struct slice key)
{
    const char *open = key.n == 0 ? NULL : memchr(key.p, '{', key.n);
    if (open != NULL) {
        struct slice rest = slice_from(key, (size_t)(open - key.p) + 1);
        const char *close = rest.n == 0 ? NULL : memchr(rest.p, '}', rest.n);
        if (close != NULL && close != rest.p)
            key = (struct slice){rest.p, (size_t)(close - rest.p)};
    }
    return slot_crc16(key) % SLOTS;
}

static struct slice argument(const struct args *a, int at)
{
    return at < a->n ? (struct slice){a->v[at], a->len[at]} : SLICE_NONE;
}

uint16_t slot_of_command(const struct args *a)
{
    bool script = slice_eq(argument(a, 0), SLICE("EVALSHA"));
    struct slice key = argument(a, script ? 3 : 1);
    return key.n != 0 ? slot_of_key(key) : 0;
}

void slot_tags(char (*ret)[SLOT_TAG_LEN + 1])
{
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    enum { LETTERS = sizeof letters - 1 };
    memset(ret, 0, SLOTS * sizeof *ret);
    for (size_t i = 0; i < (size_t)LETTERS * LETTERS * LETTERS; i++) {
        char tag[] = {letters[i / LETTERS / LETTERS], letters[i / LETTERS % LETTERS], letters[i % LETTERS], '\0'};
        char *entry = ret[slot_crc16((struct slice){tag, SLOT_TAG_LEN}) % SLOTS];
        if (entry[0] == '\0')
            memcpy(entry, tag, sizeof tag);
    }
}

/* Redirections. */

static bool word(struct slice *s, struct slice *ret)
{
    const char *space = s->n == 0 ? NULL : memchr(s->p, ' ', s->n);
    size_t n = space != NULL ? (size_t)(space - s->p) : s->n;
    *ret = (struct slice){s->p, n};
    *s = slice_from(*s, space != NULL ? n + 1 : n);
    return n != 0;
}

/* Names and addresses; anything else must not get into our logs and look-ups. */
static bool host_copy(struct slice s, char ret[HOST_MAX + 1])
{
    if (s.n > HOST_MAX)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              (c != '\0' && strchr(".:-_%", c) != NULL)))
            return false;
    }
    if (s.n != 0)
        memcpy(ret, s.p, s.n);
    ret[s.n] = '\0';
    return true;
}

/* host:port; a host may have colons of its own, be missing, or be "?" for a node that does not know its name. */
static bool node_parse(struct slice s, struct slot_node *ret)
{
    const char *colon = s.n == 0 ? NULL : memrchr(s.p, ':', s.n);
    uint64_t port;
    if (colon == NULL)
        return false;
    struct slice host = {s.p, (size_t)(colon - s.p)};
    if (!text_u64(slice_from(s, host.n + 1), PORT_MAX, &port) || port == 0)
        return false;
    if (slice_eq(host, SLICE("?")))
        host = SLICE_NONE;
    ret->port = (int)port;
    return host_copy(host, ret->host);
}

static bool parse_target(struct slice rest, struct redirect *r)
{
    struct slice slot, node;
    uint64_t value;
    if (!word(&rest, &slot) || !word(&rest, &node) || rest.n != 0 || !text_u64(slot, SLOTS - 1, &value))
        return false;
    r->slot = (uint16_t)value;
    return node_parse(node, &r->node);
}

static bool is_later(struct slice code)
{
    static const char *const codes[] = {"TRYAGAIN", "CLUSTERDOWN", "READONLY", "LOADING", "MASTERDOWN"};
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (slice_eq(code, slice_str(codes[i])))
            return true;
    }
    return false;
}

void redirect_parse(struct slice error, struct redirect *ret)
{
    struct slice rest = error, code;
    *ret = (struct redirect){.kind = REDIRECT_NONE};
    if (!word(&rest, &code))
        return;
    bool moved = slice_eq(code, SLICE("MOVED")), ask = slice_eq(code, SLICE("ASK"));
    struct redirect r = {.kind = moved ? REDIRECT_MOVED : REDIRECT_ASK};
    if (moved || ask) {
        if (parse_target(rest, &r))
            *ret = r;
    } else if (is_later(code)) {
        ret->kind = REDIRECT_LATER;
    }
}

/* The map. */

static const redisReply *at(const redisReply *r, size_t i)
{
    return r != NULL && r->type == REDIS_REPLY_ARRAY && i < r->elements ? r->element[i] : NULL;
}

static bool number(const redisReply *r, long long max, long long *ret)
{
    if (r == NULL || r->type != REDIS_REPLY_INTEGER || r->integer < 0 || r->integer > max)
        return false;
    *ret = r->integer;
    return true;
}

/* [host, port, …]; the host may be nil or empty. */
static bool node_read(const redisReply *r, const struct redis_host *asked, struct slot_node *ret)
{
    const redisReply *host = at(r, 0);
    long long port;
    struct slice name = SLICE_NONE;
    if (host == NULL || !number(at(r, 1), PORT_MAX, &port) || port == 0)
        return false;
    if (host->type == REDIS_REPLY_STRING)
        name = (struct slice){host->str, (size_t)host->len};
    else if (host->type != REDIS_REPLY_NIL)
        return false;
    if (name.n == 0 || slice_eq(name, SLICE("?")))
        name = slice_str(asked->host);
    ret->port = (int)port;
    return host_copy(name, ret->host);
}

static bool same_node(const struct slot_node *a, const struct slot_node *b)
{
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* The index of a node in the list, where it is put if it was not there; max when there is no room. */
static size_t list_node(struct slot_node **list, size_t *count, size_t max, const struct slot_node *node)
{
    for (size_t i = 0; i < *count; i++) {
        if (same_node(&(*list)[i], node))
            return i;
    }
    if (*count == max)
        return max;
    if ((*count & (*count - 1)) == 0) /* doubled whenever it is full */
        *list = xrealloc(*list, (*count == 0 ? 1 : 2 * *count) * sizeof **list);
    (*list)[*count] = *node;
    return (*count)++;
}

static enum err read_range(const redisReply *r, const struct redis_host *asked, struct slot_map *m,
                           struct error *reterr)
{
    long long first, last;
    struct slot_node node;
    if (!number(at(r, 0), SLOTS - 1, &first) || !number(at(r, 1), SLOTS - 1, &last) || first > last)
        return fail(reterr, ERR_INTERNAL, "a range of slots is not readable");
    if (!node_read(at(r, 2), asked, &node))
        return fail(reterr, ERR_INTERNAL, "the primary of slots %lld-%lld is not readable", first, last);
    size_t owner = list_node(&m->primaries, &m->primary_count, SLOT_NODES, &node);
    if (owner == SLOT_NODES)
        return fail(reterr, ERR_LIMIT_EXCEEDED, "more than %d primaries", SLOT_NODES);
    for (long long slot = first; slot <= last; slot++)
        m->owner[slot] = (uint16_t)owner;
    for (size_t i = 3; i < r->elements; i++) { /* whom else one could ask: nice to know */
        node.primary = (uint16_t)owner;
        if (node_read(at(r, i), asked, &node))
            (void)list_node(&m->replicas, &m->replica_count, REPLICAS_MAX, &node);
    }
    return OK;
}

enum err slot_map_parse(const redisReply *r, const struct redis_host *asked, struct slot_map *ret, struct error *reterr)
{
    struct slot_map m = {0};
    enum err e = OK;
    if (r->type != REDIS_REPLY_ARRAY || r->elements > SLOTS)
        return fail(reterr, ERR_INTERNAL, "not an answer to CLUSTER SLOTS");
    memset(m.owner, 0xff, sizeof m.owner);
    for (size_t i = 0; i < r->elements && e == OK; i++)
        e = read_range(r->element[i], asked, &m, reterr);
    if (e != OK) {
        slot_map_fini(&m);
        return e;
    }
    *ret = m;
    return OK;
}

void slot_map_fini(struct slot_map *map)
{
    free(TAKE(map->primaries));
    free(TAKE(map->replicas));
}
