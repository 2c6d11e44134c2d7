/* tests/unit/test_auth_attacks.c: what is known to have got past checks of tokens elsewhere. Each token here is refused for one reason alone. */
#include <stdio.h>

#include "base/base64.h"
#include "tests/support/auth_check.h"

static char *hs256(const char *claims)
{
    return token_sign(TOKEN_SECRET, "HS256", "{\"alg\":\"HS256\"}", claims);
}

/* The token with these bytes instead of its signature; takes it. */
static char *resigned(char *token, struct slice signature)
{
    struct buf b = BUF_INIT;
    buf_append(&b, (struct slice){token, (size_t)(strrchr(token, '.') + 1 - token)});
    token_base64url(&b, signature);
    buf_append_char(&b, '\0');
    free(token);
    return b.p;
}

/* The bytes of a token's signature, which is taken. */
static size_t signature_of(char *token, unsigned char *ret, size_t size)
{
    struct slice text = slice_str(strrchr(token, '.') + 1);
    size_t n = 0;
    assert_true(text.n * 3 / 4 + 1 <= size && base64_take(BASE64URL, text, ret, &n));
    free(token);
    return n;
}

/* --- keys --- */

static void a_token_does_not_bring_its_own_key(void **state)
{
    static const char *const forms[][2] = {
        {"\"jwk\":", ""},
        {"\"jku\":\"https://127.0.0.1/keys.json\",\"jwk\":", ""},
        {"\"x5u\":\"file:///etc/ssl/cert.pem\",\"keys\":[", "]"},
        {"\"x5t\":\"AAAA\",\"x5c\":[", "]"},
    };
    (void)state;
    AUTO_FREE char *jwk = token_jwk(TOKEN_OTHER_RSA, NULL);
    struct auth_jwt *a = jwt_with(token_key_file(TOKEN_RSA));
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        char header[1024];
        (void)snprintf(header, sizeof header, "{\"alg\":\"RS256\",%s%s%s}", forms[i][0], jwk, forms[i][1]);
        expect(a, token_sign(TOKEN_OTHER_RSA, "RS256", header, CLAIMS), AUTH_SIGNATURE);
        expect(a, token_sign(TOKEN_RSA, "RS256", header, CLAIMS), AUTH_OK); /* such members mean nothing */
    }
    auth_jwt_destroy(&a);
}

/* Where the kid is the name of a file, a row or a command. */
static void a_kid_is_compared_and_nothing_else(void **state)
{
    static const char *const kids[] = {
        "../../../../dev/null",
        "/dev/null",
        "k1' UNION SELECT 'x",
        "k1|cat",
        "k1\\u0000",
        "k1\\n",
        "K1",
        "k1 ",
        "\\ufeffk1",
        "k\\uff11",
        "k1\\u200b",
        "k1/../k1",
        "*",
        "k?",
        "$(k1)",
        "%6b1",
        "__proto__",
        "constructor",
    };
    (void)state;
    char option[240];
    (void)snprintf(option, sizeof option, "k1=%s", token_key_file(TOKEN_SECRET));
    struct auth_jwt *a = jwt_with(option);
    for (size_t i = 0; i < ARRAY_LEN(kids); i++) {
        char header[120];
        (void)snprintf(header, sizeof header, "{\"alg\":\"HS256\",\"kid\":\"%s\"}", kids[i]);
        expect_at(a, token_sign(TOKEN_SECRET, "HS256", header, CLAIMS), AUTH_UNKNOWN_KEY, NOW, (int)i);
        expect_at(a, token_sign_secret(SLICE(""), "HS256", header, CLAIMS), AUTH_UNKNOWN_KEY, NOW, (int)i);
    }
    expect(a, token_sign_secret(SLICE(""), "HS256", "{\"alg\":\"HS256\",\"kid\":\"k1\"}", CLAIMS), AUTH_SIGNATURE);
    expect(a, token_sign_secret(SLICE("k1"), "HS256", "{\"alg\":\"HS256\",\"kid\":\"k1\"}", CLAIMS), AUTH_SIGNATURE);
    expect(a, token_sign(TOKEN_SECRET, "HS256", "{\"alg\":\"HS256\",\"kid\":\"k1\",\"kid\":\"k1\"}", CLAIMS),
           AUTH_MALFORMED);
    expect(a, token_sign(TOKEN_SECRET, "HS256", "{\"alg\":\"HS256\",\"kid\":[\"k1\"]}", CLAIMS), AUTH_MALFORMED);
    auth_jwt_destroy(&a);
}

/* --- signatures --- */

