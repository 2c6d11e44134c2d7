/* gateway/api_keys.h: the keys of backends that use the server API: what is in the file, and whether somebody has one of them. */
#ifndef XD_API_KEYS_H
#define XD_API_KEYS_H

#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"

#define API_KEY_PREFIX "xdk_"

/* X(enumerator, word in the file). ADMIN stands for all of them. */
#define API_SCOPE_MAP(X)                                                                                               \
    X(SCOPE_PUBLISH, "publish")                                                                                        \
    X(SCOPE_ROOMS_READ, "rooms:read")                                                                                  \
    X(SCOPE_ROOMS_WRITE, "rooms:write")                                                                                \
    X(SCOPE_SESSIONS_READ, "sessions:read")                                                                            \
    X(SCOPE_SESSIONS_WRITE, "sessions:write")                                                                          \
    X(SCOPE_USERS_READ, "users:read")                                                                                  \
    X(SCOPE_USERS_WRITE, "users:write")                                                                                \
    X(SCOPE_ADMIN, "admin")

enum api_scope {
#define X(code, name) code,
    API_SCOPE_MAP(X)
#undef X
        SCOPES
};

const char *api_scope_name(enum api_scope scope);

struct api_key {
    char *name;      /* for logs; the key itself is nowhere */
    char hash[65];   /* SHA-256 in lower-case hex */
    unsigned scopes; /* set of BIT(enum api_scope) */
    char **rooms;    /* patterns of room names; none: every room */
    size_t room_count;
    uint32_t rate; /* requests per second in the whole cluster; a message of a batch counts as one; 0: no limit */
};

/* A file's worth of keys; counted, because requests outlive a reload. */
struct api_keys;

/* The file: {"keys":[{"name","sha256","scopes":[…],"rooms":[…]?,"rate"?}]}. NULL with *reterr, which names the key that is wrong. */
struct api_keys *api_keys_load(const char *path, struct error *reterr);
struct api_keys *api_keys_parse(struct slice text, struct error *reterr);
struct api_keys *api_keys_ref(struct api_keys *k);
/* NULL-safe; clears the pointer. */
void api_keys_unref(struct api_keys **keys);
size_t api_keys_count(const struct api_keys *k);

/* The key that was presented, or NULL. How long that takes says nothing about which keys there are. */
struct api_key *api_keys_find(struct api_keys *k, struct slice presented);

bool api_key_has(const struct api_key *key, enum api_scope scope);
/* Rooms of the server ($…) need a pattern that begins with $ itself. */
bool api_key_room(const struct api_key *key, struct slice room);

#endif
