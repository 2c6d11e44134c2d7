/* tests/unit/test_auth.c: tokens: who is let in, and each way known to get in without being who one says. */
#include <stdio.h>

#include <jwt.h>

#include "tests/support/auth_check.h"

static char *hs256(const char *claims)
{
    return token_sign(TOKEN_SECRET, "HS256", "{\"alg\":\"HS256\",\"typ\":\"JWT\"}", claims);
}

/* --- good ones --- */

static void every_algorithm_is_accepted_with_its_key(void **state)
{
    static const struct {
        enum token_key key;
        const char *alg;
    } cases[] = {{TOKEN_RSA, "RS256"}, {TOKEN_EC, "ES256"}, {TOKEN_ED, "EdDSA"}, {TOKEN_SECRET, "HS256"}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char header[64], option[240];
        struct auth_jwt *a = jwt_with(token_key_file(cases[i].key));
        (void)snprintf(header, sizeof header, "{\"alg\":\"%s\"}", cases[i].alg);
        expect(a, token_sign(cases[i].key, cases[i].alg, header, CLAIMS), AUTH_OK);
        auth_jwt_destroy(&a);
        (void)snprintf(option, sizeof option, "k1=%s", token_key_file(cases[i].key));
        a = jwt_with(option);
        (void)snprintf(header, sizeof header, "{\"kid\":\"k1\",\"alg\":\"%s\"}", cases[i].alg);
        expect(a, token_sign(cases[i].key, cases[i].alg, header, CLAIMS), AUTH_OK);
        (void)snprintf(header, sizeof header, "{\"alg\":\"%s\"}", cases[i].alg);
        expect(a, token_sign(cases[i].key, cases[i].alg, header, CLAIMS), AUTH_UNKNOWN_KEY);
        auth_jwt_destroy(&a);
    }
}

static void a_set_has_keys_of_all_kinds(void **state)
{
    struct buf set = BUF_INIT;
    (void)state;
    buf_append_str(&set, " \n{\"keys\":[{\"kty\":\"RSA\",\"use\":\"enc\",\"n\":\"AQ\",\"e\":\"AQ\"},"
                         "{\"kty\":\"EC\",\"crv\":\"P-521\"},{\"kty\":\"RSA\",\"alg\":\"PS256\"}");
    for (enum token_key k = TOKEN_SECRET; k < TOKEN_KEYS; k++) {
        char kid[8];
        (void)snprintf(kid, sizeof kid, "k%u", k);
        AUTO_FREE char *jwk = token_jwk(k, kid);
        buf_printf(&set, ",%s", jwk);
    }
    buf_append_str(&set, "]}");
    struct auth_jwt *a = jwt_with(token_file_with("set.json", buf_slice(&set)));
    assert_int_equal(auth_jwt_key_count(a), TOKEN_KEYS);
    assert_int_equal(auth_jwt_ignored_count(a), 3);
    expect(a, token_sign(TOKEN_SECRET, "HS512", "{\"alg\":\"HS512\",\"kid\":\"k0\"}", CLAIMS), AUTH_OK);
    expect(a, token_sign(TOKEN_RSA, "RS256", "{\"alg\":\"RS256\",\"kid\":\"k2\"}", CLAIMS), AUTH_OK);
    expect(a, token_sign(TOKEN_EC, "ES256", "{\"alg\":\"ES256\",\"kid\":\"k3\"}", CLAIMS), AUTH_OK);
    expect(a, token_sign(TOKEN_ED, "EdDSA", "{\"alg\":\"EdDSA\",\"kid\":\"k\\u0034\"}", CLAIMS), AUTH_OK);
    /* the right key under the name of another, and names that are none */
    expect(a, token_sign(TOKEN_RSA, "RS256", "{\"alg\":\"RS256\",\"kid\":\"k5\"}", CLAIMS), AUTH_SIGNATURE);
    expect(a, token_sign(TOKEN_RSA, "RS256", "{\"alg\":\"RS256\",\"kid\":\"k3\"}", CLAIMS), AUTH_ALGORITHM);
    expect(a, token_sign(TOKEN_RSA, "RS256", "{\"alg\":\"RS256\",\"kid\":\"k9\"}", CLAIMS), AUTH_UNKNOWN_KEY);
    expect(a, token_sign(TOKEN_RSA, "RS256", "{\"alg\":\"RS256\",\"kid\":\"../../etc/passwd\"}", CLAIMS),
           AUTH_UNKNOWN_KEY);
    expect(a, token_sign(TOKEN_RSA, "RS256", "{\"alg\":\"RS256\",\"kid\":\"k2\\u0000\"}", CLAIMS), AUTH_UNKNOWN_KEY);
    expect(a, token_sign(TOKEN_RSA, "RS256", "{\"alg\":\"RS256\",\"kid\":\"\"}", CLAIMS), AUTH_UNKNOWN_KEY);
    expect(a, token_sign(TOKEN_RSA, "RS256", "{\"alg\":\"RS256\",\"kid\":2}", CLAIMS), AUTH_MALFORMED);
    expect(a, token_sign(TOKEN_RSA, "RS256", "{\"alg\":\"RS256\",\"kid\":null}", CLAIMS), AUTH_MALFORMED);
    expect(a, token_sign(TOKEN_RSA, "RS256", "{\"alg\":\"RS256\"}", CLAIMS), AUTH_UNKNOWN_KEY);
    auth_jwt_destroy(&a);
    buf_fini(&set);
}

