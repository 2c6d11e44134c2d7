/* tests/unit/test_auth_keys.c: key files: what is accepted as a key, and what is said of the rest. */
#include <stdio.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "tests/support/auth_check.h"

static void refused_keys(const char *const *options, const char *why)
{
    struct error error = {0};
    char *copies[8];
    size_t n = 0;
    for (; options[n] != NULL; n++)
        copies[n] = xstrdup(options[n]);
    struct auth_jwt *a = auth_jwt_create(&(struct auth_jwt_config){.keys = copies, .key_count = n}, &error);
    for (size_t i = 0; i < n; i++)
        free(copies[i]);
    if (a != NULL || error.code != ERR_BAD_REQUEST || strstr(error.text, why) == NULL)
        fail_msg("not \"%s\" but \"%s\"", why, a != NULL ? "accepted" : error.text);
}

static void refused_file(const char *text, const char *why)
{
    refused_keys((const char *const[]){token_file_with("bad", slice_str(text)), NULL}, why);
}

static void key_files_that_are_refused(void **state)
{
    (void)state;
    refused_keys((const char *const[]){NULL}, "at least one --jwt-key");
    refused_keys((const char *const[]){"/nowhere/key.pem", NULL}, "jwt-key /nowhere/key.pem: No such file");
    refused_keys((const char *const[]){"/tmp", NULL}, "jwt-key /tmp: Is a directory");
    refused_file("", "a secret of 0 bytes; HS256 needs at least 32");
    refused_file("correct horse battery staple\n", "a secret of 28 bytes");
    refused_file("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7 a@b", "OpenSSH");
    refused_file("\x30\x82\x01\x22\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x03\x82\x01\x0f xxxxxxx",
                 "DER");
    refused_file("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a PEM file");
    refused_file("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "a private key");
    refused_file("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "openssl x509 -pubkey");
    refused_file(
        "-----BEGIN PUBLIC KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00000000000000000000000000000000\n\n"
        "AAAAAAAAAAAAAAAAAAAAAA==\n-----END PUBLIC KEY-----\n",
        "not a PEM file");
    refused_file("x\n-----BEGIN PUBLIC KEY-----\nA", "not a PEM file");
    refused_file("{\"keys\":[", "bad:1:");
    refused_file("{\"keys\":{}}", "neither a JSON Web Key nor");
    refused_file("[]", "neither a JSON Web Key nor");
    refused_file("{\"keys\":[]}", "no key to check signatures with");
    refused_file("{\"keys\":[{\"kty\":\"RSA\",\"use\":\"enc\"}]}", "no key to check signatures with");
    refused_file("{\"keys\":[1]}", "key 1: not an object");
    refused_file("{\"keys\":[{\"kty\":\"oct\",\"kty\":\"RSA\"}]}", "duplicate");
    refused_file("{\"keys\":[{\"use\":\"enc\",\"kty\":\"RSA\"},{}]}", "key 2: no \"kty\"");
    refused_file("{\"kty\":\"oct\",\"k\":\"AAAA\"}", "must say its \"alg\"");
    refused_file("{\"kty\":\"oct\",\"alg\":\"RS256\",\"k\":\"AAAA\"}", "a secret cannot be for RS256");
    refused_file("{\"kty\":\"oct\",\"alg\":\"HS256\",\"k\":\"AAAA\"}", "a secret of 3 bytes");
    refused_file("{\"kty\":\"oct\",\"alg\":\"HS256\",\"k\":\"A\"}", "needs \"k\"");
    refused_file("{\"kty\":\"RSA\",\"alg\":\"HS256\",\"n\":\"AQAB\",\"e\":\"AQAB\"}", "type RSA cannot be for HS256");
    refused_file("{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}", "an RSA key of 17 bits");
    refused_file("{\"kty\":\"RSA\",\"n\":\"AQAB\"}", "needs \"n\" and \"e\"");
    refused_file("{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\",\"d\":\"AQ\"}", "a private key");
    refused_file("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AQ\",\"y\":\"AQ\"}", "a point of the curve");
    refused_file("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\","
                 "\"y\":\"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\"}",
                 "a point of the curve");
    refused_file("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AQ\"}", "32 bytes");
    refused_file("{\"kty\":\"RSA\",\"kid\":7}", "\"kid\" must be a string");
}

static void keys_that_do_not_fit_together(void **state)
{
    char one[240], two[240];
    (void)state;
    (void)snprintf(one, sizeof one, "k1=%s", token_key_file(TOKEN_SECRET));
    (void)snprintf(two, sizeof two, "k1=%s", token_key_file(TOKEN_RSA));
    refused_keys((const char *const[]){one, two, NULL}, "rsa.pem: another key has the kid \"k1\" too");
    AUTO_FREE char *jwk = token_jwk(TOKEN_EC, "k1");
    (void)snprintf(two, sizeof two, "k2=%s", token_file_with("named.json", slice_str(jwk)));
    refused_keys((const char *const[]){two, NULL}, "leave out the KID=");
    const char *secret = token_key_file(TOKEN_SECRET);
    refused_keys((const char *const[]){secret, secret, secret, secret, secret, NULL}, "more than 4 keys without a kid");
    EVP_PKEY *small = EVP_RSA_gen(1024);
    FILE *f = fopen(token_file("small.pem"), "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_PUBKEY(f, small), 1);
    assert_int_equal(fclose(f), 0);
    EVP_PKEY_free(small);
    refused_keys((const char *const[]){token_file("small.pem"), NULL}, "small.pem: an RSA key of 1024 bits");
    EVP_PKEY *other = EVP_EC_gen("P-384");
    f = fopen(token_file("p384.pem"), "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_PUBKEY(f, other), 1);
    assert_int_equal(fclose(f), 0);
    EVP_PKEY_free(other);
    refused_keys((const char *const[]){token_file("p384.pem"), NULL}, "p384.pem: none of RSA, EC on P-256 and Ed25519");
}

/* The line break at the end of a file with a secret is the editor's. */
static void a_secret_ends_before_its_line(void **state)
{
    (void)state;
    static const char secret[] = "0123456789abcdef0123456789abcdef";
    static const char *const ends[] = {"", "\n", "\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "%s%s", secret, ends[i]);
        struct auth_jwt *a = jwt_with(token_file_with("line.secret", slice_str(text)));
        expect(a, token_sign_secret(slice_str(secret), "HS256", "{\"alg\":\"HS256\"}", CLAIMS), AUTH_OK);
        auth_jwt_destroy(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key_files_that_are_refused),
        cmocka_unit_test(keys_that_do_not_fit_together),
        cmocka_unit_test(a_secret_ends_before_its_line),
    };
    return cmocka_run_group_tests(tests, token_files_make, token_files_remove);
}