/* The same key, the same text, another scheme, under the name of the one that is accepted, and under its own. */
static void a_signature_of_another_scheme_is_none(void **state)
{
    (void)state;
    struct auth_jwt *rsa = jwt_with(token_key_file(TOKEN_RSA)), *ec = jwt_with(token_key_file(TOKEN_EC));
    expect(rsa, token_sign(TOKEN_RSA, "PS256", "{\"alg\":\"RS256\"}", CLAIMS), AUTH_SIGNATURE);
    expect(rsa, token_sign(TOKEN_RSA, "RS512", "{\"alg\":\"RS256\"}", CLAIMS), AUTH_SIGNATURE);
    expect(rsa, token_sign(TOKEN_RSA, "PS256", "{\"alg\":\"PS256\"}", CLAIMS), AUTH_ALGORITHM);
    expect(rsa, token_sign(TOKEN_RSA, "RS512", "{\"alg\":\"RS512\"}", CLAIMS), AUTH_ALGORITHM);
    expect(ec, token_sign(TOKEN_EC, "DER", "{\"alg\":\"ES256\"}", CLAIMS), AUTH_SIGNATURE);
    expect(ec, token_sign(TOKEN_EC, "ES256", "{\"alg\":\"ES384\"}", CLAIMS), AUTH_ALGORITHM);
    expect(ec, token_sign(TOKEN_EC, "ES256", "{\"alg\":\"ES256K\"}", CLAIMS), AUTH_ALGORITHM);
    auth_jwt_destroy(&rsa);
    auth_jwt_destroy(&ec);
}

/* Shorter or longer by whole bytes, in well-formed base64; and another token's. */
static void a_signature_has_its_length_and_its_token(void **state)
{
    static const enum token_key keys[] = {TOKEN_SECRET, TOKEN_RSA, TOKEN_EC, TOKEN_ED};
    static const char *const algs[] = {"HS256", "RS256", "ES256", "EdDSA"};
    static const char bob[] = "{\"sub\":\"bob\",\"exp\":1700000600}";
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
        char header[32];
        unsigned char bytes[1024] = {0};
        struct auth_jwt *a = jwt_with(token_key_file(keys[k]));
        (void)snprintf(header, sizeof header, "{\"alg\":\"%s\"}", algs[k]);
        char *token = token_sign(keys[k], algs[k], header, CLAIMS);
        size_t n = signature_of(xstrdup(token), bytes + 1, 600);
        const char *at = (const char *)bytes + 1;
        expect(a, resigned(xstrdup(token), (struct slice){at, n}), AUTH_OK);
        expect(a, resigned(xstrdup(token), (struct slice){at, n + 1}), AUTH_SIGNATURE);     /* a zero behind it */
        expect(a, resigned(xstrdup(token), (struct slice){at - 1, n + 1}), AUTH_SIGNATURE); /* before it */
        expect(a, resigned(xstrdup(token), (struct slice){at, n - 1}), AUTH_SIGNATURE);
        expect(a, resigned(xstrdup(token), (struct slice){at + 1, n - 1}), AUTH_SIGNATURE);
        expect(a, resigned(xstrdup(token), (struct slice){at, n / 2}), AUTH_SIGNATURE);
        expect(a, resigned(token_sign(keys[k], algs[k], header, bob), (struct slice){at, n}), AUTH_SIGNATURE);
        free(token);
        auth_jwt_destroy(&a);
    }
}

/* --- form --- */

static void only_the_compact_form_is_read(void **state)
{
    static const char *const texts[] = {
        "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..AAAA.AAAA.AAAA", /* encrypted */
        "{\"payload\":\"e30\",\"protected\":\"e30\",\"signature\":\"\"}",
        "{\"payload\":\"e30\",\"signatures\":[]}",
        "Bearer e30.e30.AAAA",
    };
    (void)state;
    struct auth_jwt *a = jwt_with(token_key_file(TOKEN_SECRET));
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        expect_at(a, xstrdup(texts[i]), AUTH_MALFORMED, NOW, (int)i);
    /* base64 of the other alphabet, and padded */
    char *token = token_sign(TOKEN_SECRET, "HS256", "{\"alg\":\"HS256\",\"x\":\"\xc3\xbf\xc3\xbf\xc3\xbf?\"}", CLAIMS);
    char *special = strpbrk(token, "-_");
    assert_non_null(special);
    *special = *special == '-' ? '+' : '/';
    expect(a, token, AUTH_MALFORMED);
    /* RFC 7797: the payload as it is, which must be announced as critical; and extensions nobody has heard of */
    expect(a, token_sign(TOKEN_SECRET, "HS256", "{\"alg\":\"HS256\",\"b64\":false,\"crit\":[\"b64\"]}", CLAIMS),
           AUTH_MALFORMED);
    expect(a, token_sign(TOKEN_SECRET, "HS256", "{\"alg\":\"HS256\",\"crit\":[]}", CLAIMS), AUTH_MALFORMED);
    expect(a, token_sign(TOKEN_SECRET, "HS256", "{\"alg\":\"HS256\",\"crit\":null}", CLAIMS), AUTH_MALFORMED);
    auth_jwt_destroy(&a);
}