/* An implementation that is not ours makes the tokens. */
static void tokens_of_libjwt_are_read(void **state)
{
    (void)state;
    size_t n;
    AUTO_FREE char *secret = token_file_read("secret.secret", &n);
    AUTO_FREE char *jwk = token_jwk(TOKEN_SECRET, "k1");
    struct auth_jwt *plain = jwt_with(token_key_file(TOKEN_SECRET));
    struct auth_jwt *named = jwt_with(token_file_with("one.json", slice_str(jwk)));
    static const struct {
        jwt_alg_t alg;
        bool named;
    } cases[] = {{JWT_ALG_HS256, false}, {JWT_ALG_HS512, true}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        jwt_t *jwt;
        assert_int_equal(jwt_new(&jwt), 0);
        assert_int_equal(jwt_set_alg(jwt, cases[i].alg, (const unsigned char *)secret, (int)n), 0);
        if (cases[i].named)
            assert_int_equal(jwt_add_header(jwt, "kid", "k1"), 0);
        assert_int_equal(jwt_add_grants_json(jwt, CLAIMS), 0);
        char *token = jwt_encode_str(jwt);
        assert_non_null(token);
        expect(cases[i].named ? named : plain, xstrdup(token), AUTH_OK);
        free(token);
        jwt_free(jwt);
    }
    auth_jwt_destroy(&plain);
    auth_jwt_destroy(&named);
}

/* What gateways issue themselves is a token like any other, whatever the secret's algorithm. */
static void what_is_issued_is_accepted(void **state)
{
    static const char *const algorithms[] = {"HS256", "HS384", "HS512"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(algorithms); i++) {
        char set[400];
        (void)snprintf(set, sizeof set,
                       "{\"kty\":\"oct\",\"kid\":\"k\\\"1\",\"alg\":\"%s\",\"k\":"
                       "\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZg\"}",
                       algorithms[i]);
        struct auth_jwt *a = jwt_with(token_file_with("issue.json", slice_str(set)));
        const struct auth_issue what = {.user = SLICE("wx1:o\"A"),
                                        .jti = SLICE("name"),
                                        .rights = SLICE("{\"join\":[\"vip.*\"]}"),
                                        .now_s = 1000,
                                        .expires_s = 2000};
        struct buf token = BUF_INIT;
        struct auth_claims claims = {0};
        struct error error;
        assert_true(auth_jwt_can_issue(a));
        assert_true(auth_jwt_issue(a, &what, &token));
        assert_int_equal(auth_jwt_check(a, buf_slice(&token), 1000, &claims, &error), AUTH_OK);
        assert_string_equal(claims.user, "wx1:o\"A");
        assert_string_equal(claims.jti, "name");
        assert_string_equal(auth_name_next(&claims.join, NULL), "vip.*");
        assert_int_equal(claims.issued_s, 1000);
        auth_claims_fini(&claims);
        assert_int_equal(auth_jwt_check(a, buf_slice(&token), 3000, &claims, &error), AUTH_EXPIRED);
        token.p[token.n - 2] = token.p[token.n - 2] == 'A' ? 'B' : 'A';
        assert_int_equal(auth_jwt_check(a, buf_slice(&token), 1000, &claims, &error), AUTH_SIGNATURE);
        buf_fini(&token);
        auth_jwt_destroy(&a);
    }
}

