/* gateway/api_keys.c: keys of the server API. Only their hashes are known here. */
#include "gateway/api_keys.h"

#include <jansson.h>
#include <stdio.h>

#include "base/json_file.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/policy.h"
#include "gateway/secret.h"

#define KEYS_MAX      1000u
#define NAME_MAX_KEYS 64u
#define PRESENTED_MAX 256u
#define RATE_DEFAULT  1000u
#define RATE_MAX      1000000u

struct api_keys {
    unsigned refs;
    size_t count;
    struct api_key keys[];
};

static const char *const scope_names[SCOPES] = {
#define X(code, name) [code] = (name),
    API_SCOPE_MAP(X)
#undef X
};

const char *api_scope_name(enum api_scope scope)
{
    return scope_names[scope];
}

/* --- reading --- */

static bool is_hash(const char *s)
{
    return s != NULL && strlen(s) == SECRET_HASH_LEN && strspn(s, "0123456789abcdef") == SECRET_HASH_LEN;
}

static enum err read_scopes(const json_t *list, struct api_key *key, struct error *reterr)
{
    size_t i;
    const json_t *item;
    if (!json_is_array(list) || json_array_size(list) == 0)
        return fail(reterr, ERR_BAD_REQUEST, "key %s: \"scopes\" must be a list of words", key->name);
    json_array_foreach(list, i, item)
    {
        const char *word = json_string_value(item);
        enum api_scope s = 0;
        while (s < SCOPES && (word == NULL || strcmp(word, scope_names[s]) != 0))
            s++;
        if (s == SCOPES)
            return fail(reterr, ERR_BAD_REQUEST, "key %s: there is no scope \"%.40s\"", key->name,
                        word != NULL ? word : "");
        key->scopes |= BIT(s);
    }
    return OK;
}

static enum err read_rooms(const json_t *list, struct api_key *key, struct error *reterr)
{
    size_t i;
    const json_t *item;
    if (list == NULL)
        return OK;
    if (!json_is_array(list) || json_array_size(list) == 0)
        return fail(reterr, ERR_BAD_REQUEST, "key %s: \"rooms\" must be a list of patterns", key->name);
    key->rooms = xcalloc(json_array_size(list), sizeof *key->rooms);
    json_array_foreach(list, i, item)
    {
        const char *pattern = json_string_value(item);
        if (pattern == NULL || *pattern == '\0')
            return fail(reterr, ERR_BAD_REQUEST, "key %s: a pattern of \"rooms\" is not a text", key->name);
        key->rooms[key->room_count++] = xstrdup(pattern);
    }
    return OK;
}

static enum err read_key(json_t *o, size_t at, struct api_key *ret, struct error *reterr)
{
    static const char *const known[] = {"name", "sha256", "scopes", "rooms", "rate", NULL};
    const char *name = json_string_value(json_object_get(o, "name"));
    const char *hash = json_string_value(json_object_get(o, "sha256"));
    char what[NAME_MAX_KEYS + 5];
    const struct json_number rate = {"rate", &ret->rate, 0, RATE_MAX};
    if (name == NULL || !utf8_name_valid(slice_str(name), NAME_MAX_KEYS))
        return fail(reterr, ERR_BAD_REQUEST, "key %zu of the list has no \"name\" of 1 to %u bytes", at + 1,
                    NAME_MAX_KEYS);
    ret->name = xstrdup(name);
    (void)snprintf(what, sizeof what, "key %s", name);
    if (json_file_members(o, known, what, reterr) != OK)
        return reterr->code;
    if (!is_hash(hash))
        return fail(reterr, ERR_BAD_REQUEST, "%s: \"sha256\" must be the key's SHA-256: 64 lower-case hex digits",
                    what);
    memcpy(ret->hash, hash, sizeof ret->hash);
    ret->rate = RATE_DEFAULT;
    enum err err = json_file_number(o, &rate, what, reterr);
    if (err == OK)
        err = read_scopes(json_object_get(o, "scopes"), ret, reterr);
    return err != OK ? err : read_rooms(json_object_get(o, "rooms"), ret, reterr);
}