/* --- claims --- */

static void numbers_that_are_none_or_too_much(void **state)
{
    static const struct {
        const char *exp;
        enum auth_refusal want;
    } cases[] = {
        {"1.7e9", AUTH_CLAIMS},
        {"1700000600e0", AUTH_CLAIMS},
        {"1E400", AUTH_CLAIMS},
        {"-0", AUTH_CLAIMS},
        {"-1700000600", AUTH_CLAIMS},
        {"true", AUTH_CLAIMS},
        {"[1700000600]", AUTH_CLAIMS},
        {"{\"$gt\":0}", AUTH_CLAIMS},
        {"\"\"", AUTH_CLAIMS},
        {"\"never\"", AUTH_CLAIMS},
        {"100000000000", AUTH_CLAIMS},
        {"9223372036854775808", AUTH_CLAIMS},
        {"18446744073709551615", AUTH_CLAIMS},
        {"18446744073709551617", AUTH_CLAIMS}, /* one, for who counts with 64 bits */
        {"01700000600", AUTH_MALFORMED},
        {"+1700000600", AUTH_MALFORMED},
        {"0x6553f358", AUTH_MALFORMED},
        {"Infinity", AUTH_MALFORMED},
        {"NaN", AUTH_MALFORMED},
        {"1700000600.", AUTH_MALFORMED},
        {"0", AUTH_EXPIRED},
        {"1", AUTH_EXPIRED},
        {"1699999970.999999", AUTH_EXPIRED}, /* a fraction does not make it last */
        {"99999999999", AUTH_OK},
    };
    (void)state;
    struct auth_jwt *a = jwt_with(token_key_file(TOKEN_SECRET));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char claims[120];
        (void)snprintf(claims, sizeof claims, "{\"sub\":\"alice\",\"exp\":%s}", cases[i].exp);
        expect_at(a, hs256(claims), cases[i].want, NOW, (int)i);
    }
    for (size_t i = 0; i < 2; i++) {
        static const char *const names[] = {"nbf", "iat"}, *const values[] = {"1e9", "-1", "\"0\"",
                                                                              "18446744073709551617"};
        for (size_t v = 0; v < ARRAY_LEN(values); v++) {
            char claims[120];
            (void)snprintf(claims, sizeof claims, "{\"sub\":\"alice\",\"exp\":1700000600,\"%s\":%s}", names[i],
                           values[v]);
            expect_at(a, hs256(claims), AUTH_CLAIMS, NOW, (int)(10 * i + v));
        }
    }
    expect(a, hs256("{\"sub\":\"alice\",\"exp\":1700000600,\"nbf\":99999999999}"), AUTH_NOT_YET);
    auth_jwt_destroy(&a);
}