static void public_keys_issue_nothing(void **state)
{
    struct buf token = BUF_INIT;
    (void)state;
    struct auth_jwt *a = jwt_with(token_key_file(TOKEN_EC));
    assert_false(auth_jwt_can_issue(a));
    assert_false(auth_jwt_issue(a, &(struct auth_issue){.user = SLICE("x"), .expires_s = 1}, &token));
    assert_int_equal(token.n, 0);
    auth_jwt_destroy(&a);
}

/* --- attacks on the algorithm --- */

static void none_is_no_algorithm(void **state)
{
    static const char *const headers[] = {
        "{\"alg\":\"none\"}", "{\"alg\":\"None\"}",        "{\"alg\":\"NONE\"}",   "{\"alg\":\"nOnE\"}",
        "{\"alg\":\"\"}",     "{\"alg\":\"none\\u0000\"}", "{\"alg\":\"HS256 \"}", "{\"alg\":\"hs256\"}",
    };
    (void)state;
    struct auth_jwt *a = jwt_with(token_key_file(TOKEN_SECRET), token_key_file(TOKEN_RSA));
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        expect(a, token_sign(TOKEN_SECRET, NULL, headers[i], CLAIMS), AUTH_ALGORITHM);
        expect(a, token_sign(TOKEN_SECRET, "HS256", headers[i], CLAIMS), AUTH_ALGORITHM);
    }
    expect(a, token_sign(TOKEN_SECRET, NULL, "{\"alg\":\"HS256\"}", CLAIMS), AUTH_SIGNATURE);
    expect(a, token_sign(TOKEN_SECRET, NULL, "{\"alg\":\"RS256\"}", CLAIMS), AUTH_SIGNATURE);
    static const char *const broken[] = {"{}",
                                         "{\"alg\":null}",
                                         "{\"alg\":[\"HS256\"]}",
                                         "{\"alg\":1}",
                                         "[]",
                                         "{\"alg\":\"HS256\",\"alg\":\"none\"}",
                                         "{\"alg\":\"HS256\",\"\\u0061lg\":\"HS256\"}",
                                         "{\"alg\":\"HS256\",\"crit\":[\"x\"],\"x\":1}",
                                         "{\"alg\":\"HS256\"} x",
                                         "\xff"};
    for (size_t i = 0; i < ARRAY_LEN(broken); i++)
        expect(a, token_sign(TOKEN_SECRET, "HS256", broken[i], CLAIMS), AUTH_MALFORMED);
    auth_jwt_destroy(&a);
}

