/* tests/fuzz/fuzz_jwt.c: tokens and key files. The first byte chooses: 0 a token as it is, which must never be believed; 1 a header and, after a line break, claims,
 * which are signed here; 2 a key file. */
#include <assert.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <openssl/hmac.h>

#include "base/base64.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "gateway/auth/auth.h"

#define NOW    1700000000u
#define LEEWAY 30u
#define SECRET "a secret of thirty-two bytes: xyz"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* A file with these bytes; *ret_fd is to be closed. */
static void file_with(struct slice bytes, int *ret_fd, char ret_path[32])
{
    *ret_fd = memfd_create("key", MFD_CLOEXEC);
    assert(*ret_fd >= 0);
    ssize_t written = bytes.n != 0 ? write(*ret_fd, bytes.p, bytes.n) : 0;
    assert(written == (ssize_t)bytes.n);
    (void)snprintf(ret_path, 32, "/proc/self/fd/%d", *ret_fd);
}

static struct auth_jwt *load(struct slice key, const char *name, struct error *reterr)
{
    char path[32], option[64], *options[1] = {option};
    int fd;
    file_with(key, &fd, path);
    (void)snprintf(option, sizeof option, "%s%s", name, path);
    struct auth_jwt *a =
        auth_jwt_create(&(struct auth_jwt_config){.keys = options, .key_count = 1, .leeway_s = LEEWAY}, reterr);
    (void)close(fd);
    return a;
}

static void check_names(const struct buf *names, bool server_too)
{
    unsigned n = 0;
    for (const char *name = auth_name_next(names, NULL); name != NULL; name = auth_name_next(names, name)) {
        assert(utf8_name_valid(slice_str(name), 255) && (server_too || name[0] != '$'));
        n++;
    }
    assert(n <= AUTH_NAMES_MAX);
}

static enum auth_refusal check(const struct auth_jwt *a, struct slice token)
{
    struct auth_claims claims = {.expires_s = 7};
    struct error error = {OK, ""};
    enum auth_refusal why = auth_jwt_check(a, token, NOW, &claims, &error);
    if (why != AUTH_OK) {
        assert(error.code == ERR_UNAUTHORIZED && error.text[0] != '\0' && utf8_valid(slice_str(error.text)));
        assert(claims.user == NULL && claims.expires_s == 7 && claims.join.p == NULL);
        return why;
    }
    assert(utf8_name_valid(slice_str(claims.user), 128));
    assert(claims.jti == NULL || utf8_name_valid(slice_str(claims.jti), AUTH_JTI_MAX));
    assert(claims.expires_s + LEEWAY > NOW);
    assert(claims.attributes.n <= AUTH_ATTRIBUTES_MAX);
    check_names(&claims.join, true);
    check_names(&claims.publish, true);
    check_names(&claims.room, false);
    auth_claims_fini(&claims);
    return AUTH_OK;
}

static void check_signed(const struct auth_jwt *a, struct slice text)
{
    const char *end = text.n != 0 ? memchr(text.p, '\n', text.n) : NULL;
    size_t header = end != NULL ? (size_t)(end - text.p) : text.n;
    unsigned char signature[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    struct buf token = BUF_INIT;
    base64url_append(&token, (struct slice){text.p, header});
    buf_append_char(&token, '.');
    base64url_append(&token, slice_from(text, end != NULL ? header + 1 : header));
    (void)HMAC(EVP_sha256(), SECRET, sizeof SECRET - 1, (const unsigned char *)token.p, token.n, signature, &n);
    buf_append_char(&token, '.');
    base64url_append(&token, (struct slice){(const char *)signature, n});
    enum auth_refusal why = check(a, buf_slice(&token));
    assert(why != AUTH_SIGNATURE);
    buf_fini(&token);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static struct auth_jwt *plain, *named; /* for the life of the process */
    struct error error = {OK, ""};
    if (plain == NULL) {
        plain = load(SLICE(SECRET), "", &error);
        named = load(SLICE(SECRET), "k1=", &error);
    }
    if (n == 0)
        return 0;
    struct slice rest = {(const char *)p + 1, n - 1};
    if (p[0] % 3 == 0) {
        enum auth_refusal one = check(plain, rest), two = check(named, rest);
        assert(one != AUTH_OK && two != AUTH_OK);
    } else if (p[0] % 3 == 1) {
        check_signed(plain, rest);
        check_signed(named, rest);
    } else {
        struct auth_jwt *a = load(rest, "", &error);
        assert((a == NULL) == (error.code != OK));
        assert(a == NULL || (auth_jwt_key_count(a) >= 1 && auth_jwt_key_count(a) <= AUTH_KEYS_MAX));
        assert(a != NULL || error.text[0] != '\0');
        auth_jwt_destroy(&a);
    }
    return 0;
}