static void text_that_is_not_utf8_or_not_json(void **state)
{
    static const struct {
        const char *sub;
        enum auth_refusal want;
    } cases[] = {
        {"alice\xc0\x80", AUTH_MALFORMED},            /* NUL in two bytes */
        {"\xc1\xa1lice", AUTH_MALFORMED},             /* an a in two bytes */
        {"\xe0\x81\xa1lice", AUTH_MALFORMED},         /* … in three */
        {"\xf0\x80\x81\xa1lice", AUTH_MALFORMED},     /* … in four */
        {"\xed\xa0\xbd\xed\xb8\x80", AUTH_MALFORMED}, /* surrogates, encoded */
        {"\xf4\x90\x80\x80", AUTH_MALFORMED},         /* behind the last character */
        {"\xf8\x88\x80\x80\x80", AUTH_MALFORMED},     /* five bytes */
        {"alice\xe2\x80", AUTH_MALFORMED},            /* cut */
        {"ali\\u0000ce", AUTH_CLAIMS},
        {"alice\\u0000", AUTH_CLAIMS},
        {"alice\\u007f", AUTH_CLAIMS},
        {"alice\\u009f", AUTH_CLAIMS},
        {"\\udc00\\ud800", AUTH_MALFORMED},
        {"ali\tce", AUTH_MALFORMED}, /* unescaped */
        {"ali\\x63e", AUTH_MALFORMED},
    };
    (void)state;
    struct auth_jwt *a = jwt_with(token_key_file(TOKEN_SECRET));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char claims[120];
        (void)snprintf(claims, sizeof claims, "{\"sub\":\"%s\",\"exp\":1700000600}", cases[i].sub);
        expect_at(a, hs256(claims), cases[i].want, NOW, (int)i);
    }
    expect(a, hs256("\xef\xbb\xbf{\"sub\":\"alice\",\"exp\":1700000600}"), AUTH_MALFORMED);
    expect(a, hs256("{\"Sub\":\"alice\",\"exp\":1700000600}"), AUTH_CLAIMS);
    expect(a, hs256("{\"sub\":\"alice\",\"EXP\":1700000600}"), AUTH_CLAIMS);
    expect(a, hs256("{'sub':'alice','exp':1700000600}"), AUTH_MALFORMED);
    expect(a, hs256("{\"sub\":\"alice\",\"exp\":1700000600,}"), AUTH_MALFORMED);
    expect(a, hs256("{\"sub\":\"alice\",/**/\"exp\":1700000600}"), AUTH_MALFORMED);
    auth_jwt_destroy(&a);
}

/* Names that look alike are different ones: what is compared are their bytes, and nothing makes one of the other. */
static void who_looks_like_alice_is_not_alice(void **state)
{
    static const char *const names[] = {
        "Alice",
        "ALICE",
        " alice",
        "alice ",
        "\xef\xbd\x81lice",
        "\xd0\xb0lice",
        "alice\xe2\x80\x8b",
        "\342\200\256ecila", /* an e would belong to \xae */
        "alice\xef\xbb\xbf",
        "a\xcc\x81lice",
        "alice/",
        "alice%00",
    };
    (void)state;
    struct auth_jwt *a = jwt_with(token_key_file(TOKEN_SECRET));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct auth_claims c;
        struct error error;
        char claims[120];
        (void)snprintf(claims, sizeof claims, "{\"sub\":\"%s\",\"exp\":1700000600}", names[i]);
        AUTO_FREE char *token = hs256(claims);
        assert_int_equal(auth_jwt_check(a, slice_str(token), NOW, &c, &error), AUTH_OK);
        assert_string_equal(c.user, names[i]);
        auth_claims_fini(&c);
    }
    auth_jwt_destroy(&a);
    a = jwt_with_config((struct auth_jwt_config){.audience = "chat", .issuer = "https://id.example"},
                        (const char *const[]){token_key_file(TOKEN_SECRET), NULL});
    static const char *const parties[] = {
        "\"aud\":\"chat\\u0000\",\"iss\":\"https://id.example\"",
        "\"aud\":\"\xd1\x81hat\",\"iss\":\"https://id.example\"",
        "\"aud\":\"chat \",\"iss\":\"https://id.example\"",
        "\"aud\":\"chat,x\",\"iss\":\"https://id.example\"",
    };
    for (size_t i = 0; i < ARRAY_LEN(parties); i++) {
        char claims[160];
        (void)snprintf(claims, sizeof claims, "{\"sub\":\"alice\",\"exp\":1700000600,%s}", parties[i]);
        expect_at(a, hs256(claims), AUTH_AUDIENCE, NOW, (int)i);
    }
    expect(a, hs256("{\"sub\":\"alice\",\"exp\":1700000600,\"aud\":\"chat\",\"iss\":\"https://id.example/\"}"),
           AUTH_ISSUER);
    expect(a, hs256("{\"sub\":\"alice\",\"exp\":1700000600,\"aud\":\"chat\",\"iss\":\"https://id.ex\xd0\xb0mple\"}"),
           AUTH_ISSUER);
    auth_jwt_destroy(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_does_not_bring_its_own_key),
        cmocka_unit_test(a_kid_is_compared_and_nothing_else),
        cmocka_unit_test(a_signature_of_another_scheme_is_none),
        cmocka_unit_test(a_signature_has_its_length_and_its_token),
        cmocka_unit_test(only_the_compact_form_is_read),
        cmocka_unit_test(numbers_that_are_none_or_too_much),
        cmocka_unit_test(text_that_is_not_utf8_or_not_json),
        cmocka_unit_test(who_looks_like_alice_is_not_alice),
    };
    return cmocka_run_group_tests(tests, token_files_make, token_files_remove);
}