/* The best known one: the public key, which everybody has, as the secret of an HMAC. */
static void a_public_key_is_never_a_secret(void **state)
{
    static const enum token_key keys[] = {TOKEN_RSA, TOKEN_EC, TOKEN_ED};
    static const char *const algs[] = {"HS256", "HS384", "HS512"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        size_t n;
        AUTO_FREE char *pem = token_file_read(strrchr(token_key_file(keys[i]), '/') + 1, &n);
        AUTO_FREE char *jwk = token_jwk(keys[i], NULL);
        struct auth_jwt *a = jwt_with(token_key_file(keys[i]));
        struct auth_jwt *b = jwt_with(token_file_with("public.json", slice_str(jwk)));
        for (size_t k = 0; k < ARRAY_LEN(algs); k++) {
            char header[32];
            (void)snprintf(header, sizeof header, "{\"alg\":\"%s\"}", algs[k]);
            expect(a, token_sign_secret((struct slice){pem, n}, algs[k], header, CLAIMS), AUTH_ALGORITHM);
            expect(a, token_sign_secret((struct slice){pem, n - 1}, algs[k], header, CLAIMS), AUTH_ALGORITHM);
            expect(b, token_sign_secret((struct slice){pem, n}, algs[k], header, CLAIMS), AUTH_ALGORITHM);
            expect(b, token_sign_secret(slice_str(jwk), algs[k], header, CLAIMS), AUTH_ALGORITHM);
        }
        auth_jwt_destroy(&a);
        auth_jwt_destroy(&b);
    }
}

static void a_key_makes_no_other_signature_than_its_own(void **state)
{
    (void)state;
    struct auth_jwt *a = jwt_with(token_key_file(TOKEN_SECRET));
    expect(a, token_sign(TOKEN_SECRET, "HS384", "{\"alg\":\"HS384\"}", CLAIMS), AUTH_ALGORITHM);
    expect(a, token_sign(TOKEN_SECRET, "HS512", "{\"alg\":\"HS512\"}", CLAIMS), AUTH_ALGORITHM);
    expect(a, token_sign(TOKEN_SECRET, "HS384", "{\"alg\":\"HS256\"}", CLAIMS), AUTH_SIGNATURE);
    expect(a, token_sign(TOKEN_RSA, "RS256", "{\"alg\":\"RS256\"}", CLAIMS), AUTH_ALGORITHM);
    expect(a, token_sign(TOKEN_RSA, "RS256", "{\"alg\":\"HS256\"}", CLAIMS), AUTH_SIGNATURE);
    expect(a, token_sign(TOKEN_OTHER_SECRET, "HS256", "{\"alg\":\"HS256\"}", CLAIMS), AUTH_SIGNATURE);
    auth_jwt_destroy(&a);
    a = jwt_with(token_key_file(TOKEN_EC));
    char zero[64] = {0};
    struct buf b = BUF_INIT; /* both numbers zero: accepted by implementations that forgot to look */
    token_base64url(&b, SLICE("{\"alg\":\"ES256\"}"));
    buf_append_char(&b, '.');
    token_base64url(&b, SLICE(CLAIMS));
    buf_append_char(&b, '.');
    token_base64url(&b, (struct slice){zero, sizeof zero});
    buf_append_char(&b, '\0');
    expect(a, b.p, AUTH_SIGNATURE);
    expect(a, token_sign(TOKEN_ED, "EdDSA", "{\"alg\":\"ES256\"}", CLAIMS), AUTH_SIGNATURE);
    auth_jwt_destroy(&a);
}

/* Keys without a name are tried in turn, each with its own algorithm. */
static void several_keys_without_a_name(void **state)
{
    (void)state;
    struct auth_jwt *a =
        jwt_with(token_key_file(TOKEN_OTHER_SECRET), token_key_file(TOKEN_RSA), token_key_file(TOKEN_SECRET));
    expect(a, hs256(CLAIMS), AUTH_OK);
    expect(a, token_sign(TOKEN_OTHER_SECRET, "HS256", "{\"alg\":\"HS256\"}", CLAIMS), AUTH_OK);
    expect(a, token_sign(TOKEN_RSA, "RS256", "{\"alg\":\"RS256\"}", CLAIMS), AUTH_OK);
    expect(a, token_sign(TOKEN_OTHER_RSA, "RS256", "{\"alg\":\"RS256\"}", CLAIMS), AUTH_SIGNATURE);
    expect(a, token_sign(TOKEN_EC, "ES256", "{\"alg\":\"ES256\"}", CLAIMS), AUTH_ALGORITHM);
    expect(a, token_sign(TOKEN_SECRET, "HS256", "{\"alg\":\"HS256\",\"kid\":\"x\"}", CLAIMS), AUTH_UNKNOWN_KEY);
    auth_jwt_destroy(&a);
}

