/* broker/redis/args.h: one Redis command being put together: arguments, and the keys and channels they name.
 *
 * Whatever stands between the braces of a key is the hash tag that decides its place in a cluster; it comes from peers, so braces in it are
 * percent-encoded (as is the percent sign): one name can neither break the tag nor reach into another key space. */
#ifndef XD_BROKER_REDIS_ARGS_H
#define XD_BROKER_REDIS_ARGS_H

#include "base/arena.h"
#include "base/slice.h"

#define ARGS_MAX 512

struct args {
    struct arena arena; /* what is written here rather than borrowed */
    int n;
    const char *v[ARGS_MAX];
    size_t len[ARGS_MAX];
};

void args_init(struct args *a);
void args_fini(struct args *a);

/* Borrowed until args_fini. */
void arg_slice(struct args *a, struct slice s);
void arg_str(struct args *a, const char *s);
void arg_u64(struct args *a, uint64_t v);
/* A copy of these parts, joined. */
void arg_join(struct args *a, struct slice first, struct slice second);
/* The key or channel `<before>{<name, encoded>}<after>`; returned too, in the arena. */
struct slice arg_key(struct args *a, const char *before, struct slice name, const char *after);

/* The encoded length of name, and its writing: ret holds that many bytes. */
size_t key_encoded_len(struct slice name);
char *key_encode(char *ret, struct slice name);

#endif
