/* gateway/tenants.c: reading the file of tenants; what one of them may do. */
#include "gateway/tenants.h"

#include <jansson.h>
#include <stdio.h>

#include "base/json_file.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/webhook/signature.h"
#include "gateway/webhook/url.h"

#define TENANTS_MAX  1000u
#define URLS_MAX     64u
#define NAME_MAX     64u
#define KEY_MIN      8u
#define KEY_MAX      256u
#define RATE_MAX     1000000u
#define PACKET_MIN   64u
#define PACKET_MAX   (1u << 20)
#define PATIENCE_MAX (24u * 3600u)
#define PATIENCE     300u
#define PACKET_BYTES 65536u
#define MAX_TUNNELS  10000u
#define REQUESTS     1000u

struct tenants {
    size_t count;
    struct tenant list[];
};

static enum err read_id(const json_t *o, struct tenant *t, struct error *reterr)
{
    const char *id = json_string_value(json_object_get(o, "tc_id"));
    const char *host = json_string_value(json_object_get(o, "server_host"));
    char made[WAFER_ID_LEN + 1];
    if ((id == NULL) == (host == NULL))
        return fail(reterr, ERR_BAD_REQUEST, "tenant %s: one of \"server_host\" and \"tc_id\" must be a text", t->name);
    if (host != NULL && !wafer_id(slice_str(host), made))
        return fail(reterr, ERR_BAD_REQUEST, "tenant %s: this OpenSSL has no MD5; give \"tc_id\" instead", t->name);
    id = host != NULL ? made : id;
    if (*id == '\0' || strlen(id) > TENANT_ID_MAX ||
        strspn(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-") != strlen(id))
        return fail(reterr, ERR_BAD_REQUEST, "tenant %s: \"tc_id\" must be 1 to %u letters, digits and . _ -", t->name,
                    TENANT_ID_MAX);
    t->id = xstrdup(id);
    return OK;
}

static enum err read_keys(const json_t *list, struct tenant *t, struct error *reterr)
{
    size_t i;
    const json_t *item;
    if (!json_is_array(list) || json_array_size(list) == 0 || json_array_size(list) > TENANT_KEYS_MAX)
        return fail(reterr, ERR_BAD_REQUEST, "tenant %s: \"keys\" must be a list of 1 to %u", t->name, TENANT_KEYS_MAX);
    json_array_foreach(list, i, item)
    {
        const char *key = json_string_value(item);
        if (key == NULL || strlen(key) < KEY_MIN || strlen(key) > KEY_MAX)
            return fail(reterr, ERR_BAD_REQUEST, "tenant %s: key %zu must be a text of %u to %u bytes", t->name, i + 1,
                        KEY_MIN, KEY_MAX);
        t->keys[t->key_count++] = xstrdup(key);
    }
    return OK;
}

/* Where a * stands for more than what is behind a host and a slash, the host could be anybody's. */
static enum err check_url(const char *url, struct error *reterr)
{
    struct webhook_url parsed;
    const char *star = strchr(url, '*'), *host = strstr(url, "://");
    const char *slash = host != NULL ? strchr(host + 3, '/') : NULL;
    if (star != NULL && (star[1] != '\0' || slash == NULL || slash > star))
        return fail(reterr, ERR_BAD_REQUEST, "a * may only be the last letter, behind the host and a slash");
    if (webhook_url_parse(url, &parsed, reterr) != OK)
        return reterr->code;
    webhook_url_fini(&parsed);
    return OK;
}

static enum err read_urls(const json_t *list, struct tenant *t, struct error *reterr)
{
    size_t i;
    const json_t *item;
    struct error why;
    if (!json_is_array(list) || json_array_size(list) == 0 || json_array_size(list) > URLS_MAX)
        return fail(reterr, ERR_BAD_REQUEST, "tenant %s: \"receive_urls\" must be a list of 1 to %u", t->name,
                    URLS_MAX);
    t->urls = xcalloc(json_array_size(list), sizeof *t->urls);
    json_array_foreach(list, i, item)
    {
        const char *url = json_string_value(item);
        if (url == NULL)
            return fail(reterr, ERR_BAD_REQUEST, "tenant %s: receive_urls %zu is not a text", t->name, i + 1);
        if (check_url(url, &why) != OK)
            return fail(reterr, ERR_BAD_REQUEST, "tenant %s: receive_urls %zu: %.100s", t->name, i + 1, why.text);
        t->urls[t->url_count++] = xstrdup(url);
    }
    return OK;
}

static enum err read_numbers(const json_t *o, const char *what, struct tenant *t, struct error *reterr)
{
    const struct json_number numbers[] = {
        {"max_tunnels", &t->max_tunnels, 0, 10000000}, {"requests", &t->requests, 0, RATE_MAX},
        {"messages", &t->messages, 0, RATE_MAX},       {"packet_bytes", &t->packet_bytes, PACKET_MIN, PACKET_MAX},
        {"patience", &t->patience_s, 1, PATIENCE_MAX},
    };
    const json_t *signatures = json_object_get(o, "signatures");
    t->max_tunnels = MAX_TUNNELS;
    t->requests = REQUESTS;
    t->packet_bytes = PACKET_BYTES;
    t->patience_s = PATIENCE;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (json_file_number(o, &numbers[i], what, reterr) != OK)
            return reterr->code;
    if (signatures != NULL && !json_is_boolean(signatures))
        return fail(reterr, ERR_BAD_REQUEST, "%s: \"signatures\" must be true or false", what);
    t->signatures = signatures == NULL || json_is_true(signatures);
    return OK;
}

static enum err read_tenant(json_t *o, size_t at, struct tenant *t, struct error *reterr)
{
    static const char *const known[] = {"name",         "server_host",  "tc_id",       "keys",
                                        "receive_urls", "signatures",   "max_tunnels", "requests",
                                        "messages",     "packet_bytes", "patience",    NULL};
    const char *name = json_string_value(json_object_get(o, "name"));
    char what[NAME_MAX + 8];
    if (name == NULL || !utf8_name_valid(slice_str(name), NAME_MAX))
        return fail(reterr, ERR_BAD_REQUEST, "tenant %zu of the list has no \"name\" of 1 to %u bytes", at + 1,
                    NAME_MAX);
    t->name = xstrdup(name);
    (void)snprintf(what, sizeof what, "tenant %s", name);
    enum err err = json_file_members(o, known, what, reterr);
    if (err == OK)
        err = read_id(o, t, reterr);
    if (err == OK)
        err = read_keys(json_object_get(o, "keys"), t, reterr);
    if (err == OK)
        err = read_urls(json_object_get(o, "receive_urls"), t, reterr);
    return err != OK ? err : read_numbers(o, what, t, reterr);
}

static enum err check_unique(const struct tenants *t, struct error *reterr)
{
    const struct tenant *last = &t->list[t->count - 1];
    for (size_t i = 0; i + 1 < t->count; i++)
        if (strcmp(t->list[i].id, last->id) == 0)
            return fail(reterr, ERR_BAD_REQUEST, "tenants %s and %s have the same tcId", t->list[i].name, last->name);
    return OK;
}

static struct tenants *read_list(json_t *root, struct error *reterr)
{
    static const char *const known[] = {"tenants", NULL};
    json_t *list = json_file_list(root, "tenants", known, TENANTS_MAX, reterr), *item;
    size_t i;
    enum err err = OK;
    if (list == NULL)
        return NULL;
    struct tenants *t = xcalloc(1, sizeof *t + json_array_size(list) * sizeof t->list[0]);
    for (i = 0; err == OK && (item = json_array_get(list, i)) != NULL; i++) {
        err = read_tenant(item, i, &t->list[t->count++], reterr);
        if (err == OK)
            err = check_unique(t, reterr);
    }
    if (err != OK)
        tenants_destroy(&t);
    return t;
}

/* Takes root, which may be NULL. */
static struct tenants *read_root(json_t *root, struct error *reterr)
{
    struct tenants *t = root != NULL ? read_list(root, reterr) : NULL;
    json_decref(root);
    return t;
}

struct tenants *tenants_parse(struct slice text, struct error *reterr)
{
    return read_root(json_file_parse(text, reterr), reterr);
}

struct tenants *tenants_load(const char *path, struct error *reterr)
{
    struct error why = {0};
    struct tenants *t = read_root(json_file_load(path, &why), &why);
    if (t == NULL)
        (void)fail(reterr, ERR_BAD_REQUEST, "wafer-tenants %.60s: %.120s", path, why.text);
    return t;
}

void tenants_destroy(struct tenants **list)
{
    struct tenants *t = TAKE(*list);
    for (size_t i = 0; t != NULL && i < t->count; i++) {
        struct tenant *o = &t->list[i];
        for (size_t k = 0; k < o->key_count; k++) {
            explicit_bzero(o->keys[k], strlen(o->keys[k]));
            free(o->keys[k]);
        }
        for (size_t u = 0; u < o->url_count; u++)
            free(o->urls[u]);
        free(o->urls);
        free(o->id);
        free(o->name);
    }
    free(t);
}

size_t tenants_count(const struct tenants *t)
{
    return t != NULL ? t->count : 0;
}

const struct tenant *tenants_find(const struct tenants *t, struct slice id)
{
    for (size_t i = 0; t != NULL && i < t->count; i++)
        if (slice_eq(slice_str(t->list[i].id), id))
            return &t->list[i];
    return NULL;
}

/* --- one of them --- */

const char *tenant_proved(const struct tenant *t, struct slice data, struct slice signature, struct slice presented)
{
    for (size_t i = 0; i < t->key_count; i++) {
        struct slice key = slice_str(t->keys[i]);
        if (presented.n != 0 && !wafer_key_is(presented, key))
            continue;
        if (wafer_signed(data, key, signature) || (!t->signatures && presented.n != 0))
            return t->keys[i];
    }
    return NULL;
}

/* What stands for a * must not lead out of what is before it. */
static bool plain(struct slice rest)
{
    for (size_t i = 0; i < rest.n; i++)
        if (strchr("%\\", rest.p[i]) != NULL || (rest.p[i] == '.' && i + 1 < rest.n && rest.p[i + 1] == '.'))
            return false;
    return true;
}

static bool matches(struct slice own, struct slice url)
{
    if (!slice_ends(own, SLICE("*")))
        return slice_eq(url, own);
    own.n--;
    return slice_starts(url, own) && plain(slice_from(url, own.n));
}

bool tenant_may_receive(const struct tenant *t, struct slice url)
{
    for (size_t i = 0; i < t->url_count; i++)
        if (matches(slice_str(t->urls[i]), url))
            return true;
    return false;
}