/* --- attacks on the text --- */

/* Whatever single bit is changed, wherever the token is cut: it is refused. */
static void no_bit_may_change(void **state)
{
    static const enum token_key keys[] = {TOKEN_SECRET, TOKEN_EC, TOKEN_ED};
    static const char *const algs[] = {"HS256", "ES256", "EdDSA"};
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
        char header[32];
        struct auth_jwt *a = jwt_with(token_key_file(keys[k]));
        (void)snprintf(header, sizeof header, "{\"alg\":\"%s\"}", algs[k]);
        AUTO_FREE char *token = token_sign(keys[k], algs[k], header, CLAIMS);
        size_t n = strlen(token);
        for (size_t i = 0; i < n * 8; i += k == 0 ? 1 : 5) { /* HMAC every bit */
            struct auth_claims claims = {0};
            struct error error = {0};
            token[i / 8] = (char)(token[i / 8] ^ 1 << i % 8);
            assert_int_not_equal(auth_jwt_check(a, (struct slice){token, n}, NOW, &claims, &error), AUTH_OK);
            token[i / 8] = (char)(token[i / 8] ^ 1 << i % 8);
        }
        for (size_t i = 0; i < n; i++) {
            struct auth_claims claims = {0};
            struct error error = {0};
            AUTO_FREE char *cut = xstrndup(token, i); /* an exact copy, for the address sanitizer */
            assert_int_not_equal(auth_jwt_check(a, (struct slice){cut, i}, NOW, &claims, &error), AUTH_OK);
        }
        auth_jwt_destroy(&a);
    }
}

static void changed_text_at(const struct auth_jwt *a, const char *before, const char *after, int line)
{
    AUTO_FREE char *token = hs256(CLAIMS);
    struct buf b = BUF_INIT;
    buf_append_str(&b, before);
    buf_append_str(&b, token);
    buf_append_str(&b, after);
    buf_append_char(&b, '\0');
    expect_at(a, b.p, AUTH_MALFORMED, NOW, line);
}

#define changed_text(a, before, after) changed_text_at(a, before, after, __LINE__)

static void one_text_for_one_token(void **state)
{
    (void)state;
    struct auth_jwt *a = jwt_with(token_key_file(TOKEN_SECRET));
    changed_text(a, " ", "");
    changed_text(a, "", " ");
    changed_text(a, "", "\n");
    changed_text(a, "", "=");
    changed_text(a, "", ".");
    changed_text(a, ".", "");
    changed_text(a, "", ".e30");
    changed_text(a, "", "%3D");
    changed_text(a, "\xef\xbb\xbf", "");
    changed_text(a, "", "\xe2\x80\x8b"); /* zero-width space */
    static const char *const texts[] = {"",
                                        ".",
                                        "..",
                                        "...",
                                        "a.b",
                                        "a.b.c",
                                        "e30.e30.",
                                        "e30..",
                                        ".e30.",
                                        "e30%2Ee30%2Ee30",
                                        "eyJhbGciOiJIUzI1NiJ9",
                                        "{\"alg\":\"HS256\"}.{}.x"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct auth_claims claims = {0};
        struct error error = {0};
        assert_int_equal(auth_jwt_check(a, slice_str(texts[i]), NOW, &claims, &error), AUTH_MALFORMED);
    }
    /* HS256 signatures have 43 letters: the last has two bits too many, which must be zero */
    char *token = hs256(CLAIMS);
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    char *last = token + strlen(token) - 1;
    *last = digits[(strchr(digits, *last) - digits) | 1];
    expect(a, token, AUTH_MALFORMED);
    token = hs256(CLAIMS);
    *strrchr(token, '.') = ':';
    expect(a, token, AUTH_MALFORMED);
    auth_jwt_destroy(&a);
}

