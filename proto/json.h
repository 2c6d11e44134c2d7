/* proto/json.h: strict JSON (RFC 8259) for the hot path: one pass checks a frame completely and finds its members, values stay as written.
 * (Configuration and API bodies use jansson.) */
#ifndef XD_PROTO_JSON_H
#define XD_PROTO_JSON_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/slice.h"

#define JSON_MAX_DEPTH 32

enum json_type { JSON_NONE, JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* A value as written: for a string including its quotes. */
struct json_value {
    enum json_type type;
    struct slice raw;
};

/* Finds members of one JSON object. text must be UTF-8 already (the WebSocket parser checks); everything in it is validated: grammar,
 * escapes (\u surrogates must pair), depth <= JSON_MAX_DEPTH, no trailing bytes. values[i] receives the member called names[i] (not empty; JSON_NONE when
 * absent; names are compared after unescaping, so "\u0069d" is "id"); a name of the list met twice is an error; others are ignored.
 * ERR_BAD_REQUEST with the byte offset in *reterr. values found before the error stay set. */
enum err json_object(struct slice text, const char *const *names, size_t count, struct json_value *values,
                     struct error *reterr);

/* Checks that text is exactly one JSON value. */
enum err json_check(struct slice text, struct error *reterr);

/* The characters of a JSON_STRING: points into raw when nothing is escaped, else into the arena. ERR_TOO_LARGE when the arena is full. */
enum err json_string(struct json_value v, struct arena *a, struct slice *ret, struct error *reterr);

/* A JSON_NUMBER that is an integer in [0, max]; false otherwise. */
bool json_uint(struct json_value v, uint64_t max, uint64_t *ret);

/* Appends s as a JSON string with quotes; s must be UTF-8. Escapes what RFC 8259 §7 requires, and U+2028/2029 not. */
void json_quote(struct buf *ret, struct slice s);

#endif
