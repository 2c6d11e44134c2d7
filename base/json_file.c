/* base/json_file.c: what all files in JSON have in common. */
#include "base/json_file.h"

#include <jansson.h>

#include "base/file.h"

#define FILE_MAX ((size_t)1 << 20)

json_t *json_file_parse(struct slice text, struct error *reterr)
{
    json_error_t why;
    json_t *root = json_loadb(text.p != NULL ? text.p : "", text.n, JSON_REJECT_DUPLICATES, &why);
    if (root != NULL)
        return root;
    bool twice = json_error_code(&why) == json_error_duplicate_key;
    (void)fail(reterr, ERR_BAD_REQUEST, "line %d, column %d: %s", why.line, why.column,
               twice ? "this member is there already" : "not JSON");
    return NULL;
}

json_t *json_file_load(const char *path, struct error *reterr)
{
    struct buf text = BUF_INIT;
    json_t *root = NULL;
    const char *why = file_read(path, FILE_MAX, &text);
    if (why == NULL)
        root = json_file_parse(buf_slice(&text), reterr);
    else
        (void)fail(reterr, ERR_BAD_REQUEST, "%s", why);
    if (text.p != NULL)
        explicit_bzero(text.p, text.n);
    buf_fini(&text);
    return root;
}

enum err json_file_members(json_t *object, const char *const *known, const char *what, struct error *reterr)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        const char *const *k = known;
        while (*k != NULL && strcmp(*k, name) != 0)
            k++;
        if (*k == NULL)
            return fail(reterr, ERR_BAD_REQUEST, "%s: there is no member \"%.40s\"", what, name);
    }
    return OK;
}

json_t *json_file_list(json_t *root, const char *name, const char *const *known, size_t max, struct error *reterr)
{
    json_t *list = json_object_get(root, name);
    size_t n = json_array_size(list);
    if (n == 0 || n > max) {
        (void)fail(reterr, ERR_BAD_REQUEST, "there must be an object with \"%s\", a list of 1 to %zu", name, max);
        return NULL;
    }
    return json_file_members(root, known, "the file", reterr) == OK ? list : NULL;
}

enum err json_file_number(const json_t *object, const struct json_number *n, const char *what, struct error *reterr)
{
    const json_t *v = json_object_get(object, n->name);
    if (v == NULL)
        return OK;
    if (!json_is_integer(v) || json_integer_value(v) < n->min || json_integer_value(v) > n->max)
        return fail(reterr, ERR_BAD_REQUEST, "%s: \"%s\" must be a number from %u to %u", what, n->name, n->min,
                    n->max);
    *n->ret = (uint32_t)json_integer_value(v);
    return OK;
}