static enum err check_unique(const struct api_keys *k, struct error *reterr)
{
    const struct api_key *last = &k->keys[k->count - 1];
    for (size_t i = 0; i + 1 < k->count; i++) {
        if (strcmp(k->keys[i].name, last->name) == 0)
            return fail(reterr, ERR_BAD_REQUEST, "two keys are called %s", last->name);
        if (strcmp(k->keys[i].hash, last->hash) == 0)
            return fail(reterr, ERR_BAD_REQUEST, "keys %s and %s are the same", k->keys[i].name, last->name);
    }
    return OK;
}

static struct api_keys *read_list(json_t *root, struct error *reterr)
{
    static const char *const known[] = {"keys", NULL};
    json_t *list = json_file_list(root, "keys", known, KEYS_MAX, reterr), *item;
    size_t i;
    enum err err = OK;
    if (list == NULL)
        return NULL;
    struct api_keys *k = xcalloc(1, sizeof *k + json_array_size(list) * sizeof k->keys[0]);
    k->refs = 1;
    for (i = 0; err == OK && (item = json_array_get(list, i)) != NULL; i++) {
        err = read_key(item, i, &k->keys[k->count++], reterr);
        if (err == OK)
            err = check_unique(k, reterr);
    }
    if (err != OK)
        api_keys_unref(&k);
    return k;
}

/* Takes root, which may be NULL. */
static struct api_keys *read_root(json_t *root, struct error *reterr)
{
    struct api_keys *k = root != NULL ? read_list(root, reterr) : NULL;
    json_decref(root);
    return k;
}

struct api_keys *api_keys_parse(struct slice text, struct error *reterr)
{
    return read_root(json_file_parse(text, reterr), reterr);
}

struct api_keys *api_keys_load(const char *path, struct error *reterr)
{
    struct error why = {0};
    struct api_keys *k = read_root(json_file_load(path, &why), &why);
    if (k == NULL)
        (void)fail(reterr, ERR_BAD_REQUEST, "api-keys %.60s: %.120s", path, why.text);
    return k;
}

struct api_keys *api_keys_ref(struct api_keys *k)
{
    k->refs++;
    return k;
}

void api_keys_unref(struct api_keys **keys)
{
    struct api_keys *k = TAKE(*keys);
    if (k == NULL || --k->refs != 0)
        return;
    for (size_t i = 0; i < k->count; i++) {
        for (size_t r = 0; r < k->keys[i].room_count; r++)
            free(k->keys[i].rooms[r]);
        free(k->keys[i].rooms);
        free(k->keys[i].name);
    }
    free(k);
}

size_t api_keys_count(const struct api_keys *k)
{
    return k != NULL ? k->count : 0;
}

/* --- checking --- */

struct api_key *api_keys_find(struct api_keys *k, struct slice presented)
{
    char hash[SECRET_HASH_LEN + 1];
    struct api_key *found = NULL;
    if (presented.n > PRESENTED_MAX)
        return NULL;
    secret_hash(presented, hash);
    for (size_t i = 0; i < k->count; i++) { /* all of them, and every byte */
        unsigned char different = 0;
        for (size_t b = 0; b < SECRET_HASH_LEN; b++)
            different |= (unsigned char)(hash[b] ^ k->keys[i].hash[b]);
        if (different == 0)
            found = &k->keys[i];
    }
    return found;
}

bool api_key_has(const struct api_key *key, enum api_scope scope)
{
    return (key->scopes & (BIT(scope) | BIT(SCOPE_ADMIN))) != 0;
}

bool api_key_room(const struct api_key *key, struct slice room)
{
    bool reserved = slice_starts(room, SLICE("$"));
    for (size_t i = 0; i < key->room_count; i++)
        if (reserved == (key->rooms[i][0] == '$') && policy_match(key->rooms[i], room))
            return true;
    return key->room_count == 0;
}