static void huge_and_deep(void **state)
{
    (void)state;
    struct auth_jwt *a = jwt_with(token_key_file(TOKEN_SECRET));
    char *claims = xcalloc(1, 40000);
    (void)snprintf(claims, 40000, "{\"sub\":\"alice\",\"exp\":1700000600,\"x\":\"%0*d\"}", 5900, 0);
    expect(a, hs256(claims), AUTH_OK);
    (void)snprintf(claims, 40000, "{\"sub\":\"alice\",\"exp\":1700000600,\"x\":\"%0*d\"}", 6200, 0);
    expect(a, hs256(claims), AUTH_TOO_LARGE);
    (void)snprintf(claims, 40000, "{\"sub\":\"%0*d\",\"exp\":1700000600}", 5800, 0);
    expect(a, hs256(claims), AUTH_CLAIMS);
    for (int object = 0; object < 2; object++) { /* nested ten times deeper than anybody needs */
        int at = snprintf(claims, 40000, "{\"sub\":\"alice\",\"exp\":1700000600,\"x\":");
        for (int i = 0; i < 900; i++)
            at += snprintf(claims + at, (size_t)(40000 - at), object ? "{\"\":" : "[");
        expect(a, hs256(claims), AUTH_MALFORMED);
        (void)snprintf(claims + at, (size_t)(40000 - at), "1");
        expect(a, hs256(claims), AUTH_MALFORMED);
    }
    int at = 0;
    for (int i = 0; i < 1500; i++)
        at += snprintf(claims + at, (size_t)(40000 - at), "[");
    expect(a, token_sign(TOKEN_SECRET, "HS256", claims, CLAIMS), AUTH_MALFORMED);
    (void)snprintf(claims, 40000, "{\"alg\":\"HS256\",\"x\":\"%0*d\"}", 2200, 0);
    expect(a, token_sign(TOKEN_SECRET, "HS256", claims, CLAIMS), AUTH_MALFORMED);
    free(claims);
    auth_jwt_destroy(&a);
}

/* --- claims --- */

