/* proto/json.h: strict JSON (RFC 8259) for the hot path: one pass checks a frame completely and finds its members, values stay as written.
 * Configuration and API bodies use jansson, whose names (json_object, json_string, JSON_TRUE…) must not be defined here. */
#ifndef XD_PROTO_JSON_H
#define XD_PROTO_JSON_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/slice.h"

#define JSON_MAX_DEPTH 32

enum json_kind {
    JSON_KIND_NONE,
    JSON_KIND_NULL,
    JSON_KIND_FALSE,
    JSON_KIND_TRUE,
    JSON_KIND_NUMBER,
    JSON_KIND_STRING,
    JSON_KIND_ARRAY,
    JSON_KIND_OBJECT
};

/* A value as written: for a string including its quotes. */
struct json_value {
    enum json_kind kind;
    struct slice raw;
};

/* Finds members of one JSON object. text must be UTF-8 already (the WebSocket parser checks); everything in it is validated: grammar,
 * escapes (\u surrogates must pair), depth <= JSON_MAX_DEPTH, no trailing bytes. values[i] receives the member called names[i], JSON_KIND_NONE
 * when absent; names (not empty) are compared after unescaping, so "\u0069d" is "id"; a name of the list met twice is an error; others are
 * ignored. ERR_BAD_REQUEST with the byte offset in *reterr. values found before the error stay set. */
enum err json_members(struct slice text, const char *const *names, size_t count, struct json_value *values,
                      struct error *reterr);

/* Checks that text is exactly one JSON value. */
enum err json_check(struct slice text, struct error *reterr);

/* The characters of a JSON_KIND_STRING: points into raw when nothing is escaped, else into the arena. ERR_TOO_LARGE when the arena is full. */
enum err json_unquote(struct json_value v, struct arena *a, struct slice *ret, struct error *reterr);

/* A name of 1 to max bytes (utf8_name_valid); *ret stays when there is no value. ERR_BAD_REQUEST, ERR_INVALID_NAME: `what` must be a string, or a name. */
enum err json_name(struct json_value v, const char *what, size_t max, struct arena *a, struct slice *ret,
                   struct error *reterr);

/* Walks the elements of a JSON_KIND_ARRAY that was found valid: *at begins as 0; false after the last one. */
bool json_next(struct json_value array, size_t *at, struct json_value *ret);

/* A JSON_KIND_NUMBER that is an integer in [0, max]; false otherwise. */
bool json_uint(struct json_value v, uint64_t max, uint64_t *ret);

/* Appends s as a JSON string with quotes; s must be UTF-8. Escapes what RFC 8259 §7 requires, and U+2028/2029 not. */
void json_quote(struct buf *ret, struct slice s);

#endif
