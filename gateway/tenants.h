/* gateway/tenants.h: whose tunnels (信道) are served here: the file of --wafer-tenants. */
#ifndef XD_TENANTS_H
#define XD_TENANTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"

#define TENANT_KEYS_MAX 2u  /* two while keys change */
#define TENANT_ID_MAX   64u /* bytes of a tcId */

struct tenant {
    char *name; /* for logs */
    char *id;   /* tcId */
    char *keys[TENANT_KEYS_MAX];
    size_t key_count;
    char **urls; /* receiveUrls; with a * at the end: all that begin so */
    size_t url_count;
    bool signatures;       /* false: the key itself will do instead */
    uint32_t max_tunnels;  /* open on one node; 0: no limit */
    uint32_t requests;     /* per second, in the whole cluster; 0: no limit */
    uint32_t messages;     /* of its clients, per second, in the whole cluster; 0: no limit */
    uint32_t packet_bytes; /* of one packet, either way */
    uint32_t patience_s;   /* how long a callback that its server does not take is tried again */
};

struct tenants;

/* The file: {"tenants":[{"name","server_host"|"tc_id","keys":[…],"receive_urls":[…],"signatures"?,"max_tunnels"?,"requests"?,"messages"?,"packet_bytes"?,"patience"?}]}. NULL
 * with *reterr, which names the tenant that is wrong, and no key. */
struct tenants *tenants_load(const char *path, struct error *reterr);
struct tenants *tenants_parse(struct slice text, struct error *reterr);
/* NULL-safe; clears the pointer. */
void tenants_destroy(struct tenants **list);
size_t tenants_count(const struct tenants *t);

/* NULL: there is none. Borrowed until the next reload. */
const struct tenant *tenants_find(const struct tenants *t, struct slice id);

/* Does whoever signed (or presented) this have a key of the tenant's? presented is empty when there is none. Returns the key, or NULL. */
const char *tenant_proved(const struct tenant *t, struct slice data, struct slice signature, struct slice presented);

/* May its callbacks be posted there? */
bool tenant_may_receive(const struct tenant *t, struct slice url);

#endif