static void claims_that_are_refused(void **state)
{
    static const struct {
        const char *claims;
        enum auth_refusal want;
    } cases[] = {
        {"{\"sub\":\"alice\"}", AUTH_CLAIMS},
        {"{\"exp\":1700000600}", AUTH_CLAIMS},
        {"{\"sub\":\"\",\"exp\":1700000600}", AUTH_CLAIMS},
        {"{\"sub\":7,\"exp\":1700000600}", AUTH_CLAIMS},
        {"{\"sub\":[\"alice\"],\"exp\":1700000600}", AUTH_CLAIMS},
        {"{\"sub\":\"a\\u0000b\",\"exp\":1700000600}", AUTH_CLAIMS},
        {"{\"sub\":\"a\\nb\",\"exp\":1700000600}", AUTH_CLAIMS},
        {"{\"sub\":\"a\\u0085\",\"exp\":1700000600}", AUTH_CLAIMS},
        {"{\"sub\":\"\\ud800\",\"exp\":1700000600}", AUTH_MALFORMED},
        {"{\"sub\":\"\xff\",\"exp\":1700000600}", AUTH_MALFORMED},
        {"{\"sub\":\"\xc0\xae\",\"exp\":1700000600}", AUTH_MALFORMED},
        {"{\"sub\":\"alice\",\"sub\":\"bob\",\"exp\":1700000600}", AUTH_MALFORMED},
        {"{\"sub\":\"alice\",\"\\u0073ub\":\"bob\",\"exp\":1700000600}", AUTH_MALFORMED},
        {"{\"sub\":\"alice\",\"exp\":1,\"exp\":1700000600}", AUTH_MALFORMED},
        {"{\"sub\":\"alice\",\"exp\":\"1700000600\"}", AUTH_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":-1}", AUTH_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":1e99}", AUTH_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":99999999999999999999}", AUTH_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":18446744073709551616}", AUTH_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":null}", AUTH_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":1700000600,\"nbf\":\"now\"}", AUTH_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":1700000600,\"aud\":\"x\"}", AUTH_AUDIENCE},
        {"{\"sub\":\"alice\",\"exp\":1700000600,\"xindao\":[]}", AUTH_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":1700000600,\"xindao\":{\"join\":\"*\"}}", AUTH_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":1700000600,\"xindao\":{\"join\":[1]}}", AUTH_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":1700000600,\"xindao\":{\"join\":[\"\"]}}", AUTH_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":1700000600,\"xindao\":{\"join\":[\"a\\u0000\"]}}", AUTH_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":1700000600,\"xindao\":{\"join\":[],\"join\":[\"*\"]}}", AUTH_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":1700000600,\"xindao\":{\"watch\":\"$user:*\"}}", AUTH_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":1700000600,\"xindao\":{\"watch\":[null]}}", AUTH_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":1700000600,\"xindao\":{\"rooms\":[\"$all\"]}}", AUTH_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":1700000600,\"xindao\":{\"attributes\":[]}}", AUTH_CLAIMS},
        {"[]", AUTH_MALFORMED},
        {"null", AUTH_MALFORMED},
        {"", AUTH_MALFORMED},
        {"{\"sub\":\"alice\",\"exp\":1700000600}{}", AUTH_MALFORMED},
    };
    (void)state;
    struct auth_jwt *a = jwt_with(token_key_file(TOKEN_SECRET));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        expect_at(a, hs256(cases[i].claims), cases[i].want, NOW, (int)i);
    expect(a, hs256("{\"sub\":\"alice\",\"exp\":1700000600.75,\"nbf\":1699999999.25}"), AUTH_OK);
    expect(a, hs256("{\"sub\":\"\xe4\xbd\xa0\xe5\xa5\xbd\",\"exp\":1700000600,\"iss\":\"anybody\"}"), AUTH_OK);
    auth_jwt_destroy(&a);
}

static void time_and_leeway(void **state)
{
    (void)state;
    static const char claims[] = "{\"sub\":\"alice\",\"exp\":1700000600,\"nbf\":1700000000}";
    struct auth_jwt *a = jwt_with(token_key_file(TOKEN_SECRET));
    expect_at(a, hs256(claims), AUTH_NOT_YET, 1699999969, __LINE__);
    expect_at(a, hs256(claims), AUTH_OK, 1699999970, __LINE__);
    expect_at(a, hs256(claims), AUTH_OK, 1700000629, __LINE__);
    expect_at(a, hs256(claims), AUTH_EXPIRED, 1700000630, __LINE__);
    auth_jwt_destroy(&a);
    a = jwt_with_config((struct auth_jwt_config){0}, (const char *const[]){token_key_file(TOKEN_SECRET), NULL});
    expect_at(a, hs256(claims), AUTH_NOT_YET, 1699999999, __LINE__);
    expect_at(a, hs256(claims), AUTH_OK, 1700000000, __LINE__);
    expect_at(a, hs256(claims), AUTH_EXPIRED, 1700000600, __LINE__);
    auth_jwt_destroy(&a);
}

