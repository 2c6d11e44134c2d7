/* gateway/webhook/keys.h: what requests are signed with. */
#ifndef XD_WEBHOOK_KEYS_H
#define XD_WEBHOOK_KEYS_H

#include "base/buf.h"
#include "base/error.h"
#include "gateway/webhook/backend.h"

struct webhook_keys {
    size_t count;
    size_t n[BACKEND_KEYS_MAX];
    char text[BACKEND_KEYS_MAX][BACKEND_KEY_MAX];
};

/* A line each, one or two; spaces around it and empty lines do not count. *reterr names the file, never what is in it. */
enum err webhook_keys_parse(struct slice text, const char *file, struct webhook_keys *ret, struct error *reterr);
enum err webhook_keys_read(const char *file, struct webhook_keys *ret, struct error *reterr);

/* Appends `v1=<hex>[,v1=<hex>]` for body, said at that time. */
void webhook_sign(const struct webhook_keys *keys, uint64_t time_s, struct slice body, struct buf *ret);

#endif
