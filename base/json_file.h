/* base/json_file.h: files in JSON that people write: {"things":[{…}, …]}. Read strictly: what is misspelt, said twice or out of range is an error that names it.
 * Values are jansson's; a header that includes this one needs nothing of it. */
#ifndef XD_BASE_JSON_FILE_H
#define XD_BASE_JSON_FILE_H

#include "base/error.h"
#include "base/slice.h"

struct json_t;

/* The caller's, for json_decref(). NULL with *reterr: where it is not JSON, but nothing of what stands there, it may be a secret. */
struct json_t *json_file_parse(struct slice text, struct error *reterr);
/* The same of a file of at most 1 MiB, of which nothing stays in memory; or why it cannot be read. */
struct json_t *json_file_load(const char *path, struct error *reterr);

/* The list of 1 to max entries that root, an object, has under a name; borrowed. known: all members that root may have, the last is NULL. */
struct json_t *json_file_list(struct json_t *root, const char *name, const char *const *known, size_t max,
                              struct error *reterr);

/* Errors begin with what this is: "app wx1". */
enum err json_file_members(struct json_t *object, const char *const *known, const char *what, struct error *reterr);

struct json_number {
    const char *name;
    uint32_t *ret; /* has the default, which stays when there is no such member */
    uint32_t min, max;
};
enum err json_file_number(const struct json_t *object, const struct json_number *n, const char *what,
                          struct error *reterr);

#endif