static void audience_and_issuer(void **state)
{
    static const struct {
        const char *more;
        enum auth_refusal want;
    } cases[] = {
        {",\"aud\":\"chat\",\"iss\":\"https://id.example\"", AUTH_OK},
        {",\"aud\":[\"x\",\"chat\"],\"iss\":\"https://id.example\"", AUTH_OK},
        {",\"iss\":\"https://id.example\"", AUTH_AUDIENCE},
        {",\"aud\":[],\"iss\":\"https://id.example\"", AUTH_AUDIENCE},
        {",\"aud\":[[\"chat\"]],\"iss\":\"https://id.example\"", AUTH_AUDIENCE},
        {",\"aud\":\"Chat\",\"iss\":\"https://id.example\"", AUTH_AUDIENCE},
        {",\"aud\":\"chat2\",\"iss\":\"https://id.example\"", AUTH_AUDIENCE},
        {",\"aud\":\"cha\",\"iss\":\"https://id.example\"", AUTH_AUDIENCE},
        {",\"aud\":{\"chat\":1},\"iss\":\"https://id.example\"", AUTH_AUDIENCE},
        {",\"aud\":\"chat\"", AUTH_ISSUER},
        {",\"aud\":\"chat\",\"iss\":\"https://id.example.evil\"", AUTH_ISSUER},
        {",\"aud\":\"chat\",\"iss\":[\"https://id.example\"]", AUTH_ISSUER},
    };
    (void)state;
    struct auth_jwt *a = jwt_with_config((struct auth_jwt_config){.audience = "chat", .issuer = "https://id.example"},
                                         (const char *const[]){token_key_file(TOKEN_SECRET), NULL});
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char claims[300];
        (void)snprintf(claims, sizeof claims, "{\"sub\":\"alice\",\"exp\":1700000600%s}", cases[i].more);
        expect_at(a, hs256(claims), cases[i].want, NOW, (int)i);
    }
    auth_jwt_destroy(&a);
}

static void rights_are_read(void **state)
{
    (void)state;
    struct auth_claims c;
    struct error error;
    struct auth_jwt *a = jwt_with(token_key_file(TOKEN_SECRET));
    AUTO_FREE char *token = hs256(
        "{\"sub\":\"al\\u0069ce\",\"exp\":1700000600,\"xindao\":{\"join\":[\"room-*\",\"b\\u002a\"],\"publish\":[],"
        "\"watch\":[\"$user:b*\"],\"rooms\":[\"lobby\"],\"attributes\":{\"vip\":true},\"later\":1}}");
    assert_int_equal(auth_jwt_check(a, slice_str(token), NOW, &c, &error), AUTH_OK);
    assert_string_equal(c.user, "alice");
    assert_int_equal(c.expires_s, 1700000600);
    const char *name = auth_name_next(&c.join, NULL);
    assert_string_equal(name, "room-*");
    name = auth_name_next(&c.join, name);
    assert_string_equal(name, "b*");
    assert_null(auth_name_next(&c.join, name));
    assert_null(auth_name_next(&c.publish, NULL));
    assert_string_equal(auth_name_next(&c.room, NULL), "lobby");
    assert_string_equal(auth_name_next(&c.watch, NULL), "$user:b*");
    assert_slice(buf_slice(&c.attributes), "{\"vip\":true}");
    auth_claims_fini(&c);
    auth_jwt_destroy(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_algorithm_is_accepted_with_its_key),
        cmocka_unit_test(a_set_has_keys_of_all_kinds),
        cmocka_unit_test(tokens_of_libjwt_are_read),
        cmocka_unit_test(what_is_issued_is_accepted),
        cmocka_unit_test(public_keys_issue_nothing),
        cmocka_unit_test(none_is_no_algorithm),
        cmocka_unit_test(a_public_key_is_never_a_secret),
        cmocka_unit_test(a_key_makes_no_other_signature_than_its_own),
        cmocka_unit_test(several_keys_without_a_name),
        cmocka_unit_test(no_bit_may_change),
        cmocka_unit_test(one_text_for_one_token),
        cmocka_unit_test(huge_and_deep),
        cmocka_unit_test(claims_that_are_refused),
        cmocka_unit_test(time_and_leeway),
        cmocka_unit_test(audience_and_issuer),
        cmocka_unit_test(rights_are_read),
    };
    return cmocka_run_group_tests(tests, token_files_make, token_files_remove);
}
