/* tests/fuzz/fuzz_redis_url.c: Redis urls: what parses must be within its limits, and written out again must parse to the same. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "broker/redis/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* Every byte as %XX: letters must not need it, special ones do. */
static void put_encoded(FILE *f, const char *before, const char *s)
{
    if (s == NULL)
        return;
    fprintf(f, "%s", before);
    for (; *s != '\0'; s++)
        fprintf(f, "%%%02x", (unsigned)(unsigned char)*s);
}

static char *format(const struct redis_url *u)
{
    static const char *const kinds[] = {"", "+sentinel", "+cluster"};
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    assert(f != NULL);
    fprintf(f, "redis%s%s://", u->tls ? "s" : "", kinds[u->topology]);
    put_encoded(f, "", u->user);
    put_encoded(f, ":", u->password);
    if (u->password != NULL)
        fputc('@', f);
    for (size_t i = 0; i < u->host_count; i++) {
        bool brackets = strchr(u->hosts[i].host, ':') != NULL;
        fprintf(f, "%s%s%s%s:%d", i != 0 ? "," : "", brackets ? "[" : "", u->hosts[i].host, brackets ? "]" : "",
                u->hosts[i].port);
    }
    if (u->service != NULL)
        fprintf(f, "/%s", u->service);
    if (u->topology != REDIS_CLUSTER)
        fprintf(f, "/%u", u->db);
    const char *names[] = {"ca", "cert", "key", "server_name", "sentinel_user", "sentinel_password"};
    const char *values[] = {u->ca, u->cert, u->key, u->server_name, u->sentinel_user, u->sentinel_password};
    const char *before = "?";
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (values[i] == NULL)
            continue;
        fprintf(f, "%s%s", before, names[i]);
        put_encoded(f, "=", values[i]);
        before = "&";
    }
    (void)fclose(f);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct redis_url u, again;
    struct error err = {OK, ""};
    AUTO_FREE char *text = xstrndup((const char *)p, n);
    if (!redis_url_parse(text, &u, &err)) {
        assert(err.code != OK && err.text[0] != '\0');
        return 0;
    }
    assert(u.host_count >= 1 && u.host_count <= 32 && u.db < 1024);
    assert((u.service != NULL) == (u.topology == REDIS_SENTINEL));
    AUTO_FREE char *first = format(&u);
    if (strlen(first) <= 4096) { /* it may have grown beyond what is taken */
        bool ok = redis_url_parse(first, &again, &err);
        assert(ok);
        AUTO_FREE char *second = format(&again);
        assert(strcmp(first, second) == 0);
        redis_url_fini(&again);
    }
    redis_url_fini(&u);
    return 0;
}
